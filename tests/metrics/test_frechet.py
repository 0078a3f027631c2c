"""The Fréchet and kernel distances against closed forms and sums written out."""

import math
from types import SimpleNamespace

import pytest
import torch

from gencourse.data import load
from gencourse.metrics import pairs
from gencourse.metrics.classifier import scored_classifier
from gencourse.metrics.frechet import frechet_distance, frechet_to, gaussian_frechet, kernel_distance


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def rotation(n, seed=0):
    return torch.linalg.qr(randn(n, n, seed=seed)).Q


def test_commuting_covariances_have_a_closed_form():
    """C1 = Q diag(a) Q', C2 = Q diag(b) Q': the distance is |mu1 - mu2|^2 + sum (sqrt a - sqrt b)^2, zeros among a and b too."""
    q = rotation(6)
    a = torch.tensor([1.0, 4.0, 0.25, 9.0, 0.0, 0.0]).double()
    b = torch.tensor([4.0, 4.0, 1.0, 0.0, 2.0, 0.0]).double()
    mu1, mu2 = randn(6, seed=1), randn(6, seed=2)
    found = gaussian_frechet(mu1, q @ a.diag() @ q.T, mu2, q @ b.diag() @ q.T)
    expected = (mu1 - mu2).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert found == pytest.approx(float(expected), abs=1e-7)  # the root of a zero eigenvalue with rounding 1e-16


def test_covariances_that_do_not_commute():
    """In the plane tr((C1 C2)^1/2) = sqrt(tr(C1 C2) + 2 sqrt(det(C1 C2))), since the root's eigenvalues are those two's roots."""
    c1 = torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double()
    c2 = torch.tensor([[1.0, -0.8], [-0.8, 3.0]]).double()
    assert not torch.allclose(c1 @ c2, c2 @ c1)
    cross = math.sqrt(float((c1 @ c2).trace()) + 2 * math.sqrt(float((c1 @ c2).det())))
    zero = torch.zeros(2)
    assert gaussian_frechet(zero, c1, zero, c2) == pytest.approx(float(c1.trace() + c2.trace()) - 2 * cross, abs=1e-12)


def test_it_is_a_symmetric_distance_that_rotations_and_shifts_leave_alone():
    a, b = randn(50, 8), randn(40, 8, seed=1) * 1.5 + 0.3
    d = frechet_distance(a, b)
    q, shift = rotation(8, seed=3), randn(8, seed=4) * 10
    assert d > 0.1
    assert frechet_distance(b, a) == pytest.approx(d, rel=1e-9)
    assert frechet_distance(a @ q + shift, b @ q + shift) == pytest.approx(d, rel=1e-9)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * d, rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(a, a + shift) == pytest.approx(float(shift.square().sum()), rel=1e-9)


def test_four_numbers_by_hand():
    """Means 1 and 2, variances 2 and 8 (over n - 1): (1 - 2)^2 + (sqrt 2 - sqrt 8)^2 = 1 + 2."""
    assert frechet_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [4.0]])) == pytest.approx(3, abs=1e-12)


def test_fewer_examples_than_features_leave_a_singular_covariance_and_no_error():
    a = randn(5, 20)
    assert frechet_distance(a, a.flip(0)) == pytest.approx(0, abs=1e-7)
    assert frechet_distance(a, a + 1) == pytest.approx(20, abs=1e-7)


def test_the_distance_of_equal_distributions_falls_as_one_over_n():
    """The bias is about c/n, so that four times the examples have a quarter of it; 30 repeats leave an error of a few percent."""

    def bias(n):
        return sum(frechet_distance(randn(n, 5, seed=2 * s), randn(n, 5, seed=2 * s + 1)) for s in range(30)) / 30

    few, many = bias(100), bias(400)
    assert few > 0.05
    assert few / many == pytest.approx(4, rel=0.25)


def brute_force_mmd(a, b):
    n, m, f = len(a), len(b), a.shape[1]

    def k(x, y):
        return (float(x @ y) / f + 1) ** 3

    aa = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    bb = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return aa + bb - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


