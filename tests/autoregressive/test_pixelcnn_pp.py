"""PixelCNN++: its mixture against brute force over the joint of a pixel's colours, its tails, its passes, its memory."""

import math

import mpmath
import pytest
import torch

from gencourse.autoregressive.pixelcnn_pp import MIN_LOG_SCALE, PixelCNNPP, concat_elu
from gencourse.checks import (
    assert_autoregressive,
    assert_cached_equals_naive,
    assert_every_parameter_learns,
    assert_full_context,
    assert_normalized,
    assert_sampler_matches,
    every_example,
    influence,
)
from gencourse.distributions import DiscretizedLogisticMixture
from gencourse.space import Space

SPACES = [Space((1, 3, 3), 2), Space((3, 2, 2), 2), Space((2, 1, 2), 4)]
SCALES = [1, 2]


def make(space, seed=0, **options):
    torch.manual_seed(seed)
    model = PixelCNNPP(space, **{"blocks": 1, "channels": 6, "mixtures": 3, **options}).eval()
    with torch.no_grad():  # far enough from uniform for a test to notice
        model.last.weight *= 3
    return model


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# The mixture


def logistic_cdf(z):
    return 1 / (1 + mpmath.exp(-z))


def mass(loc, scale, k, levels):
    """The mass of level k under a logistic on [-1, 1], in 40 digits, by the definition."""
    width = mpmath.mpf(2) / (levels - 1)
    centre = k * width - 1
    upper = 1 if k == levels - 1 else logistic_cdf((centre + width / 2 - loc) / scale)
    lower = 0 if k == 0 else logistic_cdf((centre - width / 2 - loc) / scale)
    return upper - lower


def brute_force(parameters, levels, pixel):
    """p(r, g, b) as the paper writes it: one component for all three colours, the means of the later ones moved."""
    k = len(parameters) // 10
    weights, means, log_scales, coupling = (parameters[a * k : b * k] for a, b in ((0, 1), (1, 4), (4, 7), (7, 10)))
    scaled = [mpmath.mpf(2 * v) / (levels - 1) - 1 for v in pixel]
    total = mpmath.mpf(0)
    for j in range(k):
        r_to_g, r_to_b, g_to_b = (mpmath.tanh(coupling[i * k + j]) for i in range(3))
        moved = (0, r_to_g * scaled[0], r_to_b * scaled[0] + g_to_b * scaled[1])
        p = mpmath.exp(weights[j]) / sum(mpmath.exp(w) for w in weights)
        for c in range(3):
            scale = mpmath.exp(max(log_scales[c * k + j], MIN_LOG_SCALE))
            p *= mass(means[c * k + j] + moved[c], scale, pixel[c], levels)
        total += p
    return total


