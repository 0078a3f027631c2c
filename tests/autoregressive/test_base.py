"""The chain rule read in both directions: what `Autoregressive` promises for every model of the family."""

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Categorical, Independent, Normal

from gencourse.autoregressive.base import Autoregressive, inverse_cdf, log_masses_of, log_prob_of, logits_of
from gencourse.checks import assert_sampler_matches, every_example
from gencourse.space import Space

GREY, COLOUR = Space((1, 2, 3), 3), Space((2, 2, 2), 2)


class Chain(Autoregressive):
    """Each conditional is a softmax of a random linear function of the earlier pixels, and nothing is clever."""

    def __init__(self, space, *, seed=0):
        super().__init__(space)
        position = self.order.argsort()
        self.register_buffer("before", (position[:, None] > position[None]).float())
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(space.dim, self.levels, space.dim, generator=generator))
        self.inner = nn.Dropout(0.5)
        self.seen = []

    def conditionals(self, x, context=None):
        self._unconditional(context)
        self.seen.append(x.clone())
        self.modes = (self.training, self.inner.training)
        logits = torch.einsum("ilj,bj->bil", self.weight * self.before[:, None], x.flatten(1).to(self.weight.dtype))
        return Categorical(logits=logits.view(-1, *self.space.shape, self.levels), validate_args=False)


class Kept:
    """A cache that writes down what it is asked."""

    def __init__(self, model):
        self.model, self.asked = model, []

    def logits(self, x, i):
        self.asked.append((i, x.clone()))
        return logits_of(self.model.conditionals(x), i)


