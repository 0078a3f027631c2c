"""Exercise 18: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import math

import numpy as np
import pytest
import torch
from experiment_tests import assert_told, assert_trained_to_full_points
from question_tests import assert_full_points, assert_keeps, ids
from torch import nn

from gencourse.grading.inside import harness
from gencourse.grading.questions.q18_diffusion import (
    DRESSES,
    EXPERIMENT,
    FLOW,
    GUIDANCE,
    MATCHING,
    NOISING,
    POSTERIOR,
    STEP,
)

# Right answers by other routes than the reference's.


def noising_step_by_step(x0, t, eps, betas):
    """Mean and variance are carried through the steps."""
    rows = []
    for point, steps, e in zip(x0.double(), t.tolist(), eps.double(), strict=True):
        variance = 0.0
        for beta in betas.tolist()[: round(steps)]:
            point, variance = point * math.sqrt(1 - beta), (1 - beta) * variance + beta
        rows.append(point + math.sqrt(variance) * e)
    return torch.stack(rows)


def noising_logarithms(x0, t, eps, betas):
    half = torch.log1p(-betas).cumsum(0)[t.int() - 1] / 2
    return half.exp()[:, None] * x0 + (-torch.expm1(2 * half)).sqrt()[:, None] * eps


def noising_numpy(x0, t, eps, betas):
    abar = np.cumprod(np.r_[1, 1 - betas.numpy().astype(float)])[t.numpy().astype(int)][:, None]
    return np.sqrt(abar) * x0.numpy() + np.sqrt(1 - abar) * eps.numpy()


def posterior_precisions(x0, x_t, t, betas):
    """Bayes' rule for Gaussians: precisions add up; where there is no doubt the start itself."""
    rows = []
    for start, point, steps in zip(x0.double(), x_t.double(), t.tolist(), strict=True):
        beta, abar = float(betas[int(steps) - 1]), math.prod(1 - float(b) for b in betas[: int(steps) - 1])
        if steps == 1:
            rows.append([*start.tolist(), 0.0])
            continue
        variance = 1 / ((1 - beta) / beta + 1 / (1 - abar))
        mean = variance * (math.sqrt(1 - beta) / beta * point + math.sqrt(abar) / (1 - abar) * start)
        rows.append([*mean.tolist(), variance])
    return rows


def posterior_where(x0, x_t, t, betas):
    i = t.long() - 1
    abar = torch.cumprod(1 - betas, 0)
    previous = torch.where(i > 0, abar[(i - 1).clamp(min=0)], torch.ones(()))
    abar, beta = abar[i], betas[i]
    c0, ct = previous.sqrt() * beta / (1 - abar), (1 - beta).sqrt() * (1 - previous) / (1 - abar)
    return torch.column_stack([c0[:, None] * x0 + ct[:, None] * x_t, beta * (1 - previous) / (1 - abar)])


def dresses_of_v(x_t, eps, abar):
    """v by its own rotation, the start from v."""
    a, s = abar.sqrt().view(-1, 1), (1 - abar).sqrt().view(-1, 1)
    v = (eps - s * x_t) / a
    return torch.stack([a * x_t - s * v, -(s * x_t + a * v) / s, v])


def dresses_list(x_t, eps, abar):
    x0 = torch.stack([(x - (1 - k).sqrt() * e) / k.sqrt() for x, e, k in zip(x_t, eps, abar, strict=True)])
    v = torch.stack([k.sqrt() * e - (1 - k).sqrt() * x for x, e, k in zip(x0, eps, abar, strict=True)])
    return [x0, -eps * torch.rsqrt(1 - abar)[:, None], v]


def step_by_the_start(x_t, eps, t, z, betas):
    """The mean is that of the posterior at the start that the noise says."""
    x0 = torch.stack([(x - (1 - a).sqrt() * e) / a.sqrt() for x, e, a in zip(x_t, eps, (1 - betas).cumprod(0)[t.long() - 1])])  # noqa: B905
    mean = posterior_where(x0, x_t, t, betas)[:, :-1]
    return mean + betas[t.long() - 1].sqrt()[:, None] * torch.where(t[:, None] > 1, z, 0)


