"""What an autoregressive model looks at, what it has learned to look for, and what it draws."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from gencourse.space import Space
from gencourse.viz.images import image_grid
from gencourse.viz.theme import DPI, PAGE_WIDTH, Picture

# The strongest influence on a conditional and one this many powers of ten weaker are the ends of the colour scale.
DECADES = 3
_BLIND = {"facecolor": "white", "edgecolor": "#d55e00", "hatch": "/////", "linewidth": 1}
_LEGEND = "blue: seen, the darker the stronger; hatched: earlier but never seen; grey: later"


def receptive_fields(fields: Mapping[str, Tensor], pixel: tuple[int, int]) -> Picture:
    """What the conditional of one pixel depends on, for several models side by side, four in a row at most.

    Args:
        fields: for each name a map `(H, W)` of influences (rows of `gencourse.checks.influence`): positive where the pixel
            is seen, zero where an earlier one is not, NaN where a later one stands.
        pixel: the row and the column of the conditional, counted from 0.

    Raises:
        ValueError: if the maps differ in size.
    """
    sizes = {tuple(field.shape) for field in fields.values()}
    if len(sizes) != 1 or len(next(iter(sizes))) != 2:
        raise ValueError(f"receptive_fields draws maps (H, W) of one size, but these have {sorted(sizes)}.")
    height, width = sizes.pop()
    columns = min(4, len(fields))
    rows = -(-len(fields) // columns)
    side = min(2.2, PAGE_WIDTH / columns)
    tall = side * height / width
    figure = Picture(side * columns, (tall + 0.3) * rows + 0.3)
    for number, (name, field) in enumerate(fields.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.set_xlim(-0.1, width + 0.1)
        axes.set_ylim(height + 0.1, -0.1)
        axes.set_aspect("equal")
        axes.set_axis_off()
        axes.set_title(name, fontsize=9)
        strongest = field.nan_to_num(0).max().clamp_min(torch.finfo(field.dtype).tiny)
        levels = (1 + torch.log10(field / strongest) / DECADES).clamp(0, 1)
        for row in range(height):
            for column in range(width):
                look: dict[str, Any] = {"facecolor": "#dddddd", "edgecolor": "none"}
                if (row, column) == pixel:
                    look = {"facecolor": "white", "edgecolor": "black", "linewidth": 2}
                    size = 60 * side / max(height, width)
                    axes.text(column + 0.5, row + 0.5, "?", ha="center", va="center", fontsize=size, zorder=3)
                elif field[row, column] == 0:
                    look = _BLIND
                elif field[row, column] > 0:
                    look = {"facecolor": (0, 0.447, 0.698, 0.15 + 0.85 * float(levels[row, column]))}
                axes.add_patch(Rectangle((column + 0.06, row + 0.06), 0.88, 0.88, **look))
    figure.text(0.5, 8 / (figure.get_figheight() * DPI), _LEGEND, ha="center", fontsize=7)
    figure.subplots_adjust(0.02, 0.3 / figure.get_figheight(), 0.98, 1 - 0.25 / figure.get_figheight(), 0.06, 0.2)
    return figure


def filters(weights: Tensor, space: Space, *, n: int = 40, ncols: int = 10) -> Picture:
    """The `n` largest rows of a weight matrix `(H, D)` as images of the space, each on its own scale: grey is zero.

    Raises:
        ValueError: if the rows are not as long as an image has pixels, or the space is not grey.
    """
    if weights.dim() != 2 or weights.shape[1] != space.dim or space.shape[0] != 1:
        raise ValueError(f"filters draws rows of {space.dim} weights on a grey {space}, not a tensor {tuple(weights.shape)}.")
    weights = weights.detach().cpu().double()
    largest = weights[weights.norm(dim=1).argsort(descending=True)[:n]]
    scaled = largest / largest.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)  # to [-1, 1]
    grey = Space(space.shape, 256)
    return image_grid(grey.from_unit((scaled + 1) / 2).view(-1, *space.shape), grey, ncols=ncols, ground=0.0)


def samples_beside_means(samples: Tensor, means: Tensor, space: Space, *, ncols: int = 10) -> Picture:
    """Rows of samples, each above the row of the means that its pixels were drawn from; both `(N, C, H, W)`.

    Raises:
        ValueError: if the two differ in shape.
    """
    if samples.shape != means.shape:
        raise ValueError(f"samples_beside_means: {tuple(samples.shape)} samples, but {tuple(means.shape)} means.")
    pairs = zip(samples.double().cpu().split(ncols), means.detach().double().cpu().split(ncols), strict=True)
    return image_grid(torch.cat([row for pair in pairs for row in pair]), space, ncols=ncols)


def completions(originals: Tensor, completed: Sequence[Tensor], space: Space) -> Picture:
    """Images in the first row, and in each row below one completion of every image; all `(N, C, H, W)`.

    Raises:
        ValueError: if the shapes differ.
    """
    if any(row.shape != originals.shape for row in completed):
        shapes = [tuple(row.shape) for row in completed]
        raise ValueError(f"completions: {tuple(originals.shape)} originals, but completions of {shapes}.")
    return image_grid(torch.cat([originals, *completed]).cpu().double(), space, ncols=len(originals))
