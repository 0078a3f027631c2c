"""HYPE: where the staircase settles, how often intervals over raters and over answers are right, and how many raters it takes."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from gencourse.metrics.answers import Answer, Answers
from gencourse.metrics.hype import (
    ErrorRates,
    Staircase,
    between_raters,
    compare,
    error_rates,
    hype_infinity,
    hype_time,
    interval_width,
    over_raters,
    psychometric,
    raters_needed,
    simulated_answers,
    simulated_exposures,
)
from gencourse.metrics.two_sample import binomial_interval


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rating(*raters, test="infinity", exposure=None):
    """Each rater: what was said of the fakes and of the real images, as strings such as "rf": real, fake."""
    rows = []
    for i, (of_fakes, of_reals) in enumerate(raters):
        for kind, said in (("fake", of_fakes), ("real", of_reals)):
            rows += [Answer(f"r{i}", f"{kind}-{j}", kind, {"r": "real", "f": "fake"}[c], exposure) for j, c in enumerate(said)]
    return Answers(test, tuple(rows))


def mean_rate(rate, spread):
    """The expectation of a logit-normal rate, by quadrature."""
    z, w = np.polynomial.hermite_e.hermegauss(80)
    return float((w / w.sum()) @ (1 / (1 + np.exp(-(math.log(rate / (1 - rate)) + spread * z)))))


def test_error_rates_by_hand():
    rates = error_rates(rating(("rf", "rrff"), ("rrr", "r")))
    assert rates.fakes.tolist() == [0.5, 1.0] and rates.reals.tolist() == [0.5, 0.0]
    assert rates.rate.tolist() == [0.5, 0.5] and rates.seen.tolist() == [[2, 4], [3, 1]]


@pytest.mark.parametrize("q", [0.0, 0.2, 1.0])
def test_whoever_ignores_the_images_scores_one_half_whatever_he_says(q):
    """Wrong on fakes when he says "real", on real images when he says "fake": q and 1 - q, counted and not drawn."""
    said = "r" * round(10 * q) + "f" * round(10 * (1 - q))
    rates = error_rates(rating((said, said), (2 * said, said)))  # the second sees twice as many fakes
    assert rates.fakes.tolist() == pytest.approx([q, q]) and rates.reals.tolist() == pytest.approx([1 - q, 1 - q])
    assert rates.rate.tolist() == pytest.approx([0.5, 0.5])


def test_the_bootstrap_over_raters_covers_and_answers_do_not():
    """Of 95 % intervals, 30 raters with 100 images each: measured .95 over raters, .58 over answers, of 300."""
    truth, over, answers = mean_rate(0.4, 0.5), 0, 0
    for seed in range(300):
        wrong = simulated_answers(30, 100, rate=0.4, spread=0.5, generator=generator(seed))
        score = over_raters(wrong.double().mean(1), draws=500, seed=seed)
        low, high = binomial_interval(int(wrong.sum()), wrong.numel())
        over += score.low <= truth <= score.high
        answers += low <= truth <= high
    assert 0.89 <= over / 300 <= 0.98
    assert 0.33 <= answers / 300 <= 0.66  # sd .03


def test_with_raters_who_are_all_alike_both_cover():
    over, answers = 0, 0
    for seed in range(200):
        wrong = simulated_answers(30, 50, rate=0.4, spread=0.0, generator=generator(seed))
        score = over_raters(wrong.double().mean(1), draws=500, seed=seed)
        low, high = binomial_interval(int(wrong.sum()), wrong.numel())
        over, answers = over + (score.low <= 0.4 <= score.high), answers + (low <= 0.4 <= high)
    assert over / 200 > 0.88 and answers / 200 > 0.91


def test_the_bootstrap_is_scipys_percentile_interval():
    values = torch.rand(12, generator=generator(), dtype=torch.float64)
    theirs = stats.bootstrap((values.numpy(),), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0))
    ours = over_raters(values, draws=20_000)
    assert ours.mean == pytest.approx(float(values.mean()))
    width = ours.high - ours.low
    assert abs(ours.low - theirs.confidence_interval.low) < 0.03 * width
    assert abs(ours.high - theirs.confidence_interval.high) < 0.03 * width


def test_scores_of_a_file_are_scores_of_its_raters():
    answers = rating(("rf", "rf"), ("ff", "rr"), ("rr", "ff"), ("rf", "rr"))
    assert hype_infinity(answers) == over_raters(torch.tensor([0.5, 0.0, 1.0, 0.25]))
    assert str(hype_infinity(answers)).endswith("of 4 raters")


def test_two_groups_are_compared_by_welchs_test():
    a, b = 0.5 + 0.1 * torch.randn(9, generator=generator()), 0.4 + 0.2 * torch.randn(14, generator=generator(1))
    theirs = stats.ttest_ind(a.double().numpy(), b.double().numpy(), equal_var=False)
    interval = theirs.confidence_interval(0.9)
    ours = compare(a.double(), b.double(), level=0.9)
    assert ours == pytest.approx((float(a.mean() - b.mean()), interval.low, interval.high, theirs.pvalue), rel=1e-5)


def test_five_raters_raise_no_more_false_alarms_than_promised_by_students_quantiles():
    """Welch's test is a little careful with few raters (measured .037); Gaussian quantiles would alarm in every tenth case."""
    alarms, gaussian = 0, 0
    for seed in range(600):
        wrong = simulated_answers(10, 100, rate=0.5, spread=0.5, generator=generator(seed)).double().mean(1)
        found = compare(wrong[:5], wrong[5:])
        alarms += found.p_value < 0.05
        error = math.sqrt(float(wrong[:5].var() + wrong[5:].var()) / 5)
        gaussian += abs(found.mean) > 1.96 * error
    assert alarms / 600 < 0.07
    assert gaussian / 600 > 0.07


