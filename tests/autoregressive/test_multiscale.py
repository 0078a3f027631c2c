"""Multi-scale PixelCNN: the chain rule from coarse to fine, exact in its own order."""

import pytest
import torch

from gencourse.autoregressive.gated_pixelcnn import GatedPixelCNN
from gencourse.autoregressive.multiscale import MultiScale, Surroundings
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
from gencourse.space import Space

CASES = [(Space((1, 3, 3), 2), 1), (Space((1, 3, 3), 2), 2), (Space((3, 2, 2), 2), 1)]


def make(space, scales=1, seed=0, **options):
    torch.manual_seed(seed)
    model = MultiScale(space, scales=scales, **{"blocks": 2, "channels": 12, "kernel": 3, **options}).eval()
    with torch.no_grad():  # far enough from uniform for a test to notice
        for name, parameter in model.named_parameters():
            if name.endswith("last.weight"):
                parameter *= 6
    return model


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_order_is_the_small_image_first_then_the_rest_row_by_row():
    assert make(Space((1, 3, 3), 2)).order.tolist() == [0, 2, 6, 8, 1, 3, 4, 5, 7]
    assert make(Space((1, 3, 3), 2), scales=2).order.tolist() == [0, 2, 6, 8, 1, 3, 4, 5, 7]
    in_colour = make(Space((2, 2, 2), 2)).order.tolist()  # red has the indices 0 to 3, green 4 to 7
    assert in_colour == [0, 4, 1, 5, 2, 6, 3, 7]
    coarse_to_fine = make(Space((1, 5, 5), 2), scales=2).order.tolist()
    assert coarse_to_fine[:4] == [0, 4, 20, 24] and coarse_to_fine[4:9] == [2, 10, 12, 14, 22]


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 5, 4), (3, 4, 7), (2, 8, 8)])
@pytest.mark.parametrize("scales", [1, 2])
def test_every_pixel_comes_once(shape, scales):
    if scales == 2 and min(shape[1:]) == 2:
        with pytest.raises(ValueError, match="2 x 2 pixels cannot be halved 2 times"):
            make(Space(shape, 2), scales=scales)
    else:
        order = make(Space(shape, 2), scales=scales).order
        assert torch.equal(order.sort().values, torch.arange(len(order)))


@pytest.mark.parametrize(("space", "scales"), CASES, ids=str)
def test_it_sums_to_one_and_sees_every_earlier_pixel_and_no_other(space, scales):
    model = make(space, scales)
    assert_normalized(model)
    assert_autoregressive(model)
    assert_full_context(model)


@pytest.mark.parametrize("scales", [1, 2])
def test_every_parameter_learns(scales):
    space = Space((2, 5, 6), 4)
    assert_every_parameter_learns(make(space, scales), torch.randint(4, (32, *space.shape)))


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("space", [Space((1, 3, 3), 2), Space((3, 2, 2), 2)], ids=str)
def test_samples_follow_the_probabilities(space, cached):
    model = make(space)
    samples = model.sample(8_000, generator=seeded(), cached=cached)
    assert_sampler_matches(samples, model.log_prob(every_example(space)), space)


def test_the_probability_is_that_of_the_small_image_times_that_of_the_rest_given_it():
    space = Space((1, 3, 4), 3)
    model = make(space).double()
    x = torch.randint(3, (16, 1, 3, 4))
    small = x[:, :, ::2, ::2]
    assert isinstance(model.small, GatedPixelCNN) and model.small.space == Space((1, 2, 2), 3)
    logits = model.stacks(x.double() - 1, model.surroundings(x))  # (16, 3, 3, 4)
    each = logits.log_softmax(1).gather(1, x)
    each[:, :, ::2, ::2] = 0
    assert torch.allclose(model.log_prob(x), model.small.log_prob(small) + each.sum((1, 2, 3)), rtol=0, atol=1e-12)


def test_a_pixel_beside_the_small_image_sees_what_is_far_below_it():
    space = Space((1, 5, 5), 2)
    model = make(space, blocks=3)
    order = model.order.tolist()
    seen = influence(model) != 0
    second_pixel, last_of_small = order.index(1), order.index(24)
    assert seen[second_pixel, last_of_small]  # rows 0 and 4: no PixelCNN of the whole image could


@pytest.mark.parametrize(("space", "scales"), [*CASES, (Space((1, 8, 8), 2), 2), (Space((3, 4, 5), 4), 1)], ids=str)
def test_kept_activations_give_the_same_images(space, scales):
    assert_cached_equals_naive(make(space, scales), n=8)


@pytest.mark.parametrize("where", ["anywhere", "the small image", "the rest"])
def test_known_pixels_are_kept_and_the_rest_is_the_same_cached_or_not(where):
    space = Space((3, 5, 4), 4)
    model = make(space)
    given, mask = torch.randint(4, (8, *space.shape)), torch.rand(1, *space.shape) < 0.5
    if where != "anywhere":
        mask[:] = where == "the rest"
        mask[:, :, ::2, ::2] = where == "the small image"
    fast, slow = (model.sample(8, generator=seeded(), given=given, mask=mask, cached=c) for c in (True, False))
    assert torch.equal(fast, slow)
    assert torch.equal(fast[mask.expand_as(fast)], given[mask.expand_as(given)])
    assert not torch.equal(fast, given)


def test_it_takes_no_labels():
    with pytest.raises(ValueError, match="MultiScale is unconditional"):
        make(Space((1, 3, 3), 2)).log_prob(torch.zeros(1, 1, 3, 3, dtype=torch.long), torch.tensor([0]))


def test_the_surroundings_layers_add_to_what_came_before():
    torch.manual_seed(0)
    surroundings, s = Surroundings(1, 4, 2), torch.randn(2, 2, 6, 6)
    for block in surroundings.blocks:
        torch.nn.init.zeros_(block.weight)
        torch.nn.init.zeros_(block.bias)
    assert torch.equal(surroundings(s), surroundings.first(s))
