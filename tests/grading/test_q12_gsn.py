"""Exercise 12: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import itertools
import math

import numpy as np
import pytest
import torch
from experiment_tests import assert_told, assert_trained_to_full_points
from question_tests import assert_full_points, assert_keeps, ids, result
from torch import distributions as D
from torch import nn

from gencourse.grading.inside import harness
from gencourse.grading.questions.q12_gsn import (
    CORRUPTION,
    CORRUPTION_MATRIX,
    EXPERIMENT,
    POSTERIOR,
    STATIONARY,
    STEP,
    TRANSITION,
    WALKBACK,
)

# Right answers by other routes than the reference's.


def corrupt_formula(x, u, v, rho, salt):
    hit, coin = (u < rho).float(), (v < salt).float()
    return hit * coin + (1 - hit) * x


def corrupt_in_place(x, u, v, rho, salt):
    x[u < rho] = (v[u < rho] < salt).float()
    return x


def corrupt_loop(x, u, v, rho, salt):
    return [
        [int(salt > V) if rho > U else int(X) for X, U, V in zip(*rows, strict=True)]
        for rows in zip(x.tolist(), u.tolist(), v.tolist(), strict=True)
    ]


def corrupt_bool(x, u, v, rho, salt):
    return torch.where(u < rho, v < salt, x.bool())


def matrix_bernoulli(states, rho, salt):
    one = D.Bernoulli(states * (1 - rho) + rho * salt)
    return torch.stack([one.log_prob(to).sum(1).exp() for to in states], dim=1)


def matrix_loop(states, rho, salt):
    S = states.tolist()
    rho, salt = float(rho), float(salt)
    stays = {1: 1 - rho + rho * salt, 0: 1 - rho * salt}
    return [[math.prod(stays[a] if a == b else 1 - stays[a] for a, b in zip(x, y, strict=True)) for y in S] for x in S]


def matrix_counts(states, rho, salt):
    """The four kinds of pixels are counted."""
    s, n = states.double(), 1 - states.double()
    kinds = [(s, s, 1 - rho + rho * salt), (s, n, rho * (1 - salt)), (n, s, rho * salt), (n, n, 1 - rho * salt)]
    return math.prod(rate.double() ** (a @ b.T) for a, b, rate in kinds)


def posterior_loop(p, C):
    S = len(p)
    rows = []
    for j in range(S):
        joint = [float(p[i]) * float(C[i, j]) for i in range(S)]
        rows.append([value / sum(joint) for value in joint])
    return rows


def posterior_logarithms(p, C):
    return torch.softmax(p.log()[None, :] + C.T.log(), dim=1)


def posterior_einsum(p, C):
    joint = torch.einsum("i,ij->ji", p, C)
    return joint / joint.sum(-1)[:, None]


def step_comparison(x, W, b, u, v, w, rho, salt):
    noisy = corrupt_formula(x, u, v, rho, salt)
    return torch.logit(w) < nn.functional.linear(noisy, W, b)


def step_numpy(x, W, b, u, v, w, rho, salt):
    x, W, b, u, v, w = (t.numpy().astype(float) for t in (x, W, b, u, v, w))
    noisy = np.where(u < float(rho), v < float(salt), x)
    return (w < 1 / (1 + np.exp(-(noisy @ W.T + b)))).astype(int)


def transition_bernoulli(states, C, W, b):
    pixels = D.Independent(D.Bernoulli(logits=(states @ W.T + b)[:, None]), 1)
    return C @ pixels.log_prob(states).exp()


def transition_loop(states, C, W, b):
    S = len(states)
    T = torch.zeros(S, S)
    for k in range(S):
        one = torch.sigmoid(W @ states[k] + b)
        reached = torch.stack([torch.where(to == 1, one, 1 - one).prod() for to in states])
        T += C[:, k, None] * reached
    return T


def stationary_power(T):
    for _ in range(14):
        T = T @ T
        T = T / T.sum(1, keepdim=True)
    return T[0]


def stationary_eigenvector(T):
    values, vectors = torch.linalg.eig(T.T)
    pi = vectors[:, (values - 1).abs().argmin()].real
    return pi / pi.sum()


def stationary_null_space(T):
    _, _, Vh = np.linalg.svd(T.numpy().astype(float).T - np.eye(len(T)))
    return Vh[-1] / Vh[-1].sum()


def stationary_steps(T):
    pi = torch.full((1, len(T)), 1 / len(T))
    for _ in range(5000):
        pi = pi @ T
    return (pi / pi.sum())[0]


def walkback_bernoulli(x, W, b, u, v, w, rho, salt):
    where, log_p = x, []
    for k in range(u.shape[0]):
        pixels = D.Independent(D.Bernoulli(logits=nn.functional.linear(corrupt_formula(where, u[k], v[k], rho, salt), W, b)), 1)
        log_p.append(pixels.log_prob(x))
        where = (w[k] < pixels.mean).float()
    return -torch.stack(log_p).mean(0)


def walkback_softplus(x, W, b, u, v, w, rho, salt):
    where, total = x.double(), 0
    for U, V, draw in zip(u, v, w, strict=True):
        logits = corrupt_formula(where, U, V, rho, salt) @ W.double().T + b
        total = total + (nn.functional.softplus(logits) - x * logits).sum(1)
        where = step_comparison(where, W.double(), b.double(), U, V, draw, rho, salt).double()
    return total / u.shape[0]


@pytest.mark.parametrize(
    ("question", "function"),
    [
        *[(CORRUPTION, function) for function in (corrupt_formula, corrupt_in_place, corrupt_loop, corrupt_bool)],
        *[(CORRUPTION_MATRIX, function) for function in (matrix_bernoulli, matrix_loop, matrix_counts)],
        *[(POSTERIOR, function) for function in (posterior_loop, posterior_logarithms, posterior_einsum)],
        *[(STEP, function) for function in (step_comparison, step_numpy)],
        *[(TRANSITION, function) for function in (transition_bernoulli, transition_loop)],
        *[
            (STATIONARY, function)
            for function in (stationary_power, stationary_eigenvector, stationary_null_space, stationary_steps)
        ],
        *[(WALKBACK, function) for function in (walkback_bernoulli, walkback_softplus)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function):
    assert_full_points(question, function, 20)


def test_what_a_mistake_costs():
    assert_keeps(STATIONARY, "ten steps", 1)
    assert_keeps(WALKBACK, "corrupted image goes on", 0)


def test_a_thousand_steps_of_the_slow_chain_are_enough_and_a_hundred_are_not():
    def after(steps):
        return lambda T: torch.linalg.matrix_power(T.double(), steps)[0]

    for seed in range(20):
        assert result(STATIONARY, after(2000), seed).points == 2
        assert result(STATIONARY, after(100), seed).points == 1


def test_a_sum_of_logarithms_without_mass_is_nan_and_costs_its_own_points():
    def logarithms(p, C):
        log_joint = p.log()[:, None] + C.log()
        return (log_joint - log_joint.max() * 0).exp().T / (p * 1).sum() / (p @ C)[:, None] + 0 * p.log()

    got = result(POSTERIOR, logarithms, 0)
    assert got.points == 2
    assert "NaN" in got.sentence


# What the references claim, from first principles.


def of(question, **inputs):
    return harness.run(question.reference, inputs, dtype="float64", twice=False)["value"]


STATES = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
GENERATOR = np.random.default_rng(3)
W, B = GENERATOR.standard_normal((3, 3)), GENERATOR.standard_normal(3)


def test_the_corruptions_matrix_is_how_often_it_makes_one_of_another():
    n, rho, salt = 40_000, 0.35, 0.8
    C = of(CORRUPTION_MATRIX, states=STATES, rho=np.array(rho), salt=np.array(salt))
    assert np.allclose(C.sum(1), 1, rtol=0, atol=1e-12)
    u, v = GENERATOR.uniform(size=(2, n, 3))
    for x, row in zip(STATES, C, strict=True):
        noisy = of(CORRUPTION, x=np.tile(x, (n, 1)), u=u, v=v, rho=np.array(rho), salt=np.array(salt))
        often = np.bincount((noisy @ [4, 2, 1]).astype(int), minlength=8) / n
        assert np.abs(often - row).max() < 5 * 0.5 / math.sqrt(n)  # five standard errors, at most


def test_the_posterior_makes_a_chain_that_keeps_the_distribution():
    p, C = GENERATOR.dirichlet(np.ones(8)), of(CORRUPTION_MATRIX, states=STATES, rho=np.array(0.4), salt=np.array(0.2))
    P = of(POSTERIOR, p=p, C=C)
    assert np.allclose(P.sum(1), 1, rtol=0, atol=1e-12)
    assert np.allclose(p @ C @ P, p, rtol=0, atol=1e-12)
    assert np.allclose(of(STATIONARY, T=C @ P), p, rtol=0, atol=1e-9)


def test_the_transition_matrix_is_where_a_step_goes():
    n, rates = 40_000, {"rho": np.array(0.35), "salt": np.array(0.8)}
    C = of(CORRUPTION_MATRIX, states=STATES, **rates)
    T = of(TRANSITION, states=STATES, C=C, W=W, b=B)
    u, v, w = GENERATOR.uniform(size=(3, n, 3))
    for x, row in zip(STATES, T, strict=True):
        ends = of(STEP, x=np.tile(x, (n, 1)), W=W, b=B, u=u, v=v, w=w, **rates)
        often = np.bincount((ends @ [4, 2, 1]).astype(int), minlength=8) / n
        assert np.abs(often - row).max() < 5 * 0.5 / math.sqrt(n)


def test_the_mean_loss_of_a_walk_is_that_of_the_matrices():
    """Over all uniform numbers: the k-th step starts where k - 1 steps of the chain lead."""
    n, K, rates = 40_000, 3, {"rho": np.array(0.35), "salt": np.array(0.8)}
    C = of(CORRUPTION_MATRIX, states=STATES, **rates)
    T = of(TRANSITION, states=STATES, C=C, W=W, b=B)
    P = of(TRANSITION, states=STATES, C=np.eye(8), W=W, b=B)
    start = 5
    expected = np.mean([np.linalg.matrix_power(T, k)[start] @ C @ -np.log(P[:, start]) for k in range(K)])
    u, v, w = GENERATOR.uniform(size=(3, K, n, 3))
    loss = of(WALKBACK, x=np.tile(STATES[start], (n, 1)), W=W, b=B, u=u, v=v, w=w, **rates)
    assert loss.mean() == pytest.approx(expected, abs=5 * loss.std() / math.sqrt(n))


# 12.8: other networks, other optimisers.


def network(activation=nn.Tanh, hidden=(32,), steps=800, lr=0.01, optimiser=torch.optim.Adam, batch=256):
    def fit(x, states):
        torch.manual_seed(0)
        layers, width = [], x.shape[1]
        for size in hidden:
            layers, width = [*layers, nn.Linear(width, size), activation()], size
        net = nn.Sequential(*layers, nn.Linear(width, x.shape[1]))
        trainer = optimiser(net.parameters(), lr=lr)
        for step in range(steps):
            trainer.param_groups[0]["lr"] = lr * (1 - step / steps)
            clean = x[torch.randperm(len(x))[:batch]]
            noisy = torch.where(torch.rand_like(clean) < 0.3, torch.randint(2, clean.shape).float(), clean)
            trainer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(net(noisy), clean).backward()
            trainer.step()
        return torch.sigmoid(net(states)).detach()

    return fit


@pytest.mark.parametrize(
    "fit",
    [
        EXPERIMENT.reference,
        network(),
        pytest.param(network(nn.ReLU, (64, 64), lr=0.005, optimiser=torch.optim.AdamW), id="ReLU, deep, AdamW"),
        pytest.param(network(nn.SiLU, (48,), steps=1500, lr=0.003, optimiser=torch.optim.RMSprop), id="SiLU, RMSprop"),
    ],
    **ids,
)
def test_an_experiment_by_any_route_has_full_points(fit):
    assert_trained_to_full_points(EXPERIMENT, fit, range(2))


def test_what_is_wrong_with_a_reconstruction_is_told():
    for name in ("zeros and ones", "same for all", "logits", "probability of 0", "noisy image for the clean"):
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], name, range(3))
    assert_told(EXPERIMENT, EXPERIMENT.mistakes["never corrupted"], "noisy image for the clean", range(3))
    for name in ("corrupted half as often", "corrupted twice as often", "forty images", "few steps", "states out of order"):
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], None, [0])
    assert_told(EXPERIMENT, network(hidden=()), None, range(2))  # no hidden layer


def test_the_excess_is_least_at_the_truth():
    (inputs,) = EXPERIMENT.draw(0).values()
    statistic, one = EXPERIMENT.checks[0].measure.statistic, inputs["_one"].astype(float)
    assert inputs["_weight"].sum() == pytest.approx(1, abs=1e-5)
    assert statistic(inputs, one) == pytest.approx(0, abs=1e-9)
    shift = GENERATOR.uniform(-0.02, 0.02, one.shape)
    assert statistic(inputs, np.clip(one + shift, 0, 1)) > 0.001
    said = np.full(one.shape, 0.5)  # a fair coin: the cross-entropy is D log 2, the least is the posterior's entropy
    entropy = -(one * np.log(one) + (1 - one) * np.log(1 - one)).sum(1) @ inputs["_weight"]
    assert statistic(inputs, said) == pytest.approx(8 * math.log(2) - entropy, abs=1e-5)
