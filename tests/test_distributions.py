import mpmath
import pytest
import torch
from scipy.stats import chi2

from gencourse.distributions import DiscretizedLogistic

LEVELS = [2, 3, 17, 256]


def every_level(loc, log_scale, levels, dtype=torch.float64):
    """The log-masses of all levels, with levels in the first dimension."""
    loc, log_scale = torch.as_tensor(loc, dtype=dtype), torch.as_tensor(log_scale, dtype=dtype)
    d = DiscretizedLogistic(loc, log_scale, levels)
    return d.log_prob(torch.arange(levels).view(-1, *[1] * d.loc.dim()))


def reference(loc, log_scale, levels, k):
    """The log-mass of level k, with 60 digits; every float is an exact number there."""
    with mpmath.workdps(60):
        loc, scale = mpmath.mpf(loc), mpmath.exp(mpmath.mpf(log_scale))
        step = mpmath.mpf(1) / (levels - 1)

        def cdf(level):
            return 1 / (1 + mpmath.exp(-((level * step) - loc) / scale))

        def sf(level):
            return 1 / (1 + mpmath.exp(((level * step) - loc) / scale))

        half = mpmath.mpf(1) / 2
        if k == 0:
            return float(mpmath.log(cdf(half)))
        if k == levels - 1:
            return float(mpmath.log(sf(k - half)))
        # the difference of whichever two are small, so that 60 digits suffice
        below = (k * step) < loc
        return float(mpmath.log(cdf(k + half) - cdf(k - half) if below else sf(k - half) - sf(k + half)))


@pytest.mark.parametrize("levels", LEVELS)
def test_masses_sum_to_one(levels):
    loc = torch.tensor([-30.0, -1.0, 0.0, 0.123, 0.5, 0.999, 1.0, 7.0])
    log_scale = torch.tensor([-18.0, -10.0, -5.0, -2.0, 0.0, 3.0, 12.0, 30.0])
    total = every_level(loc[:, None], log_scale, levels).exp().sum(0)  # (8, 8)
    assert torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-12)


@pytest.mark.parametrize("levels", LEVELS)
def test_log_prob_in_float32_is_right_far_into_the_tails(levels):
    eps = torch.finfo(torch.float32).eps
    for loc in (-2.0, 0.0, 0.37, 0.5, 1.0, 3.0):
        for log_scale in (-12.0, -7.0, -3.0, 0.0, 4.0):
            found = every_level(loc, log_scale, levels, torch.float32)
            loc32 = float(torch.tensor(loc))
            for k in {0, 1, levels // 2, levels - 2, levels - 1}:
                right = reference(loc32, log_scale, levels, k)
                # Rounding loc - k/(levels-1) costs eps, in units of the scale; the rest is relative to the result.
                scale_units = (1 + abs(loc)) / float(torch.tensor(log_scale).exp())
                assert abs(float(found[k]) - right) <= 4 * eps * (1 + abs(right) + scale_units)


def test_a_level_ten_thousand_scales_away_has_a_finite_log_prob_where_the_naive_difference_is_zero():
    log_prob = every_level(0.0, -9.3, 256, torch.float32)[250]
    assert -11_000 < float(log_prob) < -10_000
    assert float(log_prob) == pytest.approx(reference(0.0, float(torch.tensor(-9.3)), 256, 250), rel=1e-5)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("log_scale", [-20.0, -7.0, 0.0, 15.0, 30.0])
def test_gradients_are_finite_everywhere(levels, log_scale):
    loc = torch.tensor([-100.0, 0.0, 0.5, 1.0, 100.0], requires_grad=True)
    log_scale = torch.full((5,), log_scale, requires_grad=True)
    d = DiscretizedLogistic(loc, log_scale, levels)
    d.log_prob(torch.arange(levels).unsqueeze(1)).sum().backward()
    assert torch.isfinite(loc.grad).all()
    assert torch.isfinite(log_scale.grad).all()


def test_gradients_equal_finite_differences():
    loc = torch.tensor([0.1, 0.45, 0.9], dtype=torch.float64, requires_grad=True)
    log_scale = torch.tensor([-3.0, -1.0, 0.5], dtype=torch.float64, requires_grad=True)
    value = torch.arange(17).unsqueeze(1)
    assert torch.autograd.gradcheck(lambda m, s: DiscretizedLogistic(m, s, 17).log_prob(value), (loc, log_scale))


@pytest.mark.parametrize("levels", LEVELS)
def test_mean_equals_the_enumeration(levels):
    loc = torch.tensor([-1.0, 0.0, 0.3, 0.99, 4.0], dtype=torch.float64)[:, None]
    log_scale = torch.tensor([-9.0, -3.0, 0.0, 5.0], dtype=torch.float64)
    k = torch.arange(levels, dtype=torch.float64).view(-1, 1, 1)
    enumerated = (k * every_level(loc, log_scale, levels).exp()).sum(0)
    assert torch.allclose(DiscretizedLogistic(loc, log_scale, levels).mean, enumerated, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("loc", "log_scale", "levels"), [(0.3, -1.0, 17), (1.2, -0.5, 5), (0.5, 3.0, 2), (0.02, -3.0, 256)])
def test_samples_follow_the_masses(loc, log_scale, levels):
    n = 100_000
    d = DiscretizedLogistic(torch.tensor(loc), torch.tensor(log_scale), levels)
    x = d.sample((n,), generator=torch.Generator().manual_seed(3))
    assert x.dtype == torch.int64
    observed = torch.bincount(x, minlength=levels).double()
    expected = every_level(loc, log_scale, levels).exp() * n
    common = expected >= 5
    assert float(observed[~common].sum()) <= float(expected[~common].sum()) + 30
    statistic = ((observed - expected) ** 2 / expected)[common].sum()
    assert chi2.sf(float(statistic), int(common.sum()) - 1) > 1e-3


def test_sampling_is_reproducible_by_its_generator_and_broadcasts():
    d = DiscretizedLogistic(torch.zeros(4, 1), torch.zeros(3), 17)
    a, b = (d.sample((2,), generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert a.shape == (2, 4, 3)
    assert torch.equal(a, b)
