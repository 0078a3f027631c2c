"""An image being drawn pixel by pixel by a small NADE that runs in the page (slides 18-22)."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gencourse.autoregressive.base import inverse_cdf
from gencourse.autoregressive.nade import NADE
from gencourse.explorers.base import Explorer, pack
from gencourse.viz.theme import Picture


class OnePixelAtATime(Explorer):
    """Watch an image being drawn in the model's order, with the probability of each next pixel.

    Every pixel has a uniform number of its own: it becomes 1 if the number lies in the last p of [0, 1). So a drawn pixel
    can be flipped, and the later ones are drawn again with their old numbers: whatever changes is a consequence.

    The model runs in the page, in JavaScript, with the running sum that makes a sample cost O(H D). Its parameters are
    sent as float32: about `11 H D` bytes, 70 KB with 100 hidden units on 8 x 8.

    Args:
        model: a NADE of grey images on two levels.
        images: images `(N, 1, H, W)` whose first half the reader may let the model complete; at most 20.
        seed: of the page's random numbers, see `uniforms`.

    Raises:
        TypeError: if the model is not a NADE.
        ValueError: if it is not one of grey images on two levels, or the images do not fit.
    """

    module: ClassVar[Path] = Path(__file__).with_name("one_pixel_at_a_time.js")

    def __init__(self, model: NADE, images: Tensor | None = None, *, seed: int = 0) -> None:
        if not isinstance(model, NADE):
            raise TypeError(f"OnePixelAtATime needs a NADE, whose running sum the page can compute, not {type(model).__name__}.")
        space = model.space
        if space.levels != 2 or len(space.shape) != 3 or space.shape[0] != 1:
            raise ValueError(f"OnePixelAtATime shows grey images on two levels, but this is a model of {space}.")
        if not 0 <= seed < 2**32:
            raise ValueError(f"OnePixelAtATime: seed must be in 0..{2**32 - 1}, not {seed}.")
        given = [] if images is None else ["".join(map(str, x.flatten().tolist())) for x in space.validate(images)]
        if len(given) > 20:
            raise ValueError(f"OnePixelAtATime: at most 20 images to choose from, not {len(given)}.")
        _, height, width = space.shape
        network = {
            **{name: pack(getattr(model, name).detach()) for name in ("W", "c", "V", "b")},
            "order": model.order.tolist(),
            "height": height,
            "width": width,
        }
        middle = (height // 2) * width + width // 2
        state = {"network": network, "images": given, "seed": seed, "image": -1, "drawn": middle, "flips": []}
        x, p = drawn(model, uniforms(seed, space.dim))
        super().__init__(
            state,
            still=_still(x, p, model.order[: middle + 1], (height, width))._repr_png_(),
            alt=f"An image of {height} by {width} pixels that a NADE has drawn halfway, pixel by pixel, and beside it the "
            "probability with which each pixel was to become white when its turn came.",
        )


def uniforms(seed: int, n: int) -> Tensor:
    """The page's random numbers, `(n,)` float64 in [0, 1): mulberry32, a generator with 32 bits of state, public domain."""
    numbers, state = [], seed % 2**32
    for _ in range(n):
        state = (state + 0x6D2B79F5) % 2**32
        t = ((state ^ (state >> 15)) * (state | 1)) % 2**32
        t ^= (t + ((t ^ (t >> 7)) * (t | 61)) % 2**32) % 2**32
        numbers.append((t ^ (t >> 14)) / 2**32)
    return torch.tensor(numbers, dtype=torch.float64)


@torch.no_grad()
def drawn(model: NADE, u: Tensor, kept: dict[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """What the page draws, in Python.

    Args:
        model: on two levels.
        u: the uniform numbers of the pixels, `(D,)`, by flat index.
        kept: pixels that are not drawn, and their values.

    Returns:
        The image, `(D,)` int64, and the probability of 1 that each pixel had when its turn came, `(D,)` float64.
    """
    cache = model.start_cache(1)
    x = torch.zeros(1, *model.space.shape, dtype=torch.long, device=model.device)
    flat, p = x.view(-1), torch.empty(model.space.dim, dtype=torch.float64)
    for i in model.order.tolist():
        logit = cache.logits(x, i)  # (1, 1)
        flat[i] = (kept or {}).get(i, int(inverse_cdf(logit, u[i].to(logit.device))))
        p[i] = torch.sigmoid(logit.double())
    return flat.cpu(), p


def _still(x: Tensor, p: Tensor, path: Tensor, size: tuple[int, int]) -> Picture:
    """The image and its probabilities up to the pixel that comes next, the last of `path`."""
    height, width = size
    figure = Picture(6.2, 2.9 * height / width + 0.35)
    titles = ("the image so far", "P(white) when its turn came")
    for i, (values, pixels, title) in enumerate(zip((x.double(), p), (path[:-1], path), titles, strict=True)):
        axes: Axes = figure.add_subplot(1, 2, i + 1)
        grey = np.full(height * width, np.nan)
        grey[pixels.numpy()] = values[pixels].numpy()
        axes.set_facecolor("#b8c4d0")  # what is not drawn yet is neither black nor grey nor white
        axes.imshow(grey.reshape(size), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        row, column = divmod(int(path[-1]), width)
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) * 0.45 + (column, row)
        axes.plot(*corners.T, color="#d55e00", linewidth=3)
        axes.grid(False)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(title, fontsize=9)
    figure.subplots_adjust(0.01, 0.02, 0.99, 1 - 0.3 / figure.get_figheight(), 0.04)
    return figure
