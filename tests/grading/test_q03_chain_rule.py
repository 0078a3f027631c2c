"""Exercise 03: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import itertools
import math

import numpy as np
import pytest
import torch
from experiment_tests import (
    assert_mistakes_are_told,
    assert_told,
    assert_trained_to_full_points,
    result,
)
from question_tests import assert_full_points, assert_keeps, ids
from sklearn.linear_model import LogisticRegression
from torch import distributions as D
from torch.nn import functional as F

from gencourse.autoregressive.nade import NADE as NadeModel
from gencourse.grading.inside import harness
from gencourse.grading.questions.q03_chain_rule import BITS, ENSEMBLE, EXPERIMENT, LOG_PROB, MADE, NADE
from gencourse.space import Space

# Right answers by other routes than the reference's.


def log_prob_library(x, logits):
    return D.Independent(D.Bernoulli(logits=logits), 1).log_prob(x)


def log_prob_signed(x, logits):
    return F.logsigmoid((2 * x - 1) * logits).sum(1)


def log_prob_loop(x, logits):
    rows = []
    for image, row in zip(x, logits, strict=True):
        total = 0.0
        for pixel, logit in zip(image, row, strict=True):
            total = total - F.softplus(-logit if pixel == 1 else logit)
        rows.append(total)
    return rows  # a list of 0-d tensors


def log_prob_bce(x, logits):
    return -F.binary_cross_entropy_with_logits(logits.double(), x.double(), reduction="none").sum(1)


def nade_loop(x, W, c, V, b):
    """The paper's algorithm."""
    a, columns = c.repeat(len(x), 1), []
    for i in range(x.shape[1]):
        columns.append(torch.sigmoid(a) @ V[i] + b[i])
        a = a + torch.outer(x[:, i], W[:, i])
    return torch.stack(columns, dim=1)


def nade_from_scratch(x, W, c, V, b):
    """Every hidden layer from the beginning: right, if slow."""
    return torch.stack([torch.sigmoid(x[:, :i] @ W[:, :i].T + c) @ V[i] + b[i] for i in range(x.shape[1])], dim=1)


def nade_triangle(x, W, c, V, b):
    past = x[:, None, :] * torch.ones(x.shape[1], x.shape[1]).tril(-1)  # (B, D, D)
    return torch.einsum("bdh,dh->bd", torch.sigmoid(past @ W.T + c), V) + b


def made_loop(x, W, c, V, b, degrees_in, degrees_hidden):
    into_hidden, into_output = torch.zeros_like(W), torch.zeros_like(V)
    for h, of_unit in enumerate(degrees_hidden):
        for d, of_pixel in enumerate(degrees_in):
            into_hidden[h, d] = 1 if of_unit >= of_pixel else 0
            into_output[d, h] = 1 if of_pixel > of_unit else 0
    return F.linear(F.relu(F.linear(x, W * into_hidden, c)), V * into_output, b)


def made_by_order(x, W, c, V, b, degrees_in, degrees_hidden):
    """Each pixel from the pixels before it and the units that know no other."""
    columns = []
    for i, degree in enumerate(degrees_in):
        units = degrees_hidden < degree
        h = torch.stack([((x * (degrees_in <= d)) @ w + bias).relu() for w, bias, d in zip(W, c, degrees_hidden, strict=True)], 1)
        columns.append((h * units) @ V[i] + b[i])
    return torch.stack(columns, 1)


def bits_by_base(log_prob, x):
    _, C, H, W = x.shape
    return -(log_prob * math.log2(math.e)) / C / H / W


def ensemble_library(x, logits):
    each = D.Independent(D.Bernoulli(logits=logits), 1)
    return D.MixtureSameFamily(
        D.Categorical(torch.ones(logits.shape[1], len(logits))), D.Independent(D.Bernoulli(logits=logits.transpose(0, 1)), 1)
    ).log_prob(x) + 0 * each.log_prob(x).sum(0)


def ensemble_by_hand(x, logits):
    log_p = torch.stack([log_prob_signed(x, order) for order in logits])
    largest = log_p.max(0).values
    return largest + (log_p - largest).exp().mean(0).log()


def ensemble_numpy(x, logits):
    x, logits = x.double().numpy(), logits.double().numpy()
    return np.logaddexp.reduce((x * logits - np.logaddexp(0, logits)).sum(-1), axis=0) - np.log(len(logits))


@pytest.mark.parametrize(
    ("question", "function", "seeds"),
    [
        *[(LOG_PROB, function, 20) for function in (log_prob_library, log_prob_signed, log_prob_bce)],
        (LOG_PROB, log_prob_loop, 10),
        *[(NADE, function, 20) for function in (nade_loop, nade_from_scratch, nade_triangle)],
        *[(MADE, function, 10) for function in (made_loop, made_by_order)],
        (BITS, bits_by_base, 20),
        *[(ENSEMBLE, function, 20) for function in (ensemble_library, ensemble_by_hand, ensemble_numpy)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function, seeds):
    assert_full_points(question, function, seeds)


@pytest.mark.parametrize(
    ("question", "name", "points"),
    [
        (LOG_PROB, "logarithm of the sigmoid", 2),
        (LOG_PROB, "small number added", 2),
        (NADE, "gradient cut at the running sum", 3),
        (MADE, "natural order assumed", 1),
        (BITS, "pixels without colours", 1),
        (ENSEMBLE, "unstable", 2),
    ],
    **ids,
)
def test_a_mistake_costs_only_the_parts_that_it_touches(question, name, points):
    assert_keeps(question, name, points)


def every_image(pixels):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=pixels)), dtype=torch.float64)


def weights(question, check, seed=0):
    inputs = question.draw(seed)[check]
    return [torch.tensor(array, dtype=torch.float64) for name, array in inputs.items() if name != "x"]


