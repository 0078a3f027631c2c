"""Curves, scatters and densities."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gencourse.train import History
from gencourse.viz.theme import COLOURS, PAGE_WIDTH, Picture


def training_curves(
    history: History, terms: Mapping[str, Sequence[float]] | None = None, *, ylabel: str = "nats per image"
) -> Picture:
    """The losses of every move over the steps, and the validation loss; beside them the parts of the loss, if given.

    Args:
        history: what `fit` returned. Training losses of more than 100 steps are drawn as means of a hundredth of the
            run each, so that the noise of single batches does not hide the trend.
        terms: curves for a second panel, by name, such as `{"reconstruction": [...], "KL": [...]}`, each evenly spaced
            over the run.
    """
    figure, axes = _figure(1 + bool(terms))
    for colour, (name, values) in zip(COLOURS, history.losses.items(), strict=False):
        steps, means = _bin(values)
        axes[0].plot(steps, means, color=colour, label=f"{name}, training")
    if history.valid:
        axes[0].plot(
            *zip(*history.valid, strict=True),
            "o-",
            color=COLOURS[len(history.losses)],
            markersize=3,
            linewidth=1,
            label="validation",
        )
    for i, (name, curve) in enumerate((terms or {}).items()):
        at = np.linspace(history.steps / max(1, len(curve)), max(history.steps, 1), len(curve))
        axes[1].plot(at, curve, ("-", "--", ":", "-.")[i % 4], color=COLOURS[i], label=name)
    for ax in axes:
        ax.set_xlabel("step")
        ax.set_ylabel(ylabel)
        if ax.has_data():
            ax.legend(frameon=False)
    figure.tight_layout()
    return figure


def scatter_latent(z: Tensor, labels: Tensor | None = None, *, box: float | None = None) -> Picture:
    """Codes `(N, 2)` in the plane, coloured by class; each class's number stands at the median of its codes.

    Raises:
        ValueError: if the codes are no points of the plane, or the labels not as many.
    """
    codes = _plane(z, "scatter_latent")
    figure, (ax,) = _figure(1, square=True)
    if labels is None:
        ax.scatter(codes[:, 0], codes[:, 1], s=6, color=COLOURS[0], alpha=0.6, linewidths=0)
    else:
        classes = labels.cpu().numpy()
        if classes.shape != (len(codes),):
            raise ValueError(f"scatter_latent: {len(codes)} codes need labels of shape ({len(codes)},), not {classes.shape}.")
        for i, c in enumerate(np.unique(classes)):
            own = codes[classes == c]
            colour = COLOURS[i % len(COLOURS)]
            ax.scatter(own[:, 0], own[:, 1], s=6, color=colour, alpha=0.6, linewidths=0, label=str(c))
            halo = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": colour}
            ax.annotate(str(c), np.median(own, 0), ha="center", va="center", fontsize=9, color=colour, bbox=halo)
    if box:
        ax.set(xlim=(-box, box), ylim=(-box, box))
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    figure.tight_layout()
    return figure


def points(x: Tensor, *, box: float | tuple[float, float, float, float] | None = None, label: str | None = None) -> Picture:
    """Points `(N, 2)` of the data plane.

    Raises:
        ValueError: if these are no points of the plane.
    """
    xy = _plane(x, "points")
    figure, (ax,) = _figure(1, square=True)
    ax.scatter(xy[:, 0], xy[:, 1], s=5, color=COLOURS[0], alpha=0.5, linewidths=0, label=label)
    if box is not None:
        x0, x1, y0, y1 = _limits(box)
        ax.set(xlim=(x0, x1), ylim=(y0, y1))
    if label:
        ax.legend(frameon=False)
    ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    figure.tight_layout()
    return figure


def density_2d(
    log_prob: Callable[[Tensor], Tensor], box: float | tuple[float, float, float, float] = 4.0, *, n: int = 200
) -> Picture:
    """The density `exp(log_prob)` of points `(N, 2)` over a box: `b` for `[-b, b]^2`, or `(x0, x1, y0, y1)`."""
    x0, x1, y0, y1 = _limits(box)
    # pixel centres, so that the mean of the picture times the area is the mass inside the box
    xs, ys = _centres(x0, x1, n), _centres(y0, y1, n)
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1).reshape(-1, 2)
    with torch.no_grad():
        density = log_prob(grid).exp().reshape(n, n).cpu().numpy()  # row: x2, column: x1
    figure, (ax,) = _figure(1, square=True)
    image = ax.imshow(density, origin="lower", extent=(x0, x1, y0, y1), cmap="viridis", vmin=0, interpolation="nearest")
    figure.colorbar(image, ax=ax, label="density", shrink=0.8)
    ax.grid(False)
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    figure.tight_layout()
    return figure


def _figure(panels: int, *, square: bool = False) -> tuple[Picture, Sequence]:
    size = (4.6, 4.2) if square else (PAGE_WIDTH if panels > 1 else 5.6, 3.1)
    figure = Picture(*size)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(True, alpha=0.25)
    return figure, axes


def _bin(values: Sequence[float], bins: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Steps (counted from 1) and means of `bins` equal stretches; the values themselves if there are fewer."""
    parts = np.array_split(np.asarray(values, dtype=float), min(bins, max(1, len(values))))
    ends = np.cumsum([len(part) for part in parts])
    return ends, np.array([part.mean() if len(part) else np.nan for part in parts])


def _plane(x: Tensor, what: str) -> np.ndarray:
    if x.dim() != 2 or x.shape[1] != 2:
        raise ValueError(f"{what} draws points of the plane, (N, 2), but the tensor has shape {tuple(x.shape)}.")
    return x.detach().cpu().double().numpy()


def _centres(low: float, high: float, n: int) -> Tensor:
    """The middles of the n equal parts of an interval, `(n,)`, on the CPU."""
    return low + (torch.arange(n, device="cpu") + 0.5) * (high - low) / n


def _limits(box: float | tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    return box if isinstance(box, tuple) else (-box, box, -box, box)
