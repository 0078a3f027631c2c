"""A receptive field shows seen, blind and later pixels for what they are; grids show what they were given, in order."""

import math

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from gencourse import viz
from gencourse.space import Space

SPACE = Space((1, 2, 3), levels=5)


def shown(figure):
    (image,) = figure.axes[0].images
    return np.asarray(image.get_array())


def cell(array, row, column):
    """The pixels of one image of a grid of 2 x 3 pixel images, one pixel apart behind a frame of one."""
    return array[1 + 3 * row : 3 + 3 * row, 1 + 4 * column : 4 + 4 * column]


def test_a_receptive_field_tells_seen_blind_later_and_the_pixel_itself_apart():
    later = math.nan
    field = torch.tensor([[1.0, 0.1, 0.0], [1e-9, later, later]])
    figure = viz.receptive_fields({"one": field, "two": field * 7}, (1, 1))
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    for axes in figure.axes:  # a factor changes nothing
        patches = axes.patches
        assert len(patches) == 6
        opacity = [patch.get_facecolor()[3] for patch in patches]
        # 1, a tenth (two of three decades left), and what is below all decades but not zero
        assert [opacity[i] for i in (0, 1, 3)] == pytest.approx([1, 0.15 + 0.85 * 2 / 3, 0.15])
        assert [bool(patch.get_hatch()) for patch in patches] == [False, False, True, False, False, False]
        assert patches[4].get_facecolor() == to_rgba("white")
        assert patches[5].get_facecolor() == to_rgba("#dddddd")
        assert [text.get_text() for text in axes.texts] == ["?"]


def test_receptive_fields_of_several_sizes_are_refused():
    with pytest.raises(ValueError, match="one size"):
        viz.receptive_fields({"a": torch.zeros(2, 2), "b": torch.zeros(3, 3)}, (0, 0))


def test_filters_are_the_largest_rows_each_on_its_own_scale_with_grey_for_zero():
    weights = torch.tensor([[0.0, 0, 0, 0, 0, 0.1], [4.0, -4, 0, 2, 0, 0], [0, 0, -1.0, 0, 0, 0]])
    array = shown(viz.filters(weights, SPACE, n=2, ncols=2))
    grey = 128 / 255  # the level nearest to the middle
    first = [[1, 0, grey], [191 / 255, grey, grey]]
    assert cell(array, 0, 0) == pytest.approx(np.array(first), abs=1e-6)
    assert cell(array, 0, 1) == pytest.approx(np.array([[grey, grey, 0], [grey, grey, grey]]), abs=1e-6)
    assert array.shape == (4, 9)  # the smallest row is left out
    with pytest.raises(ValueError, match="rows of 6 weights"):
        viz.filters(weights[:, :5], SPACE)


def test_each_row_of_samples_stands_above_the_row_of_its_means():
    samples = torch.arange(4).view(4, 1, 1, 1).expand(4, 1, 2, 3)
    array = shown(viz.samples_beside_means(samples, samples + 0.5, SPACE, ncols=2))
    order = [[0, 1], [0.5, 1.5], [2, 3], [2.5, 3.5]]
    for row, values in enumerate(order):
        for column, value in enumerate(values):
            assert cell(array, row, column) == pytest.approx(np.full((2, 3), value / 4))
    with pytest.raises(ValueError, match="4, 1, 2, 3"):
        viz.samples_beside_means(samples, samples[:3].double(), SPACE)


def test_completions_stand_below_the_images_they_complete():
    originals = torch.tensor([0, 4]).view(2, 1, 1, 1).expand(2, 1, 2, 3)
    array = shown(viz.completions(originals, [originals.clamp(1, 3), originals.clamp(2, 2)], SPACE))
    assert [[cell(array, r, c).mean() for c in range(2)] for r in range(3)] == [[0, 1], [0.25, 0.75], [0.5, 0.5]]
    with pytest.raises(ValueError, match="completions"):
        viz.completions(originals, [originals[:1]], SPACE)
