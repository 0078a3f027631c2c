"""The exact world: its densities against quadrature, its scores against autograd, Langevin dynamics against their variance."""

import math

import pytest
import torch

from gencourse.diffusion.mixture import ExactNetwork, Mixture, langevin
from gencourse.diffusion.schedule import Cosine

PLANE = Mixture([0.5, 0.3, 0.2], [[-1.5, 0.0], [1.0, 1.0], [1.0, -1.0]], [0.15, 0.3, 0.2])
LINE = Mixture([0.7, 0.3], [[-1.0], [1.5]], [0.4, 0.3])


@pytest.mark.parametrize("alpha_bar", [1.0, 0.9, 0.3, 1e-3])
def test_the_score_is_the_gradient_and_eps_follows(alpha_bar):
    x = (2 * torch.randn(40, 2, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(PLANE.log_prob(x, alpha_bar).sum(), x)
    assert torch.allclose(PLANE.score(x, alpha_bar), gradient, atol=1e-12, rtol=1e-10)
    assert torch.allclose(PLANE.eps(x, alpha_bar), -math.sqrt(1 - alpha_bar) * gradient, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("alpha_bar", [0.9, 0.3])
def test_a_noisy_mixture_is_the_convolution(alpha_bar):
    """p_t(x) = int p(x_0) N(x; sqrt(abar) x_0, 1 - abar) dx_0, and eps is the posterior mean of what was added."""
    x0 = torch.linspace(-5, 5, 20_001, dtype=torch.float64).unsqueeze(1)
    p0 = LINE.log_prob(x0).exp() * 10 / 20_000
    x = torch.tensor([[-1.3], [0.2], [1.1]], dtype=torch.float64)
    noise = (x - math.sqrt(alpha_bar) * x0.T) / math.sqrt(1 - alpha_bar)  # (3, N)
    joint = p0 * torch.exp(-0.5 * noise**2) / math.sqrt(2 * math.pi * (1 - alpha_bar))
    assert torch.allclose(joint.sum(1), LINE.log_prob(x, alpha_bar).exp(), atol=1e-10)
    assert torch.allclose((joint * noise).sum(1) / joint.sum(1), LINE.eps(x, alpha_bar)[:, 0], atol=1e-9)


def test_noise_levels_may_differ_from_row_to_row():
    x, alpha_bar = torch.randn(3, 2, dtype=torch.float64), torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    for function in (PLANE.log_prob, PLANE.score, PLANE.eps, PLANE.shares):
        rows = torch.cat([function(x[i : i + 1], float(alpha_bar[i])) for i in range(3)])
        assert torch.allclose(function(x, alpha_bar), rows, atol=1e-13)


def test_denoising_score_matching_is_score_matching_up_to_a_constant():
    """E |candidate - score|^2 and E |candidate + eps / noise|^2 differ by the same for all candidates a x + b sin x."""
    alpha_bar = 0.6
    signal, noise = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    x0, eps = torch.linspace(-4, 4, 401, dtype=torch.float64), torch.linspace(-8, 8, 401, dtype=torch.float64)
    weights = LINE.log_prob(x0.unsqueeze(1)).exp()[:, None] * torch.exp(-0.5 * eps**2)
    weights = weights / weights.sum()
    xt = signal * x0[:, None] + noise * eps
    true = LINE.score(xt.reshape(-1, 1), alpha_bar).view_as(xt)
    gaps = []
    for a, b in [(0.0, 0.0), (-1.0, 0.0), (-0.5, 2.0), (3.0, -1.0)]:
        candidate = a * xt + b * torch.sin(xt)
        matching = (weights * (candidate - true) ** 2).sum()
        denoising = (weights * (candidate + eps / noise) ** 2).sum()
        gaps.append(float(denoising - matching))
    assert gaps == pytest.approx([gaps[0]] * 4, abs=1e-10)
    assert gaps[0] > 0.1


def test_samples_have_the_weights_means_and_spreads():
    x = PLANE.sample(20_000, generator=torch.Generator().manual_seed(0))
    nearest = torch.cdist(x, PLANE.means).argmin(1)
    for k in range(3):
        part = x[nearest == k]
        w = float(PLANE.weights[k])
        assert len(part) / 20_000 == pytest.approx(w, abs=5 * math.sqrt(w * (1 - w) / 20_000) + 0.002)
        assert torch.allclose(part.mean(0), PLANE.means[k], atol=0.03)
        assert float(part.std()) > 0
        assert torch.allclose(part.std(0), PLANE.sds[k].expand(2), rtol=0.05)


def test_shares_are_bayes_rule_and_a_component_is_the_label_s_density():
    x = torch.randn(9, 2, dtype=torch.float64)
    for k in range(3):
        log_joint = PLANE.weights[k].log() + PLANE.component(k).log_prob(x, 0.4)
        assert torch.allclose(PLANE.shares(x, 0.4)[:, k], torch.exp(log_joint - PLANE.log_prob(x, 0.4)), atol=1e-12)


def test_the_network_knows_eps_with_a_label_and_without():
    network = ExactNetwork(PLANE, Cosine(), labelled=True)
    x, u = torch.randn(4, 2, dtype=torch.float64), torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=torch.float64)
    alpha_bar = torch.exp(Cosine().log_alpha_bar(u))
    condition = torch.tensor([[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=torch.float64)
    eps = network(x, u, condition)
    for row, part in enumerate((PLANE.component(0), PLANE.component(2), PLANE, PLANE.component(1))):
        assert torch.allclose(eps[row], part.eps(x, alpha_bar)[row], atol=1e-12)
    assert torch.allclose(network(x, u), PLANE.eps(x, alpha_bar), atol=1e-14)


@pytest.mark.parametrize("step", [0.01, 0.2])
def test_langevin_dynamics_are_as_much_too_wide_as_the_formula_says(step):
    s = 0.5
    x = langevin(
        lambda x: -x / s**2, torch.zeros(20_000, 1, dtype=torch.float64), step, 200, generator=torch.Generator().manual_seed(0)
    )
    variance = s**2 / (1 - step / (2 * s**2))
    assert float(x.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / 20_000))
    assert float(x.mean()) == pytest.approx(0, abs=5 * math.sqrt(variance / 20_000))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([1.0], [[0.0], [1.0]], [1.0]), "expects weights"),
        (([0.5, -0.5], [[0.0], [1.0]], [1.0, 1.0]), "must be positive"),
        (([0.5, 0.5], [[0.0], [1.0]], [1.0, 0.0]), "must be positive"),
    ],
)
def test_arguments_are_checked(arguments, says):
    with pytest.raises(ValueError, match=says):
        Mixture(*arguments)
    with pytest.raises(ValueError, match="step must be a positive number"):
        langevin(torch.neg, torch.zeros(1, 1), 0.0, 1)
