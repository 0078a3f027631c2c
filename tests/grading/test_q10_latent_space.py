"""Exercise 10: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import itertools
import math

import numpy as np
import pytest
import torch
from experiment_tests import assert_told, assert_trained_to_full_points
from question_tests import assert_full_points, assert_keeps, ids, result
from scipy.special import logsumexp
from torch import distributions as D
from torch import nn

from gencourse.grading.questions.q10_latent_space import (
    EXPERIMENT,
    GAP,
    IWAE,
    MIXTURE,
    RATE,
    RELAXED,
    SAMPLE_SIZE,
    VAMP,
)
from gencourse.metrics.disentanglement import mutual_information

# Right answers by other routes than the reference's.


def rate_library(x, logits, mu, log_var, beta):
    q = D.Independent(D.Normal(mu, (log_var / 2).exp()), 1)
    p = D.Independent(D.Normal(torch.zeros_like(mu), 1.0), 1)
    distortion = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    rate = D.kl_divergence(q, p)
    return torch.stack((distortion, rate, distortion + rate * beta), -1)


def rate_rows(x, logits, mu, log_var, beta):
    rows = []
    for X, A, m, v in zip(*(t.double() for t in (x, logits, mu, log_var)), strict=True):
        d = -(X * A.sigmoid().log() + (1 - X) * (1 - A.sigmoid()).log()).sum()
        r = -0.5 * (1 + v - m.pow(2) - v.exp()).sum()
        rows.append([d, r, d + float(beta) * r])
    return rows


def iwae_shifted(log_joint, log_q):
    log_w = log_joint - log_q
    top = log_w.max(dim=0, keepdim=True).values
    return top[0] + (log_w - top).exp().mean(0).log()


def iwae_scipy(log_joint, log_q):
    log_w = log_joint.numpy().astype(float) - log_q.numpy().astype(float)
    return logsumexp(log_w, axis=0) - np.log(log_w.shape[0])


def iwae_running(log_joint, log_q):
    total = torch.full_like(log_q[0], -math.inf, dtype=torch.float64)
    for joint, q in zip(log_joint.double(), log_q.double(), strict=True):
        total = torch.logaddexp(total, joint - q)
    return total - math.log(log_q.shape[0])


def size_shifted(log_w):
    w = (log_w - log_w.amax(0)).exp()
    return w.sum(0).square() / w.square().sum(0)


def size_logarithms(log_w):
    return torch.exp(2 * torch.logsumexp(log_w.double(), 0) - torch.logsumexp(2 * log_w.double(), 0))


def size_loop(log_w):
    columns = log_w.double().T.tolist()
    weights = [[math.exp(v - max(column)) for v in column] for column in columns]
    return [sum(w) ** 2 / sum(v * v for v in w) for w in weights]


def mixture_library(z, mu, sd, weights, means, sds):
    p = D.MixtureSameFamily(D.Categorical(weights), D.Independent(D.Normal(means, sds), 1))
    q = D.Independent(D.Normal(mu, sd), 1)
    return (q.log_prob(z) - p.log_prob(z)).mean(0)


def mixture_loop(z, mu, sd, weights, means, sds):
    z, mu, sd, weights, means, sds = (t.double() for t in (z, mu, sd, weights, means, sds))
    total = 0
    for draw in z:
        p = sum(w * D.Normal(m, s).log_prob(draw).sum(1).exp() for w, m, s in zip(weights, means, sds, strict=True))
        total = total + D.Normal(mu, sd).log_prob(draw).sum(1) - p.log()
    return total / len(z)


def mixture_numpy(z, mu, sd, weights, means, sds):
    z, mu, sd, weights, means, sds = (t.numpy().astype(float) for t in (z, mu, sd, weights, means, sds))

    def log_normal(x, m, s):
        return (-0.5 * np.log(2 * np.pi) - np.log(s) - (x - m) ** 2 / (2 * s**2)).sum(-1)

    log_p = logsumexp(log_normal(z[:, :, None], means, sds), b=weights, axis=-1)
    return (log_normal(z, mu, sd) - log_p).mean(0)


def vamp_mixture(z, logits, W, V):
    u = logits.sigmoid()
    q = D.Independent(D.Normal(u @ W.T, (u @ V.T).exp().sqrt()), 1)
    return D.MixtureSameFamily(D.Categorical(torch.ones(len(u))), q).log_prob(z)


def vamp_loop(z, logits, W, V):
    each = []
    for row in logits:
        u = 1 / (1 + torch.exp(-row))
        mu, log_var = W @ u, V @ u
        each.append(-0.5 * (math.log(2 * math.pi) + log_var + (z - mu) ** 2 / log_var.exp()).sum(1))
    return torch.stack(each).logsumexp(0) - math.log(len(logits))


def relaxed_library(logits, u, tau):
    gumbel = D.Gumbel(torch.zeros_like(logits), torch.ones_like(logits)).icdf(u)
    return nn.functional.softmax((gumbel + logits) / tau, dim=-1)


def relaxed_exponents(logits, u, tau):
    """With E = -log u exponential, the sample is proportional to (exp(logits) / E)^(1 / tau)."""
    y = (logits.exp() / -u.log()) ** (1 / tau)
    return y / y.sum(1, keepdim=True)


def gap_sorted(information, entropies):
    table = (information / entropies).numpy()
    table = np.sort(table, axis=0)
    return np.mean(table[-1] - table[-2])


def gap_loop(information, entropies):
    gaps = []
    for column, entropy in zip(information.T.tolist(), entropies.tolist(), strict=True):
        *_, second, first = sorted(column)
        gaps.append((first - second) / entropy)
    return sum(gaps) / len(gaps)


@pytest.mark.parametrize(
    ("question", "function"),
    [
        *[(RATE, function) for function in (rate_library, rate_rows)],
        *[(IWAE, function) for function in (iwae_shifted, iwae_scipy, iwae_running)],
        *[(SAMPLE_SIZE, function) for function in (size_shifted, size_logarithms, size_loop)],
        *[(MIXTURE, function) for function in (mixture_library, mixture_loop, mixture_numpy)],
        *[(VAMP, function) for function in (vamp_mixture, vamp_loop)],
        *[(RELAXED, function) for function in (relaxed_library, relaxed_exponents)],
        *[(GAP, function) for function in (gap_sorted, gap_loop)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function):
    assert_full_points(question, function, 15)


def test_weights_that_vanish_in_float32_keep_the_points_of_moderate_densities():
    def vanishing(log_joint, log_q):
        return (log_joint.exp() / log_q.exp()).mean(0).log()

    for seed in range(5):
        got = result(IWAE, vanishing, seed)
        assert got.points == 2


def test_what_a_mistake_costs():
    assert_keeps(VAMP, "pseudo-inputs cut off", 2)
    assert_keeps(VAMP, "number of pseudo-inputs forgotten", 1)
    assert_keeps(IWAE, "mean of logarithms", 0)


# What the references claim, from first principles.

GENERATOR = torch.Generator().manual_seed(11)


def normal(*size):
    return torch.randn(*size, generator=GENERATOR, dtype=torch.float64)


def test_the_bound_rises_with_the_samples_and_never_passes_the_evidence():
    """One latent variable of four states: the mean of the bound over all draws, by enumeration."""
    joint, q = normal(4).exp(), normal(4).softmax(0)
    bounds = []
    for S in (1, 2, 3, 4):
        draws = torch.cartesian_prod(*[torch.arange(4)] * S).view(-1, S)  # (4^S, S)
        bound = IWAE.reference(joint.log()[draws].T, q.log()[draws].T)
        bounds.append(float((q[draws].prod(1) * bound).sum()))
    assert bounds[0] == pytest.approx(float((q * (joint / q).log()).sum()), abs=1e-12)
    assert all(later > earlier + 1e-3 for earlier, later in itertools.pairwise(bounds))
    assert bounds[-1] < float(joint.sum().log())


def test_the_estimate_of_the_divergence_is_right_on_average():
    """Two components in one dimension, by quadrature."""
    mu, sd = torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([[0.8]], dtype=torch.float64)
    prior = [torch.tensor(a, dtype=torch.float64) for a in ([0.3, 0.7], [[-1.0], [1.5]], [[0.5], [1.2]])]
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    q = D.Normal(0.3, 0.8).log_prob(z).exp()
    each = torch.stack([MIXTURE.reference(point.view(1, 1, 1), mu, sd, *prior)[0] for point in z[::20]])
    exact = torch.trapezoid(q[::20] * each, z[::20])
    draws = 0.3 + 0.8 * normal(20_000)
    got = MIXTURE.reference(draws.view(-1, 1, 1), mu, sd, *prior).item()
    p = torch.exp(D.Normal(-1.0, 0.5).log_prob(z)) * 0.3 + torch.exp(D.Normal(1.5, 1.2).log_prob(z)) * 0.7
    assert exact.item() == pytest.approx(torch.trapezoid(q * (q / p).log(), z).item(), abs=1e-6)
    assert got == pytest.approx(exact.item(), abs=5 * 1.0 / math.sqrt(20_000))


def test_the_vampprior_integrates_to_one():
    logits, W, V = normal(3, 4), normal(1, 4), 0.5 * normal(1, 4)
    z = torch.linspace(-15, 15, 20_001, dtype=torch.float64)[:, None]
    mass = torch.trapezoid(VAMP.reference(z, logits, W, V).exp(), z[:, 0])
    assert mass.item() == pytest.approx(1, abs=1e-9)


def test_the_largest_of_relaxed_samples_are_draws_of_the_categories():
    n, logits = 40_000, torch.tensor([0.5, -1.0, 1.0, 0.0], dtype=torch.float64)
    u = torch.rand(n, 4, generator=GENERATOR, dtype=torch.float64)
    y = RELAXED.reference(logits.expand(n, -1), u, torch.tensor(0.7, dtype=torch.float64))
    often = torch.bincount(y.argmax(1), minlength=4) / n
    assert (often - logits.softmax(0)).abs().max() < 5 * 0.5 / math.sqrt(n)


def test_the_effective_sample_size_is_that_of_the_variance():
    """The variance of a weighted mean of independent numbers is one over it."""
    log_w = normal(8, 3) - 500
    values = normal(20_000, 8)
    means = values @ log_w.softmax(0)
    assert torch.allclose(1 / means.var(0), SAMPLE_SIZE.reference(log_w), rtol=5 * math.sqrt(2 / 20_000), atol=0)


def test_the_gap_of_codes_that_are_the_factors_is_one_and_of_copies_zero():
    joint = torch.tensor([[3.0, 0.0], [0.0, 5.0]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    entropy = torch.tensor([mutual_information(joint[0])] * 2, dtype=torch.float64)
    known, unknown = mutual_information(joint[0]), mutual_information(joint[1])
    apart = torch.tensor([[known, unknown], [unknown, known]], dtype=torch.float64)
    copies = torch.tensor([[known, known], [known, known]], dtype=torch.float64)
    assert GAP.reference(apart, entropy).item() == pytest.approx(1, abs=1e-12)
    assert GAP.reference(copies, entropy).item() == pytest.approx(0, abs=1e-12)


# 10.8: other networks, other optimisers.


def encoder(activation=nn.Tanh, hidden=(32,), steps=700, lr=0.01, optimiser=torch.optim.Adam, draws=4):
    def fit(W, c, V, d, sigma, points):
        torch.manual_seed(0)
        x = torch.tanh(torch.randn(1500, 1) * W + c) @ V.T + d
        x = x + sigma * torch.randn_like(x)
        layers, width = [], x.shape[1]
        for size in hidden:
            layers, width = [*layers, nn.Linear(width, size), activation()], size
        net = nn.Sequential(*layers, nn.Linear(width, 2))
        trainer = optimiser(net.parameters(), lr=lr)
        for step in range(steps):
            trainer.param_groups[0]["lr"] = lr * (1 - step / steps)
            batch = x[torch.randperm(len(x))[:128]]
            q = D.Normal(*(f(a) for f, a in zip((lambda a: a, lambda a: (a / 2).exp()), net(batch).unbind(1), strict=True)))
            z = q.rsample((draws,))
            p = D.Normal(torch.tanh(z[..., None] * W + c) @ V.T + d, sigma)
            bound = (p.log_prob(batch).sum(-1) + D.Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).mean()
            trainer.zero_grad()
            (-bound).backward()
            trainer.step()
        return net(points)

    return fit


@pytest.mark.parametrize(
    "fit",
    [
        EXPERIMENT.reference,
        encoder(),
        pytest.param(encoder(nn.ReLU, (32, 32), 1000, 0.005, torch.optim.AdamW), id="ReLU, deep, AdamW"),
    ],
    **ids,
)
def test_an_experiment_by_any_route_has_full_points(fit):
    assert_trained_to_full_points(EXPERIMENT, fit, range(2))


def test_what_is_wrong_with_an_encoder_is_told():
    named = ("prior for all", "variance for log-variance", "log-deviation for log-variance", "columns exchanged", "no KL")
    for name in (*named, "standard deviation for log-variance"):
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], name, range(2))
    for name in ("KL four times", "few points", "points out of order"):
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], None, [0])


def test_the_divergence_is_that_of_gaussians_where_the_posterior_is_one():
    grid = np.linspace(-6, 6, 601)
    m, s = np.array([0.5, -1.2]), np.array([0.4, 0.6])
    log_posterior = -0.5 * ((grid - m[:, None]) / s[:, None]) ** 2 - np.log(s[:, None]) - 0.5 * math.log(2 * math.pi)
    statistic = EXPERIMENT.checks[0].measure.statistic
    answer = np.column_stack([m + 0.2, 2 * np.log(1.3 * s)])
    q, p = D.Normal(torch.tensor(m + 0.2), torch.tensor(1.3 * s)), D.Normal(torch.tensor(m), torch.tensor(s))
    exact = D.kl_divergence(q, p).mean().item()
    assert statistic({"_log_posterior": log_posterior}, answer) == pytest.approx(exact, abs=2e-3)
    assert statistic({"_log_posterior": log_posterior}, np.column_stack([m, 2 * np.log(s)])) == pytest.approx(0, abs=2e-3)