def step_loop(x_t, eps, t, z, betas):
    out = []
    for i in range(len(t)):
        k = int(t[i])
        abar = torch.prod(1 - betas[:k])
        mean = (x_t[i] - betas[k - 1] / torch.sqrt(1 - abar) * eps[i]) / torch.sqrt(1 - betas[k - 1])
        out.append(mean + torch.sqrt(betas[k - 1]) * z[i] if k != 1 else mean)
    return torch.stack(out)


def guided_difference(conditional, unconditional, w):
    return unconditional + w.reshape(-1, 1) * (conditional - unconditional)


def guided_beyond(conditional, unconditional, w):
    return conditional + (w[:, None] - 1) * (conditional - unconditional)


def matching_loop(x, z, t, A, a, b):
    losses = []
    for i in range(len(t)):
        y = (1 - t[i]) * z[i] + t[i] * x[i]
        losses.append(torch.norm(A @ y + t[i] * a + b - (x[i] - z[i])) ** 2)
    return torch.stack(losses)


def matching_left(x, z, t, A, a, b):
    """The velocity as the way that is left over the time that is left."""
    t = t[:, None]
    y = (1 - t) * z + t * x
    return nn.functional.mse_loss(y @ A.T + t * a + b, (x - y) / (1 - t), reduction="none").sum(-1)


def flow_affine(z, times, A, a, b):
    """Each step is a matrix and a shift."""
    M, c = torch.eye(len(b)).to(A), torch.zeros_like(b)
    for k in range(len(times) - 1):
        h = times[k + 1] - times[k]
        step = torch.eye(len(b)).to(A) + h * A
        M, c = step @ M, step @ c + h * (times[k] * a + b)
    return z @ M.T + c


def flow_numpy(z, times, A, a, b):
    y, times, A, a, b = (array.numpy().astype(float) for array in (z, times, A, a, b))
    for start, h in zip(times, np.diff(times), strict=False):
        y = y + h * (y @ A.T + start * a + b)
    return y


def flow_in_place(z, times, A, a, b):
    for k in range(times.numel() - 1):
        z += (times[k + 1] - times[k]) * ((A @ z.T).T + times[k] * a + b)
    return z


