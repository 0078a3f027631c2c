"""Exercise 06: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import math

import numpy as np
import pytest
import torch
from experiment_tests import assert_told, assert_trained_to_full_points
from experiment_tests import result as trained_result
from question_tests import assert_full_points, assert_keeps, ids, result
from torch import distributions as D
from torch import nn

from gencourse.flows.bijections import AffineCoupling, Composition, Halves, Squeeze
from gencourse.grading.inside import harness
from gencourse.grading.questions.q06_flows import (
    BITS,
    CONVOLUTION,
    COUPLING,
    EXPERIMENT,
    INVERSE,
    MULTISCALE,
    ONE_D,
    SQUEEZE,
)
from gencourse.space import Space

# Right answers by other routes than the reference's.


def one_d_library(x, a, b):
    sampler = [D.AffineTransform(b, a), D.SigmoidTransform()]
    return D.TransformedDistribution(D.Normal(torch.zeros_like(a), 1.0), sampler).log_prob(x)


def one_d_autograd(x, a, b):
    x = x.detach().requires_grad_()
    z = (torch.logit(x) - b) / a
    (slope,) = torch.autograd.grad(z.sum(), x)
    return -0.5 * z**2 - 0.5 * math.log(2 * math.pi) + slope.abs().log()


def one_d_loop(x, a, b):
    rows = []
    for X, A, B in zip(x.tolist(), a.tolist(), b.tolist(), strict=True):
        z = (math.log(X / (1 - X)) - B) / A
        rows.append(-0.5 * z * z - 0.5 * math.log(2 * math.pi) - math.log(abs(A) * X * (1 - X)))
    return rows


class Raw(nn.Module):
    """The question's network, as the library's couplings want it."""

    def __init__(self, W_s, W_t):
        super().__init__()
        self.W = torch.cat([W_s, W_t])

    def forward(self, kept):
        return kept @ self.W.T


def coupling_library(x, W_s, W_t):
    z, log_det = AffineCoupling(Raw(W_s, W_t), Halves())(x)
    return torch.cat([z, log_det[:, None]], 1)


def coupling_rows(x, W_s, W_t):
    rows = []
    for row in x:
        half = len(row) // 2
        s = 2 * torch.tanh(W_s @ row[:half] / 2)
        rows.append(torch.cat([row[:half], row[half:] * s.exp() + W_t @ row[:half], s.sum()[None]]))
    return rows


def coupling_in_place(x, W_s, W_t):
    z, half = x.clone(), x.shape[1] // 2
    s = 2 * (W_s @ x[:, :half].mT / 2).tanh()
    z[:, half:] *= s.mT.exp()
    z[:, half:] += x[:, :half] @ W_t.mT
    return torch.hstack([z, s.sum(0).unsqueeze(1)])


def inverse_library(z, W_s, W_t):
    x, log_det = AffineCoupling(Raw(W_s, W_t), Halves()).inverse(z)
    return torch.cat([x, log_det[:, None]], 1)


def inverse_numpy(z, W_s, W_t):
    z, W_s, W_t = (t.numpy().astype(np.float64) for t in (z, W_s, W_t))
    a, b = np.split(z, 2, axis=1)
    s = 2 * np.tanh(a @ W_s.T / 2)
    return np.concatenate([a, (b - a @ W_t.T) / np.exp(s), -s.sum(1, keepdims=True)], axis=1)


def conv_slogdet(x, L, U):
    W = L @ U
    z = torch.nn.functional.conv2d(x, W[:, :, None, None])
    return D.Normal(0.0, 1.0).log_prob(z).sum((1, 2, 3)) + x.shape[2] * x.shape[3] * torch.linalg.slogdet(W).logabsdet


def conv_multivariate(x, L, U):
    """Each place is a Gaussian vector whose precision is W^T W."""
    W = (L @ U).double()
    place = D.MultivariateNormal(torch.zeros(len(W)).double(), precision_matrix=W.T @ W)
    return place.log_prob(x.double().movedim(1, -1)).sum((1, 2))


def squeeze_library(x):
    return torch.nn.functional.pixel_unshuffle(x, 2)


def squeeze_slices(x):
    corners = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return torch.stack(corners, 2).flatten(1, 2)


def squeeze_loop(x):
    B, C, H, W = x.shape
    z = np.zeros((B, 4 * C, H // 2, W // 2))
    for c in range(C):
        for i in range(2):
            for j in range(2):
                z[:, 4 * c + 2 * i + j] = x[:, c, i::2, j::2]
    return z


def bits_library(x, u, levels, alpha, mu, sigma):
    """The density of y as torch transforms it, the levels by the course's own space."""
    to_y = [D.SigmoidTransform(), D.AffineTransform(-alpha / (1 - 2 * alpha), 1 / (1 - 2 * alpha))]
    density = D.TransformedDistribution(D.Normal(mu, sigma), to_y)
    log_prob = density.log_prob((x + u) / levels).sum(1) - x.shape[1] * levels.log()
    return Space((x.shape[1],), levels=int(levels)).bits_per_dim(log_prob)


