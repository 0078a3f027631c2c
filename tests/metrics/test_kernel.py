"""The maximum mean discrepancy: the double sum, its mean and its error over many draws, and the closed form of Gaussians."""

import math

import pytest
import torch

from gencourse.metrics.frechet import frechet_distance
from gencourse.metrics.kernel import cubic, kernel_distance, median_distance, mmd, rbf


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def brute_force(a, b, k):
    n, m = len(a), len(b)
    aa = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    bb = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return aa + bb - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


KERNELS = {
    "cubic": (cubic, lambda x, y: (float(x @ y) / len(x) + 1) ** 3),
    "rbf": (rbf(1.5), lambda x, y: math.exp(-float((x - y).square().sum()) / (2 * 1.5**2))),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("block", [2**22, 20])  # all at once, and two or three rows at a time
def test_mmd_equals_the_double_sum(name, block, monkeypatch):
    monkeypatch.setattr("gencourse.metrics.kernel.BLOCK", block)
    kernel, by_hand = KERNELS[name]
    a, b = randn(9, 3), randn(7, 3, seed=1) + 0.5
    assert mmd(a, b, kernel).value == pytest.approx(brute_force(a, b, by_hand), abs=1e-12)
    there, back = mmd(a, b, kernel), mmd(b, a, kernel)
    assert (there.value, there.standard_error) == pytest.approx((back.value, back.standard_error), abs=1e-12)


def test_blocks_of_rows_change_no_error(monkeypatch):
    a, b = randn(30, 3), randn(20, 3, seed=1) + 0.5
    whole = mmd(a, b).standard_error
    monkeypatch.setattr("gencourse.metrics.kernel.BLOCK", 50)
    assert mmd(a, b).standard_error == pytest.approx(whole, rel=1e-12)


def test_kernel_distance_is_the_cubic_one():
    a, b = randn(40, 3), randn(30, 3, seed=1) + 0.5
    assert kernel_distance(a, b) == pytest.approx(mmd(a, b).value, abs=1e-12)


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


def gaussian_mmd(shift, dim, width):
    """Of N(0, I) and N(shift, I) with the Gaussian kernel: x - y is N(0, 2I) within and N(shift, 2I) across."""
    scale = (width**2 / (width**2 + 2)) ** (dim / 2)
    return 2 * scale * (1 - math.exp(-dim * shift**2 / (2 * (width**2 + 2))))


def test_the_estimate_is_right_on_average_for_gaussians():
    values = torch.tensor([mmd(randn(40, 3, seed=2 * s), randn(60, 3, seed=2 * s + 1) + 0.4, rbf(2.0)).value for s in range(200)])
    error = float(values.std()) / math.sqrt(200)
    assert abs(float(values.mean()) - gaussian_mmd(0.4, 3, 2.0)) < 3.5 * error
    assert error < 0.1 * gaussian_mmd(0.4, 3, 2.0)  # so that the mean would show a factor


@pytest.mark.parametrize(("shift", "n", "m"), [(0.3, 60, 60), (1.0, 80, 40)])
@pytest.mark.parametrize("name", KERNELS)
def test_the_standard_error_is_the_spread_over_draws(name, shift, n, m):
    """Measured: within 5 %; a standard deviation of 150 values is itself known to 6 %, of this lopsided law to about 10 %."""
    draws = [mmd(randn(n, 4, seed=2 * s), randn(m, 4, seed=2 * s + 1) + shift, KERNELS[name][0]) for s in range(150)]
    spread = float(torch.tensor([draw.value for draw in draws]).std())
    assert math.sqrt(sum(draw.standard_error**2 for draw in draws) / 150) == pytest.approx(spread, rel=0.25)


def test_between_equal_distributions_the_error_falls_as_one_over_n():
    """The second order alone is left: four times the examples, a quarter of the error (the first order's would be a half)."""

    def spread(n):
        draws = [mmd(randn(n, 4, seed=2 * s), randn(n, 4, seed=2 * s + 1), rbf(2.0)) for s in range(100)]
        value = float(torch.tensor([draw.value for draw in draws]).std())
        return value, sum(draw.standard_error for draw in draws) / 100

    (few, said_few), (many, said_many) = spread(30), spread(120)
    assert few / many == pytest.approx(4, rel=0.3)
    assert said_few / said_many == pytest.approx(4, rel=0.2)
    assert 0.9 < said_few / few < 1.5  # on the safe side, since what is left of the first order is not let below 0


def test_the_median_distance_by_hand():
    assert median_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.0], [6.0, 8.0]])) == 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernel_distance(randn(4, 3), randn(4, 3) / 0), "NaN or infinite"),
        (lambda: mmd(randn(2, 3), randn(4, 3)), "N, M of 3 or more"),
        (lambda: rbf(0.0), "bandwidth must be a positive number"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
