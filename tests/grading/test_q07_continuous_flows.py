"""Exercise 07: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from experiment_tests import assert_told, assert_trained_to_full_points
from experiment_tests import result as trained_result
from question_tests import assert_full_points, assert_keeps, ids, result
from torch import distributions as D
from torch import nn

from gencourse.flows.ffjord import FFJORD, value_and_trace
from gencourse.grading.questions.q07_continuous_flows import (
    DENSITY,
    ESTIMATE,
    EXPERIMENT,
    LINEAR,
    SAMPLE,
    SOLVE,
    STEP,
    TRACE,
)
from gencourse.solvers import RK4
from gencourse.space import Space


class Field(nn.Module):
    """The exercise's field, as the library's model wants one: without a method for its derivatives."""

    def __init__(self, W, u, V):
        super().__init__()
        self.weights = W, u, V

    def forward(self, t, z):
        W, u, V = self.weights
        return torch.tanh(z @ W.T + t * u) @ V.T


# Right answers by other routes than the reference's.


def linear_gaussian(x, A, T):
    back = torch.matrix_exp(-T.double() * A.double())
    return D.MultivariateNormal(torch.zeros(len(A)).double(), back @ back.T).log_prob(x.double())


def linear_slogdet(x, A, T):
    M = torch.linalg.matrix_exp(A * T)
    z = torch.einsum("ij,bj->bi", M, x)
    return -0.5 * (z * z).sum(-1) - x.shape[1] / 2 * math.log(2 * math.pi) + torch.slogdet(M)[1]


def linear_eigenvalues(x, A, T):
    values, vectors = np.linalg.eig(A.double().numpy())
    M = (vectors * np.exp(float(T) * values) @ np.linalg.inv(vectors)).real
    z = x.numpy() @ M.T
    return -0.5 * (z**2).sum(1) - A.shape[0] * np.log(np.sqrt(2 * np.pi)) + float(T) * values.sum().real


def step_library(t, z, h, W, u, V):
    return RK4(1)(Field(W, u, V), z, t, t + h)


def step_rows(t, z, h, W, u, V):
    rows = []
    for row in z:
        f = lambda s, y: V @ torch.tanh(W @ y + u * s)  # noqa: E731
        a = f(t, row)
        b = f(t + 0.5 * h, row + 0.5 * h * a)
        c = f(t + 0.5 * h, row + 0.5 * h * b)
        d = f(t + h, row + h * c)
        rows.append(row + h * (a / 6 + b / 3 + c / 3 + d / 6))
    return rows


def step_numpy(t, z, h, W, u, V):
    t, z, h, W, u, V = (np.asarray(a, dtype=np.float64) for a in (t, z, h, W, u, V))
    total, k = np.zeros_like(z), np.zeros_like(z)
    for weight, part in ((1, 0), (2, 0.5), (2, 0.5), (1, 1)):
        k = h * np.tanh((z + part * k) @ W.T + (t + part * h) * u) @ V.T
        total += weight * k / 6
    return z + total


def solve_library(z, start, end, steps, W, u, V):
    return RK4(int(steps))(Field(W, u, V), z, float(start), float(end))


def solve_linspace(z, start, end, steps, W, u, V):
    times = torch.linspace(float(start), float(end), int(steps.item()) + 1)
    for t, after in pairwise(times):
        z = torch.stack(step_rows(t, z, after - t, W, u, V))
    return z


def solve_while(z, start, end, steps, W, u, V):
    """Time counts on; the direction is put into the field."""
    way, left, t = (1 if end > start else -1), int(steps), start.clone()
    h = (end - start).abs() / steps
    while left > 0:
        z, t, left = step_library(t, z, way * h, W, u, V), t + way * h, left - 1
    return z


def trace_autograd(t, z, W, u, V):
    z = z if z.requires_grad else z.detach().requires_grad_()
    f = torch.tanh(z @ W.T + t * u) @ V.T
    return sum(torch.autograd.grad(f[:, i].sum(), z, create_graph=True)[0][:, i] for i in range(z.shape[1]))


def trace_jacrev(t, z, W, u, V):
    one = lambda y: V @ torch.tanh(W @ y + t * u)  # noqa: E731
    return torch.func.vmap(torch.func.jacrev(one))(z).diagonal(dim1=1, dim2=2).sum(1)


def trace_functional(t, z, W, u, V):
    whole = torch.autograd.functional.jacobian(lambda y: torch.tanh(y @ W.T + t * u) @ V.T, z, create_graph=True)
    return torch.einsum("bibi->b", whole)


def trace_cosh(t, z, W, u, V):
    return [sum((V[i] * W[:, i] / torch.cosh(W @ y + t * u) ** 2).sum() for i in range(len(y))) for y in z]


def estimate_library(t, z, v, W, u, V):
    return value_and_trace(Field(W, u, V), t, z, v)[1] / len(v)


def estimate_vjp(t, z, v, W, u, V):
    z = z.detach().requires_grad_()
    f = Field(W, u, V)(t, z)
    total = torch.zeros(len(z))
    for draw in v:
        total += (torch.autograd.grad(f, z, draw, retain_graph=True)[0] * draw).sum(-1)
    return total / v.shape[0]


def estimate_matrices(t, z, v, W, u, V):
    J = torch.stack([V @ torch.diag(1 - torch.tanh(W @ y + t * u) ** 2) @ W for y in z])
    return torch.einsum("kbi,bij,kbj->b", v, J, v) / v.size(0)


def density_by_draws(x, v, mean, sd, steps, W, u, V):
    """One solve for each draw; the state has the integral as its last coordinate."""
    f = Field(W, u, V)
    found = []
    for draw in v:

        def both(t, state, draw=draw):
            velocity, change = torch.func.jvp(lambda y: f(t, y), (state[:, :-1],), (draw,))
            return torch.cat([velocity, (draw * change).sum(1, keepdim=True)], 1)

        start = torch.cat([(x - mean) / sd, torch.zeros(len(x), 1)], 1)
        end = RK4(int(steps))(both, start.to(x), 0.0, 1.0)
        found.append(D.Independent(D.Normal(torch.zeros_like(mean), 1.0), 1).log_prob(end[:, :-1]) + end[:, -1])
    return torch.stack(found).mean(0) - torch.log(sd.prod())


def density_library(x, v, mean, sd, steps, W, u, V):
    """FFJORD's own solve, with these draws."""
    flow = FFJORD(Space((x.shape[1],)), field=Field(W, u, V), directions=lambda z, generator: v)
    with flow.using(RK4(int(steps))):
        z, total, _ = flow.solve((x - mean) / sd, 0.0, 1.0)
    return (
        D.Normal(0.0, 1.0).log_prob(z).sum(1)
        + total / len(v)
        + D.AffineTransform(-mean / sd, 1 / sd).log_abs_det_jacobian(x, x).sum(1)
    )