def test_the_spread_between_raters_is_found_without_that_of_chance():
    rates = []
    for seed in range(40):
        wrong = simulated_answers(40, 60, rate=0.4, spread=0.5, generator=generator(seed)).double()
        fakes, reals = wrong[:, :30].mean(1), wrong[:, 30:].mean(1)
        rates.append(ErrorRates((fakes + reals) / 2, fakes, reals, torch.full((40, 2), 30)))
    z, w = np.polynomial.hermite_e.hermegauss(80)
    rate = 1 / (1 + np.exp(math.log(1.5) - 0.5 * z))
    truth = math.sqrt(float((w / w.sum()) @ (rate - mean_rate(0.4, 0.5)) ** 2))
    found = sum(between_raters(rate) ** 2 for rate in rates) / 40
    raw = sum(float(rate.rate.var()) for rate in rates) / 40
    assert math.sqrt(found) == pytest.approx(truth, rel=0.1)
    assert math.sqrt(raw) > 1.1 * truth  # chance, counted in


def test_the_width_is_that_of_students_interval_on_average():
    """Raters of one ability, so that the variance is that of a share: sd 0."""
    widths = []
    for seed in range(100):
        rates = simulated_answers(12, 80, rate=0.3, spread=0.0, generator=generator(seed)).double().mean(1)
        widths.append(2 * stats.t.ppf(0.975, 11) * float(rates.std()) / math.sqrt(12))
    assert sum(widths) / 100 == pytest.approx(interval_width(12, 80, sd=0, rate=0.3), rel=0.08)


@pytest.mark.parametrize(("width", "images", "sd"), [(0.1, 100, 0.117), (0.05, 100, 0.117), (0.3, 10, 0.0), (0.9, 10, 0.0)])
def test_raters_needed_is_the_first_number_that_is_enough(width, images, sd):
    needed = raters_needed(width, images=images, sd=sd)
    assert interval_width(needed, images, sd=sd) <= width
    assert needed == 2 or interval_width(needed - 1, images, sd=sd) > width


