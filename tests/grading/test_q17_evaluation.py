"""Exercise 17: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import math
import re

import numpy as np
import pytest
import torch
from experiment_tests import assert_told, assert_trained_to_full_points, result
from question_tests import assert_full_points, assert_keeps, ids

from gencourse.grading.inside import harness
from gencourse.grading.questions.q17_evaluation import (
    EXPERIMENT,
    FRECHET,
    INCEPTION,
    INTERVAL,
    KERNEL,
    PRECISION,
    RATERS,
    STAIRCASE,
)
from gencourse.metrics.frechet import gaussian_frechet
from gencourse.metrics.kernel import mmd, rbf

# Right answers by other routes than the reference's.


def inception_loop(p):
    N, K = p.shape
    marginal = [sum(float(p[n, k]) for n in range(N)) / N for k in range(K)]
    kl = [sum(float(q) * math.log(float(q) / m) for q, m in zip(row, marginal, strict=True) if q > 0) for row in p]
    return math.exp(sum(kl) / N)


def inception_kl_div(p):
    return torch.nn.functional.kl_div(p.mean(0).log().expand_as(p), p, reduction="batchmean").exp()


def root(C):
    values, vectors = np.linalg.eigh(C)
    return vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T


def frechet_symmetric(m1, C1, m2, C2):
    m1, C1, m2, C2 = (array.numpy().astype(float) for array in (m1, C1, m2, C2))
    half = root(C1)
    return ((m1 - m2) ** 2).sum() + np.trace(C1) + np.trace(C2) - 2 * np.trace(root(half @ C2 @ half))


def frechet_eigenvalues(m1, C1, m2, C2):
    """The product is not symmetric, so that its eigenvalues are complex numbers to the computer."""
    values = torch.linalg.eigvals((C1 @ C2).double())
    return (m1 - m2).square().sum() + C1.trace() + C2.trace() - 2 * values.real.clamp(min=0).sqrt().sum()


def frechet_single(m1, C1, m2, C2):
    """In float32 throughout."""
    values, vectors = torch.linalg.eigh(C1)
    half = vectors * values.clamp(min=0).sqrt()  # half half^T is C1
    return (m1 - m2).square().sum() + (C1 + C2).trace() - 2 * torch.linalg.eigvalsh(half.T @ C2 @ half).clamp(min=0).sqrt().sum()


def mmd_loop(x, y, width):
    def k(a, b):
        return math.exp(-float(((a - b) ** 2).sum()) / (2 * float(width) ** 2))

    N, M = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(N) for j in range(N) if i != j) / (N * (N - 1))
    yy = 2 * sum(k(y[i], y[j]) for i in range(M) for j in range(i)) / (M * (M - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (N * M)


def mmd_distances(x, y, width):
    together = torch.cat([x, y])
    k = torch.exp(-torch.pdist(together).square() / (2 * width**2))
    i, j = torch.triu_indices(len(together), len(together), 1)
    return k[j < len(x)].mean() + k[i >= len(x)].mean() - 2 * k[(i < len(x)) & (j >= len(x))].mean()


def mmd_expanded(x, y, width):
    def k(a, b):
        return torch.exp(-((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T) / (2 * width**2))

    def within(a):
        mask = ~torch.eye(len(a), dtype=torch.bool)
        return k(a, a)[mask].mean()

    return within(x) + within(y) - 2 * k(x, y).mean()


def coverage_loop(real, fake, across, k):
    k, (N, M), across = int(k), across.shape, across.tolist()
    r = [sorted(d for j, d in enumerate(row) if j != i)[k - 1] for i, row in enumerate(real.tolist())]
    f = [sorted(d for j, d in enumerate(row) if j != i)[k - 1] for i, row in enumerate(fake.tolist())]
    precision = sum(any(across[i][j] <= r[i] for i in range(N)) for j in range(M)) / M
    recall = sum(any(across[i][j] <= f[j] for j in range(M)) for i in range(N)) / N
    return [precision, recall]


def coverage_in_place(real, fake, across, k):
    """The diagonal made infinite; strictly inside."""
    real.fill_diagonal_(torch.inf)
    fake.fill_diagonal_(torch.inf)
    r, f = (d.topk(int(k), largest=False).values[:, -1] for d in (real, fake))
    return torch.tensor([(across < r[:, None]).any(0).double().mean(), (across < f).any(1).double().mean()])


def errors_masked(said, real):
    rows = []
    for s, r in zip(said.bool(), real.bool(), strict=True):
        rows.append(torch.stack([(s ^ r).float().mean(), (~s[r]).float().mean(), s[~r].float().mean()]))
    return torch.stack(rows)


def errors_list(said, real):
    rows = []
    for s, r in zip(said.tolist(), real.tolist(), strict=True):
        wrong = [int(a != b) for a, b in zip(s, r, strict=True)]
        of_real = [w for w, b in zip(wrong, r, strict=True) if b]
        of_fake = [w for w, b in zip(wrong, r, strict=True) if not b]
        rows.append([sum(part) / len(part) for part in (wrong, of_real, of_fake)])
    return rows


def interval_numpy(wrong, drawn, level):
    rates = wrong.numpy().mean(1)[drawn.numpy().astype(int)].mean(1)
    return np.percentile(rates, [50 * (1 - float(level)), 50 * (1 + float(level))])


def interval_counts(wrong, drawn, level):
    """How often each rater is drawn, as weights; the quantiles from the sorted rates."""
    often = torch.nn.functional.one_hot(drawn.long(), len(wrong)).sum(1).double()
    rates = (often @ wrong.double().mean(1) / often.sum(1)).sort().values
    ends = []
    for tail in ((1 - level) / 2, 1 - (1 - level) / 2):
        place = float(tail) * (len(rates) - 1)
        low = min(int(place), len(rates) - 2)
        ends.append(rates[low] + (place - low) * (rates[low + 1] - rates[low]))
    return torch.stack(ends)


def staircase_loop(right, start, up, down, lowest, highest):
    rows = []
    for answers in right.tolist():
        time, row = float(start), []
        for answer in answers:
            row.append(time)
            time = min(max(time - float(down) if answer else time + float(up), float(lowest)), float(highest))
        rows.append(row)
    return rows


def staircase_stack(right, start, up, down, lowest, highest):
    times = [start.repeat(len(right))]
    for j in range(right.shape[1] - 1):
        times.append(torch.clip(times[-1] + (1 - right[:, j]) * up - right[:, j] * down, lowest, highest))
    return torch.stack(times, 1)


@pytest.mark.parametrize(
    ("question", "function"),
    [
        *[(INCEPTION, function) for function in (inception_loop, inception_kl_div)],
        *[(FRECHET, function) for function in (frechet_symmetric, frechet_eigenvalues, frechet_single)],
        *[(KERNEL, function) for function in (mmd_loop, mmd_distances, mmd_expanded)],
        *[(PRECISION, function) for function in (coverage_loop, coverage_in_place)],
        *[(RATERS, function) for function in (errors_masked, errors_list)],
        *[(INTERVAL, function) for function in (interval_numpy, interval_counts)],
        *[(STAIRCASE, function) for function in (staircase_loop, staircase_stack)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function):
    assert_full_points(question, function, 20)


def test_the_library_answers_too():
    assert_full_points(FRECHET, gaussian_frechet, 20)
    assert_full_points(KERNEL, lambda x, y, width: mmd(x, y, rbf(float(width))).value, 20)


def test_what_a_mistake_costs():
    assert_keeps(KERNEL, "never negative", 2)
    assert_keeps(KERNEL, "diagonal counted", 0)
    assert_keeps(PRECISION, "own neighbour", 0)


# What the references claim, from first principles.


def of(question, **inputs):
    given = {name: np.asarray(value, dtype=float) for name, value in inputs.items()}
    return harness.run(question.reference, given, dtype="float64", twice=False)["value"]


GENERATOR = np.random.default_rng(17)


def test_the_inception_score_is_between_one_and_the_number_of_classes():
    assert of(INCEPTION, p=np.tile(GENERATOR.dirichlet(np.ones(4)), (6, 1))) == pytest.approx(1, abs=1e-12)
    assert of(INCEPTION, p=np.eye(5)[[0, 1, 2, 3, 4, 4, 3, 2, 1, 0]]) == pytest.approx(5, abs=1e-12)


def test_frechets_distance_is_the_least_cost_of_moving_one_gaussian_to_the_other():
    """The map x -> m2 + T (x - m1) with T = C1^-1/2 (C1^1/2 C2 C1^1/2)^1/2 C1^-1/2 arrives there, and costs the distance."""
    A, B, m1, m2 = *GENERATOR.standard_normal((2, 3, 3)), *GENERATOR.standard_normal((2, 3))
    C1, C2 = A @ A.T + np.eye(3), B @ B.T + np.eye(3)
    half, inverse = root(C1), np.linalg.inv(root(C1))
    T = inverse @ root(half @ C2 @ half) @ inverse
    assert np.allclose(T @ C1 @ T.T, C2, rtol=0, atol=1e-9)
    cost = ((m1 - m2) ** 2).sum() + np.trace((T - np.eye(3)) @ C1 @ (T - np.eye(3)).T)
    assert of(FRECHET, m1=m1, C1=C1, m2=m2, C2=C2) == pytest.approx(cost, abs=1e-9)


def test_the_kernels_estimate_is_unbiased():
    """Normal points of one dimension: E k = h / sqrt(h^2 + the variance of the difference)."""
    h, shift, n = 1.3, 0.8, 2000
    drawn = [
        of(KERNEL, x=GENERATOR.standard_normal((4, 1)), y=shift + GENERATOR.standard_normal((3, 1)), width=h) for _ in range(n)
    ]
    alike = h / math.sqrt(h**2 + 2)
    true = 2 * alike * (1 - math.exp(-(shift**2) / (2 * (h**2 + 2))))
    assert np.mean(drawn) == pytest.approx(true, abs=5 * np.std(drawn) / math.sqrt(n))


def test_precision_and_recall_of_what_is_known():
    points = GENERATOR.standard_normal((20, 2))
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    assert of(PRECISION, real=distances, fake=distances, across=distances, k=3).tolist() == [1, 1]
    # half of the samples far away; and of the real ones five only
    far = np.r_[points[:5], points[:5] + 100]
    across, own = np.linalg.norm(points[:, None] - far, axis=-1), np.linalg.norm(far[:, None] - far, axis=-1)
    assert of(PRECISION, real=distances, fake=own, across=across, k=1)[0] == 0.5
    assert of(PRECISION, real=distances, fake=own, across=across, k=5)[1] == 1  # the fifth neighbour is far away


def test_who_cannot_tell_is_wrong_half_the_time_whatever_they_say_on_a_balanced_set():
    real = np.tile([1.0, 0.0], (3, 500))
    said = (GENERATOR.random((3, 1000)) < [[0.2], [0.5], [0.9]]).astype(float)
    overall, of_real, of_fake = of(RATERS, said=said, real=real).T
    assert overall == pytest.approx((of_real + of_fake) / 2, abs=1e-12)
    assert overall == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(1000))
    assert of_fake == pytest.approx([0.2, 0.5, 0.9], abs=5 * 0.5 / math.sqrt(500))


def test_raters_resampled_cover_the_true_rate_and_answers_do_not():
    """With raters of different ability, in the sizes that the chapter names."""
    R, I, S, n = 30, 50, 100, 100  # noqa: E741
    hit = {"raters": 0, "answers": 0}
    for _ in range(n):
        ability = 1 / (1 + np.exp(-GENERATOR.normal(0, 1, (R, 1))))  # 0.5 on average
        wrong = (GENERATOR.random((R, I)) < ability).astype(float)
        low, high = of(INTERVAL, wrong=wrong, drawn=GENERATOR.integers(0, R, (S, R)), level=0.9)
        hit["raters"] += low <= 0.5 <= high
        low, high = of(INTERVAL, wrong=wrong.reshape(-1, 1), drawn=GENERATOR.integers(0, R * I, (S, R * I)), level=0.9)
        hit["answers"] += low <= 0.5 <= high
    assert hit["raters"] / n > 0.75
    assert hit["answers"] / n < 0.6


def test_the_staircase_settles_where_it_goes_up_as_much_as_down():
    """A rater whose answers are right with probability 1 - exp(-t / 300): three up to one down settle at three quarters."""
    up, down, K = 30.0, 10.0, 6000
    time, right, u = 500.0, np.zeros((1, K)), GENERATOR.random(K)
    for k in range(K):
        right[0, k] = u[k] < 1 - math.exp(-time / 300)
        time = min(max(time + (-down if right[0, k] else up), 100), 1000)
    shown = of(STAIRCASE, right=right, start=500, up=up, down=down, lowest=100, highest=1000)[0]
    assert right[0, 1000:].mean() == pytest.approx(0.75, abs=0.01)  # the steps cancel: no error but that of the ends
    assert shown[1000:].mean() == pytest.approx(300 * math.log(4), rel=0.1)


# 17.8: other ways to fool it.


def k_means(steps=20, seed=0):
    def fool(x):
        rng, points = np.random.default_rng(seed), x.numpy().astype(float)
        centre = points[rng.choice(len(points), 50, replace=False)]
        for _ in range(steps):
            near = ((points[:, None] - centre) ** 2).sum(-1).argmin(1)
            centre = np.stack([points[near == j].mean(0) if (near == j).any() else centre[j] for j in range(50)])
        return centre

    return fool


def expectation_maximisation(x):
    """A mixture of fifty Gaussians of the window's width, its weights held equal."""
    centre = x[-50:]
    for _ in range(60):
        weight = (-(torch.cdist(x, centre) ** 2) / (2 * 0.5**2)).softmax(1)
        centre = weight.T @ x / weight.sum(0)[:, None].clamp(min=1e-6)
    return centre