def density_simpson(x, v, mean, sd, steps, W, u, V):
    """The integral beside the path, with the places that RK4 looks at."""
    n = int(steps)
    z, total, t = (x - mean) / sd, 0, torch.zeros(())
    for _ in range(n):
        ks, places = [], []
        for part in (0, 0.5, 0.5, 1):
            places.append(z + part / n * ks[-1] if ks else z)
            ks.append(torch.tanh(places[-1] @ W.T + (t + part / n) * u) @ V.T)
        for weight, part, place in zip((1, 2, 2, 1), (0, 0.5, 0.5, 1), places, strict=True):
            slopes = 1 - torch.tanh(place @ W.T + (t + part / n) * u) ** 2
            total = total + weight / (6 * n) * (v * (((v @ W.T) * slopes) @ V.T)).sum(-1)
        z, t = z + (ks[0] + 2 * ks[1] + 2 * ks[2] + ks[3]) / (6 * n), t + 1 / n
    return (total - 0.5 * (z**2).sum(1)).mean(0) - (sd * math.sqrt(2 * math.pi)).log().sum()


def sample_library(z, mean, sd, steps, W, u, V):
    flow = FFJORD(Space((z.shape[1],)), field=Field(W, u, V))
    with flow.using(RK4(int(steps))):
        y, integral, _ = flow.solve(z, 1.0, 0.0)
    log_p = D.Normal(0.0, 1.0).log_prob(z).sum(1) - integral - torch.log(sd).sum()
    return torch.cat([y * sd + mean, log_p[:, None]], 1)


def sample_mirrored(z, mean, sd, steps, W, u, V):
    """Time runs on, from 0 to 1, along the field turned round."""

    def turned(s, state):
        y = state[:, :-1]
        return -torch.cat([Field(W, u, V)(1 - s, y), trace_jacrev(1 - s, y, W, u, V)[:, None]], 1)

    state = RK4(int(steps))(turned, nn.functional.pad(z, (0, 1)), 0.0, 1.0)
    y, integral = state.tensor_split((z.shape[1],), dim=1)
    log_p = D.MultivariateNormal(torch.zeros_like(mean), torch.eye(len(mean))).log_prob(z)[:, None] - integral
    return torch.hstack([mean + y * sd, log_p - sd.log().sum()])


