"""Counts of modes and good samples where the answer can be written down."""

import math

import pytest
import torch

from gencourse.data.toys import GridOfGaussians, RingOfGaussians
from gencourse.metrics.modes import good_share, mode_report

CENTRES = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def test_counts_of_samples_placed_by_hand():
    # 5 on the first centre, 3 near the second, 1 just inside and 1 just outside the third, none near the fourth
    inside, outside = [0.0, 10 - 0.2999], [0.0, 10 - 0.3001]
    samples = torch.tensor([[0.0, 0.0]] * 5 + [[10.0, 0.1]] * 3 + [inside, outside])
    report = mode_report(samples, CENTRES, 0.1)
    assert report.shares.tolist() == pytest.approx([0.5, 0.3, 0.1, 0.0])
    assert report.good == pytest.approx(0.9)
    assert (report.covered, report.total) == (3, 4)
    assert report.overlap == pytest.approx(0.25 + 0.25 + 0.1)
    assert str(report) == "3 of 4 modes, 90.0% good samples, overlap 0.600"


@pytest.mark.parametrize(("strays", "covered"), [(1, 3), (19, 3), (20, 4), (21, 4)])
def test_a_mode_counts_from_a_fifth_of_its_fair_share(strays, covered):
    """400 samples of 4 modes: the fair share is 100, a fifth of it 20."""
    counts = [127 - strays // 3, 127 - strays // 3, 146 - strays + 2 * (strays // 3), strays]
    samples = CENTRES.repeat_interleave(torch.tensor(counts), 0)
    assert len(samples) == 400
    assert mode_report(samples, CENTRES, 0.1).covered == covered


@pytest.mark.parametrize("toy", [RingOfGaussians(), GridOfGaussians()])
def test_the_mixture_itself_covers_every_mode_with_its_own_share_of_good_samples(toy):
    n = 20_000
    report = mode_report(toy.sample(n, torch.Generator().manual_seed(0)), toy.centres, toy.sd)
    assert report.covered == report.total == len(toy.centres)
    p = 1 - math.exp(-9 / 2)  # the Rayleigh distribution function at 3
    assert good_share(2) == pytest.approx(p, abs=1e-12)
    assert report.good == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n))
    # each share fluctuates by at most sqrt(1/(K n)), which can only lower its part of the overlap
    assert p - math.sqrt(report.total / n) < report.overlap < report.good + 1e-12


def test_the_chance_to_fail_a_perfect_sampler_is_what_is_said():
    """Chernoff: P(Poisson(m) <= a) <= exp(-m) (e m / a)^a, with a = 0.2 N/K and m = 0.9889 N/K at N/K = 30 and K = 25."""
    m, a = 30 * good_share(2), 0.2 * 30
    bound = 25 * math.exp(-m) * (math.e * m / a) ** a
    assert bound < 2e-5
    exact = 25 * sum(math.exp(-m) * m**i / math.factorial(i) for i in range(6))
    assert exact < bound


def test_collapse_to_one_mode_is_seen_although_every_sample_is_good():
    report = mode_report(CENTRES[:1].expand(100, 2), CENTRES, 0.1)
    assert (report.covered, report.good, report.overlap) == (1, 1.0, 0.25)


def test_lost_samples_are_not_good():
    samples = torch.tensor([[math.nan, 0.0], [math.inf, 0.0], [0.0, -math.inf], [0.0, 0.0]])
    assert mode_report(samples, CENTRES, 0.1).shares.tolist() == [0.25, 0, 0, 0]


def test_good_share_falls_with_the_dimension():
    assert good_share(1) == pytest.approx(math.erf(3 / math.sqrt(2)), abs=1e-12)
    assert good_share(3) < good_share(2) < good_share(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mode_report(torch.zeros(0, 2), CENTRES, 0.1), r"samples \(N, D\)"),
        (lambda: mode_report(torch.zeros(3, 3), CENTRES, 0.1), r"not \(3, 3\) and \(4, 2\)"),
        (lambda: mode_report(CENTRES, CENTRES, 0.0), "sd and within must be positive"),
        (lambda: mode_report(CENTRES, CENTRES, 1.0, enough=0), r"enough in \(0, 1\]"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
