"""A grid shows exactly the pixels it was given, in reading order."""

import io

import matplotlib.image
import numpy as np
import pytest
import torch

from gencourse import viz
from gencourse.space import Space

SPACE = Space((1, 2, 3), levels=5)


def shown(figure):
    (image,) = figure.axes[0].images
    return np.asarray(image.get_array())


def numbered(n, space=SPACE):
    return torch.arange(n * space.dim).reshape(n, *space.shape) % space.levels


def test_grid_is_the_images_in_reading_order_with_grey_around_each():
    x = numbered(5)
    array = shown(viz.image_grid(x, SPACE, ncols=2))
    assert array.shape == (3 * 3 + 1, 2 * 4 + 1)
    ground = np.ones_like(array, dtype=bool)
    for i in range(5):
        top, left = 1 + 3 * (i // 2), 1 + 4 * (i % 2)
        np.testing.assert_allclose(array[top : top + 2, left : left + 3], x[i, 0] / 4)
        ground[top : top + 2, left : left + 3] = False
    grey = np.unique(array[ground])  # the gaps, the frame, and the place without an image
    assert len(grey) == 1 and 0.4 < grey[0] < 0.6, "strokes of black and of white must end where the image does"


def test_saved_picture_has_whole_squares_of_the_pixels_own_grey():
    x = torch.randint(0, 256, (6, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    space = Space((1, 4, 4), levels=256)
    figure = viz.image_grid(x, space, ncols=3, scale=7)
    pixels = matplotlib.image.imread(io.BytesIO(figure._repr_png_()))[..., 0] * 255
    expected = viz.mosaic(x, space, ncols=3).repeat(14, 0).repeat(14, 1) * 255  # two dots for each of the screen's
    assert pixels.shape == expected.shape
    inside = np.arange(expected.shape[0]) % 14 % 13 > 0, np.arange(expected.shape[1]) % 14 % 13 > 0
    pixels, expected = (a[np.ix_(*inside)] for a in (pixels, expected))  # older versions may miss a square's edge by a dot
    np.testing.assert_allclose(pixels, expected, atol=1.01)  # matplotlib maps to one of its 256 greys


def test_colour_images_keep_their_channels():
    space = Space((3, 2, 2), levels=256)
    x = torch.randint(0, 256, (1, 3, 2, 2), generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(shown(viz.image_grid(x, space))[1:-1, 1:-1], x[0].permute(1, 2, 0) / 255)


def test_reconstructions_stand_below_their_images():
    x, x_hat = numbered(3), numbered(3).flip(0) * 0.5
    array = shown(viz.reconstructions(x, x_hat, SPACE))
    np.testing.assert_allclose(array[1:3, 1:4], x[0, 0] / 4)
    np.testing.assert_allclose(array[4:6, 1:4], x_hat[0, 0] / 4)
    np.testing.assert_allclose(array[4:6, 9:12], x_hat[2, 0] / 4)


def test_manifold_has_z1_to_the_right_and_z2_up_at_the_priors_quantiles():
    space = Space((1, 1, 2), levels=2)
    n = 4

    def decode(z):  # left pixel: the prior's mass left of z1; right pixel: below z2
        return torch.special.ndtr(z).reshape(-1, 1, 1, 2)

    figure = viz.manifold_grid(decode, space, n=n)
    array = shown(figure)[1:, 1:]
    mass = (np.arange(n) + 0.5) / n
    for row in range(n):
        np.testing.assert_allclose(array[2 * row, 0::3], mass, atol=1e-6)
        np.testing.assert_allclose(array[2 * row, 1::3], mass[::-1][row], atol=1e-6)
    assert figure.axes[0].get_xticks().tolist() == [1.5 + 3 * i for i in range(n)]  # the middle of each image of two pixels
    assert figure.axes[0].get_yticks().tolist() == [1 + 2 * i for i in range(n)]


def test_manifold_over_a_box_is_evenly_spaced():
    seen = []
    viz.manifold_grid(lambda z: seen.append(z) or torch.zeros(len(z), 1, 1, 2), Space((1, 1, 2), levels=2), n=3, box=3.0)
    assert sorted(set(seen[0][:, 0].tolist())) == pytest.approx([-2.0, 0.0, 2.0])
    assert seen[0][0].tolist() == pytest.approx([-2.0, 2.0])  # top left


def test_pictures_fit_a_page_and_are_the_same_bytes_each_time():
    x = torch.zeros(64, 1, 28, 28, dtype=torch.long)
    figure = viz.image_grid(x, Space((1, 28, 28), levels=2), ncols=16)
    assert figure.get_figwidth() <= 7.9  # the column of a page
    assert figure._repr_png_() == figure._repr_png_()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: viz.image_grid(torch.zeros(2, 3), Space((3,))), "needs a space of grey or RGB images"),
        (lambda: viz.image_grid(torch.zeros(2, 1, 4, 4), SPACE), r"needs a batch \(N, 1, 2, 3\), not \(2, 1, 4, 4\)"),
        (lambda: viz.image_grid(numbered(0), SPACE), "needs a batch"),
        (lambda: viz.image_grid(numbered(2), SPACE, ncols=0), "ncols must be 1 or more"),
        (lambda: viz.reconstructions(numbered(2), numbered(3), SPACE), "x has shape"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_notebook_stores_twice_the_dots_and_the_width_on_the_screen(monkeypatch):
    seen = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, **options: seen.append((bundle, options)))
    viz.image_grid(numbered(4), SPACE, ncols=2, scale=5)._ipython_display_()
    ((bundle, options),) = seen
    height, width = matplotlib.image.imread(io.BytesIO(bundle["image/png"])).shape[:2]
    assert (width, height) == (2 * 9 * 5, 2 * 7 * 5)
    assert options == {"raw": True, "metadata": {"image/png": {"width": 9 * 5, "height": 7 * 5}}}


def test_small_images_are_drawn_large_enough_to_be_recognised():
    digits = viz.image_grid(torch.zeros(40, 1, 8, 8, dtype=torch.long), Space((1, 8, 8), levels=2), ncols=10)
    assert digits.get_figwidth() * 100 / 91 * 8 >= 64
    one = viz.image_grid(torch.zeros(1, 1, 8, 8, dtype=torch.long), Space((1, 8, 8), levels=2))
    assert one.get_figwidth() * 100 <= 130, "a single image does not fill the page"
