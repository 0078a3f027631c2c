import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from gencourse.data import toys

# The width of each is small enough to be a toy and large enough for a quadrature on cells of 0.04.
TOYS = [
    toys.TwoMoons(sd=0.15),
    toys.Rings(sd=0.12),
    toys.Checkerboard(),
    toys.Spirals(sd=0.25),
    toys.RingOfGaussians(sd=0.1),
    toys.GridOfGaussians(sd=0.1),
]
named = pytest.mark.parametrize("toy", TOYS, ids=lambda toy: type(toy).__name__)
N = 20_000
CELL, FINE, SIDE = 0.4, 0.04, 26  # cells of the histogram, of the quadrature; the square is [-5.2, 5.2]^2


@pytest.fixture(scope="module")
def quadrature():
    """For each toy, the density at the midpoints of FINE squares, `(260, 260)`; computed once."""
    per_side = round(SIDE * CELL / FINE)
    ticks = (torch.arange(per_side, dtype=torch.float64) + 0.5) * FINE - SIDE * CELL / 2
    grid = torch.cartesian_prod(ticks, ticks)
    return {toy: toy.log_prob(grid).view(per_side, per_side) for toy in TOYS}


@named
def test_the_density_integrates_to_one(toy, quadrature):
    # Midpoint sums of a smooth function that vanishes at the edge (8 sd beyond the last centre) err by about
    # exp(-2 pi^2 (sd / 0.04)^2); the checkerboard's edges are edges of cells, so its sum is exact. What is left is rounding.
    assert float(quadrature[toy].exp().sum() * FINE**2) == pytest.approx(1, abs=1e-12)


@named
def test_samples_follow_the_density(toy, quadrature):
    x = toy.sample(N, torch.Generator().manual_seed(0)).double()
    index = ((x + SIDE * CELL / 2) / CELL).floor().long()
    seen = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    seen.index_put_((index[:, 0], index[:, 1]), torch.ones(N, dtype=torch.float64), accumulate=True)
    k = round(CELL / FINE)
    expected = N * FINE**2 * quadrature[toy].exp().view(SIDE, k, SIDE, k).sum(dim=(1, 3))
    often = expected >= 5  # rarer cells are counted as one
    o = torch.cat([seen[often], seen[~often].sum()[None]])
    e = torch.cat([expected[often], expected[~often].sum()[None]]).clamp(min=1e-9)
    if e[-1] < 5:
        assert o[-1] <= 20
        o, e = o[:-1], e[:-1]
    statistic = float(((o - e) ** 2 / e).sum())
    assert chi2.sf(statistic, len(o) - 1) > 1e-3
    assert len(o) > 30


@named
def test_the_mean_of_log_prob_is_minus_the_entropy(toy, quadrature):
    log_p = quadrature[toy]
    p = log_p.exp()
    entropy = -float((p * log_p.clamp(min=-1e3)).sum() * FINE**2)
    scores = toy.log_prob(toy.sample(N, torch.Generator().manual_seed(1)).double())
    assert float(-scores.mean()) == pytest.approx(entropy, abs=4 * float(scores.std()) / math.sqrt(N) + 1e-6)