def ascent(x):
    y = x[100:150].clone().requires_grad_()
    optimiser = torch.optim.SGD([y], lr=4.0, momentum=0.9)
    for _ in range(80):
        optimiser.zero_grad()
        (-torch.logsumexp(-(((x[:, None] - y) ** 2).sum(-1)) / (2 * 0.5**2), 1).mean()).backward()
        optimiser.step()
    return y.detach()


@pytest.mark.parametrize("fool", [EXPERIMENT.reference, k_means(), k_means(seed=3), expectation_maximisation, ascent], **ids)
def test_an_experiment_by_any_route_has_full_points(fool):
    assert_trained_to_full_points(EXPERIMENT, fool, range(2))


def test_what_is_wrong_with_the_points_is_told():
    for name in EXPERIMENT.mistakes:
        told = name if name in ("given points", "all in one place", "uphill") else None
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], told, range(2))


def test_real_points_are_at_one():
    """Whichever fifty of the given points are returned: within what fifty points vary."""
    reached = [result(EXPERIMENT, lambda x, first=first: x[first : first + 50], 0).sentence for first in range(0, 1000, 50)]
    undone = [float(re.search(r"is left undone is ([-\d.]+\d)", sentence)[1]) for sentence in reached]
    assert np.mean(undone) == pytest.approx(1, abs=0.15)
    assert min(undone) > 0.55