@pytest.mark.parametrize("block", [pairs.BLOCK, 20])  # all at once, and two or three rows at a time
def test_kernel_distance_equals_the_double_sum(block, monkeypatch):
    monkeypatch.setattr("gencourse.metrics.frechet.BLOCK", block)
    a, b = randn(9, 3), randn(7, 3, seed=1) + 0.5
    assert kernel_distance(a, b) == pytest.approx(brute_force_mmd(a, b), abs=1e-12)
    assert kernel_distance(a, b) == pytest.approx(kernel_distance(b, a), abs=1e-12)


def test_kernel_distance_is_unbiased_where_frechets_is_not():
    """Ten examples each from one distribution: over 400 repeats the mean is 0 within 3 standard errors; some are below 0."""
    values = torch.tensor([kernel_distance(randn(10, 4, seed=2 * s), randn(10, 4, seed=2 * s + 1)) for s in range(400)])
    assert abs(float(values.mean())) < 3 * float(values.std()) / 20
    assert (values < 0).any() and (values > 0).any()


def test_kernel_distance_tells_distributions_of_one_mean_and_covariance_apart():
    """The kernel is cubic, so that third moments count: a skewed coin against a Gaussian, which Fréchet's distance misses."""
    n = 2000
    gauss = randn(n, 1)
    p = 0.1  # standardised: values (1-p)/s and -p/s with s^2 = p (1-p)
    coin = (torch.rand(n, 1, generator=generator(1), dtype=torch.float64) < p).double()
    coin = (coin - coin.mean()) / coin.std()
    gauss = (gauss - gauss.mean()) / gauss.std()
    assert frechet_distance(gauss, coin) == pytest.approx(0, abs=1e-9)
    # E k = E(1 + xy)^3: the third moments' product alone differs, so MMD^2 is the squared skewness (1 - 2p)^2 / (p (1 - p))
    assert kernel_distance(gauss, coin) == pytest.approx((1 - 2 * p) ** 2 / (p * (1 - p)), rel=0.2)


def test_rounding_leaves_no_distance_below_zero():
    for seed in range(40):  # without a floor, two in five of these are a little below
        a = randn(30, 8, seed=seed)
        assert 0 <= frechet_distance(a, a) < 1e-10


def test_both_sides_have_the_same_number_of_examples():
    digits, seen = load("digits"), []

    def features(x):
        seen.append(len(x))
        return x.flatten(1).double()

    frechet_to(digits, digits.valid[:100], SimpleNamespace(features=features, accuracy=1.0))
    assert seen == [100, 1000, 100]  # test, ten parts of the training set, samples


def test_samples_beside_the_floor():
    digits = load("digits")
    classifier = scored_classifier(digits)
    truth = frechet_to(digits, digits.train)
    assert truth.n == 360 and truth.parts == (3, 3) and truth.accuracy == classifier.accuracy
    # both are means over three parts of the training set, cut in different orders
    assert truth.ratio == pytest.approx(1, abs=0.25)
    assert truth.ratio == truth.distance / truth.floor
    assert str(truth).startswith(f"Fréchet distance {truth.distance:.3f} at n = 360")
    collapsed = digits.train[digits.train_labels < 5]
    noise = torch.randint(0, 17, (360, 1, 8, 8), generator=generator())
    assert truth.ratio * 5 < frechet_to(digits, collapsed).ratio < frechet_to(digits, noise).ratio


def test_fewer_samples_are_compared_at_their_own_number():
    digits = load("digits")
    report = frechet_to(digits, digits.valid)  # 180
    assert report.n == 180 and report.parts == (1, 6)
    assert report.floor > frechet_to(digits, digits.train).floor  # the bias


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frechet_distance(randn(1, 3), randn(4, 3)), "N, M of 2 or more"),
        (lambda: frechet_distance(randn(4, 3), randn(4, 2)), r"not \(4, 3\) and \(4, 2\)"),
        (lambda: kernel_distance(randn(4, 3), randn(4, 3) / 0), "NaN or infinite"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
