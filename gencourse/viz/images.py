"""Grids of pixel images, drawn at their own size times a whole number, so that every pixel stays a square of one colour."""

from collections.abc import Callable, Sequence

import matplotlib.ticker
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gencourse.space import Space
from gencourse.viz.theme import DPI, Picture

GROUND = 127 / 255  # of gaps and frames
GRID_WIDTH = 760  # screen pixels, nearly all of a page's column: small images need it to be recognised


def image_grid(
    images: Tensor,
    space: Space,
    *,
    ncols: int = 10,
    scale: int | None = None,
    title: str | None = None,
    ground: float = GROUND,
) -> Picture:
    """Images in rows, the first at the top left.

    Args:
        images: `(N, C, H, W)`, grey levels of `space` (whole numbers or means between them).
        space: says which level is white.
        ncols: images in a row.
        scale: screen pixels for a pixel; by default as many as fill a page's width, with images up to about 96 wide.
        title: a line above the grid.
        ground: the grey of the gaps between the images, from 0 to 1.
    """
    pixels = mosaic(images, space, ncols=ncols, ground=ground)
    figure, axes = _pixel_figure(pixels, scale, space.shape[2], top=24 if title else 0)
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=10)
    return figure


def reconstructions(x: Tensor, x_hat: Tensor, space: Space, *, scale: int | None = None) -> Picture:
    """Images in the upper row, what the model makes of each below it; both `(N, C, H, W)`.

    Raises:
        ValueError: if the two differ in shape.
    """
    if x.shape != x_hat.shape:
        raise ValueError(f"reconstructions: x has shape {tuple(x.shape)}, but x_hat has {tuple(x_hat.shape)}.")
    pixels = mosaic(torch.cat([x.double(), x_hat.detach().to(x.device).double()]), space, ncols=len(x))
    figure, axes = _pixel_figure(pixels, scale, space.shape[2], left=112)
    height = pixels.shape[0]
    axes.set_yticks([height * 0.25, height * 0.75 - 1], ["image", "reconstruction"])
    axes.set_xticks([])
    _bare(axes)
    return figure


def manifold_grid(
    decode: Callable[[Tensor], Tensor], space: Space, *, n: int = 15, box: float | None = None, scale: int | None = None
) -> Picture:
    """What a decoder with two latent variables draws over the plane (Kingma and Welling, 2014, Figure 4).

    The n x n codes sit at the quantiles `(i + 1/2) / n` of the Gaussian prior, so that each cell holds the same prior
    mass; with `box` they are evenly spaced over `[-box, box]` instead. z1 grows to the right and z2 upwards.

    Args:
        decode: maps codes `(N, 2)` to expected images `(N, C, H, W)` in grey levels, such as `VAE.decode_mean`.
    """
    position = (torch.arange(n, device="cpu") + 0.5) / n
    values = torch.special.ndtri(position) if box is None else box * (2 * position - 1)
    z2, z1 = torch.meshgrid(values.flip(0), values, indexing="ij")
    with torch.no_grad():
        images = decode(torch.stack([z1, z2], -1).reshape(-1, 2))  # (n * n, C, H, W)
    pixels = mosaic(images, space, ncols=n)
    figure, axes = _pixel_figure(pixels, scale, space.shape[2], left=52, bottom=44)
    shown = [0, n // 4, n // 2, n - 1 - n // 4, n - 1] if n >= 5 else list(range(n))
    for axis, size, order in ((axes.xaxis, space.shape[2], values), (axes.yaxis, space.shape[1], values.flip(0))):
        centres = [i * (size + 1) + (size + 1) / 2 for i in shown]  # images lie one pixel apart, behind a frame of one
        axis.set_ticks(centres, [f"{float(order[i]):.1f}" for i in shown])
        axis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_xlabel("$z_1$")
    axes.set_ylabel("$z_2$")
    _bare(axes)
    return figure


def mosaic(images: Tensor, space: Space, *, ncols: int, gap: int = 1, ground: float = GROUND) -> np.ndarray:
    """Arrange `(N, C, H, W)` grey levels in rows of `ncols`: `(H', W')`, or `(H', W', 3)`, in [0, 1].

    Gaps of `gap` pixels between the images and a frame of the same around them are of the grey `ground`, so that neither
    a white stroke nor a black one flows into its neighbour or into the page.

    Raises:
        ValueError: if these are not images of the space, or the space has no grey levels.
    """
    if not space.is_discrete or len(space.shape) != 3 or space.shape[0] not in (1, 3):
        raise ValueError(f"a grid of images needs a space of grey or RGB images, but this one is {space}.")
    if tuple(images.shape[1:]) != space.shape or not len(images):
        raise ValueError(f"a grid of {space} needs a batch (N, {', '.join(map(str, space.shape))}), not {tuple(images.shape)}.")
    if ncols < 1:
        raise ValueError(f"ncols must be 1 or more, not {ncols}.")
    channels, height, width = space.shape
    ncols = min(ncols, len(images))
    nrows = -(-len(images) // ncols)
    unit = (images.detach().cpu().double() / (space.levels - 1)).clamp(0, 1).numpy()  # type: ignore[operator]
    canvas = np.full((nrows * (height + gap) + gap, ncols * (width + gap) + gap, channels), float(ground))
    for i, image in enumerate(unit):
        top, left = gap + (i // ncols) * (height + gap), gap + (i % ncols) * (width + gap)
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas[..., 0] if channels == 1 else canvas


def _pixel_figure(
    pixels: np.ndarray, scale: int | None, size: int, *, left: int = 0, bottom: int = 0, top: int = 0
) -> tuple[Picture, Axes]:
    """A figure whose axes hold `pixels` at a whole multiple of their size; margins in screen pixels.

    By default the multiple is the largest with which the figure fits a page and an image of `size` pixels is about 96 wide.
    """
    height, width = pixels.shape[:2]
    scale = scale or max(1, min(round(96 / size), int(GRID_WIDTH - left) // width))
    w, h = width * scale, height * scale
    figure = Picture((w + left) / DPI, (h + bottom + top) / DPI)
    axes = figure.add_axes((left / (w + left), bottom / (h + bottom + top), w / (w + left), h / (h + bottom + top)))
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.grid(False)
    return figure, axes


def _bare(axes: Axes, sides: Sequence[str] = ("top", "right", "bottom", "left")) -> None:
    for side in sides:
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)


def png_grid(images: Tensor, space: Space, *, ncols: int = 8, scale: int = 4) -> bytes:
    """A PNG file of the images `(N, C, H, W)` in rows, each pixel `scale` screen pixels wide, with nothing around them."""
    import io

    from matplotlib.image import imsave

    pixels = mosaic(images, space, ncols=min(ncols, len(images))).repeat(scale, 0).repeat(scale, 1)
    buffer = io.BytesIO()
    imsave(buffer, pixels, cmap="gray", vmin=0, vmax=1, format="png")
    return buffer.getvalue()