@pytest.mark.parametrize(
    ("question", "function"),
    [
        *[(NOISING, function) for function in (noising_step_by_step, noising_logarithms, noising_numpy)],
        *[(POSTERIOR, function) for function in (posterior_precisions, posterior_where)],
        *[(DRESSES, function) for function in (dresses_of_v, dresses_list)],
        *[(STEP, function) for function in (step_by_the_start, step_loop)],
        *[(GUIDANCE, function) for function in (guided_difference, guided_beyond)],
        *[(MATCHING, function) for function in (matching_loop, matching_left)],
        *[(FLOW, function) for function in (flow_affine, flow_numpy, flow_in_place)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function):
    assert_full_points(question, function, 20)


def test_what_a_mistake_costs():
    assert_keeps(POSTERIOR, "round the corner at t = 1", 3)
    assert_keeps(POSTERIOR, "beta for the variance", 0)
    assert_keeps(STEP, "noise at the last step", 3)
    assert_keeps(FLOW, "equal steps", 1)
    assert_keeps(FLOW, "all in one step", 1)


# What the references claim, from first principles.


def of(question, **inputs):
    given = {name: np.asarray(value, dtype=float) for name, value in inputs.items()}
    return harness.run(question.reference, given, dtype="float64", twice=False)["value"]


GENERATOR = np.random.default_rng(18)
BETAS = np.array([0.1, 0.35, 0.2, 0.3])


def normal(x, mean, variance):
    return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


def test_many_steps_of_noise_are_one():
    n, x0 = 200_000, 1.7
    x = np.full(n, x0)
    for beta in BETAS[:3]:
        x = np.sqrt(1 - beta) * x + np.sqrt(beta) * GENERATOR.standard_normal(n)
    mean, above = of(NOISING, x0=[[x0], [x0]], t=[3, 3], eps=[[0], [1]], betas=BETAS)[:, 0]
    assert x.mean() == pytest.approx(mean, abs=5 * x.std() / math.sqrt(n))
    assert x.std() == pytest.approx(above - mean, abs=5 * x.std() / math.sqrt(2 * n))


def test_the_posterior_is_bayes_rule_by_quadrature():
    x0, x_t, grid = 0.8, -0.6, np.linspace(-12, 12, 20_001)
    for t in (2, 3, 4):
        abar = np.prod(1 - BETAS[: t - 1])
        joint = normal(grid, math.sqrt(abar) * x0, 1 - abar) * normal(x_t, np.sqrt(1 - BETAS[t - 1]) * grid, BETAS[t - 1])
        weight = joint / joint.sum()
        mean = weight @ grid
        expected = [mean, weight @ (grid - mean) ** 2]
        assert of(POSTERIOR, x0=[[x0]], x_t=[[x_t]], t=[t], betas=BETAS)[0] == pytest.approx(expected, abs=1e-9)
    assert of(POSTERIOR, x0=[[x0]], x_t=[[x_t]], t=[1], betas=BETAS)[0] == pytest.approx([x0, 0], abs=1e-12)


def test_the_dresses_are_one_quantity():
    """The best noise of a Gaussian makes of its point the mean of the start, and the derivative of the log-density."""
    s, abar, x = 0.6, 0.3, np.array([[-1.0], [0.4]])
    variance = abar * s**2 + 1 - abar
    eps = math.sqrt(1 - abar) * x / variance
    x0, score, v = of(DRESSES, x_t=x, eps=eps, abar=[abar, abar])
    assert x0 == pytest.approx(math.sqrt(abar) * s**2 / variance * x, abs=1e-12)
    slope = (np.log(normal(x + 1e-5, 0, variance)) - np.log(normal(x - 1e-5, 0, variance))) / 2e-5
    assert score == pytest.approx(slope, abs=1e-8)
    # v is how the noisy point moves as signal turns into noise: the derivative by the angle
    turn = math.acos(math.sqrt(abar))
    moved = [math.cos(turn + h) * x0 + math.sin(turn + h) * eps for h in (1e-5, -1e-5)]
    assert v == pytest.approx((moved[0] - moved[1]) / 2e-5, abs=1e-8)


def test_the_step_undoes_the_noise_with_the_posteriors_mean():
    x0, eps, z = GENERATOR.standard_normal((3, 4, 2))
    t = np.array([1, 2, 3, 4])
    x_t = of(NOISING, x0=x0, t=t, eps=eps, betas=BETAS)
    mean = of(POSTERIOR, x0=x0, x_t=x_t, t=t, betas=BETAS)[:, :-1]
    assert of(STEP, x_t=x_t, eps=eps, t=t, z=0 * z, betas=BETAS) == pytest.approx(mean, abs=1e-12)
    added = of(STEP, x_t=x_t, eps=eps, t=t, z=z, betas=BETAS) - mean
    assert added == pytest.approx(np.array([0, 1, 1, 1])[:, None] * np.sqrt(BETAS)[:, None] * z, abs=1e-12)


def test_flow_matchings_mean_loss_is_least_at_the_mean_velocity():
    """For one data point and Gaussian noise: E[x - z | x_t] = (x - x_t) / (1 - t), which at each t is a linear layer."""
    n, t, x = 1000, 0.3, np.array([1.0, -2.0])
    z = GENERATOR.standard_normal((n, 2))
    known = {"x": np.tile(x, (n, 1)), "z": z, "t": np.full(n, t)}
    best = of(MATCHING, **known, A=-np.eye(2) / (1 - t), a=np.zeros(2), b=x / (1 - t))
    assert best == pytest.approx(np.zeros(n), abs=1e-12)
    assert of(MATCHING, **known, A=np.zeros((2, 2)), a=np.zeros(2), b=np.zeros(2)) == pytest.approx(((x - z) ** 2).sum(1))


def test_eulers_error_falls_with_the_step():
    """Towards the exact solution of the linear equation, by a power series."""
    A, a, b, z = 0.5 * GENERATOR.standard_normal((2, 2)), *GENERATOR.standard_normal((2, 2)), GENERATOR.standard_normal((1, 2))
    whole = np.zeros((4, 4))  # of (y, t, 1)
    whole[:2, :2], whole[:2, 2], whole[:2, 3], whole[2, 3] = A, a, b, 1
    exact = torch.linalg.matrix_exp(torch.tensor(whole)).numpy() @ [*z[0], 0, 1]
    error = [np.abs(of(FLOW, z=z, times=np.linspace(0, 1, K + 1), A=A, a=a, b=b)[0] - exact[:2]).max() for K in (50, 100)]
    assert error[0] / error[1] == pytest.approx(2, abs=0.1)


# 18.8: other networks, other optimisers.


def network(activation=nn.ReLU, hidden=(64, 64), steps=1500, lr=0.004, optimiser=torch.optim.Adam, target="eps"):
    def fit(x, x_t, abar):
        torch.manual_seed(0)
        layers, width = [], 4
        for size in hidden:
            layers, width = [*layers, nn.Linear(width, size), activation()], size
        net = nn.Sequential(*layers, nn.Linear(width, 2))
        trainer = optimiser(net.parameters(), lr=lr)

        def said(point, kept):
            return net(torch.cat([point, kept.sqrt(), (1 - kept).sqrt()], dim=1))

        for step in range(steps):
            trainer.param_groups[0]["lr"] = lr * (1 - step / steps)
            x0, kept = x[torch.randint(len(x), (256,))], 0.1 + 0.8 * torch.rand(256, 1)
            eps = torch.randn(256, 2)
            wanted = {"eps": eps, "v": kept.sqrt() * eps - (1 - kept).sqrt() * x0}[target]
            trainer.zero_grad()
            (said(kept.sqrt() * x0 + (1 - kept).sqrt() * eps, kept) - wanted).square().mean().backward()
            trainer.step()
        kept = abar[:, None]
        answer = said(x_t, kept)
        return answer.detach() if target == "eps" else ((1 - kept).sqrt() * x_t + kept.sqrt() * answer).detach()

    return fit


@pytest.mark.parametrize(
    "fit",
    [
        EXPERIMENT.reference,
        network(),
        pytest.param(network(nn.Tanh, (64,), steps=3000, lr=0.01), id="tanh, one layer"),
        pytest.param(network(nn.SiLU, lr=0.005, optimiser=torch.optim.AdamW, target="v"), id="SiLU, AdamW, v"),
    ],
    **ids,
)
def test_an_experiment_by_any_route_has_full_points(fit):
    assert_trained_to_full_points(EXPERIMENT, fit, range(2))


def test_what_is_wrong_with_a_denoiser_is_told():
    named = ("sign", "x0 for the noise", "score for the noise", "v for the noise", "noise as it stands in the point")
    for name in (*named, "straight line"):
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], name, range(3))
    for name in EXPERIMENT.mistakes.keys() - {*named, "straight line"}:
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], None, [0])


def test_no_answer_is_better_than_the_truth():
    (inputs,) = EXPERIMENT.draw(0).values()
    off, eps = EXPERIMENT.checks[0].measure.statistic, inputs["_eps"].astype(float)
    assert off(inputs, eps) == 0
    assert off(inputs, 0 * eps) == pytest.approx((eps**2).sum(1).mean())
    # what is best is the mean of the noise, given the point: by drawing from the given points, which are the same mixture's
    x, x_t, abar = (inputs[name].astype(float) for name in ("x", "x_t", "abar"))
    row = int(np.abs(abar - 0.3).argmin())  # where there is much noise, many points are weighed
    noise = (x_t[row] - math.sqrt(abar[row]) * x) / math.sqrt(1 - abar[row])
    weight = np.exp(-(noise**2).sum(1) / 2)
    assert weight @ noise / weight.sum() == pytest.approx(eps[row], abs=0.2)
