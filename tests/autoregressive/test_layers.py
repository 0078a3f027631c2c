"""Causal convolutions: the masks entry by entry, and a layer at one place against the layer on whole maps."""

import pytest
import torch
import torch.nn.functional as F

from gencourse.autoregressive.cache import Memory
from gencourse.autoregressive.layers import (
    CausalConv2d,
    MaskedConv2d,
    centred,
    colour_mask,
    gate,
    pixels,
    require_images,
    shift_down,
)
from gencourse.space import Space

WINDOWS = [(0, 0, 0), (1, 1, 1), (0, 2, 0), (3, 0, 1), (2, 1, 0), (2, 3, 3)]


def maps(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("mask", "centre"), [("A", 0), ("B", 1)])
def test_a_grey_mask_shows_the_rows_above_and_the_left(mask, centre):
    layer = MaskedConv2d(1, 1, 5, mask)
    expected = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, centre, 0, 0]])
    assert torch.equal(layer.mask[0, 0], expected.float())


def test_a_pixels_colours_see_the_earlier_ones_and_with_mask_b_their_own():
    assert colour_mask("A", 3, 3, 3).tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert colour_mask("B", 3, 3, 3).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert colour_mask("B", 4, 6, 2).tolist() == [[1, 1, 0, 0]] * 3 + [[1, 1, 1, 1]] * 3
    halves = colour_mask("B", 4, 8, 2, parts=2).chunk(2)
    assert torch.equal(halves[0], halves[1]), "the two halves of a gate belong to the same colours"


@pytest.mark.parametrize("features", [3, 4, 5, 7, 32])
def test_every_colour_gets_feature_maps_and_their_numbers_differ_by_one_at_most(features):
    seen = colour_mask("B", 3, features, 3).sum(1)  # colour c sees c + 1 of the inputs
    counts = torch.bincount(seen.long(), minlength=4)[1:]
    assert counts.min() >= 1 and counts.max() - counts.min() <= 1


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_the_hidden_rows_that_are_left_out_change_nothing(kernel):
    layer = MaskedConv2d(3, 4, kernel, "B", colours=3).double()
    below = torch.zeros(4, 3, kernel // 2, kernel, dtype=torch.float64)
    full = torch.cat([layer.visible_weight(), below], 2)  # (4, 3, kernel, kernel)
    x = maps(2, 3, 5, 6)
    assert torch.allclose(layer(x), F.conv2d(x, full, layer.bias, padding=kernel // 2), rtol=0, atol=1e-13)


def test_masks_are_multiplied_at_use_and_never_written_into_the_weights():
    layer = MaskedConv2d(2, 4, 3, "A", colours=2)
    before = layer.weight.clone()
    layer(torch.randn(1, 2, 4, 4)).sum().backward()
    assert torch.equal(layer.weight, before) and bool((before != 0).all())
    assert torch.equal(layer.weight.grad != 0, layer.mask != 0)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert layer.double().mask.dtype == torch.float64


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("mask", [None, "A", "B"])
def test_a_layer_remembered_pixel_by_pixel_is_the_layer_on_whole_maps(window, mask):
    layer = CausalConv2d(3, 4, window, mask=mask, colours=3).double()
    x = maps(2, 3, 4, 5)
    whole = layer(x)
    memory = Memory(2, 5)
    for row in range(4):
        memory.next_row()
        if mask is None and window[2]:  # it sees to the right in its own row, so the row must be there: all at once
            found = memory(layer, x[:, :, row : row + 1])
        else:
            places = []
            for memory.column in range(5):
                places.append(memory(layer, x[:, :, row : row + 1, memory.column : memory.column + 1]))
            found = torch.cat(places, 3)
        assert torch.allclose(found, whole[:, :, row : row + 1], rtol=0, atol=1e-13)


def test_a_memory_holds_the_rows_of_the_window_however_high_the_image():
    layer, memory = CausalConv2d(2, 2, (2, 1, 1)), Memory(3, 7)
    for _ in range(20):
        memory.next_row()
        memory(layer, torch.randn(3, 2, 1, 7))
    rows, weight = memory.kept[layer]
    assert rows.shape == (3, 3, 1 + 7 + 1, 2) and weight.shape == (2, 3 * 3 * 2)


def test_shifted_down_a_pixel_holds_what_was_above_it():
    x = torch.arange(1.0, 7).view(1, 1, 2, 3)
    assert shift_down(x)[0, 0].tolist() == [[0, 0, 0], [1, 2, 3]]


def test_the_gate_is_tanh_of_one_half_times_sigmoid_of_the_other():
    x = maps(2, 6, 3, 3)
    torch.testing.assert_close(gate(x), torch.tanh(x[:, :3]) * torch.sigmoid(x[:, 3:]))


def test_grey_levels_are_scaled_to_minus_one_and_one():
    like = torch.zeros(0, dtype=torch.float64)
    assert centred(torch.tensor([0, 1, 2, 3, 4]), Space((1, 1, 1), 5), like).tolist() == pytest.approx([-1, -0.5, 0, 0.5, 1])


def test_pixels_reads_the_levels_of_each_colour_from_maps_that_lie_together():
    space = Space((2, 3, 4), 5)
    logits = maps(6, 10, 3, 4)
    p = pixels(logits, space)
    assert p.batch_shape == (6, 2, 3, 4)
    assert torch.allclose(p.probs[1, 1, 2, 3], logits[1, 5:, 2, 3].softmax(0))


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match=r"odd.*not 4"):
        MaskedConv2d(1, 1, 4, "A")
    with pytest.raises(ValueError, match=r"PixelCNN needs images.*Space\(\(9,\)"):
        require_images(Space((9,), 2), "PixelCNN")
    with pytest.raises(ValueError, match="PixelCNN: channels must be at least 3"):
        require_images(Space((3, 3, 3), 2), "PixelCNN", 2)
    with pytest.raises(ValueError, match="channels must be at least 3, a feature map for each colour"):
        require_images(Space((3, 3, 3), 2), "PixelCNN", channels=2)
