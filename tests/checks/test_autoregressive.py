"""The checks of the autoregressive models: each usual mistake is caught, and named where it is."""

import pytest
import torch
from torch.distributions import Bernoulli

from gencourse.autoregressive.base import Autoregressive
from gencourse.autoregressive.fvbn import FVBN
from gencourse.autoregressive.made import MADE
from gencourse.autoregressive.nade import NADE
from gencourse.checks import assert_autoregressive, assert_cached_equals_naive, assert_full_context, changes, influence
from gencourse.space import Space

GREY, COLOUR = Space((1, 3, 3), 2), Space((3, 2, 2), 2)


def fvbn(space):
    torch.manual_seed(0)
    model = FVBN(space)
    torch.nn.init.normal_(model.W)
    return model


@pytest.mark.parametrize("space", [GREY, COLOUR], ids=str)
def test_a_right_model_passes_and_is_not_changed(space):
    model = fvbn(space).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert_autoregressive(model)
    assert_full_context(model)
    assert_cached_equals_naive(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.W.dtype == torch.float32
    assert model.training


def test_influence_is_the_largest_gradient_in_the_model_s_order():
    """Of a logistic regression: |W_ij| times the weight of the derivative, so zero exactly where j is not before i."""
    model = fvbn(COLOUR)
    with torch.no_grad():
        model.W[5, :, 3] = 0  # red of the last pixel does not matter to green of the second
    found = influence(model)
    expected = torch.ones(12, 12).tril(-1) != 0
    order = model.order.tolist()
    assert order.index(3) > order.index(5)  # the removed weight was not in use
    assert torch.equal(found != 0, expected)
    assert found.dtype == torch.float64


def test_a_mask_off_by_one_leaks_and_the_pixel_is_named():
    model = fvbn(GREY)
    position = model.order.argsort()
    model.before = position[:, None] >= position[None]
    with pytest.raises(AssertionError) as caught:
        assert_autoregressive(model)
    assert str(caught.value) == (
        "FVBN leaks: the conditional of pixel (row 0, column 0, channel 0) depends on pixel (row 0, column 0, channel 0), "
        "which is not before it (9 such pairs)."
    )


def test_a_colour_that_leaks_is_named():
    model = fvbn(COLOUR)
    model.before[0, 4] = True  # red of the first pixel sees its green
    with pytest.raises(
        AssertionError, match=r"\(row 0, column 0, channel 0\) depends on pixel \(row 0, column 0, channel 1\).*\(1 "
    ):
        assert_autoregressive(model)


def test_a_leak_of_one_last_weight_is_not_too_small_to_see():
    model = fvbn(GREY)
    model.before[7, 8] = True
    with torch.no_grad():
        model.W[7, :, 8] = 1e-30
    with pytest.raises(AssertionError, match="row 2, column 1"):
        assert_autoregressive(model)


def test_an_order_that_is_not_the_mask_s_leaks():
    model = MADE(GREY, hidden=(30,), masks=2)

    class Misled(MADE):
        order = FVBN.order

    model.__class__ = Misled
    assert_autoregressive(model)
    with model.using(1), pytest.raises(AssertionError, match="Misled leaks"):
        assert_autoregressive(model)


def test_a_blind_model_is_caught_and_the_pixel_named():
    model = fvbn(GREY)
    model.before[4, 2] = False
    with pytest.raises(AssertionError) as caught:
        assert_full_context(model)
    assert str(caught.value) == (
        "FVBN is blind: the conditional of pixel (row 1, column 1, channel 0) does not see pixel (row 0, column 2, channel 0), "
        "which is before it (1 such pairs)."
    )
    assert_autoregressive(model)


def test_a_model_of_independent_pixels_is_blind_to_everything():
    model = fvbn(COLOUR)
    model.before.zero_()
    assert_autoregressive(model)
    with pytest.raises(AssertionError, match="66 such pairs"):
        assert_full_context(model)


class Table(Autoregressive):
    """Conditionals from a look-up, which has no gradient: each pixel's logit is taken from a table at some other pixels."""

    def __init__(self, space, sees):
        super().__init__(space)
        self.sees = sees  # (D, D) bool: row i, the pixels that conditional i looks at
        self.weight = torch.nn.Embedding(2, space.dim)

    def conditionals(self, x, context=None):
        values = self.weight((x.flatten(1) > 0.5).long())  # (B, D, D)
        return Bernoulli(logits=(values * self.sees.T).sum(1).view(-1, *self.space.shape), validate_args=False)


class Threshold(FVBN):
    """Sees whether a pixel is bright, through a comparison."""

    def unit(self, x):
        return (super().unit(x) > 0.5).to(self.W.dtype)


def test_a_leak_through_a_table_or_a_threshold_is_found_where_there_is_no_gradient():
    torch.manual_seed(0)
    past = torch.ones(9, 9).tril(-1).bool()
    assert_autoregressive(Table(GREY, past))
    assert_full_context(Table(GREY, past))
    for i, j in ((0, 0), (3, 7)):
        leaky = past.clone()
        leaky[i, j] = True
        with pytest.raises(AssertionError, match=r"leaks.* \(1 such pairs\)"):
            assert_autoregressive(Table(GREY, leaky))
    forgetful = past.clone()
    forgetful[8, 2] = False
    with pytest.raises(AssertionError, match=r"is blind.* \(1 such pairs\)"):
        assert_full_context(Table(GREY, forgetful))
    model = Threshold(Space((1, 2, 2), 5))
    torch.nn.init.normal_(model.W)
    assert_autoregressive(model)
    assert_full_context(model)
    model.before[0, 3] = True
    with pytest.raises(AssertionError, match="leaks"):
        assert_autoregressive(model)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.set_grad_enabled(False)])