def test_no_number_of_images_replaces_raters():
    assert raters_needed(0.05, images=100, sd=0.117) > raters_needed(0.05, images=10**9, sd=0.117)
    assert raters_needed(0.05, images=10**9, sd=0.117) > 80  # (2 * 1.96 * .117 / .05)^2 = 84
    assert raters_needed(0.05, images=10**9, sd=0.0) == 2


def test_the_equilibrium_equation_of_the_staircase():
    """p * down = (1 - p) * up: three quarters; the readings the other way round are at or below chance."""
    assert Staircase().target == 0.75
    assert Staircase(up=10, down=30).target == 0.25
    assert Staircase(up=10, down=10).target == 0.5
    for up, down in ((30, 10), (20, 5)):
        p = Staircase(up=up, down=down).target
        assert p * down == pytest.approx((1 - p) * up)


def test_one_step_by_hand():
    after = Staircase().after(torch.tensor([500.0, 500.0, 105.0, 990.0]), torch.tensor([True, False, True, False]))
    assert after.tolist() == [490, 530, 100, 1000]


def test_the_theoretical_threshold_solves_the_psychometric_function():
    """.5 + .48 (1 - exp(-u)) = .75 at u = log(.48 / .23), and t = th u^(2/3)."""
    for th in (300, 500):
        assert Staircase().threshold(lambda t, th=th: float(psychometric(t, th))) == pytest.approx(
            th * math.log(0.48 / 0.23) ** (2 / 3), rel=1e-9
        )


@pytest.mark.parametrize("threshold", [300, 500])
def test_the_weighted_staircase_settles_where_the_equation_says(threshold):
    staircase = Staircase()
    exposures, right = simulated_exposures(staircase, threshold, raters=200, generator=generator())
    assert exposures.shape == right.shape == (200, 150) and (exposures[:, 0] == 500).all()
    expected = staircase.threshold(lambda t: float(psychometric(t, threshold)))
    assert float(exposures[:, -50:].mean()) == pytest.approx(expected, rel=0.15)
    assert float(right[:, -50:].double().mean()) == pytest.approx(0.75, abs=0.03)


def test_the_reversed_staircase_sinks_to_the_floor_for_everybody():
    for threshold in (150, 300, 500):
        exposures, _ = simulated_exposures(Staircase(up=10, down=30), threshold, raters=50, generator=generator())
        assert float(exposures[:, -50:].mean()) < 115


def test_hype_time_is_the_mean_of_each_raters_last_exposures():
    rows = [Answer(f"r{i}", f"x{j}", "real", "real", 100.0 * (i + 1) + j) for i in range(3) for j in range(10)]
    score = hype_time(Answers("time", tuple(rows)), last=4)
    assert score.mean == pytest.approx(207.5) and score.raters == 3  # 107.5, 207.5, 307.5
    assert 107.5 <= score.low < score.mean < score.high <= 307.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hype_infinity(rating(("rf", "rf"), test="time")), "without limits of time, not 'time'"),
        (lambda: hype_infinity(rating(("rf", "rf"))), r"two raters or more, not \(1,\)"),
        (lambda: error_rates(rating(("rf", ""))), "rater 'r0' saw 0 real and 2 fake images"),
        (lambda: hype_time(rating(("rf", "rf"))), "scores exposures, not the test 'infinity'"),
        (lambda: hype_time(rating(("rf", "rf"), test="time"), last=4), "has 0 of the 4 exposures"),
        (lambda: compare(torch.ones(3), torch.zeros(3)), "one and the same number"),
        (lambda: between_raters(error_rates(rating(("r", "rr"), ("r", "rr")))), "two images of each kind"),
        (lambda: interval_width(10, 100, sd=0.6), "standard deviation of 0.6"),
        (lambda: interval_width(1, 100, sd=0.1), "integer of 2 or more"),
        (lambda: raters_needed(0.0, images=10, sd=0.1), "width must be a positive number"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