class Remembering(Chain):
    def start_cache(self, n, context=None):
        self.cache = Kept(self)
        return self.cache


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_order_is_row_by_row_and_within_a_pixel_channel_by_channel():
    space = Space((3, 2, 2), 2)
    places = [(i // 4, i % 4 // 2, i % 2) for i in Chain(space).order.tolist()]  # (channel, row, column)
    assert places == [(c, row, column) for row in range(2) for column in range(2) for c in range(3)]


@pytest.mark.parametrize("space", [GREY, COLOUR], ids=str)
def test_log_prob_is_the_sum_of_the_conditionals_and_the_probabilities_sum_to_one(space):
    model = Chain(space).double()
    x = every_example(space)
    total = sum(log_masses_of(model.conditionals(x), i)[range(len(x)), x.flatten(1)[:, i]] for i in range(space.dim))
    assert torch.allclose(model.log_prob(x), total, rtol=0, atol=1e-12)
    assert total.exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("cls", [Chain, Remembering])
@pytest.mark.parametrize("space", [GREY, COLOUR], ids=str)
def test_samples_follow_the_likelihood(cls, space):
    model = cls(space)
    assert_sampler_matches(model.sample(40_000, generator=seeded()), model.log_prob(every_example(space)), space)


def test_the_three_kinds_of_conditionals_say_the_same():
    logits = torch.randn(4, 1, 2, 2, dtype=torch.float64)
    x = torch.randint(2, (4, 1, 2, 2))
    two = Bernoulli(logits=logits)
    many = Categorical(logits=torch.stack([torch.zeros_like(logits), logits], -1))

    class Own(Independent):
        def __init__(self):
            super().__init__(Normal(logits, 1.0), 0)

        def log_masses(self, i):
            return log_masses_of(many, i)

    assert torch.allclose(log_prob_of(two, x), log_prob_of(many, x), rtol=0, atol=1e-12)
    for i in range(4):
        assert torch.allclose(log_masses_of(two, i), log_masses_of(many, i), rtol=0, atol=1e-12)
        torch.testing.assert_close(log_masses_of(Own(), i), log_masses_of(many, i))


def test_log_masses_are_finite_where_probabilities_underflow():
    masses = log_masses_of(Bernoulli(logits=torch.tensor([[-200.0, 200.0]])), 0)
    assert masses.flatten().tolist() == pytest.approx([0.0, -200.0])


def test_inverse_cdf_is_exact_at_the_boundaries():
    masses = torch.tensor([[0.25, 0.25, 0.5]]).log()
    below = float(torch.nextafter(torch.tensor(0.25), torch.tensor(0.0)))
    for u, level in [(0.0, 0), (below, 0), (0.25, 1), (0.4999, 1), (0.5, 2), (0.99999994, 2)]:
        assert inverse_cdf(masses, torch.tensor([[u]])).item() == level


def test_inverse_cdf_never_draws_a_level_without_probability():
    masses = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).log().expand(5, 5)
    u = torch.tensor([0.0, 0.49999997, 0.5, 0.75, 0.99999994])
    assert inverse_cdf(masses, u[:, None]).flatten().tolist() == [1, 1, 3, 3, 3]


def test_inverse_cdf_needs_no_normalised_masses():
    u = torch.rand(1000, 1, generator=seeded())
    masses = torch.randn(1000, 4, generator=seeded(1)).log_softmax(-1)
    assert torch.equal(inverse_cdf(masses, u), inverse_cdf(masses + 3.0, u))


def test_inverse_cdf_adds_ten_thousand_levels_without_going_astray():
    levels = torch.arange(10_000)
    u = (levels.double() + 1e-4) / 10_000  # above the lower edge of each level by less than a float32 could tell
    assert torch.equal(inverse_cdf(torch.zeros(1, 10_000).expand(10_000, -1), u[:, None]).flatten(), levels)


def test_one_logit_draws_what_the_two_masses_draw():
    logits = torch.linspace(-8, 8, 100_001, dtype=torch.float64).unsqueeze(1)
    u = torch.rand(100_001, 1, generator=seeded(), dtype=torch.float64)
    masses = torch.cat([torch.zeros_like(logits), logits], 1).log_softmax(1)
    assert torch.equal(inverse_cdf(logits, u).long(), inverse_cdf(masses, u))
    edges = torch.tensor([[0.0], [0.25], [0.5], [0.75]])  # p(0) = 1/2: the lower half of u is level 0
    assert inverse_cdf(torch.zeros(4, 1), edges).flatten().tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_pixel_that_is_nan_is_not_passed_over_wherever_it_stands(level):
    class Broken(Kept):
        def logits(self, x, i):
            logits = super().logits(x, i).clone()
            if i == 1:
                logits[-1, level] = torch.nan  # of one image, and one of its first pixels
            return logits

    model = Chain(GREY)
    model.start_cache = lambda n, context=None: Broken(model)
    with pytest.raises(FloatingPointError, match="NaN"):
        model.sample(3)


def test_what_is_drawn_inside_can_be_trained_on():
    """Not so with what torch makes in inference mode."""
    x = Chain(GREY).sample(3)
    assert not x.is_inference()
    (x * torch.ones(1, requires_grad=True)).sum().backward()


def test_no_images_are_an_empty_batch():
    for model in (Chain(GREY), Remembering(GREY)):
        x = model.sample(0)
        assert x.shape == (0, 1, 2, 3)
        assert x.dtype == torch.long


def test_random_numbers_come_from_the_generator_alone_one_for_each_pixel():
    model = Chain(GREY)
    state = torch.get_rng_state()
    one, again, other = (model.sample(20, generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    used, counted = seeded(1), seeded(1)
    model.sample(20, generator=used)
    torch.rand(20, GREY.dim, generator=counted)
    assert torch.equal(used.get_state(), counted.get_state())


def test_sampling_is_in_evaluation_mode_without_gradient_and_restores_every_mode():
    model = Chain(GREY).train()
    model.inner.eval()
    assert not model.sample(2).requires_grad
    assert model.modes == (False, False)
    assert (model.training, model.inner.training) == (True, False)


def test_cached_draws_the_same_images_as_one_pass_a_pixel():
    fast, slow = (Remembering(COLOUR).sample(50, generator=seeded(3), cached=cached) for cached in (True, False))
    assert torch.equal(fast, slow)


def test_a_cache_is_asked_once_a_pixel_in_order_with_the_earlier_pixels_final_and_the_later_zero():
    model = Remembering(COLOUR)
    given, mask = torch.ones(1, *COLOUR.shape, dtype=torch.long), torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    mask[..., 0, 1] = True
    x = model.sample(3, given=given, mask=mask, generator=seeded()).flatten(1)
    order = model.order.tolist()
    assert [i for i, _ in model.cache.asked] == order  # known pixels too
    for position, (_, seen) in enumerate(model.cache.asked):
        assert torch.equal(seen.flatten(1)[:, order[:position]], x[:, order[:position]])
        assert (seen.flatten(1)[:, order[position:]] == 0).all()


def test_one_pass_a_pixel_makes_no_pass_for_known_pixels():
    model = Chain(GREY)
    mask = torch.tensor([True, True, False, False, True, False]).view(GREY.shape)
    model.sample(2, given=torch.zeros(1, *GREY.shape, dtype=torch.long), mask=mask, cached=False)
    assert len(model.seen) == 3


@pytest.mark.parametrize("cls", [Chain, Remembering])
def test_completions_follow_the_conditional_given_the_first_pixels(cls):
    model = cls(GREY)
    given = torch.tensor([2, 0, 1, 0, 0, 0]).view(1, *GREY.shape)
    mask = torch.arange(6).view(GREY.shape) < 3
    x = model.sample(20_000, given=given, mask=mask, generator=seeded())
    assert (x[:, 0, 0] == torch.tensor([2, 0, 1])).all()
    images = every_example(GREY)
    agree = (images[:, 0, 0] == torch.tensor([2, 0, 1])).all(1)
    log_p = model.log_prob(images).masked_fill(~agree, -torch.inf)
    assert_sampler_matches(x, log_p - log_p.logsumexp(0), GREY)


@pytest.mark.parametrize("mask_shape", [(4, 2, 2, 2), (1, 2, 2, 2), (2, 2, 2), (1, 2, 2), (2, 2), (4, 1, 1, 1)])
@pytest.mark.parametrize("given_shape", [(4, 2, 2, 2), (1, 2, 2, 2)])
def test_masks_and_given_images_broadcast(mask_shape, given_shape):
    model = Chain(COLOUR)
    given = torch.randint(2, given_shape, generator=seeded(1))
    mask = torch.rand(mask_shape, generator=seeded(2)) < 0.5
    x = model.sample(4, given=given, mask=mask, generator=seeded(3))
    free = model.sample(4, generator=seeded(3))
    full = mask.expand(4, *COLOUR.shape)
    assert torch.equal(x[full], given.expand_as(x)[full])
    nothing = model.sample(4, given=given, mask=torch.zeros_like(mask), generator=seeded(3))
    assert torch.equal(nothing, free)
    everything = model.sample(4, given=given, mask=torch.ones_like(mask), generator=seeded(3))
    assert torch.equal(everything, given.expand_as(x))


def ones(*shape):
    return torch.ones(shape, dtype=torch.long)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda m: Chain(Space((3,))), ValueError, "grey levels"),
        (lambda m: m.sample(2, given=ones(1, 1, 2, 3)), ValueError, "both `given` and `mask`"),
        (lambda m: m.sample(2, mask=ones(1, 1, 2, 3)), ValueError, "both `given` and `mask`"),
        (lambda m: m.sample(2, given=ones(3, 1, 2, 3), mask=ones(2, 3)), ValueError, "(3, 1, 2, 3)"),
        (lambda m: m.sample(2, given=ones(1, 1, 2, 3), mask=ones(5)), ValueError, "(5,)"),
        (lambda m: m.sample(2, given=ones(1, 2, 3), mask=ones(2, 3)), ValueError, "(1, 2, 3)"),
        (lambda m: m.sample(2, given=3 * ones(1, 1, 2, 3), mask=ones(2, 3)), ValueError, "0..2"),
        (lambda m: m.sample(2, given=torch.ones(1, 1, 2, 3), mask=ones(2, 3)), TypeError, "float32"),
        (lambda m: m.sample(-1), ValueError, "-1"),
        (lambda m: m.sample(2, ones(2)), ValueError, "unconditional"),
    ],
)
def test_a_bad_input_is_named_in_one_sentence(call, error, says):
    with pytest.raises(error) as caught:
        call(Chain(GREY))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
