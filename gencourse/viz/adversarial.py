"""The two players at work: where points go, how the scores move, how large gradients and weights are."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.collections import LineCollection
from torch import Tensor

from gencourse.space import Space
from gencourse.train import History
from gencourse.viz.images import _bare, _pixel_figure, mosaic
from gencourse.viz.plots import _bin, _centres, _figure, _limits, _plane
from gencourse.viz.theme import COLOURS, Picture

PLAYERS = {"d": "discriminator", "g": "generator"}


def trajectories(
    paths: Tensor,
    discriminator: Callable[[Tensor], Tensor] | None = None,
    *,
    real: Tensor | None = None,
    box: float | tuple[float, float, float, float] = 3.0,
    probability: bool = True,
    n: int = 120,
) -> Picture:
    """The ways of generated points through training, on the field of the discriminator.

    Args:
        paths: `(T, N, 2)`: where the generator sent the same N latent vectors at T moments. A way fades in with time and
            ends in a dot.
        discriminator: maps points `(M, 2)` to logits `(M,)`; its colour is the probability that a point is real, and its
            contour at 1/2 is dashed.
        real: points `(R, 2)` of the data.
        box: `b` for `[-b, b]^2`, or `(x0, x1, y0, y1)`.
        probability: False for a critic, whose values are drawn as they are, around 0.
        n: columns and rows of the field.

    Raises:
        ValueError: if these are no ways in the plane.
    """
    if paths.dim() != 3 or paths.shape[2] != 2 or not paths.shape[0]:
        raise ValueError(f"trajectories draws ways in the plane, (T, N, 2), but the tensor has shape {tuple(paths.shape)}.")
    x0, x1, y0, y1 = _limits(box)
    ways = paths.detach().cpu().double().numpy()
    figure, (ax,) = _figure(1, square=True)
    ax.grid(False)
    if discriminator is not None:
        xs, ys = _centres(x0, x1, n), _centres(y0, y1, n)
        points = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1).reshape(-1, 2)
        with torch.no_grad():
            logits = discriminator(points.to(paths)).reshape(n, n).cpu().double()  # row: x2, column: x1
        field = torch.sigmoid(logits) if probability else logits
        top = 1.0 if probability else max(float(logits.abs().max()), 1e-12)
        image = ax.imshow(
            field.numpy(),
            origin="lower",
            extent=(x0, x1, y0, y1),
            cmap="PuOr",
            vmin=0.0 if probability else -top,
            vmax=top,
            alpha=0.75,
            interpolation="nearest",
        )
        figure.colorbar(image, ax=ax, shrink=0.8, label="$D(x)$, probability of real" if probability else "critic's value")
        level = 0.5 if probability else 0.0
        if float(field.min()) < level < float(field.max()):
            ax.contour(xs.numpy(), ys.numpy(), field.numpy(), levels=[level], colors="black", linewidths=0.8, linestyles="dashed")
    if real is not None:
        xy = _plane(real, "trajectories")
        ax.scatter(xy[:, 0], xy[:, 1], s=4, color=COLOURS[-1], alpha=0.5, linewidths=0, label="data", zorder=2.5)
    steps = np.stack([ways[:-1], ways[1:]], axis=2)  # (T - 1, N, 2 ends, 2)
    age = np.linspace(0.1, 0.9, len(steps)).repeat(ways.shape[1])
    ax.add_collection(LineCollection(list(steps.reshape(-1, 2, 2)), colors=COLOURS[2], linewidths=0.8, alpha=age, label="_ways"))
    ax.scatter(
        ways[-1, :, 0], ways[-1, :, 1], s=14, color=COLOURS[2], edgecolors="white", linewidths=0.5, zorder=3, label="generated"
    )
    ax.legend(frameon=True, framealpha=0.8, loc="upper right", fontsize=8)
    ax.set(xlim=(x0, x1), ylim=(y0, y1), xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    figure.tight_layout()
    return figure


def game_curves(history: History, scores: Mapping[str, Sequence[float]] | None = None) -> Picture:
    """The losses of both players over the steps; beside them the discriminator's mean scores as probabilities.

    Args:
        history: what `fit` returned; its `d` and `g` are named in words, and other losses as they are. Losses of more than
            100 steps are drawn as means of a hundredth of the run each.
        scores: mean probabilities by name, such as `{"D(x)": [...], "D(G(z))": [...]}`, each evenly spaced over the run. The
            dotted line at 1/2 is a discriminator that cannot tell the two apart.

    Raises:
        ValueError: if a score is not a probability.
    """
    for name, curve in (scores or {}).items():
        if not all(0 <= value <= 1 for value in curve):
            raise ValueError(f"game_curves: {name} must be probabilities in [0, 1]; torch.sigmoid makes them of logits.")
    figure, axes = _figure(1 + bool(scores))
    for i, (name, values) in enumerate(history.losses.items()):
        axes[0].plot(*_bin(values), ("-", "--")[i % 2], color=COLOURS[i % len(COLOURS)], label=PLAYERS.get(name, name))
    for i, (name, curve) in enumerate((scores or {}).items()):
        at = np.linspace(history.steps / max(1, len(curve)), max(history.steps, 1), len(curve))
        axes[1].plot(at, curve, ("-", "--", "-.")[i % 3], color=COLOURS[2 + i], label=name)
    axes[0].set(xlabel="step", ylabel="loss")
    if scores:
        axes[1].axhline(0.5, color=COLOURS[7], linewidth=1, linestyle=":")
        axes[1].set(xlabel="step", ylabel="probability of real", ylim=(-0.02, 1.02))
    for ax in axes:
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False)
    figure.tight_layout()
    return figure


def gradient_histograms(norms: Mapping[str, Tensor], *, bins: int = 40) -> Picture:
    """How many examples have a gradient of which norm, for several losses or critics, on a logarithmic axis.

    Args:
        norms: by name, norms `(N,)`. Those that are exactly 0 cannot stand on the axis; the legend counts them.

    Raises:
        ValueError: if a norm is negative or not finite, or all are 0.
    """
    values = {name: _flat(norm) for name, norm in norms.items()}
    shown = np.concatenate([value[value > 0] for value in values.values()]) if values else np.empty(0)
    if not len(shown) or any((value < 0).any() or not np.isfinite(value).all() for value in values.values()):
        raise ValueError("gradient_histograms needs norms: finite, none below 0, and not all 0.")
    low, high = np.log10(shown.min()), np.log10(shown.max())
    edges = np.logspace(low - 0.05, high + 0.05, bins + 1)
    figure, (ax,) = _figure(1)
    for i, (name, value) in enumerate(values.items()):
        zeros = int((value == 0).sum())
        label = f"{name} ({zeros} are 0)" if zeros else name
        ax.hist(value[value > 0], edges, histtype="stepfilled", color=COLOURS[i % len(COLOURS)], alpha=0.45, label=label)
    ax.set(xscale="log", xlabel="norm of the gradient", ylabel="examples")
    ax.legend(frameon=False)
    figure.tight_layout()
    return figure


def weight_histograms(weights: Mapping[str, Tensor], *, clip: float | None = None, bins: int = 61) -> Picture:
    """The distribution of the weights of several networks, a panel each on one scale of weights.

    Args:
        weights: by name, tensors of any shape.
        clip: draws lines at -clip and clip.

    Raises:
        ValueError: if there are no networks.
    """
    if not weights:
        raise ValueError("weight_histograms needs at least one network's weights.")
    values = {name: _flat(weight) for name, weight in weights.items()}
    reach = max([float(np.abs(value).max()) for value in values.values()] + [clip or 0.0]) or 1.0
    edges = np.linspace(-1.05 * reach, 1.05 * reach, bins + 1)
    figure, axes = _figure(len(values))
    for i, (ax, (name, value)) in enumerate(zip(axes, values.items(), strict=True)):
        ax.hist(value, edges, weights=np.full(len(value), 1 / len(value)), color=COLOURS[i % len(COLOURS)])
        for edge in () if clip is None else (-clip, clip):
            ax.axvline(edge, color=COLOURS[-1], linewidth=0.8, linestyle="--")
        ax.set(title=name, xlabel="weight", ylabel="share of the weights")
        ax.title.set_fontsize(10)
    figure.tight_layout()
    return figure


def beside_neighbours(samples: Tensor, neighbours: Tensor, space: Space, *, scale: int | None = None) -> Picture:
    """Samples in the upper row, below each its nearest training examples, the nearest first.

    Args:
        samples: `(N, C, H, W)`.
        neighbours: `(N, k, C, H, W)`, such as `train[nearest_neighbours(samples, train, k).indices]`.

    Raises:
        ValueError: if each sample does not have the same number of neighbours.
    """
    if neighbours.dim() != 5 or neighbours.shape[0] != len(samples) or neighbours.shape[2:] != samples.shape[1:]:
        raise ValueError(
            f"beside_neighbours: samples {tuple(samples.shape)} need neighbours (N, k, C, H, W), not {tuple(neighbours.shape)}."
        )
    rows = [samples[:, None].cpu().double(), neighbours.cpu().double()]
    images = torch.cat(rows, 1).transpose(0, 1).flatten(0, 1)  # ((1 + k) N, C, H, W)
    pixels = mosaic(images, space, ncols=len(samples))
    figure, axes = _pixel_figure(pixels, scale, space.shape[2], left=148)
    height = space.shape[1]
    k = neighbours.shape[1]
    names = ["sample", "nearest in training", "2nd nearest", "3rd nearest", *(f"{i}th nearest" for i in range(4, k + 1))][: k + 1]
    axes.set_yticks([i * (height + 1) + (height + 1) / 2 for i in range(k + 1)], names)
    axes.set_xticks([])
    _bare(axes)
    return figure


def game_1d(
    real: Callable[[Tensor], Tensor],
    generate: Callable[[Tensor], Tensor],
    discriminator: Callable[[Tensor], Tensor] | None = None,
    *,
    box: tuple[float, float] = (-4.0, 4.0),
    arrows: int = 21,
    n: int = 400,
) -> Picture:
    """A game on the line as the paper draws it: two densities, the discriminator, and below them where each z goes.

    Args:
        real: the log-density of the data at points `(M,)`, nats.
        generate: maps latent values `(M,)` to points `(M,)`; z is standard normal.
        discriminator: maps points `(M,)` to logits `(M,)`.
        box: the ends of the line.
        arrows: latent values, at evenly spaced quantiles, whose ways to x are drawn.
    """
    xs = torch.linspace(*box, n, device="cpu")
    quantiles = torch.special.ndtri(_centres(0, 1, arrows))
    many = torch.special.ndtri(_centres(0, 1, 10_000))
    with torch.no_grad():
        density = real(xs).exp().cpu().numpy()
        drawn = generate(many).cpu().numpy()
        targets = generate(quantiles).cpu().numpy()
        scores = None if discriminator is None else torch.sigmoid(discriminator(xs)).cpu().numpy()
    figure = Picture(5.6, 4.0)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    upper.plot(xs.numpy(), density, color=COLOURS[-1], linestyle=":", label="data")
    upper.hist(drawn, np.linspace(*box, 81), density=True, histtype="step", color=COLOURS[2], label="generated")
    upper.set_ylabel("density")
    if scores is not None:
        other = upper.twinx()
        other.plot(xs.numpy(), scores, color=COLOURS[0], linestyle="--", label="$D(x)$")
        other.set(ylim=(-0.02, 1.02), ylabel="$D(x)$")
        other.spines["top"].set_visible(False)
        other.grid(False)
        upper.plot([], [], color=COLOURS[0], linestyle="--", label="$D(x)$")
    upper.legend(frameon=False, fontsize=8)
    for z, x in zip(quantiles.tolist(), targets.tolist(), strict=True):
        lower.plot([z, x], [0, 1], color=COLOURS[2], linewidth=0.8)
    lower.set(yticks=[0, 1], yticklabels=["$z$", "$x = G(z)$"], xlim=box, ylim=(0, 1), xlabel="$x$")
    for ax in (upper, lower):
        ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def _flat(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().flatten().numpy()
