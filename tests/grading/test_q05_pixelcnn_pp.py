"""Exercise 05: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import math

import numpy as np
import pytest
import torch
from experiment_tests import (
    assert_mistakes_are_told,
    assert_told,
    assert_trained_to_full_points,
)
from question_tests import (
    assert_full_points,
    assert_keeps,
    ids,
    result,
)
from torch import distributions as D
from torch.nn import functional as F

from gencourse.autoregressive.layers import gate
from gencourse.autoregressive.pixelcnn_pp import PixelCNNPP
from gencourse.distributions import DiscretizedLogistic, DiscretizedLogisticMixture
from gencourse.grading.inside import harness
from gencourse.grading.questions.q05_pixelcnn_pp import COUPLING, EXPERIMENT, GATE, LOGISTIC, MIXTURE
from gencourse.space import Space

# Right answers by other routes than the reference's.


def gate_split(maps, y, bias):
    h = maps + F.embedding(y.long(), bias)[..., None, None]
    a, b = h.split(maps.shape[1] // 2, dim=1)
    return a.tanh() / (1 + (-b).exp())


def gate_one_hot(maps, y, bias):
    h = maps + (F.one_hot(y.long(), len(bias)).to(bias) @ bias).view(len(y), -1, 1, 1)
    C = h.shape[1] // 2
    return torch.sigmoid(h[:, C:]) * torch.tanh(h[:, :C])


def gate_loop(maps, y, bias):
    C = maps.shape[1] // 2
    rows = [torch.cat([(image + bias[int(k)].view(-1, 1, 1))]) for image, k in zip(maps, y, strict=True)]
    return torch.stack([torch.tanh(h[:C]) * torch.sigmoid(h[C:]) for h in rows])


def logistic_library(x, loc, log_scale, levels):
    return DiscretizedLogistic(loc, log_scale, int(levels), validate_args=False).log_prob(x)


def logistic_mirrored(x, loc, log_scale, levels):
    """Upper tails are lower tails of the mirrored distribution, where a difference of sigmoids loses nothing."""
    a, b = ((x + side - loc * (levels - 1)) / (levels - 1) / log_scale.exp() for side in (-0.5, 0.5))
    a, b = torch.where(x == 0, -torch.inf, a), torch.where(x == levels - 1, torch.inf, b)
    turn = a + b > 0
    a, b = torch.where(turn, -b, a), torch.where(turn, -a, b)
    return (b.double().sigmoid() - a.double().sigmoid()).log()


def logistic_softplus(x, loc, log_scale, levels):
    """log sigmoid(a) - log sigmoid(b) as softplus, and log(1 - exp) of it; edges at infinity by hand."""
    inverse, step = torch.exp(-log_scale), 1 / (levels - 1)
    middle = (x * step - loc) * inverse
    a, b = middle - step * inverse / 2, middle + step * inverse / 2
    inner = -F.softplus(-b) - F.softplus(a) + torch.log1p(-torch.exp(-step * inverse))
    return torch.where(x < 0.5, -F.softplus(-b), torch.where(x > levels - 1.5, -F.softplus(a), inner))


def logistic_double(x, loc, log_scale, levels):
    return LOGISTIC.reference(x.double(), loc.double(), log_scale.double(), levels.double())


def mixture_library(x, logits, loc, log_scale, levels):
    return DiscretizedLogisticMixture(logits, loc, log_scale, int(levels), validate_args=False).log_prob(x).sum(1)


def mixture_torch(x, logits, loc, log_scale, levels):
    each = DiscretizedLogistic(loc, log_scale, int(levels), validate_args=False)
    return D.Independent(D.MixtureSameFamily(D.Categorical(logits=logits), each, validate_args=False), 1).log_prob(x)


def mixture_loop(x, logits, loc, log_scale, levels):
    total = torch.zeros(len(x))
    for i in range(x.shape[1]):
        terms = [
            logistic_softplus(x[:, i], loc[:, i, k], log_scale[:, i, k], levels) + logits[:, i].log_softmax(1)[:, k]
            for k in range(logits.shape[2])
        ]
        total = total + torch.stack(terms).logsumexp(0)
    return total


def coupled_in_place(x, mean, coefficients):
    c, result = coefficients.tanh(), mean.clone()
    result[:, 1] += c[:, 0] * x[:, 0]
    result[:, 2] += c[:, 1] * x[:, 0]
    result[:, 2] += c[:, 2] * x[:, 1]
    return result


def coupled_by_matrix(x, mean, coefficients):
    """A strictly lower triangular matrix at each pixel."""
    A = torch.zeros(len(x), 3, 3, *x.shape[2:])
    A[:, [1, 2, 2], [0, 0, 1]] = coefficients.tanh()
    return mean + torch.einsum("bijhw,bjhw->bihw", A, x)


@pytest.mark.parametrize(
    ("question", "function", "seeds"),
    [
        *[(GATE, function, 20) for function in (gate_split, gate_one_hot, gate_loop)],
        *[(LOGISTIC, function, 20) for function in (logistic_library, logistic_softplus, logistic_double)],
        *[(MIXTURE, function, 20) for function in (mixture_library, mixture_torch)],
        (MIXTURE, mixture_loop, 10),
        *[(COUPLING, function, 20) for function in (coupled_in_place, coupled_by_matrix)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function, seeds):
    assert_full_points(question, function, seeds)


def test_values_without_a_gradient_keep_their_points():
    """The mirrored difference is right far from the mean too, but `where` lets no gradient through edges at infinity."""
    for seed in range(30):
        got = result(LOGISTIC, logistic_mirrored, seed)
        assert [part.status for part in got.checks][:3] == ["ok"] * 3


@pytest.mark.parametrize(
    ("question", "name", "points"),
    [
        (GATE, "class ignored", 1),
        (LOGISTIC, "no tails", 1),
        (LOGISTIC, "log(a - b)", 2),
        (LOGISTIC, "difference cut off", 2),
        (MIXTURE, "logarithm of the sum of masses", 2),
        (COUPLING, "no gradient", 3),
    ],
    **ids,
)
def test_a_mistake_costs_only_the_parts_that_it_touches(question, name, points):
    assert_keeps(question, name, points)


def test_the_masses_sum_to_one_and_without_tails_they_do_not():
    levels = torch.tensor(256.0, dtype=torch.float64)
    x = torch.arange(256, dtype=torch.float64)[None].expand(3, -1)
    loc = torch.tensor([[0.5], [-0.1], [1.3]], dtype=torch.float64).expand(-1, 256)
    log_scale = torch.full((3, 256), -2.0, dtype=torch.float64)
    total = LOGISTIC.reference(x, loc, log_scale, levels).exp().sum(1)
    assert torch.allclose(total, torch.ones_like(total), atol=1e-12)
    no_tails = LOGISTIC.mistakes["no tails"]
    assert (no_tails(x, loc, log_scale, levels).exp().sum(1) < 0.99).all()


def test_far_from_the_mean_the_difference_is_lost_in_float64_too():
    naive = LOGISTIC.mistakes["log(a - b)"]
    summed = MIXTURE.mistakes["logarithm of the sum of masses"]
    for seed in range(20):
        value = harness.run(naive, LOGISTIC.draw(seed)["far from the mean"], dtype="float64")["value"]
        assert np.isneginf(value).any()
        value = harness.run(summed, MIXTURE.draw(seed)["narrow components"], dtype="float64")["value"]
        assert np.isneginf(value[1:]).all()


def test_the_gate_and_the_coupling_are_the_librarys():
    maps, y, bias = (torch.tensor(array) for array in GATE.draw(0)["without classes"].values())
    assert torch.allclose(GATE.reference(maps, y, bias), gate(maps))

    x = torch.randint(0, 256, (2, 3, 4, 5), generator=torch.Generator().manual_seed(0))
    model = PixelCNNPP(Space((3, 4, 5), 256), channels=4, mixtures=1)
    parameters = torch.randn(2, 10, 4, 5, generator=torch.Generator().manual_seed(1))
    theirs = model.mixture(parameters, x).loc.squeeze(-1) * 2 - 1
    mine = COUPLING.reference(x / 127.5 - 1, parameters[:, 1:4], parameters[:, 7:])
    assert torch.allclose(mine, theirs, atol=1e-6)


def test_very_broad_components_put_half_the_mass_on_each_end_level():
    end = torch.zeros(1, 1, dtype=torch.float64)
    value = MIXTURE.reference(
        end, torch.zeros(1, 1, 2), torch.full((1, 1, 2), 0.5), torch.full((1, 1, 2), 12.0), torch.tensor(9.0)
    )
    assert value.item() == pytest.approx(-math.log(2), abs=1e-4)


def test_any_log_scale_is_allowed():
    def cut(log_mass, place):
        return lambda *inputs: log_mass(*(a.clamp(min=-7) if i == place else a for i, a in enumerate(inputs)))

    assert all(result(LOGISTIC, cut(LOGISTIC.reference, 2), seed).points < 4 for seed in range(20))
    assert all(result(MIXTURE, cut(MIXTURE.reference, 3), seed).points < 4 for seed in range(20))


# 5.5: from other starts than the reference's.


def grey_levels_from(means, log_scale, lr, steps, see=lambda loc: loc, weigh=lambda logits: logits.log_softmax(0)):
    def fit(counts):
        x = torch.arange(float(len(counts)))[:, None]
        answer = torch.tensor([[0.0, 0.0], means, [log_scale] * 2], requires_grad=True)
        adam = torch.optim.Adam([answer], lr=lr)
        for _ in range(steps):
            a, b = (((x + shift) / (len(counts) - 1) - see(answer[1])) / answer[2].exp() for shift in (-0.5, 0.5))
            a, b = a.masked_fill(x == 0, -1e4), b.masked_fill(x == len(counts) - 1, 1e4)
            mass = F.logsigmoid(b) + F.logsigmoid(-a) + torch.log(-torch.expm1(a - b))
            adam.zero_grad()
            (-(counts * (weigh(answer[0]) + mass).logsumexp(1)).sum() / counts.sum()).backward()
            adam.step()
        return torch.stack([answer[0], see(answer[1]), answer[2]])

    return fit


grey_levels_wide = grey_levels_from([0.0, 1.0], -2.0, 0.03, 600)
grey_levels_narrow = grey_levels_from([0.25, 0.75], -2.5, 0.05, 500)


@pytest.mark.parametrize("fit", [EXPERIMENT.reference, grey_levels_wide, grey_levels_narrow], **ids)
def test_an_experiment_by_any_route_has_full_points(fit):
    assert_trained_to_full_points(EXPERIMENT, fit, range(5))


def test_a_mistake_of_training_is_named_where_its_numbers_show_it():
    same_numbers = {"density for mass": "no tails"}
    assert_mistakes_are_told(EXPERIMENT, range(3), untold=("few steps", "small learning rate"), instead=same_numbers)
    clamped = grey_levels_from([0.3, 0.9], -3.0, 0.03, 500, see=lambda loc: loc.clamp(0, 1))
    squashed = grey_levels_from([-1.0, 3.0], -3.0, 0.03, 800, see=torch.sigmoid)
    each = grey_levels_from([0.3, 0.9], -2.0, 0.05, 500, weigh=F.logsigmoid)
    for fit, name in ((clamped, "means clamped"), (squashed, "means clamped"), (each, "weights not normalised")):
        assert_told(EXPERIMENT, fit, name, range(2))
    assert_told(
        EXPERIMENT, lambda counts: EXPERIMENT.reference(counts) * torch.tensor([[1], [255], [1]]), "means in levels", range(2)
    )
    assert_told(EXPERIMENT, grey_levels_from([0.25, 0.75], -2.5, 0.05, 20), None, range(2))
    assert_told(EXPERIMENT, lambda counts: torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), None, range(2))


def test_the_divergence_of_a_histogram_is_zero_at_the_true_mixture_in_any_order():
    (inputs,) = EXPERIMENT.draw(0).values()
    statistic, true = EXPERIMENT.checks[0].measure.statistic, inputs["_mixture"].astype(float)
    assert statistic(inputs, true) == pytest.approx(0, abs=1e-12)
    assert statistic(inputs, true[:, ::-1] + np.array([[3.0], [0.0], [0.0]])) == pytest.approx(0, abs=1e-12)
    assert statistic(inputs, true + np.array([[0.0], [0.02], [0.0]])) > 0.01
