"""PixelCNN: exact, without leaks, blind exactly where the paper's masks make it blind, and the same when cached."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gencourse.autoregressive.pixelcnn import PixelCNN
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

SPACES = [Space((1, 3, 3), 2), Space((3, 2, 2), 2), Space((2, 1, 2), 4)]


def make(space, seed=0, **options):
    torch.manual_seed(seed)
    model = PixelCNN(space, **{"blocks": 2, "channels": 12, **options}).eval()
    with torch.no_grad():  # far enough from uniform for a test to notice
        model.last.weight *= 6
    return model


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_it_sums_to_one_and_sees_every_earlier_pixel_and_no_other(space):
    model = make(space)  # on so small an image the first layer alone sees everything
    assert_normalized(model)
    assert_autoregressive(model)
    assert_full_context(model)
    assert_every_parameter_learns(model, torch.randint(space.levels, (16, *space.shape)))


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_samples_follow_the_probabilities(space, cached):
    model = make(space)
    samples = model.sample(10_000, generator=seeded(), cached=cached)
    assert_sampler_matches(samples, model.log_prob(every_example(space)), space)


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_its_blind_spot_is_what_lies_further_right_than_the_masks_climb(kernel):
    size, half = 7, kernel // 2
    seen = influence(make(Space((1, size, size), 2), kernel=kernel, blocks=7)) != 0
    row, column = torch.arange(size * size) // size, torch.arange(size * size) % size
    up, right = row[:, None] - row, column - column[:, None]  # from the pixel (rows) to the one it may see (columns)
    # The first layer climbs at least one row to go `half` to the right, and every 3x3 layer one row for one column.
    expected = ((up == 0) & (right < 0)) | ((up > 0) & (right <= half + up - 1))
    assert torch.equal(seen, expected)


def test_on_the_smallest_image_the_smallest_kernel_is_blind_to_two_pixels():
    blind = (influence(make(Space((1, 3, 3), 2), kernel=3)) == 0).tril(-1)
    assert blind.nonzero().tolist() == [[3, 2], [6, 5]]  # the first of a row does not see the last of the row before


def test_the_reach_is_the_kernels_and_a_pixel_for_each_block():
    seen = influence(make(Space((1, 1, 9), 2), kernel=5, blocks=2))[-1] != 0
    assert seen.tolist() == [False] * 4 + [True] * 4 + [False]


@pytest.mark.parametrize("space", [Space((1, 3, 3), 2), Space((2, 2, 3), 2), Space((1, 8, 8), 2), Space((3, 4, 2), 8)], ids=str)
def test_kept_activations_give_the_same_images(space):
    assert_cached_equals_naive(make(space), n=8)


def test_known_pixels_are_kept_and_the_rest_is_the_same_cached_or_not():
    space = Space((3, 4, 4), 4)
    model = make(space)
    given, mask = torch.randint(4, (8, *space.shape)), torch.rand(1, *space.shape) < 0.5
    fast, slow = (model.sample(8, generator=seeded(), given=given, mask=mask, cached=c) for c in (True, False))
    assert torch.equal(fast, slow)
    assert torch.equal(fast[mask.expand_as(fast)], given[mask.expand_as(given)])
    assert not torch.equal(fast, given)


def test_one_pass_a_pixel_without_memory_and_none_with_it(monkeypatch):
    model, passes = make(Space((1, 4, 4), 2)), []
    conditionals = model.conditionals
    monkeypatch.setattr(model, "conditionals", lambda *arguments: passes.append(1) or conditionals(*arguments))
    model.sample(2, cached=False)
    assert len(passes) == 16
    model.sample(2)
    assert len(passes) == 16


def test_with_memory_the_work_for_a_pixel_does_not_grow_with_the_image():
    def products(size):
        model = make(Space((1, size, size), 2))
        with FlopCounterMode(display=False) as counter:
            model.sample(2)
        return counter.get_total_flops() / size**2

    assert products(4) == products(8)


def test_on_more_levels_it_is_a_softmax():
    model = make(Space((1, 2, 2), 5)).double()
    x = torch.randint(5, (6, 1, 2, 2))
    logits = model.network(x.double() / 2 - 1)  # (6, 5, 2, 2)
    expected = logits.log_softmax(1).gather(1, x).sum((1, 2, 3))
    assert torch.allclose(model.log_prob(x), expected, rtol=0, atol=1e-13)


def test_dropout_is_for_training():
    model = make(Space((1, 3, 3), 2), dropout=0.5)
    x = torch.randint(2, (4, 1, 3, 3))
    assert torch.equal(model.log_prob(x), model.log_prob(x))
    assert not torch.equal(model.train().log_prob(x), model.log_prob(x))


def test_it_takes_no_labels():
    with pytest.raises(ValueError, match="PixelCNN is unconditional"):
        make(SPACES[0]).sample(2, torch.tensor([0, 1]))


def test_dropout_reaches_the_last_layer_s_inputs():
    torch.manual_seed(0)
    model, seen = PixelCNN(Space((1, 8, 8), 2), blocks=1, channels=8, dropout=0.9).train(), []
    for block in model.blocks:
        block.dropout.p = 0.0
    model.last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.randint(2, (16, 1, 8, 8))
    model.conditionals(x)
    model.eval().conditionals(x)
    hidden, whole = (float((h == 0).double().mean()) for h in seen)
    assert hidden > 0.88
    assert whole < 0.8
