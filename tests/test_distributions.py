import mpmath
import pytest
import torch
from scipy.stats import chi2
from torch.distributions import Bernoulli, Categorical, Independent, Normal, Poisson

from gencourse.distributions import DiscretizedLogistic, DiscretizedLogisticMixture, sample

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
def test_mean_and_variance_equal_the_enumeration(levels):
    loc = torch.tensor([-1.0, 0.0, 0.3, 0.99, 4.0], dtype=torch.float64)[:, None]
    log_scale = torch.tensor([-9.0, -3.0, 0.0, 5.0], dtype=torch.float64)
    k = torch.arange(levels, dtype=torch.float64).view(-1, 1, 1)
    enumerated = (k * every_level(loc, log_scale, levels).exp()).sum(0)
    d = DiscretizedLogistic(loc, log_scale, levels)
    assert torch.allclose(d.mean, enumerated, rtol=0, atol=1e-10)
    squares = (k**2 * every_level(loc, log_scale, levels).exp()).sum(0)
    assert torch.allclose(d.variance, squares - enumerated**2, rtol=1e-10, atol=1e-8)  # 255^2 in double loses 1e-11
    assert torch.equal(d.stddev, d.variance.sqrt())
    assert d.variance.shape == (5, 4)


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


def mixture(*batch, levels=5, K=3):
    torch.manual_seed(0)
    logits, loc, log_scale = (torch.randn(*batch, K, dtype=torch.float64) for _ in range(3))
    return DiscretizedLogisticMixture(logits, loc.sigmoid(), log_scale - 2, levels)


def test_the_variance_of_a_mixture_is_the_mean_variance_and_the_variance_of_the_means():
    d = mixture(2, 3, levels=17)
    weights, parts = d.logits.exp(), d.components
    expected = (weights * (parts.variance + (parts.mean - d.mean.unsqueeze(-1)) ** 2)).sum(-1)
    assert torch.allclose(d.variance, expected, rtol=0, atol=1e-10)
    assert d.variance.shape == (2, 3)


KINDS = {
    "Bernoulli": lambda: Bernoulli(logits=torch.linspace(-2, 2, 6, dtype=torch.float64).view(2, 3)),
    "categorical": lambda: Categorical(logits=torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1)).double()),
    "logistic": lambda: DiscretizedLogistic(torch.linspace(0, 1, 6).double().view(2, 3), torch.tensor(-1.0).double(), 4),
    "mixture": lambda: mixture(2, 3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_draws_with_a_generator_follow_the_masses(kind):
    """Chi-squared in each of six places."""
    distribution, n = KINDS[kind](), 20_000
    levels = getattr(distribution, "levels", None) or (2 if kind == "Bernoulli" else 4)
    drawn = sample(Independent(distribution, 1), n, generator=torch.Generator().manual_seed(2))
    assert drawn.shape == (n, 2, 3)
    assert drawn.dtype == torch.int64
    k = torch.arange(levels).view(-1, 1, 1)
    value = k.double() if kind == "Bernoulli" else k
    expected = n * distribution.log_prob(value.expand(levels, 2, 3)).exp()
    observed = (drawn[None] == k[:, None]).sum(1)
    statistic = ((observed - expected) ** 2 / expected).sum(0)
    assert (torch.from_numpy(chi2.sf(statistic, levels - 1)) > 1e-4).all()
    again, other = (sample(distribution, generator=torch.Generator().manual_seed(s)) for s in (3, 4))
    assert torch.equal(again, sample(distribution, generator=torch.Generator().manual_seed(3)))
    assert again.shape == other.shape == (2, 3)


def test_gaussian_draws_have_the_mean_and_the_spread():
    drawn = sample(
        Normal(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])), 40_000, generator=torch.Generator().manual_seed(0)
    )
    assert torch.allclose(drawn.mean(0), torch.tensor([1.0, -2.0]), atol=0.06)
    assert torch.allclose(drawn.std(0), torch.tensor([0.5, 3.0]), rtol=0.02)


def test_nan_is_not_drawn_from():
    nan = torch.tensor([0.0, float("nan")])
    for distribution in (
        Bernoulli(logits=nan, validate_args=False),
        Categorical(logits=nan[None], validate_args=False),
        Normal(nan, torch.ones(2), validate_args=False),
        DiscretizedLogistic(nan, torch.zeros(2), 4, validate_args=False),
    ):
        with pytest.raises(FloatingPointError, match="NaN"):
            sample(distribution)
    with pytest.raises(TypeError, match="Poisson"):
        sample(Poisson(torch.ones(2)))


@pytest.mark.parametrize("d", [DiscretizedLogistic(torch.tensor([0.2, 0.4]), torch.tensor(-1.0), 8), mixture(2, levels=8)])
def test_what_is_no_level_is_refused_unless_validation_is_off(d):
    for wrong in (8, 99, -1, 2.5):
        with pytest.raises(ValueError, match="support"):
            d.log_prob(torch.tensor(wrong).expand(2))
    d.log_prob(torch.tensor([0, 7]))
    d.expand((3, 2)).log_prob(torch.tensor(99).expand(3, 2))


@pytest.mark.parametrize("d", [DiscretizedLogistic(torch.tensor([0.2, 0.4]), torch.tensor(-1.0), 8), mixture(2, levels=8)])
def test_a_larger_batch_is_the_same_distribution(d):
    k = torch.tensor([[0, 7], [3, 4], [1, 1]])
    assert d.expand((3, 2)).batch_shape == (3, 2)
    assert torch.equal(d.expand((3, 2)).log_prob(k), d.log_prob(k))
    assert torch.equal(Independent(d, 1).expand((3,)).log_prob(k), d.log_prob(k).sum(1))


def test_what_is_certain_is_drawn_though_infinite_logits_cancel():
    inf = float("inf")
    assert sample(Bernoulli(logits=torch.tensor([inf, -inf]), validate_args=False)).tolist() == [1, 0]