def sample_double(z, mean, sd, steps, W, u, V):
    z, mean, sd, W, u, V = (a.double() for a in (z, mean, sd, W, u, V))
    state, h = torch.cat([z, D.Normal(0.0, 1.0).log_prob(z).sum(1, keepdim=True)], 1), 1 / int(steps)

    def back(t, state):
        y = state[:, :-1]
        return torch.cat([Field(W, u, V)(t, y), trace_jacrev(t, y, W, u, V)[:, None] * -1], 1)

    for k in reversed(range(int(steps))):  # the log-density itself is a coordinate; it falls where points spread
        state = RK4(1)(back, state, (k + 1) * h, k * h)
    return torch.cat([mean + sd * state[:, :-1], state[:, -1:] - sd.log().sum()], 1)


@pytest.mark.parametrize(
    ("question", "function"),
    [
        *[(LINEAR, function) for function in (linear_gaussian, linear_slogdet, linear_eigenvalues)],
        *[(STEP, function) for function in (step_library, step_rows, step_numpy)],
        *[(SOLVE, function) for function in (solve_library, solve_linspace, solve_while)],
        *[(TRACE, function) for function in (trace_autograd, trace_jacrev, trace_functional, trace_cosh)],
        *[(ESTIMATE, function) for function in (estimate_library, estimate_vjp, estimate_matrices)],
        *[(DENSITY, function) for function in (density_by_draws, density_library, density_simpson)],
        *[(SAMPLE, function) for function in (sample_library, sample_mirrored, sample_double)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function):
    assert_full_points(question, function, 5)


def test_what_a_mistake_costs():
    assert_keeps(STEP, "size of h", 2)
    assert_keeps(SOLVE, "size of the step", 1)
    assert_keeps(TRACE, "graph lost", 1)
    assert_keeps(ESTIMATE, "v made to length one", 1)
    assert_keeps(ESTIMATE, "signs of v", 1)
    assert_keeps(DENSITY, "graph lost", 2)


def test_a_trace_that_cannot_be_differentiated_is_told_why():
    def without_graph(t, z, W, u, V):
        z = z.detach().requires_grad_()
        f = Field(W, u, V)(t, z)
        return sum(torch.autograd.grad(f[:, i].sum(), z, retain_graph=True)[0][:, i] for i in range(z.shape[1]))

    got = result(TRACE, without_graph, 0)
    assert got.points == 1
    assert "create_graph=True" in got.sentence


# What the references claim, from first principles.


def inputs_of(question, check):
    return {name: torch.tensor(array, dtype=torch.float64) for name, array in question.draw(0)[check].items()}


def test_rk4_is_of_fourth_order():
    given = inputs_of(SOLVE, "there")
    z, start, end, _, W, u, V = given.values()
    exact = RK4(512)(Field(W, u, V), z, float(start), float(end))
    off = [(SOLVE.reference(z, start, end, torch.tensor(n), W, u, V) - exact).abs().max().item() for n in (32, 64)]
    assert math.log2(off[0] / off[1]) == pytest.approx(4, abs=0.4)
    there = SOLVE.reference(z, start, end, torch.tensor(128), W, u, V)
    assert (SOLVE.reference(there, end, start, torch.tensor(128), W, u, V) - z).abs().max() < 1e-4


def test_signs_have_the_exact_trace_as_their_mean():
    given = inputs_of(ESTIMATE, "signs")
    t, z, v, W, u, V = given.values()
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * z.shape[1])
    every = signs[:, None].expand(-1, len(z), -1)
    assert torch.allclose(ESTIMATE.reference(t, z, every, W, u, V), TRACE.reference(t, z, W, u, V), rtol=0, atol=1e-10)
    assert (ESTIMATE.reference(t, z, v, W, u, V) - TRACE.reference(t, z, W, u, V)).abs().max() > 0.1


def test_the_log_density_is_that_of_the_map():
    """The Jacobian of the whole solve, by autograd, against the integral of the trace; samples and data agree."""
    z, mean, sd, _, W, u, V = inputs_of(SAMPLE, "values").values()
    steps = torch.tensor(64)
    answer = SAMPLE.reference(z, mean, sd, steps, W, u, V)
    for row, log_p in zip(z, answer[:, -1], strict=True):
        J = torch.autograd.functional.jacobian(lambda y: SAMPLE.reference(y[None], mean, sd, steps, W, u, V)[0, :-1], row)
        truth = D.Normal(0.0, 1.0).log_prob(row).sum() - torch.linalg.slogdet(J).logabsdet
        assert log_p.item() == pytest.approx(truth.item(), abs=1e-3)
    unit = math.sqrt(z.shape[1]) * torch.eye(z.shape[1], dtype=torch.float64)[:, None].expand(-1, len(z), -1)
    again = DENSITY.reference(answer[:, :-1], unit, mean, sd, steps, W, u, V)
    assert torch.allclose(again, answer[:, -1], rtol=0, atol=1e-3)


# 7.8: other fields, other derivatives, other optimisers.


def flow(activation=torch.tanh, hidden=32, layers=1, trace="autograd", steps=300, lr=0.02, optimiser=torch.optim.Adam):
    def fit(x, points):
        torch.manual_seed(0)
        net = nn.ModuleList([nn.Linear(3, hidden), *[nn.Linear(hidden, hidden) for _ in range(layers - 1)], nn.Linear(hidden, 2)])
        mean, sd = x.mean(0), x.std(0)

        def velocity(t, z):
            h = nn.functional.pad(z, (0, 1), value=t)
            for layer in net[:-1]:
                h = activation(layer(h))
            return net[-1](h)

        def both(t, z, v):
            with torch.enable_grad():
                z = z if z.requires_grad else z.detach().requires_grad_()
                f = velocity(t, z)
                if v is not None:  # Hutchinson's estimate
                    return f, (torch.autograd.grad(f, z, v, create_graph=True)[0] * v).sum(1)
                return f, sum(torch.autograd.grad(f[:, i].sum(), z, create_graph=True)[0][:, i] for i in range(2))

        def log_q(y, n, v=None):
            z, total = (y - mean) / sd, 0
            for k in range(n):
                t, h = k / n, 1 / n
                k1, a1 = both(t, z, v)
                k2, a2 = both(t + h / 2, z + h / 2 * k1, v)
                k3, a3 = both(t + h / 2, z + h / 2 * k2, v)
                k4, a4 = both(t + h, z + h * k3, v)
                z, total = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), total + h / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
            return D.Normal(0.0, 1.0).log_prob(z).sum(1) + total - sd.log().sum()

        trainer = optimiser(net.parameters(), lr=lr)
        for step in range(steps):
            trainer.param_groups[0]["lr"] = lr * (1 - step / steps)
            trainer.zero_grad()
            batch = x[torch.randint(len(x), (256,))]
            noise = torch.randint(2, batch.shape) * 2.0 - 1 if trace == "signs" else None
            (-log_q(batch, 3, noise).mean()).backward()
            trainer.step()
        return log_q(points, 8).detach()

    return fit


