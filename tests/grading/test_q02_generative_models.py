"""Exercise 02: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import itertools
import math

import numpy as np
import pytest
import torch
from experiment_tests import assert_mistakes_are_told, assert_trained_to_full_points, result
from question_tests import assert_full_points, assert_keeps, ids
from scipy.special import rel_entr
from scipy.stats import entropy
from torch import distributions as D

from gencourse.grading.inside import harness
from gencourse.grading.questions.q02_generative_models import (
    COSTS,
    COUNTING,
    EXPERIMENT,
    FITS,
    INVERSION,
    KL,
    QUERIES,
    VARIATION,
)

# Right answers by other routes than the reference's.


def kl_scipy(p, q):
    p, q = p.numpy(), q.numpy()
    return np.stack([rel_entr(p, q).sum(1), rel_entr(q, p).sum(1)], axis=1)


def kl_library(p, q):
    first, second = D.Categorical(p), D.Categorical(q)
    found = torch.stack([D.kl_divergence(first, second), D.kl_divergence(second, first)], 1)
    impossible = torch.stack([((p > 0) & (q == 0)).any(1), ((q > 0) & (p == 0)).any(1)], 1)
    return found.masked_fill(impossible, math.inf)


def kl_loop(p, q):
    def one_way(a, b):
        total = 0.0
        for x, y in zip(a, b, strict=True):
            if x > 0:
                total += x * math.log(x / y) if y > 0 else math.inf
        return total

    return [[one_way(a, b), one_way(b, a)] for a, b in zip(p.tolist(), q.tolist(), strict=True)]


def kl_nansum(p, q):
    return torch.stack([torch.nansum(p * (p.log() - q.log()), 1), torch.nansum(q * (q.log() - p.log()), 1)], 1)


def count_loop(x, alpha):
    D = x.shape[1]
    seen = [tuple(int(pixel) for pixel in row) for row in x]
    table = [seen.count(pattern) + float(alpha) for pattern in itertools.product((0, 1), repeat=D)]
    return [entry / sum(table) for entry in table]


def count_unique(x, alpha):
    patterns, often = x.unique(dim=0, return_counts=True)
    table = torch.full((2,) * x.shape[1], float(alpha))
    table[tuple(patterns.long().T)] += often
    return (table / table.sum()).reshape(-1)


def count_compared(x, alpha):
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * x.shape[1])
    often = (x[:, None] == every).all(-1).double().sum(0)
    return (often + alpha) / (len(x) + alpha * len(every))


def invert_interp(edges, weight, u):
    """NumPy's straight lines between the distribution function's values; levels that come twice are left out."""
    edges, weight, u = edges.numpy(), weight.numpy(), u.numpy()
    F = np.concatenate([[0], np.cumsum(weight, dtype=float) / weight.sum(dtype=float)])
    starts = np.r_[np.diff(F) > 0, False]
    ends = np.r_[False, np.diff(F) > 0]
    answers = []
    for one in u:
        k = np.flatnonzero(starts & (one >= F))[-1]
        end = k + 1 + np.flatnonzero(ends[k + 1 :])[0]
        answers.append(edges[k] + (one - F[k]) / (F[end] - F[k]) * (edges[end] - edges[k]))
    return np.array(answers)


def invert_loop(edges, weight, u):
    total, answers = float(weight.sum()), []
    for one in u.tolist():
        rest = one * total
        for k, w in enumerate(weight.tolist()):
            if rest < w:
                answers.append(float(edges[k]) + rest / w * float(edges[k + 1] - edges[k]))
                break
            rest -= w
    return answers


def invert_mask(edges, weight, u):
    F = torch.cat([torch.zeros(1), (weight / weight.sum()).cumsum(0)])
    inside = (u[:, None] >= F[:-1]) & (u[:, None] < F[1:])
    k = inside.long().argmax(1)
    return edges[k] + (u - F[k]) / (F[k + 1] - F[k]) * (edges[k + 1] - edges[k])


def known_loop(kind, a, b, far):
    rows, far = [], float(far)
    for k, x, y in zip(kind.tolist(), a.tolist(), b.tolist(), strict=True):
        if k == 0:
            rows.append([x, x, x - y, x - y])
        elif k == 1:
            rows.append([x, 0.0, x, -y])
        elif k == 2:
            rows.append([-far, 0.0, x - y, x - y])
        else:
            rows.append([-far, 0.0, -far, far])
    return rows


def known_intervals(kind, a, b, far):
    """By arithmetic of intervals, for all but what is not normalised."""
    low_a, low_b = (torch.where(kind < 2, each, -torch.inf) for each in (a, b))
    high_a, high_b = (torch.where(kind == 0, each, 0.0) for each in (a, b))
    low, high = low_a - high_b, high_a - low_b
    cancels = kind == 2
    found = torch.stack([low_a, high_a, torch.where(cancels, a - b, low), torch.where(cancels, a - b, high)], 1)
    return torch.maximum(torch.minimum(found, far), -far)


def variation_numpy(counts, p):
    counts, p = counts.numpy().astype(float), p.numpy().astype(float)
    n = counts.sum(1)
    tv = [0.5 * np.linalg.norm(row / row.sum() - p, ord=1) for row in counts]
    return np.column_stack([tv, np.sqrt(2 / np.pi) / 2 * np.sqrt(p * (1 - p) / n[:, None]).sum(1)])


def variation_half(counts, p):
    """What one has more than the other is what it has less."""
    f = counts / counts.sum(1, keepdim=True)
    floor = [float((p * (1 - p) / (2 * math.pi * row.sum())).sqrt().sum()) for row in counts]
    return torch.stack([(f - p).clamp(min=0).sum(1), torch.tensor(floor)], 1)


def costs_library(p, logits):
    least = D.Categorical(probs=p / p.sum(1, keepdim=True)).entropy()
    cost = torch.nn.functional.cross_entropy(logits, p, reduction="none")
    return torch.stack([least, cost, cost - least], 1)


def costs_numpy(p, logits):
    p, logits = p.numpy().astype(float), logits.numpy().astype(float)
    logits -= logits.max(1, keepdims=True)
    log_q = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    least = np.array([entropy(row / row.sum()) for row in p])
    cost = -(p * log_q).sum(1)
    return np.stack([least, cost, cost - least], axis=1)


def fits_loop(p, grid, means, sds):
    answers = []
    for row in p.double():
        best = [(math.inf, None), (math.inf, None)]
        for m in means.double():
            for s in sds.double():
                log_q = (-((grid - m) ** 2) / (2 * s * s)).log_softmax(0)
                q = log_q.exp()
                both = (row * (row.log() - log_q)).sum(), (q * (log_q - row.log())).sum()
                best = [min(old, (float(new), [float(m), float(s)])) for old, new in zip(best, both, strict=True)]
        answers.append([best[0][1], best[1][1]])
    return torch.tensor(answers)


def fits_scipy(p, grid, means, sds):
    """With probabilities in float64, of which none underflows."""
    p, grid, means, sds = (array.numpy().astype(float) for array in (p, grid, means, sds))
    q = np.exp(-((grid - means[:, None, None]) ** 2) / (2 * sds[:, None] ** 2))
    q /= q.sum(-1, keepdims=True)
    answers = []
    for row in p:
        pairs = [np.unravel_index(d.argmin(), d.shape) for d in (rel_entr(row, q).sum(-1), rel_entr(q, row).sum(-1))]
        answers.append([[means[a], sds[s]] for a, s in pairs])
    return answers


@pytest.mark.parametrize(
    ("question", "function", "seeds"),
    [
        *[(KL, function, 20) for function in (kl_scipy, kl_library, kl_loop)],
        *[(COUNTING, function, 20) for function in (count_loop, count_unique, count_compared)],
        *[(INVERSION, function, 20) for function in (invert_interp, invert_loop, invert_mask)],
        *[(QUERIES, function, 20) for function in (known_loop, known_intervals)],
        *[(VARIATION, function, 20) for function in (variation_numpy, variation_half)],
        *[(COSTS, function, 20) for function in (costs_library, costs_numpy)],
        (FITS, fits_loop, 2),
        (FITS, fits_scipy, 10),
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function, seeds):
    assert_full_points(question, function, seeds)


@pytest.mark.parametrize(
    ("question", "name", "points"),
    [
        (KL, "0 log 0", 2),
        (KL, "small number added", 2),
        (KL, "what is impossible left out", 2),
        (COUNTING, "no pseudo-count", 1),
        (INVERSION, "zero falls into an empty bin", 2),
        (COSTS, "logarithm of the softmax", 2),
        (COSTS, "0 log 0", 0),
    ],
    **ids,
)
def test_a_mistake_costs_only_the_parts_that_it_touches(question, name, points):
    assert_keeps(question, name, points)


# What the references claim, from first principles.

GENERATOR = np.random.default_rng(2)


def of(question, **inputs):
    given = {name: np.asarray(value, dtype=float) for name, value in inputs.items()}
    return harness.run(question.reference, given, dtype="float64", twice=False)["value"]


def test_a_divergence_is_zero_between_equals_and_positive_else():
    p, q = GENERATOR.dirichlet(np.ones(4), (2, 50))
    assert of(KL, p=p, q=p) == pytest.approx(np.zeros((50, 2)), abs=1e-12)
    assert (of(KL, p=p, q=q) > 0).all()
    tv = 0.5 * np.abs(p - q).sum(1)
    assert (of(KL, p=p, q=q).min(1) >= 2 * tv**2).all()  # Pinsker


def test_no_table_is_more_likely_than_the_frequencies():
    x = GENERATOR.integers(0, 2, (40, 3))
    number = x @ [4, 2, 1]
    best = of(COUNTING, x=x, alpha=0)
    assert best.sum() == pytest.approx(1, abs=1e-12)
    for other in GENERATOR.dirichlet(8 * best + 0.01, 200):
        assert np.log(other[number] + 1e-300).sum() <= np.log(best[number]).sum() + 1e-9
    mean = of(COUNTING, x=x, alpha=1.0)  # the mean of the posterior under a uniform prior: Laplace's rule
    draws = GENERATOR.dirichlet(np.bincount(number, minlength=8) + 1.0, 20000)
    assert mean == pytest.approx(draws.mean(0), abs=5 * draws.std(0).max() / math.sqrt(20000))


def test_samples_by_inversion_have_the_histogram():
    edges, weight = np.array([-1.0, 0.5, 1.0, 4.0]), np.array([2.0, 0.0, 3.0])
    x = of(INVERSION, edges=edges, weight=weight, u=(np.arange(10000) + 0.5) / 10000)
    found, _ = np.histogram(x, edges)
    assert found.tolist() == [4000, 0, 6000]
    assert (np.diff(x) > 0).all()  # inversion keeps the order
    assert np.histogram(x[4000:], np.linspace(1, 4, 7))[0].tolist() == [1000] * 6


def test_what_is_known_holds_of_every_model_and_no_less_would():
    """Bounds that are loose by any amount, and any normaliser: the true values lie within, and come up to the ends."""
    far, reached = 1000.0, []
    for _ in range(300):
        log_a, log_b = -GENERATOR.exponential(3, 2)
        loose = GENERATOR.exponential(2, 2) * (GENERATOR.random(2) < 0.5)
        log_z = GENERATOR.normal(0, 5)
        reports = [[log_a, log_b], [log_a - loose[0], log_b - loose[1]], [log_a + log_z, log_b + log_z], [0, 0]]
        a, b = np.array(reports).T
        low_a, high_a, low, high = of(QUERIES, kind=range(4), a=a, b=b, far=far).T
        assert (low_a <= log_a + 1e-9).all() and (log_a <= high_a + 1e-9).all()
        assert (low <= log_a - log_b + 1e-9).all() and (log_a - log_b <= high + 1e-9).all()
        reached.append([log_a - low_a[1], log_a - log_b - low[1], high[1] - (log_a - log_b)])
    assert np.min(reached, axis=0)[0] == pytest.approx(0, abs=1e-9)
    # the ends of a difference are reached where one bound is tight and the other pattern is certain
    tight = of(QUERIES, kind=[1], a=[-2.0], b=[-3.0], far=far)[0]
    assert tight.tolist() == [-2, 0, -2, 3]


def test_the_floor_is_what_right_samples_score():
    p = GENERATOR.dirichlet(np.full(6, 3.0)) * 0.8 + 0.2 / 6
    counts = GENERATOR.multinomial(400, p, 4000)
    tv, floor = of(VARIATION, counts=counts, p=p).T
    assert np.ptp(floor) < 1e-12
    assert tv.mean() == pytest.approx(floor[0], rel=0.02)


def test_the_three_costs_belong_together():
    inputs = COSTS.draw(3)["sure models"]
    _, cost, wasted = of(COSTS, **inputs).T
    q = torch.tensor(inputs["logits"], dtype=torch.float64).softmax(1)
    assert bool((q == 0).any()), "some probabilities underflow in float64 too"
    assert (wasted >= 0).all() and np.isfinite(cost).all()
    own = of(COSTS, p=q.numpy()[:1], logits=inputs["logits"][:1])[0]
    assert own[2] == pytest.approx(0, abs=1e-9) and own[0] == pytest.approx(own[1], abs=1e-9)


def moments(p, grid):
    mean = p @ grid
    return mean, math.sqrt(p @ (grid - mean) ** 2)


def test_forwards_covers_and_backwards_settles():
    for seed in range(10):
        inputs = FITS.draw(seed)["values"]
        p, grid = inputs["p"].astype(float), inputs["grid"].astype(float)
        for row, (wide, narrow) in zip(p, of(FITS, **inputs), strict=True):
            q = np.exp(-0.5 * ((grid - wide[0]) / wide[1]) ** 2)
            (mean, sd), (own_mean, own_sd) = (moments(part / part.sum(), grid) for part in (row, q))
            scale = (grid[-1] - grid[0]) / 12
            assert wide[1] > 1.5 * narrow[1]
            assert abs(own_mean - mean) < 0.5 * scale and abs(own_sd - sd) < 0.5 * scale  # to a step of the candidates
            hills = grid[1:-1][(row[1:-1] > row[:-2]) & (row[1:-1] > row[2:])]
            assert np.abs(narrow[0] - hills).min() < 0.5 * scale < 3 * scale < np.ptp(hills)


# 2.8: any model that spreads what it has counted.


def held_out_pseudo_count(x, states):
    """The best that a table can do: it earns the first points, not the last."""
    number = [int((states == row).all(1).nonzero()[0]) for row in x]
    fit, valid = np.bincount(number[:100], minlength=len(states)), number[100:]

    def score(alpha):
        p = (fit + alpha) / (fit + alpha).sum()
        return np.log(p[valid]).sum()

    alpha = max((0.02, 0.05, 0.1, 0.2, 0.4), key=score)
    return np.bincount(number, minlength=len(states)) + alpha


def mixture(x, states):
    """Mixtures of Bernoullis from several starts, averaged."""
    x, states = x.double(), states.double()
    total = torch.zeros(len(states)).double()
    for seed in range(4):
        one = 0.25 + 0.5 * x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:8]]
        share = torch.full((8,), 0.125).double()
        for _ in range(80):
            r = (x @ one.log().T + (1 - x) @ (1 - one).log().T + share.log()).softmax(1)
            n = r.sum(0)
            one, share = (r.T @ x + 0.5) / (n[:, None] + 1), (n + 0.5) / (n + 0.5).sum()
        total += (states @ one.log().T + (1 - states) @ (1 - one).log().T + share.log()).exp().sum(1)
    return total


def turned_pixels(x, states):
    """Each pattern, and what two turned pixels make of it, by the distance of Hamming."""
    far = torch.cdist(states, x, p=1)
    return (0.03**far * 0.97 ** (8 - far)).sum(1)


def test_no_table_of_counts_has_all_points():
    for seed in range(10):
        assert result(EXPERIMENT, held_out_pseudo_count, seed).points == 3


@pytest.mark.parametrize("learn", [EXPERIMENT.reference, mixture, turned_pixels], **ids)
def test_an_experiment_by_any_route_has_full_points(learn):
    assert_trained_to_full_points(EXPERIMENT, learn, range(5))


def test_what_is_wrong_with_a_distribution_is_told():
    spread = ("large pseudo-count", "independent pixels", "far too many turns", "nearest pattern only", "some of the patterns")
    assert_mistakes_are_told(
        EXPERIMENT,
        range(3),
        instead=dict.fromkeys(spread, "pseudo-count of 1") | {"sorted": "states in another order"},
    )
