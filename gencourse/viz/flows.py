"""What a flow does to the plane: the same points and the same straight lines, before and after."""

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.collections import LineCollection
from torch import Tensor

from gencourse.viz.plots import _limits, _plane
from gencourse.viz.theme import COLOURS, PAGE_WIDTH, Picture


def warped_grid(
    f: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    box: float | tuple[float, float, float, float] = 3.0,
    lines: int = 17,
    reach: float | tuple[float, float, float, float] = 4.0,
) -> Picture:
    """Points and a grid of straight lines in the plane, and beside them where a map sends both.

    Args:
        f: from data to noise, `(N, 2)` -> `(N, 2)`.
        x: points `(N, 2)` of the data.
        box: the square that the grid fills, `b` for `[-b, b]^2`, or `(x0, x1, y0, y1)`; the left panel shows it.
        lines: how many in each direction.
        reach: what the right panel shows, likewise.

    Raises:
        ValueError: if these are no points of the plane.
    """
    x0, x1, y0, y1 = _limits(box)
    fine = torch.linspace(0, 1, 200, device="cpu")
    across, up = x0 + (x1 - x0) * fine, y0 + (y1 - y0) * fine  # along a line
    rows = [torch.stack([across, torch.full_like(across, y)], 1) for y in torch.linspace(y0, y1, lines, device="cpu").tolist()]
    columns = [torch.stack([torch.full_like(up, a), up], 1) for a in torch.linspace(x0, x1, lines, device="cpu").tolist()]
    grid = torch.stack(rows + columns)  # (2 lines, 200, 2)
    before = _plane(x, "warped_grid")
    with torch.no_grad():
        after = _plane(f(x), "warped_grid")
        warped = f(grid.flatten(0, 1).to(x)).cpu().double().view_as(grid).numpy()
    figure = Picture(PAGE_WIDTH, 3.6)
    left, right = figure.subplots(1, 2)
    for ax, ways, dots, name in ((left, grid.double().numpy(), before, "x"), (right, warped, after, "z")):
        ax.add_collection(LineCollection(list(np.asarray(ways)), colors=COLOURS[7], linewidths=0.5))
        ax.scatter(dots[:, 0], dots[:, 1], s=4, color=COLOURS[0], alpha=0.5, linewidths=0, zorder=2)
        ax.grid(False)
        ax.set(xlabel=f"${name}_1$", ylabel=f"${name}_2$", aspect="equal")
    left.set(xlim=(x0, x1), ylim=(y0, y1), title="data")
    a0, a1, b0, b1 = _limits(reach)
    right.set(xlim=(a0, a1), ylim=(b0, b1), title="noise")
    figure.tight_layout()
    return figure