@pytest.mark.parametrize("levels", [2, 3, 256])
def test_the_conditionals_of_a_pixels_colours_multiply_to_the_papers_joint(levels):
    model = make(Space((3, 1, 1), levels), mixtures=2)
    parameters = torch.randn(1, 20, 1, 1, generator=seeded(levels), dtype=torch.float64)
    with mpmath.workdps(40):
        numbers = [mpmath.mpf(v) for v in parameters.flatten().tolist()]
        for pixel in ([0, 0, 0], [levels - 1, 0, levels // 2], [levels // 2, levels - 1, 1]):
            x = torch.tensor(pixel).view(1, 3, 1, 1)
            found = float(model.mixture(parameters, x).log_prob(x).sum())
            assert found == pytest.approx(float(mpmath.log(brute_force(numbers, levels, pixel))), abs=1e-11)


@pytest.mark.parametrize("levels", [2, 5])
def test_a_pixels_joint_sums_to_one_over_all_its_colours(levels):
    space = Space((3, 1, 1), levels)
    model, x = make(space), every_example(space)
    parameters = 2 * torch.randn(1, 30, 1, 1, generator=seeded(), dtype=torch.float64)
    joint = model.mixture(parameters.expand(len(x), -1, -1, -1), x).log_prob(x).sum((1, 2, 3))
    assert float(joint.exp().sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_masses_sum_to_one_for_scales_from_a_thousandth_of_a_level_to_a_thousand_images(levels):
    logits = torch.randn(9, 4, generator=seeded(), dtype=torch.float64)
    loc = torch.tensor([-3.0, 0.0, 0.4, 1.5], dtype=torch.float64).expand(9, 4)
    log_scale = torch.linspace(-14, 7, 9, dtype=torch.float64)[:, None].expand(9, 4)
    masses = DiscretizedLogisticMixture(logits[:, None], loc[:, None], log_scale[:, None], levels).log_masses(0)
    assert masses.shape == (9, levels)
    assert torch.allclose(masses.exp().sum(1), torch.ones(9, dtype=torch.float64), rtol=0, atol=1e-12)


def test_log_masses_in_float32_are_right_far_into_the_tails():
    levels, scale = 256, 0.01  # a black pixel where white was sure: some 200 standard units out
    logits, loc = torch.tensor([[[0.0, -1.0]]]), torch.tensor([[[2.0, 1.5]]])
    p = DiscretizedLogisticMixture(logits, loc, torch.full((1, 1, 2), math.log(scale)), levels)
    with mpmath.workdps(400):
        for k in (0, 1, 100, 254, 255):
            right = mpmath.mpf(0)
            weights = [1 / (1 + mpmath.exp(-1)), 1 / (1 + mpmath.exp(1))]
            for weight, where in zip(weights, (2.0, 1.5), strict=True):
                in_their_units = 2 * mpmath.mpf(where) - 1, 2 * mpmath.exp(mpmath.mpf(float(torch.tensor(math.log(scale)))))
                right += weight * mass(*in_their_units, k, levels)
            right = float(mpmath.log(right))
            # a rounding of loc - k/255 is eps in units of the scale, some 1e-5 here; the rest is relative
            assert float(p.log_masses(0)[0, k]) == pytest.approx(right, abs=4 * 1.2e-7 * (abs(right) + 3 / scale))


def test_the_mean_is_that_of_the_masses():
    p = DiscretizedLogisticMixture(*torch.randn(3, 5, 1, 3, generator=seeded(), dtype=torch.float64).unbind(0), 17)
    expected = (p.log_masses(0).exp() * torch.arange(17)).sum(1)
    assert torch.allclose(p.mean[:, 0], expected, rtol=0, atol=1e-11)


def test_gradients_are_finite_where_the_data_are_impossible():
    model = make(Space((3, 1, 1), 256), mixtures=1)
    parameters = torch.zeros(1, 10, 1, 1)
    parameters[:, 1:4], parameters[:, 4:7] = 30.0, -30.0  # sure of something far outside
    parameters.requires_grad_()
    x = torch.tensor([0, 128, 255]).view(1, 3, 1, 1)
    log_prob = model.mixture(parameters, x).log_prob(x).sum()
    (gradient,) = torch.autograd.grad(log_prob, parameters)
    assert bool(torch.isfinite(log_prob)) and bool(torch.isfinite(gradient).all())
    assert bool((gradient[0, 1:3, 0, 0] < 0).all()), "it is told to come back, however far away it is"


# The model


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_it_sums_to_one_and_sees_every_earlier_pixel_and_no_other(space, scales):
    model = make(space, scales=scales)
    assert_normalized(model)
    assert_autoregressive(model)
    assert_full_context(model)


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("space", [Space((1, 4, 4), 2), Space((3, 3, 5), 17)], ids=str)
def test_every_parameter_learns(space, scales):
    model = make(space, scales=scales, blocks=2)
    assert_every_parameter_learns(model, torch.randint(space.levels, (32, *space.shape)))


@pytest.mark.parametrize("scales", SCALES)  # the first keeps its activations, the second cannot
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_samples_follow_the_probabilities(space, scales):
    model = make(space, scales=scales)
    samples = model.sample(10_000 if scales == 1 else 5_000, generator=seeded())
    assert_sampler_matches(samples, model.log_prob(every_example(space)), space)


def test_there_is_no_blind_spot_on_an_image_of_the_size_of_the_digits():
    model = make(Space((1, 8, 8), 2), blocks=2)  # two convolutions a block, up and down: eight rows
    assert_full_context(model)
    assert_autoregressive(model)


def test_strides_let_it_see_further_with_as_many_blocks():
    space = Space((1, 2, 32), 2)
    near, far = ((influence(make(space, scales=s), images=2)[-1, 32:] != 0).sum() for s in (1, 3))
    assert far > near


@pytest.mark.parametrize("space", [*SPACES, Space((1, 8, 8), 17), Space((3, 4, 3), 256)], ids=str)
def test_kept_activations_give_the_same_images(space):
    model = make(space)
    assert model.start_cache(1) is not None
    assert_cached_equals_naive(model, n=8)


def test_with_strides_it_draws_one_pass_a_pixel():
    model = make(SPACES[0], scales=2)
    assert model.start_cache(1) is None
    assert_cached_equals_naive(model)


def test_the_network_runs_once_for_all_colours_of_a_pixel(monkeypatch):
    model, runs = make(Space((3, 2, 3), 4)), []
    horizontal = model.horizontal
    monkeypatch.setattr(model, "horizontal", lambda *arguments: runs.append(1) or horizontal(*arguments))
    model.sample(2)
    assert len(runs) == 6


def test_known_pixels_are_kept_and_the_rest_is_the_same_cached_or_not():
    space = Space((3, 3, 4), 8)
    model = make(space)
    given, mask = torch.randint(8, (8, *space.shape)), torch.rand(1, *space.shape) < 0.5
    fast, slow = (model.sample(8, generator=seeded(), given=given, mask=mask, cached=c) for c in (True, False))
    assert torch.equal(fast, slow)
    assert torch.equal(fast[mask.expand_as(fast)], given[mask.expand_as(given)])
    assert not torch.equal(fast, given)


def test_dropout_is_for_training():
    model = make(SPACES[0])
    x = torch.randint(2, (4, 1, 3, 3))
    assert torch.equal(model.log_prob(x), model.log_prob(x))
    assert not torch.equal(model.train().log_prob(x), model.log_prob(x))


def test_concat_elu_has_no_side_without_a_gradient():
    x = torch.linspace(-3, 3, 8).view(1, 8, 1, 1).requires_grad_()
    y = concat_elu(x)
    assert y.shape == (1, 16, 1, 1)
    (gradient,) = torch.autograd.grad(y[:, :8].sum() - y[:, 8:].sum(), x)
    assert bool((gradient > 1).all())  # one of the two slopes is 1, the other exp(-|x|)


def test_under_autocast_the_mixture_is_still_computed_in_32_bits():
    space = Space((3, 3, 3), 256)
    model, x = make(space), torch.randint(256, (8, 3, 3, 3))
    exact = model.log_prob(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model.log_prob(x)
    assert rough.dtype == torch.float32
    assert torch.allclose(rough, exact, rtol=0.01, atol=0)  # bfloat16 keeps 8 bits: parameters are off by some 0.4 %


def test_a_scale_has_a_floor_where_its_gradient_is_still_a_number():
    torch.manual_seed(0)
    model, x = PixelCNNPP(Space((1, 3, 3), 256), channels=4, blocks=1, mixtures=2), torch.randint(256, (4, 1, 3, 3))
    with torch.no_grad():
        model.last.bias[4:] = -200.0  # two logits, two means, two log-scales
    assert model.conditionals(x).log_scale.min().item() == pytest.approx(-7 - math.log(2), abs=1e-5)
    log_prob = model.log_prob(x)
    assert torch.isfinite(log_prob).all()
    log_prob.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
