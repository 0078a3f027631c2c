"""Histogram, kernel density and Gaussian mixture: densities, and the likeliest of their kind."""

import math
from itertools import pairwise

import pytest
import sklearn.mixture
import sklearn.neighbors
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from gencourse.classical.density import (
    GaussianMixture,
    Histogram,
    KernelDensity,
    best_by_held_out,
    from_clusters,
    m_step,
)
from gencourse.data.toys import TwoMoons

f64 = {"dtype": torch.float64}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def moons(n=300, seed=0):
    return TwoMoons().sample(n, generator(seed)).double()


def on_the_line(n=300, seed=0):
    g = generator(seed)
    side = (torch.rand(n, 1, generator=g, **f64) < 0.3).double()
    return 3 * side + (0.5 + 0.5 * side) * torch.randn(n, 1, generator=g, **f64)


def densities(x):
    return {
        "histogram": Histogram.fit(x, 9, extra=0.5),
        "kernel": KernelDensity(x, 0.2),
        "mixture": GaussianMixture.fit(x, 3, generator=generator(0)),
    }


@pytest.mark.parametrize("kind", ["histogram", "kernel", "mixture"])
@pytest.mark.parametrize("x", [on_the_line(), moons()], ids=["1-d", "2-d"])
def test_it_integrates_to_one_and_samples_follow_it(kind, x):
    density, D = densities(x)[kind], x.shape[1]
    side, n = {1: 2000, 2: 250}[D], 20_000
    low, high = x.amin(0) - 3, x.amax(0) + 3
    axes = [low[d] + (torch.arange(side) + 0.5) * (high[d] - low[d]) / side for d in range(D)]
    grid = torch.cartesian_prod(*axes).view(-1, D)
    mass = density.log_prob(grid).exp() * (high - low).prod() / side**D
    assert float(mass.sum()) == pytest.approx(1, abs=0.02 if kind == "histogram" else 1e-3)  # a grid cuts through cells
    drawn = density.sample(n, generator=generator(1))
    assert drawn.shape == (n, D) and torch.equal(drawn, density.sample(n, generator=generator(1)))
    for d in range(D):
        for cut in (0.2, 0.5, 0.8):
            edge = x[:, d].quantile(cut)
            share = float(mass[grid[:, d] <= edge].sum())
            assert abs(float((drawn[:, d] <= edge).double().mean()) - share) < 5 * (0.25 / n) ** 0.5 + 0.005
    assert density.sample(0).shape == (0, D)


def test_a_histogram_by_hand():
    x = torch.tensor([[0.0], [1.0], [1.5], [4.0]])
    histogram = Histogram.fit(x, 2)
    assert histogram.mass.tolist() == [0.75, 0.25]  # [0, 2) and [2, 4]
    found = histogram.log_prob(torch.tensor([[0.5], [2.0], [4.0], [4.1], [-0.1]]))
    assert found[:3].exp().tolist() == pytest.approx([0.375, 0.125, 0.125])
    assert found[3:].tolist() == [-math.inf, -math.inf]
    smoothed = Histogram.fit(x, 3, box=[(-1, 5)], extra=2.0)
    assert smoothed.mass.tolist() == pytest.approx([3 / 10, 4 / 10, 3 / 10])
    empty = Histogram.fit(x, 4)
    assert empty.log_prob(torch.tensor([[2.5]])).item() == -math.inf


def test_a_histogram_is_the_likeliest_density_of_its_cells():
    x = moons()
    best = Histogram.fit(x, 4)
    top = best.log_prob(x).mean()
    for seed in range(20):
        noise = torch.randn(4, 4, generator=generator(seed), **f64)
        mass = (best.mass.clamp(min=1e-9).log() + 0.3 * noise).flatten().softmax(0).view(4, 4)
        assert Histogram(best.low, best.high, mass).log_prob(x).mean() < top


def test_a_kernel_density_is_that_of_scikit_learn():
    x, other = moons(), moons(50, seed=1)
    for sd in (0.02, 0.3):
        theirs = sklearn.neighbors.KernelDensity(bandwidth=sd).fit(x.numpy()).score_samples(other.numpy())
        assert torch.allclose(KernelDensity(x, sd).log_prob(other), torch.from_numpy(theirs), rtol=1e-9, atol=1e-9)