def test_the_checkerboard_has_entropy_log_32_and_every_sample_lies_on_it():
    board = toys.Checkerboard()
    assert board.entropy == pytest.approx(3.4657, abs=1e-4)
    scores = board.log_prob(board.sample(1_000_000, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(scores, torch.full_like(scores, -math.log(32)))
    corners = torch.tensor([[-4.0, -4.0], [-4.0, -2.0], [3.9, 3.9], [4.0, 0.0], [0.0, -4.1], [-1.0, 1.0], [1.0, 1.0]])
    assert torch.isfinite(board.log_prob(corners)).tolist() == [True, False, True, False, False, False, True]


@pytest.mark.parametrize("sd", [0.1, 0.5, 1.5])
def test_rings_count_the_negative_radii_too(sd):
    ring = toys.Rings(radii=(1.0,), sd=sd)
    rho = (torch.arange(200_000, dtype=torch.float64) + 0.5) * 1e-4  # up to 20
    p = ring.log_prob(torch.stack([0.6 * rho, 0.8 * rho], dim=1)).exp()
    assert float((p * 2 * math.pi * rho).sum() * 1e-4) == pytest.approx(1, abs=1e-8)
    # Half a ring out is as likely as half a ring in, per unit of radius and not of area.
    p = ring.log_prob(torch.tensor([[0.5, 0.0], [0.0, 1.5]], dtype=torch.float64)).exp()
    reflected = torch.tensor([1 + math.exp(-1 / sd**2), 1 + math.exp(-3 / sd**2)], dtype=torch.float64)
    assert float(p[0] * 0.5 / reflected[0]) == pytest.approx(float(p[1] * 1.5 / reflected[1]), rel=1e-12)


@pytest.mark.parametrize("curve", [toys.TwoMoons(sd=0.05), toys.TwoMoons(sd=0.5), toys.Spirals(sd=0.05), toys.Spirals(sd=0.5)])
def test_the_integral_along_a_curve_equals_a_sum_of_a_hundred_thousand_terms(curve):
    x = curve.sample(6, torch.Generator().manual_seed(0)).double()
    t = (np.arange(100_000) + 0.5) / 100_000
    centres = torch.from_numpy(curve._arms(t))  # (2, 100000, 2)
    weights = torch.from_numpy(curve._density(t)) / 100_000 / 2
    normal = torch.exp(-((x[:, None, None] - centres) ** 2).sum(-1) / (2 * curve.sd**2)) / (2 * math.pi * curve.sd**2)
    # The midpoint sum errs by f'' h^2 / 24 at the ends, where the curve stops: below 1e-7 here.
    torch.testing.assert_close(curve.log_prob(x), (normal * weights).sum(dim=(1, 2)).log(), rtol=0, atol=1e-7)


def test_gaussians_sit_where_they_should():
    ring, grid = toys.RingOfGaussians(n=8, radius=2, sd=0.05), toys.GridOfGaussians()
    torch.testing.assert_close(ring.centres.norm(dim=1), torch.full((8,), 2.0))
    assert len(grid.centres.unique(dim=0)) == 25
    torch.testing.assert_close(grid.centres.sum(dim=0), torch.zeros(2))
    for toy, modes in [(ring, 8), (grid, 25)]:
        # At a mode only its own Gaussian counts: the next is at least 1.5 away, 30 standard deviations.
        peak = torch.full((modes,), -math.log(modes) - math.log(2 * math.pi * 0.05**2))
        torch.testing.assert_close(toy.log_prob(toy.centres), peak)


@named
def test_draws_are_reproducible_and_make_a_dataset(toy):
    draws = [toy.sample(100, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    points = toy.dataset(train=30, valid=20, test=10, seed=5)
    assert [len(part) for part in (points.train, points.valid, points.test)] == [30, 20, 10]
    assert not torch.equal(points.train[:10], points.test)
    assert torch.equal(points.train, toy.dataset(train=30, valid=20, test=10, seed=5).train)


@named
def test_single_precision_is_enough(toy):
    x = toy.sample(1000, torch.Generator().manual_seed(0))
    # A coordinate near 4 is rounded by 2e-7, and the log-density's slope is at most about 4 / sd = 40.
    torch.testing.assert_close(toy.log_prob(x).double(), toy.log_prob(x.double()), rtol=0, atol=1e-4)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"RingOfGaussians: n must be a positive integer, not 2\.5"):
        toys.RingOfGaussians(n=2.5)
    with pytest.raises(
        ValueError, match=r"Rings: radii must be a tuple of positive numbers such as \(1.0, 2.0\), not \(1.0, -2.0\)"
    ):
        toys.Rings(radii=(1.0, -2.0))
    with pytest.raises(ValueError, match="TwoMoons: sd must be a positive number, not nan"):
        toys.TwoMoons(sd=math.nan)
    with pytest.raises(ValueError, match=r"Spirals.sample: n must be an integer of 0 or more, not -1"):
        toys.Spirals().sample(-1)
    with pytest.raises(ValueError, match=r"Spirals.dataset: train must be an integer of 0 or more, not -5"):
        toys.Spirals().dataset(train=-5)
    with pytest.raises(ValueError, match=r"expects a batch of shape \(B, 2\)"):
        toys.Checkerboard().log_prob(torch.zeros(3))
    with pytest.raises(TypeError, match="expects real values"):
        toys.Checkerboard().log_prob(torch.zeros(3, 2, dtype=torch.long))
