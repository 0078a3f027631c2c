"""Exercise 01: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import itertools
import math

import numpy as np
import pytest
import torch
from experiment_tests import assert_mistakes_are_told, assert_trained_to_full_points
from question_tests import assert_full_points, assert_keeps, ids
from scipy.special import logsumexp
from scipy.stats import gaussian_kde, multivariate_normal
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA as SklearnPCA
from sklearn.mixture import GaussianMixture

from gencourse.grading.inside import harness
from gencourse.grading.questions.q01_unsupervised import (
    E_STEP,
    EXPERIMENT,
    HISTOGRAM,
    KMEANS,
    LEFT_OUT,
    M_STEP,
    PCA,
    SEEDING,
)

# Right answers by other routes than the reference's.


def kmeans_loop(x, weight, centres):
    x, weight, centres = x.tolist(), weight.tolist(), centres.tolist()
    totals, counts = [[0.0] * len(c) for c in centres], [0.0] * len(centres)
    for point, w in zip(x, weight, strict=True):
        squared = [sum((a - b) ** 2 for a, b in zip(point, c, strict=True)) for c in centres]
        k = squared.index(min(squared))
        counts[k] += w
        totals[k] = [t + w * a for t, a in zip(totals[k], point, strict=True)]
    return [[t / n for t in total] if n else c for total, n, c in zip(totals, counts, centres, strict=True)]


def kmeans_repeated(x, weight, centres):
    """Each point as often as it counts."""
    x = x.repeat_interleave(weight.long(), dim=0)
    nearest = (x @ centres.T - centres.square().sum(1) / 2).argmax(1)
    means = [x[nearest == k].mean(0) if bool((nearest == k).any()) else centres[k] for k in range(len(centres))]
    return torch.stack(means)


def kmeans_sklearn(x, weight, centres):
    x, weight, centres = (a.numpy().astype(float) for a in (x, weight, centres))
    start = KMeans(len(centres), init=centres, n_init=1, max_iter=1).fit(centres).cluster_centers_  # what predict looks at
    nearest = ((x[:, None] - start) ** 2).sum(-1).argmin(1)
    count = np.bincount(nearest, weight, len(centres))
    total = np.stack([np.bincount(nearest, weight * column, len(centres)) for column in x.T], axis=1)
    return np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], centres)


def next_loop(x, centres):
    far = [min(sum((float(a) - float(b)) ** 2 for a, b in zip(p, c, strict=True)) for c in centres) for p in x]
    return [d / sum(far) for d in far]


def next_cdist(x, centres):
    near = torch.cdist(x.double(), centres.double()).min(1).values ** 2
    return torch.distributions.Categorical(near).probs


def pca_sklearn(x, y, share):
    answers = []
    for one in share.tolist():
        kept = np.cumsum(SklearnPCA().fit(x.numpy()).explained_variance_ratio_)
        fitted = SklearnPCA(int(np.searchsorted(kept, one)) + 1).fit(x.numpy())
        answers.append(fitted.inverse_transform(fitted.transform(y.numpy())))
    return np.stack(answers)


def pca_covariance(x, y, share):
    """Eigenvectors of the covariance, in float32, and a projector."""
    variances, V = torch.linalg.eigh(torch.cov(x.T))
    variances, V = variances.flip(0), V.flip(1)
    answers = []
    for one in share:
        k, kept = 0, 0.0
        while kept < one:
            kept, k = kept + variances[k] / variances.sum(), k + 1
        answers.append((y - x.mean(0)) @ (V[:, :k] @ V[:, :k].T) + x.mean(0))
    return answers


def pca_gram(x, y, share):
    """By the eigenvectors of the points' products."""
    off = (x - x.mean(0)).double()
    variances, U = torch.linalg.eigh(off @ off.T)
    keep = [i for i in range(len(x) - 1, -1, -1) if variances[i] > 1e-9 * variances[-1]]
    V = off.T @ U[:, keep] / variances[keep].sqrt()
    many = torch.searchsorted(variances[keep].cumsum(0) / variances.sum(), share.double()) + 1
    return torch.stack([x.mean(0) + (y - x.mean(0)).double() @ V[:, :k] @ V[:, :k].T for k in many])


def histogram_numpy(x, y, low, high, bins, alpha):
    x, y, low, high = (a.numpy() for a in (x, y, low, high))
    edges = [np.linspace(low[d], high[d], int(bins[d]) + 1) for d in range(2)]
    count = np.histogram2d(x[:, 0], x[:, 1], bins=edges)[0] + float(alpha)
    place = [np.minimum(np.searchsorted(edges[d], y[:, d], side="right") - 1, int(bins[d]) - 1) for d in range(2)]
    area = np.prod([edges[d][1] - edges[d][0] for d in range(2)])
    return np.log(count[place[0], place[1]] / count.sum() / area)