def bits_double(x, u, levels, alpha, mu, sigma):
    x, u, levels, alpha, mu, sigma = (t.double() for t in (x, u, levels, alpha, mu, sigma))
    v = alpha + (1 - 2 * alpha) * (x + u) / levels
    nats = D.Normal(mu, sigma).log_prob(torch.logit(v)) + torch.log((1 - 2 * alpha) / (v - v * v) / levels)
    return -nats.sum(1) / math.log(2) / x.shape[1]


def multiscale_slices(x, a1, a2):
    """All numbers of a channel have one scale: the log-density channel by channel."""
    h, total = squeeze_slices(x), 0
    half = h.shape[1] // 2
    for c in range(half, 2 * half):
        total = total + D.Normal(0.0, (-a1[c]).exp()).log_prob(h[:, c]).sum((1, 2))
    g = squeeze_slices(h[:, :half])
    for c in range(g.shape[1]):
        total = total + D.Normal(0.0, (-a1[c // 4] - a2[c]).exp()).log_prob(g[:, c]).sum((1, 2))
    return total


class Scale(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.a = a

    def forward(self, x):
        return x * self.a.exp()[:, None, None], x[0, 0].numel() * self.a.sum().expand(len(x))


def multiscale_library(x, a1, a2):
    h, first = Composition([Squeeze(), Scale(a1)])(x)
    on, done = h.tensor_split(2, dim=1)
    g, second = Composition([Squeeze(), Scale(a2)])(on)
    return sum(D.Normal(0.0, 1.0).log_prob(part).flatten(1).sum(1) for part in (done, g)) + first + second


@pytest.mark.parametrize(
    ("question", "function"),
    [
        *[(ONE_D, function) for function in (one_d_library, one_d_autograd, one_d_loop)],
        *[(COUPLING, function) for function in (coupling_library, coupling_rows, coupling_in_place)],
        *[(INVERSE, function) for function in (inverse_library, inverse_numpy)],
        *[(CONVOLUTION, function) for function in (conv_slogdet, conv_multivariate)],
        *[(SQUEEZE, function) for function in (squeeze_library, squeeze_slices, squeeze_loop)],
        *[(BITS, function) for function in (bits_library, bits_double)],
        *[(MULTISCALE, function) for function in (multiscale_slices, multiscale_library)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function):
    assert_full_points(question, function, 20)


def test_what_a_mistake_costs():
    assert_keeps(ONE_D, "no absolute value", 2)
    assert_keeps(SQUEEZE, "channels innermost", 1)
    assert_keeps(COUPLING, "log-determinant cut off", 2)


def test_the_logarithm_of_a_negative_diagonal_costs_its_own_points():
    def no_absolute_value(x, L, U):
        return conv_slogdet(x, L, U) + 0 * U.diagonal().log().sum()

    got = result(CONVOLUTION, no_absolute_value, 0)
    assert got.points == 2
    assert "NaN; look for a logarithm" in got.sentence


# What the references claim, from first principles.


def of(question, **inputs):
    return harness.run(question.reference, inputs, dtype="float64", twice=False)["value"]


@pytest.mark.parametrize("a", [0.6, -1.7])
def test_the_density_integrates_to_one(a):
    x = np.linspace(0, 1, 200_001)[1:-1]
    log_p = of(ONE_D, x=x, a=np.full_like(x, a), b=np.full_like(x, 0.4))
    assert np.trapezoid(np.exp(log_p), x) == pytest.approx(1, abs=1e-4)  # the ends cut off weigh less


def test_log_determinants_are_those_of_autograd():
    inputs = {name: torch.tensor(array, dtype=torch.float64) for name, array in COUPLING.draw(0)["values"].items()}
    x, W_s, W_t = inputs.values()
    answer = COUPLING.reference(x, W_s, W_t)
    for row, log_det in zip(x, answer[:, -1], strict=True):
        J = torch.autograd.functional.jacobian(lambda y: COUPLING.reference(y[None], W_s, W_t)[0, :-1], row)
        assert log_det.item() == pytest.approx(torch.linalg.slogdet(J).logabsdet.item(), abs=1e-10)
    back = INVERSE.reference(answer[:, :-1], W_s, W_t)
    assert torch.allclose(back, torch.cat([x, -answer[:, -1:]], 1), rtol=0, atol=1e-10)


def gaussian_of(function, shape):
    """The log-density at 0 and at x of a linear flow, as the Gaussian that it is: from the Jacobian of z."""
    x = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    J = torch.autograd.functional.jacobian(lambda y: function(y[None])[0].flatten(), x[0]).reshape(x[0].numel(), -1)
    return x, D.MultivariateNormal(torch.zeros(len(J)).double(), precision_matrix=J.T @ J).log_prob(x.flatten(1))


def test_linear_flows_are_gaussians():
    generator = torch.Generator().manual_seed(0)
    normal = {"dtype": torch.float64, "generator": generator}
    L = torch.randn(3, 3, **normal).tril(-1) + torch.eye(3)
    U = torch.randn(3, 3, **normal).triu(1) + torch.diag(torch.tensor([2.0, -0.5, 1.5]))
    x, truth = gaussian_of(lambda y: torch.einsum("dc,bchw->bdhw", L @ U, y), (3, 2, 4))
    assert torch.allclose(CONVOLUTION.reference(x, L, U), truth, rtol=0, atol=1e-8)

    a1, a2 = torch.randn(8, **normal), torch.randn(16, **normal)

    def z(y):
        h = squeeze_slices(y) * a1.exp()[:, None, None]
        return torch.cat([h[:, 4:].flatten(1), (squeeze_slices(h[:, :4]) * a2.exp()[:, None, None]).flatten(1)], 1)

    x, truth = gaussian_of(z, (2, 4, 8))
    assert torch.allclose(MULTISCALE.reference(x, a1, a2), truth, rtol=0, atol=1e-8)


def test_bits_are_those_of_a_probability():
    """One pixel: over all levels, the mean of 2^-bits over the noise adds up to one."""
    levels, draws = 5, 20_000
    u = np.tile((np.arange(draws) + 0.5) / draws, levels)[:, None]
    x = np.repeat(np.arange(float(levels)), draws)[:, None]
    sizes = {"levels": np.array(5.0), "alpha": np.array(0.05), "mu": np.array([0.3]), "sigma": np.array([1.2])}
    bits = of(BITS, x=x, u=u, **sizes)
    inside = D.Normal(0.3, 1.2).cdf(torch.logit(torch.tensor([0.05, 0.95])))  # the rest of the Gaussian lies outside of [0, 1]
    assert (0.5**bits).reshape(levels, draws).mean(1).sum() == pytest.approx((inside[1] - inside[0]).item(), abs=1e-6)


# 6.8: other networks, other optimisers.


def flow(activation=nn.Tanh, hidden=32, layers=1, couplings=8, steps=500, lr=0.01, optimiser=torch.optim.Adam):
    def fit(x, points):
        torch.manual_seed(0)
        deep = [layer for _ in range(layers - 1) for layer in (nn.Linear(hidden, hidden), activation())]
        networks = nn.ModuleList(
            nn.Sequential(nn.Linear(1, hidden), activation(), *deep, nn.Linear(hidden, 2)) for _ in range(couplings)
        )
        mean, sd = x.mean(0), x.std(0)

        def log_q(y):
            z, log_det = (y - mean) / sd, -sd.log().sum()
            for network in networks:
                a, b = z.split(1, 1)
                raw, t = network(a).split(1, 1)
                s = 2 * torch.tanh(raw / 2)
                z, log_det = torch.cat([b * s.exp() + t, a], 1), log_det + s.squeeze(1)
            return D.Normal(0.0, 1.0).log_prob(z).sum(1) + log_det

        trainer = optimiser(networks.parameters(), lr=lr)
        for step in range(steps):
            trainer.param_groups[0]["lr"] = lr * (1 - step / steps)
            trainer.zero_grad()
            (-log_q(x[torch.randint(len(x), (256,))]).mean()).backward()
            trainer.step()
        return log_q(points).detach()

    return fit


@pytest.mark.parametrize(
    "fit",
    [
        EXPERIMENT.reference,
        flow(),
        pytest.param(flow(nn.SiLU, hidden=16, optimiser=torch.optim.AdamW), id="SiLU, narrow, AdamW"),
        pytest.param(flow(nn.ReLU, hidden=48, layers=2, couplings=6, lr=0.005, optimiser=torch.optim.RMSprop), id="ReLU, deep"),
    ],
    **ids,
)
def test_an_experiment_by_any_route_has_full_points(fit):
    assert_trained_to_full_points(EXPERIMENT, fit, range(2))


def test_what_is_wrong_with_a_flow_is_told():
    named = ("one Gaussian", "density for its logarithm", "minus the logarithm", "bits", "2 pi missing", "points out of order")
    for name in named:
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], name, range(3))
    too_much = ("log-determinant forgotten", "sign of the log-determinant", "log-determinant once a batch")
    for name, function in EXPERIMENT.mistakes.items():
        got = trained_result(EXPERIMENT, function, 1)
        assert got.points == 0, name
        assert ("adds up to more than 1" in got.sentence) == (name in too_much), f"{name}: {got.sentence}"


def test_the_divergence_is_least_at_the_truth():
    (inputs,) = EXPERIMENT.draw(0).values()
    statistic, true = EXPERIMENT.checks[0].measure.statistic, inputs["_log_p"].astype(float)
    assert statistic(inputs, true) == pytest.approx(0, abs=1e-12)
    for shift in (-0.3, 0.3):  # times c, a density that adds up to 1 is c - 1 - log c away; on the grid are 0.9995 of it
        assert statistic(inputs, true + shift) == pytest.approx(math.exp(shift) - 1 - shift, abs=1e-3)
    assert statistic(inputs, 1.1 * true) > 0.005
    assert statistic(inputs, true + 1000) == 1000
