"""Samplers with the exact denoiser: what they end in is known, so that a wrong coefficient has nowhere to hide."""

import itertools
import math

import pytest
import torch

from gencourse.diffusion.guidance import classifier_free, classifier_guided
from gencourse.diffusion.mixture import Mixture
from gencourse.diffusion.samplers import DDIM, Ancestral, ProbabilityFlow, levels
from gencourse.diffusion.schedule import Cosine, Linear, Schedule
from gencourse.solvers import RK4, Adaptive

LINE = Mixture([0.7, 0.3], [[-1.0], [1.5]], [0.4, 0.3])
PLANE = Mixture([0.5, 0.3, 0.2], [[-1.5, 0.0], [1.0, 1.0], [1.0, -1.0]], [0.15, 0.3, 0.2])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def exact(mixture, schedule):
    def denoiser(x, t):
        return mixture.eps(x, float(torch.exp(schedule.curve.log_alpha_bar(t / schedule.T))))

    return denoiser


def cdf(mixture, x, alpha_bar=1.0):
    means, variances = math.sqrt(alpha_bar) * mixture.means[:, 0], alpha_bar * mixture.sds**2 + 1 - alpha_bar
    return (mixture.weights * torch.special.ndtr((x - means) / variances.sqrt())).sum(1)


@pytest.mark.parametrize("curve", [Linear(), Cosine()], ids=str)
@pytest.mark.parametrize(
    ("sampler", "atol"),
    [(ProbabilityFlow(RK4(100)), 1e-4), (ProbabilityFlow(Adaptive(1e-6, 1e-6)), 1e-4), (DDIM(), 4e-3)],
    ids=str,
)
def test_without_noise_quantiles_go_to_quantiles(sampler, atol, curve):
    """On the line, a map that carries one distribution to another and keeps the order is known: F_0(x_0) = F_T(x_T)."""
    schedule = Schedule(1000, curve)
    x = torch.linspace(-2.5, 2.5, 41, dtype=torch.float64).unsqueeze(1)
    x0 = sampler(exact(LINE, schedule), schedule, x)
    assert torch.allclose(cdf(LINE, x0), cdf(LINE, x, float(schedule.alpha_bar[-1])), atol=atol)


@pytest.mark.parametrize("steps", [40, 7])
@pytest.mark.parametrize("sampler", [Ancestral, lambda steps: Ancestral(steps, wide=True), lambda steps: DDIM(steps, eta=0.5)])
def test_on_gaussian_data_mean_and_variance_are_those_of_the_recursion(sampler, steps):
    """eps is linear in x_t there, so each step maps a Gaussian to a Gaussian, by numbers computed here with no tensor."""
    m, s, schedule, n = 0.8, 0.5, Schedule(40, Cosine()), 20_000
    sampler = sampler(steps)
    mean, variance = 0.0, 1.0
    times = levels(40, steps)
    for t, before in itertools.pairwise(times):
        a, b = float(schedule.alpha_bar[t]), float(schedule.alpha_bar[before])
        total = a * s**2 + 1 - a
        # E[x_0 | x_t] = m + gain (x_t - sqrt(a) m), and eps = (x_t - sqrt(a) x_0) / sqrt(1 - a)
        gain = math.sqrt(a) * s**2 / total
        tilde = (1 - b) / (1 - a) * (1 - a / b)
        sigma2 = tilde if isinstance(sampler, Ancestral) else 0.25 * tilde
        along = math.sqrt(max(0.0, 1 - b - sigma2) / (1 - a))
        slope = math.sqrt(b) * gain + along * (1 - math.sqrt(a) * gain)
        offset = math.sqrt(b) * m * (1 - gain * math.sqrt(a)) - along * math.sqrt(a) * m * (1 - gain * math.sqrt(a))
        noise = 0.0 if before == 0 else 1 - a / b if getattr(sampler, "wide", False) else sigma2
        mean, variance = slope * mean + offset, slope**2 * variance + noise
    x = torch.randn(n, 1, generator=seeded(1), dtype=torch.float64)
    x0 = sampler(exact(Mixture([1.0], [[m]], [s]), schedule), schedule, x, generator=seeded(2))
    assert float(x0.mean()) == pytest.approx(mean, abs=5 * math.sqrt(variance / n))
    assert float(x0.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / n))


def test_beta_is_too_wide_and_beta_tilde_too_narrow_for_data_between_a_point_and_the_noise():
    schedule, s = Schedule(20, Linear()), 0.5
    x = torch.randn(20_000, 1, generator=seeded(1), dtype=torch.float64)
    sds = [
        float(Ancestral(wide=wide)(exact(Mixture([1.0], [[0.0]], [s]), schedule), schedule, x, generator=seeded(2)).std())
        for wide in (False, True)
    ]
    assert sds[0] < s - 0.01 < s + 0.01 < sds[1]


