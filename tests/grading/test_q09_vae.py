"""Exercise 09: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import math

import numpy as np
import pytest
import torch
from experiment_tests import (
    assert_trained_to_full_points,
)
from experiment_tests import (
    result as trained_result,
)
from question_tests import assert_full_points, ids, result
from torch import distributions as D

from gencourse.grading.inside import harness
from gencourse.grading.questions.q09_vae import ELBO, EXPERIMENT, IMPORTANCE, KL, SAMPLE
from gencourse.grading.questions.training import lowest

# Right answers by other routes than the reference's.


def kl_library(mu, log_var):
    q, p = D.Normal(mu, log_var.exp().sqrt()), D.Normal(torch.zeros_like(mu), torch.ones_like(mu))
    return D.kl_divergence(q, p).sum(1)


def kl_loop(mu, log_var):
    totals = []
    for row, log_row in zip(mu, log_var, strict=True):
        total = 0.0
        for m, lv in zip(row, log_row, strict=True):
            total = total + 0.5 * (m * m + torch.exp(lv) - 1 - lv)
        totals.append(total)
    return totals  # a list of 0-d tensors


def kl_multivariate(mu, log_var):
    q = D.MultivariateNormal(mu, covariance_matrix=torch.diag_embed(log_var.exp()))
    return D.kl_divergence(q, D.MultivariateNormal(torch.zeros(mu.shape[1]), torch.eye(mu.shape[1])))


def kl_double(mu, log_var):
    return kl_library(mu.double(), log_var.double())


def kl_in_place(mu, log_var):
    log_var += 1
    log_var -= 1
    return torch.nn.Parameter(torch.tensor(1.0)).double() * kl_library(mu, log_var)


def sample_library(mu, log_var, eps):
    return torch.addcmul(mu, log_var.exp().sqrt(), eps)


def sample_by_transform(mu, log_var, eps):
    return D.AffineTransform(mu, torch.exp(0.5 * log_var))(eps)


def sample_double(mu, log_var, eps):
    return sample_library(mu.double(), log_var.double(), eps.double())


def elbo_library(x, mu, log_var, eps, W, b):
    z = sample_library(mu, log_var, eps)
    return D.Bernoulli(logits=torch.nn.functional.linear(z, W, b)).log_prob(x).sum(1) - kl_library(mu, log_var)


def elbo_signed(x, mu, log_var, eps, W, b):
    logits = sample_double(mu, log_var, eps) @ W.double().T + b.double()
    return torch.nn.functional.logsigmoid((2 * x - 1) * logits).sum(1) - kl_double(mu, log_var)


def elbo_loop(x, mu, log_var, eps, W, b):
    rows = []
    for i in range(len(x)):
        logits = W @ sample_library(mu[i], log_var[i], eps[i]) + b
        bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, x[i], reduction="sum")
        rows.append(-bce - kl_library(mu[i : i + 1], log_var[i : i + 1])[0])
    return torch.stack(rows)


def importance_library(x, mu, log_var, eps, W, b):
    q = D.Independent(D.Normal(mu, (log_var / 2).exp()), 1)
    p = D.Independent(D.Normal(torch.zeros_like(mu), 1.0), 1)
    z = sample_library(mu, log_var, eps)
    log_lik = D.Independent(D.Bernoulli(logits=z @ W.T + b), 1).log_prob(x)
    return (log_lik + p.log_prob(z) - q.log_prob(z)).logsumexp(0) - math.log(len(eps))


def importance_numpy(x, mu, log_var, eps, W, b):
    x, mu, log_var, eps, W, b = (t.numpy().astype(np.float64) for t in (x, mu, log_var, eps, W, b))
    z = mu + np.exp(log_var / 2) * eps
    logits = np.einsum("kbd,pd->kbp", z, W) + b
    w = (x * logits - np.logaddexp(0, logits)).sum(-1) + ((eps**2 - z**2 + log_var) / 2).sum(-1)
    return w.max(0) + np.log(np.exp(w - w.max(0)).mean(0))


def importance_loop(x, mu, log_var, eps, W, b):
    """One sample at a time, one pixel at a time, in float32."""
    rows = []
    for noise in eps:
        z = sample_library(mu, log_var, noise)
        pixels = D.Bernoulli(logits=z @ W.T + b).log_prob(x)
        total = (noise**2 / 2 - z**2 / 2 + log_var / 2).sum(1)
        for j in range(pixels.shape[1]):
            total = total + pixels[:, j]
        rows.append(total)
    w = torch.stack(rows)
    largest = w.max(0).values
    return largest + (w - largest).exp().mean(0).log()


@pytest.mark.parametrize(
    ("question", "function", "seeds"),
    [
        *[(KL, function, 20) for function in (kl_library, kl_loop, kl_multivariate, kl_double, kl_in_place)],
        *[(SAMPLE, function, 20) for function in (sample_library, sample_by_transform, sample_double)],
        *[(ELBO, function, 20) for function in (elbo_library, elbo_signed, elbo_loop)],
        (IMPORTANCE, importance_library, 20),
        (IMPORTANCE, importance_numpy, 20),
        (IMPORTANCE, importance_loop, 5),
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function, seeds):
    assert_full_points(question, function, seeds)


def test_a_value_without_gradient_keeps_the_points_for_values():
    def with_numpy(mu, log_var):
        return (0.5 * (np.exp(log_var.detach().numpy()) + mu.detach().numpy() ** 2 - 1 - log_var.detach().numpy())).sum(1)

    assert result(KL, with_numpy, 0).points == 2
    assert "no gradient arrives" in result(KL, with_numpy, 0).sentence


def test_the_references_are_what_they_claim_to_be():
    """The KL and the log-likelihood against quadrature; the ELBO is the mean of its weights' logarithms."""
    grid = torch.linspace(-40, 40, 80001, dtype=torch.float64)
    mu, log_var = torch.tensor([[0.7]], dtype=torch.float64), torch.tensor([[-0.4]], dtype=torch.float64)
    q, p = D.Normal(mu[0], (log_var[0] / 2).exp()), D.Normal(0.0, 1.0)
    kl = torch.trapezoid(q.log_prob(grid).exp() * (q.log_prob(grid) - p.log_prob(grid)), grid)
    assert KL.reference(mu, log_var).item() == pytest.approx(kl.item(), abs=1e-10)

    x = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    W, b = torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64), torch.tensor([0.1, 0.2, -0.3], dtype=torch.float64)
    log_lik = D.Bernoulli(logits=grid[:, None] @ W.T + b).log_prob(x).sum(1)
    truth = torch.trapezoid((log_lik + p.log_prob(grid)).exp(), grid).log().item()
    bound = torch.trapezoid(q.log_prob(grid).exp() * log_lik, grid).item() - kl.item()
    eps = torch.randn(200_000, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # Standard errors of the two estimates, measured: 0.0007 and 0.0016; four of them are allowed.
    assert IMPORTANCE.reference(x, mu, log_var, eps, W, b).item() == pytest.approx(truth, abs=0.003)
    many = ELBO.reference(x.expand(200_000, 3), mu, log_var, eps[:, 0], W, b)
    assert many.mean().item() == pytest.approx(bound, abs=0.0065)
    assert bound < truth


def test_many_pixels_underflow_in_float64_too():
    for seed in range(20):
        inputs = IMPORTANCE.draw(seed)["many pixels"]
        value = harness.run(IMPORTANCE.reference, inputs, dtype="float64")["value"]
        assert (np.exp(value) == 0).all()


# 9.5: another encoder, and no encoder at all.


def decoder_deep_encoder(x):
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Linear(12, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    decoder = torch.nn.Linear(2, 12)
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.01)
    for _ in range(500):
        batch = x[torch.randint(len(x), (200,))]
        mu, log_var = encoder(batch).chunk(2, dim=1)
        adam.zero_grad()
        (-elbo_library(batch, mu, log_var, torch.randn_like(mu), decoder.weight, decoder.bias).mean()).backward()
        adam.step()
    return torch.cat([decoder.weight, decoder.bias[:, None]], dim=1)


def decoder_quadrature(x):
    """The likelihood itself, the latent plane on a grid."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(10)
    z = torch.cartesian_prod(*[torch.tensor(nodes).float()] * 2)
    prior = torch.outer(*[torch.tensor(weights / weights.sum()).float()] * 2).flatten().log()
    images, counts = x.unique(dim=0, return_counts=True)

    def loss(W, b):
        logits = z @ W.T + b
        joint = images @ logits.T - torch.nn.functional.softplus(logits).sum(1) + prior
        return -(counts * joint.logsumexp(1)).sum() / len(x)

    W, b = lowest(loss, 0.3 * torch.randn(12, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(12), steps=40)
    return torch.cat([W, b[:, None]], dim=1)


@pytest.mark.parametrize("fit", [EXPERIMENT.reference, decoder_deep_encoder, decoder_quadrature], **ids)
def test_an_experiment_by_any_route_has_full_points(fit):
    assert_trained_to_full_points(EXPERIMENT, fit, range(3))


def test_what_is_wrong_with_a_decoder_is_told():
    few, large, small = "hardly uses its latent variables", "weights are too large", "weights are too small"
    heavy = ("KL with the wrong sign", "pixels averaged", "KL summed over the batch", "KL counted five times", "KL counted twice")
    grouped = {
        **dict.fromkeys((*heavy, "squared error", "few steps", "small learning rate"), few),
        **dict.fromkeys(("KL counted half", "no noise", "variance for standard deviation"), large),
        **dict.fromkeys(("noise not scaled", "probabilities for logits"), small),
        "KL missing": EXPERIMENT.checks[0].measure.says,
    }
    for name, function in EXPERIMENT.mistakes.items():
        got = trained_result(EXPERIMENT, function, 1)
        assert got.status == "wrong" and got.points < EXPERIMENT.points, name
        assert grouped.get(name, EXPERIMENT.says[name]) in got.sentence, name


def test_a_loss_that_is_wrong_about_the_noise_never_has_full_points():
    """Behind a narrow posterior they end at the right decoder; these are the chapter's own mistakes."""
    for seed in range(2, 5):
        for name in ("no noise", "variance for standard deviation", "noise not scaled"):
            assert trained_result(EXPERIMENT, EXPERIMENT.mistakes[name], seed).points == 0, name
        assert trained_result(EXPERIMENT, EXPERIMENT.mistakes["KL counted half"], seed).points == 3


def test_the_divergence_of_decoders_is_zero_at_the_true_one_however_its_plane_is_turned():
    (inputs,) = EXPERIMENT.draw(0).values()
    statistic, true = EXPERIMENT.checks[0].measure.statistic, inputs["_decoder"].astype(float)
    assert statistic(inputs, true) == pytest.approx(0, abs=1e-12)
    turn = np.array([[np.cos(0.7), -np.sin(0.7), 0], [np.sin(0.7), np.cos(0.7), 0], [0, 0, 1]])
    # The grid is not round: turned, the true decoder is 2e-4 away at most over 20 draws.
    assert statistic(inputs, true @ turn) == pytest.approx(0, abs=1e-3)
    assert statistic(inputs, true + 0.2) > 0.003