def test_left_out_means_fitted_without_it():
    x = on_the_line(40)
    whole = KernelDensity(x, 0.3)
    without = [KernelDensity(torch.cat([x[:i], x[i + 1 :]]), 0.3).log_prob(x[i : i + 1]) for i in range(40)]
    assert torch.allclose(whole.leave_one_out(), torch.cat(without), rtol=0, atol=1e-12)
    assert (whole.log_prob(x) > whole.leave_one_out() - 1 / 39).all()


@pytest.mark.parametrize("K", [1, 2, 5])
def test_a_mixture_is_a_mixture(K):
    x = moons()
    mixture = GaussianMixture.fit(x, K, generator=generator(0))
    exact = MixtureSameFamily(Categorical(mixture.weights), MultivariateNormal(mixture.means, mixture.covariances))
    assert torch.allclose(mixture.log_prob(x), exact.log_prob(x), rtol=0, atol=1e-10)
    r = mixture.responsibilities(x)
    assert torch.allclose(r.sum(1), torch.ones(len(x), **f64), rtol=0, atol=1e-12)
    assert mixture.history[-1] == pytest.approx(float(exact.log_prob(x).mean()), abs=1e-10)


@pytest.mark.parametrize("K", [1, 3, 16, 60])
def test_the_likelihood_never_falls_not_even_at_the_floor(K):
    x = moons(100)
    for floor in (1e-6, 0.02):
        mixture = GaussianMixture.fit(x, K, steps=60, tolerance=0.0, floor=floor, generator=generator(K))
        history = mixture.history
        assert all(after >= before - 1e-10 for before, after in pairwise(history))
        assert torch.linalg.eigvalsh(mixture.covariances).min() >= floor * (1 - 1e-6)


def test_it_goes_the_way_of_scikit_learn_from_the_same_start():
    x = moons()
    labels = torch.arange(len(x)) % 4
    start = from_clusters(x, labels, 4)
    ours = GaussianMixture.fit(x, 4, start=start, steps=30, tolerance=0.0)
    theirs = sklearn.mixture.GaussianMixture(
        4,
        weights_init=start.weights.numpy(),
        means_init=start.means.numpy(),
        precisions_init=torch.linalg.inv(start.covariances).numpy(),
        reg_covar=0,
        tol=0,
        max_iter=30,
    )
    with pytest.warns(sklearn.exceptions.ConvergenceWarning):
        theirs.fit(x.numpy())
    assert len(ours.history) == 31
    for mine, other in ((ours.weights, theirs.weights_), (ours.means, theirs.means_), (ours.covariances, theirs.covariances_)):
        assert torch.allclose(mine, torch.from_numpy(other), rtol=0, atol=1e-7)
    assert torch.allclose(ours.log_prob(x), torch.from_numpy(theirs.score_samples(x.numpy())), rtol=0, atol=1e-6)


@pytest.mark.parametrize("floor", [1e-6, 0.05])
def test_the_m_step_is_the_best_there_is(floor):
    """No weights, means and covariances, above the floor, have a larger expected log-likelihood."""
    x = moons(60)
    r = torch.rand(60, 3, generator=generator(0), **f64) ** 4
    r = r / r.sum(1, keepdim=True)
    best = m_step(x, r, floor=floor)

    def expected(mixture):
        return (r * mixture.log_parts(x)).sum()

    top = expected(best)
    for seed in range(60):
        g, size = generator(seed), 0.1 ** (1 + seed % 3)
        shaking = torch.randn(3, 2, 2, generator=g, **f64) * size
        bent = torch.linalg.matrix_exp(shaking)
        values, vectors = torch.linalg.eigh(bent @ best.covariances @ bent.mT)
        other = GaussianMixture(
            (best.weights.log() + size * torch.randn(3, generator=g, **f64)).softmax(0),
            best.means + size * torch.randn(3, 2, generator=g, **f64),
            (vectors * values.clamp(min=floor).unsqueeze(1)) @ vectors.mT,
        )
        assert expected(other) < top