def test_a_leak_is_found_whatever_the_grad_mode(mode):
    model = fvbn(GREY)
    expected = influence(model)
    with mode():
        assert torch.equal(influence(model), expected)
        assert_autoregressive(model)
        assert_full_context(model)
        model.before[2, 5] = True
        model.W.data[2, :, 5] = 1e-30  # too small for a change to show
        with pytest.raises(AssertionError, match="leaks"):
            assert_autoregressive(model)


def test_changes_are_where_the_influence_is():
    model = fvbn(COLOUR)
    assert torch.equal(changes(model), influence(model) != 0)


class Forgetful(NADE):
    """Its cache adds every pixel one turn late."""

    def start_cache(self, n, context=None):
        cache = super().start_cache(n, context)
        right, late = cache.logits, torch.zeros(n, *self.space.shape, dtype=torch.long)

        def logits(x, i):
            found = right(late.clone(), i)
            late.copy_(x)
            return found

        cache.logits = logits
        return cache


def test_a_wrong_cache_is_caught_and_counted():
    torch.manual_seed(0)
    model = Forgetful(GREY, hidden=8)
    torch.nn.init.normal_(model.W, std=3)
    torch.nn.init.normal_(model.V, std=3)
    with pytest.raises(AssertionError, match=r"Forgetful: \d+ of 30 images differ between cached and naive sampling"):
        assert_cached_equals_naive(model, n=30)


def test_influence_is_of_the_image_where_it_is_largest_whatever_its_sign():
    model, images = fvbn(Space((1, 2, 2), 3)).double(), 5
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(3, (images, 1, 2, 2), generator=generator)
    direction = torch.randn(3, generator=generator, dtype=torch.float64)

    def projected(x):
        return (model.conditionals(x).logits * direction).sum(-1).flatten()

    each = torch.stack([torch.autograd.functional.jacobian(projected, one[None].double()).flatten(1) for one in x])
    assert torch.allclose(influence(model, images=images, seed=3), each.abs().amax(0), rtol=0, atol=1e-12)
    assert (each.mean(0).abs() - each.abs().amax(0)).abs().max() > 1e-3, "the mean is another thing"