@pytest.mark.parametrize(
    "fit",
    [
        EXPERIMENT.reference,
        flow(),
        pytest.param(flow(layers=2, lr=0.01, optimiser=torch.optim.AdamW), id="two layers, AdamW"),
        pytest.param(flow(hidden=64, trace="signs", lr=0.01, steps=400), id="signs for the trace"),
    ],
    **ids,
)
def test_an_experiment_by_any_route_has_full_points(fit):
    assert_trained_to_full_points(EXPERIMENT, fit, range(1))


def test_what_is_wrong_with_a_flow_is_told():
    named = ("density for its logarithm", "minus the logarithm", "bits", "2 pi missing", "scale forgotten", "points out of order")
    for name in named:
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], name, range(2))
    assert_told(EXPERIMENT, EXPERIMENT.mistakes["linear field"], "linear field", range(1))
    too_much = ("trace forgotten", "sign of the trace", "sign of the trace in the answer", "coarse solver")
    for name, function in EXPERIMENT.mistakes.items():
        if name in named or name == "linear field":
            continue
        got = trained_result(EXPERIMENT, function, 1)
        assert got.points == 0, name
        assert ("adds up to more than 1" in got.sentence) == (name in too_much), f"{name}: {got.sentence}"


def test_the_divergence_is_least_at_the_truth():
    (inputs,) = EXPERIMENT.draw(0).values()
    statistic, true = EXPERIMENT.checks[0].measure.statistic, inputs["_log_p"].astype(float)
    assert statistic(inputs, true) == pytest.approx(0, abs=1e-12)
    for shift in (-0.3, 0.3):  # times c, a density that adds up to 1 is c - 1 - log c away
        assert statistic(inputs, true + shift) == pytest.approx(math.exp(shift) - 1 - shift, abs=1e-3)
    assert statistic(inputs, 1.1 * true) > 0.005
    assert statistic(inputs, true + 1000) == 1000
