"""What a flow does to the plane: the same points, and the same straight lines, before and after, or at several times."""

from collections.abc import Callable, Sequence

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


def flow_path(
    places: Tensor, times: Sequence[float], *, box: float | tuple[float, float, float, float] = 3.0, followed: int = 5
) -> Picture:
    """Points at several times of a continuous flow, a panel each; the ways of the first few are drawn up to that time.

    Args:
        places: where the points are, `(T, N, 2)`.
        times: the panels' times, each an index `i / (T - 1)` of `places` or between two, when the earlier is drawn.
        box: what each panel shows, `b` for `[-b, b]^2`, or `(x0, x1, y0, y1)`.
        followed: how many points are drawn large, each in its own colour, with the way it has come.

    Raises:
        ValueError: if these are no points of the plane, or a time is not in [0, 1].
    """
    if places.dim() != 3 or places.shape[2] != 2:
        raise ValueError(f"flow_path draws points of the plane, (T, N, 2), but the tensor has shape {tuple(places.shape)}.")
    if not all(0 <= t <= 1 for t in times):
        raise ValueError(f"flow_path: times are from 0 to 1, but {list(times)} are not.")
    x0, x1, y0, y1 = _limits(box)
    ways = places.detach().cpu().double().numpy()
    figure = Picture(PAGE_WIDTH, 1.85)
    for ax, t in zip(figure.subplots(1, len(times), sharey=True, squeeze=False)[0], times, strict=True):
        now = int(t * (len(ways) - 1) + 1e-9)
        ax.scatter(*ways[now].T, s=1.5, color=COLOURS[7], alpha=0.5, linewidths=0)
        for i in range(min(followed, ways.shape[1])):
            ax.plot(*ways[: now + 1, i].T, color=COLOURS[i % 7], linewidth=1.2)
            ax.scatter(*ways[now, i], s=14, color=COLOURS[i % 7], linewidths=0, zorder=3)
        ax.grid(False)
        ax.set(xlim=(x0, x1), ylim=(y0, y1), aspect="equal", title=f"$t = {t:g}$")
        ax.tick_params(labelsize=7)
    figure.tight_layout()
    return figure
