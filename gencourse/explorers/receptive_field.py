"""What a pixel may look at: choose a model and a pixel, and see on which earlier pixels it depends (slides 27-30)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from gencourse.autoregressive.base import Autoregressive
from gencourse.checks import influence
from gencourse.explorers.base import Explorer, pack
from gencourse.viz.autoregressive import DECADES, receptive_fields

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
        index = row * width + column
        fields = {name: _field(self.influence[name], model.order, index, (height, width)) for name, model in models.items()}
        super().__init__(
            state,
            still=receptive_fields(fields, (row, column))._repr_png_(),
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


def _field(matrix: Tensor, order: Tensor, pixel: int, shape: tuple[int, int]) -> Tensor:
    """A pixel's row of the influences as a map `(H, W)`: NaN where no earlier pixel stands."""
    position = int((order == pixel).nonzero())
    field = torch.full((matrix.shape[1],), torch.nan, dtype=matrix.dtype)
    field[order[:position]] = matrix[position, :position]
    return field.view(shape)
