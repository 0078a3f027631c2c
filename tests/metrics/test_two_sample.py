"""Two-sample tests: exact intervals against SciPy, neighbours against scikit-learn, and the chance of a false alarm."""

import pytest
import torch
from scipy.stats import binom, binomtest
from sklearn.neighbors import KNeighborsClassifier

from gencourse.metrics.two_sample import binomial_interval, neighbour_accuracy, neighbour_answers, two_sample_test


def randn(n, d=5, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("right", "n"), [(0, 7), (3, 7), (7, 7), (90, 200)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_is_scipys_exact_one(right, n, level):
    expected = binomtest(right, n).proportion_ci(level, method="exact")
    assert binomial_interval(right, n, level=level) == pytest.approx((expected.low, expected.high), abs=1e-10)


@pytest.mark.parametrize("p", [0.02, 0.3, 0.5])
def test_the_interval_covers_at_least_what_it_says(p):
    """Summed over all outcomes of 40 trials, without simulation."""
    intervals = [binomial_interval(right, 40) for right in range(41)]
    covered = sum(binom.pmf(right, 40, p) for right, (low, high) in enumerate(intervals) if low <= p <= high)
    assert 0.95 <= covered < 1


def test_equal_distributions_raise_no_more_false_alarms_than_promised():
    tests = [two_sample_test(randn(60, seed=2 * s), randn(60, seed=2 * s + 1), seed=s) for s in range(100)]
    alarms = sum(test.p_value < 0.05 for test in tests)
    assert alarms <= 11  # of 100 with probability 0.05 or less each: more than 11 have a chance of 0.4 %
    assert sum(test.accuracy for test in tests) / 100 == pytest.approx(0.5, abs=0.03)  # 4 standard errors of 6000 answers
    assert all(test.n == 60 and test.low <= test.accuracy <= test.high for test in tests)


def test_the_accuracy_is_the_best_possible_one_for_two_gaussians():
    """Logistic regression has the right form: with means 1 apart in each of 4 directions, right with Phi(1) = 0.841."""
    test = two_sample_test(randn(3000, 4), randn(3000, 4, seed=1) + 1)
    assert test.accuracy == pytest.approx(0.8413, abs=0.03)
    assert test.p_value < 1e-100


def test_a_linear_classifier_misses_what_neighbours_see():
    real, fake = randn(300, 2), 3 * randn(300, 2, seed=1)
    assert two_sample_test(real, fake).accuracy < 0.62
    assert two_sample_test(real, fake, classifier=KNeighborsClassifier(15)).accuracy > 0.72


def test_neighbours_are_those_of_scikit_learn():
    real, fake = randn(40, 3), randn(30, 3, seed=1) + 0.5
    x, y = torch.cat([real, fake]).numpy(), [1] * 40 + [0] * 30
    right = []
    for i in range(70):
        others = [j for j in range(70) if j != i]
        model = KNeighborsClassifier(1).fit(x[others], [y[j] for j in others])
        right.append(float(model.predict(x[i : i + 1])[0] == y[i]))
    of_real, of_fake = neighbour_answers(real, fake)
    assert [*of_real.tolist(), *of_fake.tolist()] == right
    accuracy = neighbour_accuracy(real, fake)
    assert accuracy == pytest.approx((sum(right) / 70, sum(right[:40]) / 40, sum(right[40:]) / 30))


def test_who_repeats_himself_and_who_leaves_out_are_told_apart():
    one = randn(1, 2)
    repeated = neighbour_accuracy(randn(100, 2, seed=1), one.repeat(100, 1))
    assert repeated.fake == 1.0
    # of five equal modes the samples have one: four fifths of the real examples have real neighbours only
    real, fake = (
        randn(200, 2, seed=s) + 20 * torch.arange(5, dtype=torch.float64).repeat(40)[:, None] * (s == 2) for s in (2, 3)
    )
    dropped = neighbour_accuracy(real, fake)
    assert dropped.real > 0.8 and dropped.fake > 0.7  # the fifth mode has five samples for one real example


def test_copies_of_the_real_examples_are_below_chance_and_equal_distances_count_half():
    real = randn(50, 2)
    assert neighbour_accuracy(real, real.clone()) == (0.0, 0.0, 0.0)
    assert neighbour_accuracy(real.repeat(2, 1), real.clone().repeat(2, 1)) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: two_sample_test(randn(10), randn(12)), "not 10 real and 12 fake"),
        (lambda: two_sample_test(randn(3), randn(3)), "4 or more"),
        (lambda: binomial_interval(5, 4), "5 of 4 trials"),
        (lambda: neighbour_accuracy(randn(5, 3), randn(5, 2)), r"not \(5, 3\) and \(5, 2\)"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