def histogram_torch(x, y, low, high, bins, alpha):
    sides = [int(b) for b in bins]
    count, edges = torch.histogramdd(x, bins=sides, range=torch.stack([low, high], 1).flatten().tolist())
    density = (count + alpha) / (len(x) + alpha * sides[0] * sides[1]) * sides[0] * sides[1] / (high - low).prod()
    row, column = (torch.bucketize(y[:, d].contiguous(), edges[d]).sub(1).clamp(0, sides[d] - 1) for d in range(2))
    return density[row, column].log()


def histogram_loop(x, y, low, high, bins, alpha):
    (a, b), (c, d), (B, C) = low.tolist(), high.tolist(), [int(n) for n in bins]

    def cell(point):
        return min(int((float(point[0]) - a) / (c - a) * B), B - 1), min(int((float(point[1]) - b) / (d - b) * C), C - 1)

    cells = [cell(p) for p in x]
    volume = (c - a) * (d - b) / (B * C)
    return [math.log((cells.count(cell(p)) + float(alpha)) / (len(x) + float(alpha) * B * C) / volume) for p in y]


def left_out_loop(x, h):
    rows = []
    for n in range(len(x)):
        others = torch.cat([x[:n], x[n + 1 :]])
        kernel = torch.distributions.Independent(torch.distributions.Normal(others, h), 1)
        rows.append(kernel.log_prob(x[n]).logsumexp(0) - math.log(len(others)))
    return rows


def left_out_scaled(x, h):
    """In units of bandwidths, by distances."""
    log_k = -(torch.cdist(x / h, x / h, compute_mode="donot_use_mm_for_euclid_dist") ** 2) / 2
    log_k = log_k - torch.diag(torch.full((len(x),), torch.inf))
    return log_k.logsumexp(1) - np.log(len(x) - 1) - h.log().sum() - len(h) / 2 * np.log(2 * np.pi)


def left_out_numpy(x, h):
    x, h = x.numpy().astype(float), h.numpy().astype(float)
    answers = []
    for n, point in enumerate(x):
        log_k = multivariate_normal(point, np.diag(h**2)).logpdf(np.delete(x, n, axis=0))
        answers.append(logsumexp(log_k) - np.log(len(x) - 1))
    return np.array(answers)


def e_step_cholesky(x, weight, mean, cov):
    log_joint = []
    for w, m, C in zip(weight, mean, cov, strict=True):
        L = torch.linalg.cholesky(C)
        z = torch.linalg.solve_triangular(L, (x - m).T, upper=False)
        log_joint.append(w.log() - L.diagonal().log().sum() - z.square().sum(0) / 2)
    return torch.stack(log_joint, 1).log_softmax(1)


def e_step_numpy(x, weight, mean, cov):
    x, weight, mean, cov = (a.numpy().astype(float) for a in (x, weight, mean, cov))
    joint = np.stack([np.log(w) + multivariate_normal(m, C).logpdf(x) for w, m, C in zip(weight, mean, cov, strict=True)], 1)
    return joint - logsumexp(joint, axis=1, keepdims=True)


def e_step_inverse(x, weight, mean, cov):
    """In float32, with the inverse and the determinant."""
    off = x[:, None] - mean
    squared = torch.einsum("nki,kij,nkj->nk", off, torch.linalg.inv(cov), off)
    log_joint = torch.log(weight / torch.linalg.det(cov).sqrt()) - 0.5 * squared
    largest = log_joint.max(1, keepdim=True).values
    return log_joint - largest - (log_joint - largest).exp().sum(1, keepdim=True).log()


def m_step_moments(x, r, ridge):
    """Second moments less the square of the means."""
    x, r = x.double(), r.double()
    n = r.sum(0)
    mean = (r.T @ x) / n[:, None]
    second = torch.einsum("nk,ni,nj->kij", r, x, x) / n[:, None, None]
    C = second - mean[:, :, None] * mean[:, None] + float(ridge) * torch.eye(x.shape[1])
    return torch.cat([r.mean(0)[:, None], mean, C.flatten(1)], 1)


def m_step_numpy(x, r, ridge):
    x, r = x.numpy().astype(float), r.numpy().astype(float)
    rows = []
    for k in range(r.shape[1]):
        C = np.cov(x.T, aweights=r[:, k], ddof=0) + float(ridge) * np.eye(x.shape[1])
        rows.append(np.r_[r[:, k].mean(), np.average(x, axis=0, weights=r[:, k]), C.ravel()])
    return rows


