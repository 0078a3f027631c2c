"""What a pixel may look at: choose a model and a pixel, and see on which earlier pixels it depends (slides 27-30)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from gencourse.autoregressive.base import Autoregressive
from gencourse.checks import influence
from gencourse.explorers.base import Explorer, pack
from gencourse.viz.theme import DPI, PAGE_WIDTH, Picture

# The strongest influence on a conditional and one this many powers of ten weaker are the ends of the colour scale.
DECADES = 3
# A page holds the square of this many bytes a model.
LARGEST = 256


class ReceptiveField(Explorer):
    """Choose a model and a pixel, and see what the pixel's conditional depends on.

    Earlier pixels are coloured by the strength of their influence, earlier ones without any are the blind spot, and what
    comes later in the model's order is grey. Whatever depends on its own pixel or a later one is shown as a leak.

    Args:
        models: names and autoregressive models of grey images, all of one height and width. A few hundred pixels at
            most: a blind spot has the same shape on 8 x 8 as on 28 x 28.
        pixel: the row and the column shown first, counted from 0; by default the middle of the image.
        images: at how many random images the influence is measured, see `gencourse.checks.influence`.

    Attributes:
        influence: for each name, the `(D, D)` result of `gencourse.checks.influence`, in the model's order.

    Raises:
        ValueError: if there is no model, the images are in colour, too large or of several sizes, or the pixel is not in them.
        TypeError: if a model is not autoregressive.
    """

    module: ClassVar[Path] = Path(__file__).with_name("receptive_field.js")

    def __init__(self, models: Mapping[str, Autoregressive], *, pixel: tuple[int, int] | None = None, images: int = 8) -> None:
        height, width = _size(models)
        row, column = (height // 2, width // 2) if pixel is None else pixel
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(f"ReceptiveField: rows are 0..{height - 1} and columns 0..{width - 1}, but pixel is {pixel}.")
        self.influence = {name: influence(model, images=images) for name, model in models.items()}
        orders = {name: model.order.tolist() for name, model in models.items()}
        state: dict[str, Any] = {
            "models": [
                {"name": name, "order": orders[name], "strength": pack(quantized(matrix), torch.uint8)}
                for name, matrix in self.influence.items()
            ],
            "height": height,
            "width": width,
            "decades": DECADES,
            "model": 0,
            "pixel": [row, column],
        }
        fields = {name: _field(quantized(m), orders[name], row * width + column) for name, m in self.influence.items()}
        super().__init__(
            state,
            still=_still(fields, (height, width), (row, column))._repr_png_(),
            alt=f"A grid of {height} by {width} pixels: what the pixel in row {row}, column {column} looks at in "
            f"{', '.join(models)}: earlier pixels that it sees, earlier ones in its blind spot, and later ones.",
        )


def quantized(matrix: Tensor) -> Tensor:
    """Influences `(D, D)` as bytes on a logarithmic scale, row by row: 255 is the row's strongest, 0 is exactly none.

    1 stands for everything that is weaker than the strongest by `DECADES` powers of ten or more, but not zero.
    """
    strongest = matrix.amax(1, keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny)
    level = 1 + torch.log10(matrix / strongest) / DECADES  # 1 for the strongest, minus infinity for none
    return torch.where(matrix > 0, 1 + (254 * level.clamp(0, 1)).round(), 0).to(torch.uint8)


def _size(models: Mapping[str, Autoregressive]) -> tuple[int, int]:
    """The height and the width that all models share."""
    if not isinstance(models, Mapping) or not models:
        raise ValueError('ReceptiveField needs at least one model with its name: ReceptiveField({"PixelCNN": model}).')
    for name, model in models.items():
        if not isinstance(model, Autoregressive):
            raise TypeError(f"ReceptiveField needs autoregressive models, but {name!r} is a {type(model).__name__}.")
        shape = model.space.shape
        if len(shape) != 3 or shape[0] != 1 or model.space.dim > LARGEST:
            raise ValueError(
                f"ReceptiveField shows grey images of at most {LARGEST} pixels, but {name!r} is a model of {model.space}; "
                "build it on a smaller space, such as Space((1, 8, 8), 2)."
            )
    sizes = {model.space.shape[1:] for model in models.values()}
    if len(sizes) > 1:
        raise ValueError(f"ReceptiveField: all models must share one height and width, but these have {sorted(sizes)}.")
    return sizes.pop()  # type: ignore[return-value]


def _field(strength: Tensor, order: list[int], pixel: int) -> dict[int, float | None]:
    """Of each earlier pixel (a flat index) its strength in (0, 1], or None if it is in the blind spot of `pixel`."""
    position = order.index(pixel)
    return {order[j]: float(strength[position, j]) / 255 or None for j in range(position)}


def _still(fields: dict[str, dict[int, float | None]], size: tuple[int, int], pixel: tuple[int, int]) -> Picture:
    """The same pixel's field in all models, side by side in rows of four at most."""
    height, width = size
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
        for i in range(height * width):
            row, column = divmod(i, width)
            look: dict[str, Any] = {"facecolor": "#dddddd", "edgecolor": "none"}
            if i in field:
                value = field[i]
                look = {"facecolor": (0, 0.447, 0.698, 0.15 + 0.85 * value)} if value else _BLIND
            if (row, column) == pixel:
                look = {"facecolor": "white", "edgecolor": "black", "linewidth": 2}
                axes.text(column + 0.5, row + 0.5, "?", ha="center", va="center", fontsize=60 * side / max(size), zorder=3)
            axes.add_patch(Rectangle((column + 0.06, row + 0.06), 0.88, 0.88, **look))
    figure.text(0.5, 8 / (figure.get_figheight() * DPI), _LEGEND, ha="center", fontsize=7)
    figure.subplots_adjust(0.02, 0.3 / figure.get_figheight(), 0.98, 1 - 0.25 / figure.get_figheight(), 0.06, 0.2)
    return figure


_BLIND = {"facecolor": "white", "edgecolor": "#d55e00", "hatch": "/////", "linewidth": 1}
_LEGEND = "blue: seen, the darker the stronger; hatched: earlier but never seen; grey: later"