@pytest.mark.parametrize("sampler", [Ancestral(), Ancestral(wide=True), DDIM(), ProbabilityFlow(RK4(25))], ids=str)
def test_a_mixture_is_sampled_with_its_weights_and_spreads(sampler):
    """The margins are five standard errors of 3000 points, and what 200 steps leave to be desired."""
    schedule, n = Schedule(200, Cosine()), 3000
    x = torch.randn(n, 2, generator=seeded(1), dtype=torch.float64)
    x0 = sampler(exact(PLANE, schedule), schedule, x, generator=seeded(2))
    nearest = torch.cdist(x0, PLANE.means).argmin(1)
    for k in range(3):
        w, part = float(PLANE.weights[k]), x0[nearest == k]
        assert len(part) / n == pytest.approx(w, abs=5 * math.sqrt(w * (1 - w) / n) + 0.01)
        assert float((part - PLANE.means[k]).square().mean().sqrt()) == pytest.approx(float(PLANE.sds[k]), rel=0.16)


def test_ddim_with_all_the_noise_is_the_ancestral_sampler():
    schedule = Schedule(30, Cosine())
    x = torch.randn(5, 2, generator=seeded(1), dtype=torch.float64)
    for steps in (None, 8):
        a, b = (one(exact(PLANE, schedule), schedule, x, generator=seeded(3)) for one in (Ancestral(steps), DDIM(steps, eta=1.0)))
        assert torch.allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("sampler", [Ancestral(), Ancestral(wide=True), Ancestral(4), DDIM(5, eta=1.0)], ids=str)
def test_no_noise_is_added_in_the_last_step(sampler):
    """The last state is what the denoiser believes at the last level that is visited."""
    schedule, x = Schedule(10, Cosine()), torch.randn(6, 2, generator=seeded(1), dtype=torch.float64)
    denoiser = exact(PLANE, schedule)
    (t, before), (end, x0) = list(sampler.path(denoiser, schedule, x, generator=seeded(3)))[-2:]
    assert end == 0 < t
    signal, noise = schedule.amounts(t, before)
    believed = (before - noise * denoiser(before, torch.tensor(float(t), dtype=torch.float64))) / signal
    assert torch.allclose(x0, believed, atol=1e-12)


def test_samplers_follow_the_generator_and_ddim_needs_none():
    schedule, x = Schedule(10, Cosine()), torch.randn(6, 2, generator=seeded(1), dtype=torch.float64)
    a, b, c = (Ancestral()(exact(PLANE, schedule), schedule, x, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(*(DDIM()(exact(PLANE, schedule), schedule, x, generator=seeded(seed)) for seed in (1, 2)))


def test_levels_go_from_the_noise_to_the_data():
    assert levels(5) == [5, 4, 3, 2, 1, 0]
    assert levels(10, 1) == [10, 0]
    for T, steps in [(7, 3), (200, 50), (13, 13)]:
        found = levels(T, steps)
        assert found[0] == T
        assert found[-1] == 0
        assert len(found) == steps + 1
        assert all(a > b for a, b in itertools.pairwise(found))
    with pytest.raises(ValueError, match="steps must be 5 or fewer"):
        levels(5, 6)


# --- guidance ---------------------------------------------------------------------------------------------------------

CLASSES = Mixture([0.5, 0.5], [[-1.0], [1.0]], [0.6, 0.6])


def test_both_kinds_of_guidance_are_one_by_bayes_rule():
    x, alpha_bar = torch.linspace(-3, 3, 31, dtype=torch.float64).unsqueeze(1).requires_grad_(), 0.4
    (gradient,) = torch.autograd.grad(CLASSES.shares(x, alpha_bar)[:, 1].log().sum(), x)
    noise = torch.tensor(1 - alpha_bar, dtype=torch.float64).sqrt()
    free, given = CLASSES.eps(x, alpha_bar), CLASSES.component(1).eps(x, alpha_bar)
    for w in (0.0, 1.0, 3.5):
        assert torch.allclose(classifier_free(free, given, w), classifier_guided(free, gradient, noise, w), atol=1e-12)
    assert torch.allclose(classifier_free(free, given, 1.0), given, atol=1e-14)
    assert torch.equal(classifier_free(free, given, 0.0), free)


def test_guided_samples_are_not_those_of_the_tilted_density():
    w, schedule, n = 4.0, Schedule(300, Cosine()), 3_000

    def guided(x, t):
        alpha_bar = float(torch.exp(schedule.curve.log_alpha_bar(t / schedule.T)))
        return classifier_free(CLASSES.eps(x, alpha_bar), CLASSES.component(1).eps(x, alpha_bar), w)

    x0 = Ancestral()(guided, schedule, torch.randn(n, 1, generator=seeded(1), dtype=torch.float64), generator=seeded(2))
    x = torch.linspace(-4, 6, 10_001, dtype=torch.float64).unsqueeze(1)
    tilted = torch.softmax(w * CLASSES.component(1).log_prob(x) + (1 - w) * CLASSES.log_prob(x), dim=0)
    tilted_mean = float((tilted * x[:, 0]).sum())
    assert tilted_mean == pytest.approx(1.133, abs=0.002)
    assert float(x0.mean()) == pytest.approx(1.405, abs=0.05)
    assert float(x0.std()) == pytest.approx(0.486, abs=0.04)
