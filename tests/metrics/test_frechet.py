"""The Fréchet distance against closed forms, its bias, and what the real FID is given."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch

from gencourse.data import load
from gencourse.metrics.classifier import scored_classifier
from gencourse.metrics.frechet import (
    frechet_distance,
    frechet_extrapolated,
    frechet_to,
    gaussian_frechet,
    gaussian_frechet_bias,
    inception_fid,
)
from gencourse.space import Space


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


@pytest.mark.parametrize(
    ("scales", "n", "m"), [((1, 1, 1, 1, 1), 200, 200), ((0.2, 0.5, 1, 2, 3), 200, 200), ((0.2, 0.5, 1, 2, 3), 100, 400)]
)
def test_the_bias_of_equal_gaussians_is_the_closed_form(scales, n, m):
    """Measured: within 2 % at 400 repeats, of which the next order is one. The largest scale's chi-square makes the noise."""
    scale = torch.tensor(scales, dtype=torch.float64)
    values = torch.tensor(
        [frechet_distance(randn(n, 5, seed=2 * s) * scale, randn(m, 5, seed=2 * s + 1) * scale) for s in range(150)]
    )
    expected = gaussian_frechet_bias(torch.diag(scale**2), n, m)
    assert abs(float(values.mean()) - expected) < 3.5 * float(values.std()) / 150**0.5 + 0.03 * expected
    assert expected > 20 * float(values.std()) / 150**0.5 / 3.5  # the noise does not decide


def test_the_bias_does_not_depend_on_the_axes_and_has_its_form_for_round_gaussians():
    q, cov = rotation(4, seed=2), torch.diag(torch.tensor([1.0, 4.0, 9.0, 0.0], dtype=torch.float64))
    assert gaussian_frechet_bias(q @ cov @ q.T, 50) == pytest.approx(gaussian_frechet_bias(cov[:3, :3], 50), rel=1e-9)
    for f in (1, 3, 64):
        assert gaussian_frechet_bias(torch.eye(f), 100, 400) == pytest.approx((1 / 100 + 1 / 400) * f * (f + 5) / 4, rel=1e-12)
    # in one dimension: the squared difference of means, 2 s^2 / n, and that of standard deviations, 2 s^2 / 2n
    assert gaussian_frechet_bias(torch.tensor([[9.0]]), 50) == pytest.approx(3 * 9 / 50, rel=1e-12)


def test_the_line_in_one_over_n_takes_the_bias_away():
    """Twenty pairs of equal Gaussians, 400 examples each: the distance is 0; measured .068 and, extrapolated, .007."""
    lines = [frechet_extrapolated(randn(400, 5, seed=2 * s), randn(400, 5, seed=2 * s + 1), seed=s) for s in range(20)]
    plain = sum(frechet_distance(randn(400, 5, seed=2 * s), randn(400, 5, seed=2 * s + 1)) for s in range(20)) / 20
    limit, slope = sum(line.limit for line in lines) / 20, sum(line.slope for line in lines) / 20
    assert abs(limit) < plain / 3
    assert slope == pytest.approx(400 * gaussian_frechet_bias(torch.eye(5), 400), rel=0.3)
    assert lines[0].sizes == (400, 229, 160, 123, 100)
    assert lines[0].distances[0] == pytest.approx(frechet_distance(randn(400, 5), randn(400, 5, seed=1)), rel=1e-9)


def test_without_noise_the_line_is_the_line(monkeypatch):
    monkeypatch.setattr("gencourse.metrics.frechet.frechet_distance", lambda a, b: 2 + 30 / len(a))
    line = frechet_extrapolated(randn(64, 2), randn(80, 2), points=3, repeats=1)
    assert (line.limit, line.slope) == pytest.approx((2, 30), abs=1e-9)
    assert line.sizes == (64, 26, 16)


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


def test_without_torchmetrics_one_sentence_says_what_to_install(monkeypatch):
    digits = load("digits")
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(
        ImportError, match=r"^inception_fid needs torchmetrics and torch-fidelity.*`pip install 'torchmetrics\[image\]'`\.$"
    ):
        inception_fid(digits.test, digits.valid, digits.space)


def test_the_real_fid_is_given_colour_images_of_bytes(monkeypatch):
    """By a stand-in for torchmetrics' class, which has its interface and no network."""
    seen = {True: [], False: []}

    class Stub:
        def __init__(self, feature):
            assert feature == 2048

        def update(self, x, real):
            seen[real].append(x)

        def compute(self):
            return torch.tensor(12.5)

    monkeypatch.setitem(sys.modules, "torchmetrics", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchmetrics.image", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", SimpleNamespace(FrechetInceptionDistance=Stub))
    digits = load("digits")
    assert inception_fid(digits.test, digits.valid, digits.space) == 12.5
    real, fake = torch.cat(seen[True]), torch.cat(seen[False])
    assert real.shape == (360, 3, 8, 8) and fake.shape == (180, 3, 8, 8) and real.dtype == torch.uint8
    assert torch.equal(real[:, 0], real[:, 2]) and real.max() == 255
    assert torch.equal((real[:, :1].double() * 16 / 255).round().long(), digits.test.long())  # nothing is lost
    with pytest.raises(ValueError, match=r"grey or colour images \(C, H, W\)"):
        inception_fid(torch.zeros(4, 2), torch.zeros(4, 2), Space((2,)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frechet_distance(randn(1, 3), randn(4, 3)), "N, M of 2 or more"),
        (lambda: frechet_distance(randn(4, 3), randn(4, 2)), r"not \(4, 3\) and \(4, 2\)"),
        (lambda: frechet_distance(randn(4, 3), randn(4, 3) / 0), "NaN or infinite"),
        (lambda: frechet_extrapolated(randn(12, 3), randn(40, 3)), "N, M of 16 or more"),
        (lambda: frechet_extrapolated(randn(20, 3), randn(40, 3), points=1), "points must be an integer of 2 or more"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
