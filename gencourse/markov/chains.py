"""What a chain has seen: how long it remembers, whether several agree, how many independent draws its draws are worth.

A series is a number read off each state of several chains, `(chains, steps)`: a free energy, a count of pixels, a label. Nothing
here can see a region that no chain has visited; chains from different starts are the only help against that.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gencourse.arguments import positive_integer
from gencourse.metrics.classifier import ScoredClassifier


@torch.no_grad()
def trajectory(step: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Tensor:
    """The states `(chains, steps, ...)` that `step` leads to from `start` `(chains, ...)`; the start is not among them."""
    states, state = [], start
    for _ in range(positive_integer("trajectory: steps", steps)):
        state = step(state)
        states.append(state)
    return torch.stack(states, 1)


def autocorrelation(series: Tensor) -> Tensor:
    """How much a series resembles itself t steps later: `(steps,)` float64, 1 at t = 0.

    Of all chains together, about their common mean, so that chains which stay apart are seen to remember (Vehtari et al., 2021,
    Eq. (10), https://arxiv.org/abs/1903.08008).
    """
    x = _series(series, 4)
    n = x.shape[1]
    centred = x - x.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, 2 * n)  # twice as long, or the end would meet the beginning
    covariance = torch.fft.irfft(spectrum.abs() ** 2, 2 * n)[:, :n].mean(0) / (n - 1)  # (steps,)
    within, total = _variances(x)
    if total == 0:
        return x.new_ones(n)  # what never moves remembers for ever
    return 1 - (within - covariance) / total


def autocorrelation_time(series: Tensor) -> float:
    """How many steps count as one independent draw: `1 + 2 sum_t rho_t`, 1 where there is no memory; at most all there are.

    The sum ends where two neighbours together are no longer positive, and each such pair counts for no more than the one before
    (Geyer, 1992): beyond lies noise. Infinite for a series that never moves.
    """
    rho = autocorrelation(series)
    if bool((rho == 1).all()):
        return float("inf")
    pairs = rho[: len(rho) // 2 * 2].view(-1, 2).sum(1)
    negative = (pairs <= 0).nonzero()
    pairs = pairs[: int(negative[0])] if len(negative) else pairs
    return max(1.0, float(2 * pairs.cummin(0).values.sum() - 1)) if len(pairs) else 1.0


def effective_draws(series: Tensor) -> float:
    """How many independent draws the draws of all chains are worth: their number by `autocorrelation_time`."""
    return series.numel() / autocorrelation_time(series)


def split_r_hat(series: Tensor) -> float:
    """The spread of all chains by the spread within their halves, 1 where they agree (Gelman et al., 2013, Section 11.4).

    Above 1.01 they have not forgotten where they began. Infinite where each stays put in a place of its own, NaN where none ever
    moved and all are in one place: that tells nothing.
    """
    x = _series(series, 8)
    half = x.shape[1] // 2
    within, total = _variances(torch.cat([x[:, :half], x[:, -half:]]))
    return float(torch.sqrt(total / within))


def classes_visited(labels: Tensor, classes: int) -> Tensor:
    """The share of its steps that each chain spends in each class, `(chains, classes)` float64, from labels `(chains, steps)`."""
    return torch.stack([torch.bincount(row.cpu(), minlength=classes).double() / len(row) for row in labels])


def label_changes(labels: Tensor) -> Tensor:
    """How often a step changes the label, `(chains,)` float64, from labels `(chains, steps)`."""
    return (labels[:, 1:] != labels[:, :-1]).double().mean(1)


def chain_labels(classifier: ScoredClassifier, images: Tensor) -> Tensor:
    """The class of each image `(chains, steps, *shape)` by a classifier whose own accuracy is known: `(chains, steps)`."""
    return classifier.predict(images.flatten(0, 1)).view(images.shape[:2])


# --- Chains of few states, as matrices -----------------------------------------------------------------------------------


def stationary(matrix: Tensor) -> Tensor:
    """The distribution `(S,)` that a transition matrix `(S, S)`, rows from and columns to, leaves unchanged: `p T = p`.

    Raises:
        ValueError: if the rows do not sum to one.
    """
    _check(matrix)
    size = len(matrix)
    system = torch.cat([matrix.T - torch.eye(size, dtype=matrix.dtype, device=matrix.device), matrix.new_ones(1, size)])
    right = torch.cat([matrix.new_zeros(size), matrix.new_ones(1)])
    return torch.linalg.lstsq(system, right).solution


def second_eigenvalue(matrix: Tensor) -> float:
    """The largest modulus of a transition matrix's eigenvalues but for the 1: by this factor a step forgets, in the long run.

    Raises:
        ValueError: if the rows do not sum to one.
    """
    _check(matrix)
    return float(torch.linalg.eigvals(matrix).abs().sort().values[-2])


def _check(matrix: Tensor) -> None:
    rows = matrix.sum(1)
    if matrix.dim() != 2 or len(matrix) != matrix.shape[1] or not torch.allclose(rows, torch.ones_like(rows), atol=1e-6):
        raise ValueError("a transition matrix is square, and each of its rows, from one state to all, sums to 1.")


def _series(series: Tensor, least: int) -> Tensor:
    if series.dim() != 2 or series.shape[1] < least:
        raise ValueError(f"a series is (chains, steps) with {least} steps or more, not {tuple(series.shape)}.")
    return series.detach().cpu().double()


def _variances(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean variance within chains, and the variance that they have together, each `()`."""
    n = x.shape[1]
    within = x.var(1).mean()
    between = x.mean(1).var() if len(x) > 1 else x.new_zeros(())
    return within, (n - 1) / n * within + between