@pytest.mark.parametrize(
    ("question", "function"),
    [
        *[(KMEANS, function) for function in (kmeans_loop, kmeans_repeated, kmeans_sklearn)],
        *[(SEEDING, function) for function in (next_loop, next_cdist)],
        *[(PCA, function) for function in (pca_sklearn, pca_covariance, pca_gram)],
        *[(HISTOGRAM, function) for function in (histogram_numpy, histogram_torch, histogram_loop)],
        *[(LEFT_OUT, function) for function in (left_out_loop, left_out_scaled, left_out_numpy)],
        *[(E_STEP, function) for function in (e_step_cholesky, e_step_numpy, e_step_inverse)],
        *[(M_STEP, function) for function in (m_step_moments, m_step_numpy)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function):
    assert_full_points(question, function, 20)


@pytest.mark.parametrize(
    ("question", "name", "points"),
    [
        (KMEANS, "empty becomes NaN", 2),
        (KMEANS, "empty is left out", 2),
        (HISTOGRAM, "upper edge in the first bin", 3),
        (HISTOGRAM, "upper edge in no bin", 3),
        (LEFT_OUT, "unstable", 2),
        (LEFT_OUT, "small number added", 2),
        (LEFT_OUT, "sees itself", 0),
        (E_STEP, "unstable", 2),
        (E_STEP, "logarithm of the softmax", 2),
    ],
    **ids,
)
def test_a_mistake_costs_only_the_parts_that_it_touches(question, name, points):
    assert_keeps(question, name, points)


# What the references claim, from first principles.

GENERATOR = np.random.default_rng(1)


def of(question, **inputs):
    given = {name: np.asarray(value, dtype=float) for name, value in inputs.items()}
    return harness.run(question.reference, given, dtype="float64", twice=False)["value"]


def test_steps_of_kmeans_lower_its_objective_until_it_stands():
    x, weight, centres = GENERATOR.standard_normal((60, 2)), GENERATOR.integers(1, 4, 60), GENERATOR.standard_normal((5, 2))
    costs = []
    for _ in range(30):
        costs.append((weight * ((x[:, None] - centres) ** 2).sum(-1).min(1)).sum())
        centres = of(KMEANS, x=x, weight=weight, centres=centres)
    assert costs[-1] < costs[0]
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(costs))
    assert costs[-1] == pytest.approx(costs[-2], abs=1e-12)


def test_the_next_centre_is_a_distribution_and_never_one_of_the_centres():
    inputs = SEEDING.draw(0)["values"]
    p = of(SEEDING, **inputs)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    taken = (inputs["x"][:, None] == inputs["centres"]).all(-1).any(1)
    assert taken.sum() == len(inputs["centres"])
    assert (p[taken] == 0).all() and (p[~taken] > 0).all()


def test_a_reconstruction_loses_what_its_components_leave_over():
    """Of the points themselves the squared error is the sum of the other variances, and no projection of that rank loses less."""
    x = GENERATOR.standard_normal((40, 5)) @ GENERATOR.standard_normal((5, 5))
    off = x - x.mean(0)
    variances = np.linalg.eigvalsh(off.T @ off)[::-1]
    for share in (0.3, 0.7, 0.9, 0.99):
        k = int(np.searchsorted(np.cumsum(variances) / variances.sum(), share)) + 1
        error = ((of(PCA, x=x, y=x, share=[share])[0] - x) ** 2).sum()
        assert error == pytest.approx(variances[k:].sum(), abs=1e-9)
        assert 1 - error / variances.sum() >= share
        Q = np.linalg.qr(GENERATOR.standard_normal((5, k)))[0]
        assert error <= ((off - off @ Q @ Q.T) ** 2).sum()


def test_a_histogram_integrates_to_one():
    low, high, bins = [-1.0, 0.0], [1.0, 5.0], [4, 3]
    x = GENERATOR.uniform(low, high, (30, 2))
    middles = [low[d] + (high[d] - low[d]) * (np.arange(bins[d]) + 0.5) / bins[d] for d in range(2)]
    y = np.array(list(itertools.product(*middles)))
    log_p = of(HISTOGRAM, x=x, y=y, low=low, high=high, bins=bins, alpha=0.7)
    assert np.exp(log_p).sum() * 10 / 12 == pytest.approx(1, abs=1e-12)


def test_kernels_that_leave_a_point_out_are_those_of_the_others():
    x, h = GENERATOR.standard_normal((8, 2)), 0.6
    for n, log_p in enumerate(of(LEFT_OUT, x=x, h=[h, h])):
        density = np.mean([multivariate_normal(other, h**2 * np.eye(2)).pdf(x[n]) for other in np.delete(x, n, axis=0)])
        assert log_p == pytest.approx(math.log(density), abs=1e-12)


def test_far_points_underflow_in_float64_too():
    for seed in range(20):
        inputs = LEFT_OUT.draw(seed)["points far from all others"]
        assert (np.exp(of(LEFT_OUT, **inputs))[[2, 6]] == 0).all()
        inputs = {name: array.astype(float) for name, array in E_STEP.draw(seed)["points far from every component"].items()}
        parts = zip(inputs["mean"], inputs["cov"], strict=True)
        assert all((multivariate_normal(m, C).pdf(inputs["x"][1:]) == 0).all() for m, C in parts)
        assert (np.exp(of(E_STEP, **inputs))[1:].min(1) == 0).all()


def log_likelihood(x, weight, mean, cov):
    each = [np.log(w) + multivariate_normal(m, C).logpdf(x) for w, m, C in zip(weight, mean, cov, strict=True)]
    return logsumexp(each, axis=0).mean()


def test_em_of_the_two_steps_raises_the_likelihood_and_is_sklearns():
    x = np.concatenate([GENERATOR.normal([-2, 0], 0.6, (40, 2)), GENERATOR.normal([1, 1], 0.9, (60, 2))])
    weight, mean, cov = np.array([0.5, 0.5]), np.array([[-1.0, 0.0], [1.0, 0.0]]), np.array([np.eye(2)] * 2)
    reached = []
    for _ in range(60):
        r = np.exp(of(E_STEP, x=x, weight=weight, mean=mean, cov=cov))
        weight, mean, cov = np.split(of(M_STEP, x=x, r=r, ridge=0), [1, 3], axis=1)
        weight, cov = weight[:, 0], cov.reshape(2, 2, 2)
        reached.append(log_likelihood(x, weight, mean, cov))
    assert all(after >= before - 1e-12 for before, after in itertools.pairwise(reached))
    start = {"weights_init": [0.5, 0.5], "means_init": [[-1, 0], [1, 0]], "precisions_init": [np.eye(2)] * 2}
    theirs = GaussianMixture(2, tol=1e-10, reg_covar=0, max_iter=500, **start).fit(x)
    assert np.allclose(theirs.means_, mean, rtol=0, atol=1e-3)
    assert np.allclose(theirs.covariances_, cov, rtol=0, atol=1e-3)


# 1.8: any estimate that is neither too smooth nor too rough.


def held_out_kernels(x, points):
    """The bandwidth that a quarter of the points choose."""
    x, points = x.numpy().astype(float), points.numpy().astype(float)

    def log_density(at, h):
        return logsumexp(-((at[:, None] - x[100:]) ** 2).sum(-1) / (2 * h**2), axis=1) - 2 * math.log(h)

    best = max((0.05, 0.1, 0.15, 0.2, 0.3, 0.5), key=lambda h: log_density(x[:100], h).mean())
    return logsumexp(-((points[:, None] - x) ** 2).sum(-1) / (2 * best**2), axis=1)


def mixture(x, points):
    fits = [GaussianMixture(K, reg_covar=1e-3, random_state=0, n_init=2).fit(x[:300]) for K in (2, 4, 8, 12, 16)]
    best = max(fits, key=lambda fit: fit.score(x[300:])).n_components
    return GaussianMixture(best, reg_covar=1e-3, random_state=0, n_init=2).fit(x).score_samples(points)


def scipy_kernels(x, points):
    """SciPy's width is a factor of the points' own spread."""
    x, points = x.numpy().astype(float), points.numpy().astype(float)
    best = max((0.05, 0.08, 0.12, 0.2, 0.3), key=lambda f: gaussian_kde(x[:300].T, f).logpdf(x[300:].T).mean())
    return np.maximum(gaussian_kde(x.T, best).logpdf(points.T), -200)


@pytest.mark.parametrize("estimate", [EXPERIMENT.reference, held_out_kernels, mixture, scipy_kernels], **ids)
def test_an_experiment_by_any_route_has_full_points(estimate):
    assert_trained_to_full_points(EXPERIMENT, estimate, range(3))


def test_what_is_wrong_with_a_density_is_told():
    smooth = ("bandwidth by a rule of thumb", "nearest point only", "few bins", "features one by one")
    rough = ("many bins", "some of the points")
    assert_mistakes_are_told(
        EXPERIMENT,
        range(3),
        instead=dict.fromkeys(smooth, "bandwidth much too large") | dict.fromkeys(rough, "bandwidth that its own points choose"),
    )