@pytest.mark.parametrize(("question", "check"), [(NADE, "values"), (MADE, "the natural order"), (MADE, "another order")])
def test_the_references_are_distributions(question, check):
    """The probabilities of all images sum to one, which no model does that leaks."""
    parameters = weights(question, check)
    x = every_image(len(parameters[3]))
    log_p = LOG_PROB.reference(x, question.reference(x, *parameters))
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)
    leaks = {"running sum updated before use", "whole image", "all but itself", ">= at the output", "no masks"}
    for name in leaks & question.mistakes.keys():
        total = LOG_PROB.reference(x, question.mistakes[name](x, *parameters)).exp().sum().item()
        assert abs(total - 1) > 1e-3, name


def test_an_ensemble_of_distributions_is_one():
    x = every_image(6)
    orders = torch.stack([MADE.reference(x, *weights(MADE, "another order", seed)) for seed in range(3)])
    assert ENSEMBLE.reference(x, orders).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_nade_is_the_librarys():
    W, c, V, b = weights(NADE, "values")
    model = NadeModel(Space((1, 1, 7), 2), hidden=4).double()
    model.load_state_dict({"W": W, "c": c, "V": V[:, None], "b": b[:, None]}, strict=False)
    x = every_image(7)
    mine = LOG_PROB.reference(x, NADE.reference(x, W, c, V, b))
    assert torch.allclose(mine, model.log_prob(x.long().view(-1, 1, 1, 7)), atol=1e-12)


def test_bits_are_the_librarys_and_many_pixels_underflow_in_float64_too():
    inputs = BITS.draw(0)["colour images"]
    log_prob = torch.tensor(inputs["log_prob"], dtype=torch.float64)
    space = Space(inputs["x"].shape[1:], 256)
    assert torch.allclose(BITS.reference(log_prob, torch.tensor(inputs["x"])), space.bits_per_dim(log_prob))
    for seed in range(20):
        value = harness.run(ENSEMBLE.reference, ENSEMBLE.draw(seed)["many pixels"], dtype="float64")["value"]
        assert (np.exp(value) == 0).all()


# 3.6: a convex loss, so all ways that go on long enough end in the same place.


def belief_net_by_hand(x):
    """Gradient descent, without autograd."""
    D = x.shape[1]
    W, b = torch.zeros(D, D), torch.zeros(D)
    for _ in range(1500):
        residual = torch.sigmoid(x @ W.T + b) - x
        W, b = W - 0.5 * (residual.T @ x).tril(-1) / len(x), b - 0.5 * residual.mean(0)
    return torch.cat([W, b[:, None]], dim=1)


def belief_net_library(x):
    """A regression for each pixel."""
    x = x.numpy()
    D = x.shape[1]
    net = np.zeros((D, D + 1))
    net[0, D] = np.log(x[:, 0].mean() / (1 - x[:, 0].mean()))
    for i in range(1, D):
        regression = LogisticRegression().fit(x[:, :i], x[:, i])
        net[i, :i], net[i, D] = regression.coef_[0], regression.intercept_[0]
    return net


@pytest.mark.parametrize("fit", [EXPERIMENT.reference, belief_net_by_hand, belief_net_library], **ids)
def test_an_experiment_by_any_route_has_full_points(fit):
    assert_trained_to_full_points(EXPERIMENT, fit, range(5))


def last(net):
    return torch.arange(net.shape[1]) == net.shape[1] - 1


def belief_net_by_adam(mask, steps=500, end=lambda answer: answer):
    def fit(x):
        D = x.shape[1]
        W, b = torch.zeros(D, D, requires_grad=True), torch.zeros(D, requires_grad=True)
        optimizer = torch.optim.Adam([W, b], lr=0.05)
        for _ in range(steps):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(x @ (W * mask(D)).T + b, x).mul(D).backward()
            optimizer.step()
        return end(torch.cat([W, b[:, None]], dim=1).detach())

    return fit


def test_a_mistake_of_training_is_named_where_its_numbers_show_it():
    assert_mistakes_are_told(EXPERIMENT, range(3))
    lower, others = (lambda D: torch.ones(D, D).tril(-1)), (lambda D: 1 - torch.eye(D))
    assert_told(EXPERIMENT, belief_net_by_adam(others), "all others", range(3))
    assert_told(EXPERIMENT, belief_net_by_adam(others, end=lambda net: net.tril(-1) + net * last(net)), "all others", range(3))
    assert_told(EXPERIMENT, belief_net_by_adam(lower, steps=20), None, range(3))
    assert_told(EXPERIMENT, belief_net_by_adam(lower, steps=20, end=lambda net: net.roll(1, 1)), None, range(3))
    assert_told(EXPERIMENT, lambda x: torch.randn(10, 11, generator=torch.Generator().manual_seed(0)), None, range(3))


def test_what_is_not_read_may_be_anything():
    D = 10
    unread = torch.ones(D, D).triu().bool()

    def spoiled(function, value):
        def fit(x):
            net = function(x)
            return torch.cat([net[:, :-1].masked_fill(unread, value), net[:, -1:]], dim=1)

        return fit

    for value in (math.nan, math.inf, 7.0):
        assert result(EXPERIMENT, spoiled(EXPERIMENT.reference, value), 0).points == EXPERIMENT.points
    (inputs,) = EXPERIMENT.draw(0).values()
    measure, true = EXPERIMENT.checks[0].measure, inputs["_net"].astype(float)
    for i, j in np.ndindex(D, D + 1):
        net = true.copy()
        net[i, j] += 1
        read = j < i or j == D
        assert (measure.statistic(inputs, net) > 1e-9) == read
        assert (measure.reads(net) != measure.reads(true)).any() == read