def test_responsibilities_are_the_best_there_are():
    """The bound sum_k q_k log(w_k N / q_k) is the log-likelihood at the posterior, and lower at any other q."""
    x = moons(50)
    mixture = GaussianMixture.fit(x, 3, steps=3, generator=generator(0))
    r = mixture.responsibilities(x)

    def bound(q):
        return (q * mixture.log_parts(x) - torch.xlogy(q, q)).sum(1)

    assert torch.allclose(bound(r), mixture.log_prob(x), rtol=0, atol=1e-10)
    for seed in range(20):
        q = (r.clamp(min=1e-30).log() + torch.randn(r.shape, generator=generator(seed), **f64)).softmax(1)
        assert (bound(q) <= mixture.log_prob(x) + 1e-12).all()


def test_one_gaussian_is_fitted_in_one_step():
    x = moons()
    mixture = GaussianMixture.fit(x, 1)
    assert torch.allclose(mixture.means[0], x.mean(0), rtol=0, atol=1e-12)
    assert torch.allclose(mixture.covariances[0], torch.cov(x.T, correction=0), rtol=0, atol=1e-12)


def test_a_gaussian_without_points_does_no_harm():
    x = on_the_line(50)
    r = torch.stack([torch.ones(50, **f64), torch.zeros(50, **f64)], 1)
    mixture = m_step(x, r)
    assert mixture.weights.tolist() == [1.0, 0.0]
    alone = m_step(x, r[:, :1])
    assert torch.allclose(mixture.log_prob(x), alone.log_prob(x), rtol=0, atol=1e-12)
    assert torch.isfinite(GaussianMixture.fit(x, 2, start=mixture, steps=3).log_prob(x)).all()


def test_held_out_points_choose():
    x, valid = moons(400), moons(200, seed=1)
    best, scores = best_by_held_out(lambda sd: KernelDensity(x, sd), (0.005, 0.08, 1.0), valid)
    assert best == 0.08
    assert scores[0.08] == pytest.approx(float(KernelDensity(x, 0.08).log_prob(valid).mean()))
    on_itself, _ = best_by_held_out(lambda sd: KernelDensity(x, sd), (0.005, 0.08, 1.0), x)
    assert on_itself == 0.005
    assert best_by_held_out(lambda bins: Histogram.fit(x, bins, box=[(-3, 4), (-3, 3)]), (3, 200), valid)[0] == 3  # -inf loses


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda x: Histogram.fit(x, 0), ValueError, "bins must be a positive integer"),
        (lambda x: Histogram.fit(x, 4000), ValueError, r"4000 bins in each of 2 dimensions are 1.6e\+07 cells; use fewer"),
        (lambda x: Histogram.fit(x, 2, box=[(0, 1)]), ValueError, r"box must be 2 pairs \(low, high\)"),
        (lambda x: Histogram.fit(x, 2, box=[(0, 1), (1, 0)]), ValueError, "low < high"),
        (lambda x: Histogram.fit(x * 0, 2), ValueError, "low < high"),
        (lambda x: Histogram.fit(x, 2, box=[(5, 6), (5, 6)]), ValueError, "9 of 9 points lie outside the box"),
        (lambda x: Histogram.fit(x, 2, extra=-1), ValueError, "extra must be a number of 0 or more"),
        (lambda x: Histogram.fit(x, 2).log_prob(x[:, :1]), ValueError, r"points \(N, 2\)"),
        (lambda x: Histogram.fit(x.long(), 2), TypeError, "tensor of floats"),
        (lambda x: KernelDensity(x, 0.0), ValueError, "sd must be a positive number"),
        (lambda x: KernelDensity(x[:0], 1.0), ValueError, "needs 1 points or more"),
        (lambda x: KernelDensity(x, 1.0).sample(-1), ValueError, "0 or more"),
        (lambda x: GaussianMixture.fit(x, 10), ValueError, "needs 10 points or more, not 9"),
        (lambda x: GaussianMixture.fit(x, 2, floor=0), ValueError, "floor must be a positive number"),
        (lambda x: GaussianMixture.fit(x, 2, start=GaussianMixture.fit(x, 3)), ValueError, r"the start has means \(3, 2\)"),
        (lambda x: GaussianMixture.fit(x * math.inf, 2), ValueError, "NaN or infinite"),
        (lambda x: best_by_held_out(lambda sd: KernelDensity(x, sd), [], x), ValueError, "at least one value"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call(moons(9))
