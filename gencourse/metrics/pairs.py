"""Distances between all pairs of two batches, a block of rows at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

# Entries of one block: 32 MB of float64.
BLOCK = 2**22


def as_rows(x: Tensor) -> Tensor:
    """Examples `(N, ...)` as rows of float64, `(N, D)`, without gradient; on the CPU where the device has no float64 (MPS)."""
    x = x.detach()
    return (x.cpu() if x.device.type == "mps" else x).flatten(1).double()


def two_sets(a: Tensor, b: Tensor, *, least: int = 2) -> tuple[Tensor, Tensor]:
    """Features `(N, F)` and `(M, F)` as float64 rows in one place, checked: finite, and `least` of them or more."""
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < least:
        raise ValueError(
            f"features must be (N, F) and (M, F) with N, M of {least} or more, not {tuple(a.shape)} and {tuple(b.shape)}."
        )
    a, b = as_rows(a), as_rows(b)
    if not (bool(torch.isfinite(a).all()) and bool(torch.isfinite(b).all())):
        raise ValueError("the features contain NaN or infinite values.")
    return a, b.to(a.device)


def squared_distances(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """Squared Euclidean distances of the rows `(N, D)` to the rows `(M, D)`, float64, in blocks `(n, M)` from the top.

    Of integers they are exact. Of real numbers they are sums of squared differences, not `a^2 + b^2 - 2ab`, which would
    lose the digits of two points close to each other.

    Raises:
        ValueError: if the rows of the two differ in length.
    """
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(f"distances need examples of one shape, not {tuple(a.shape[1:])} and {tuple(b.shape[1:])}.")
    whole = not a.is_floating_point() and not b.is_floating_point()
    rows = as_rows(a)
    # of many large images not even the float64 copies would fit: they are made a few at a time
    few = max(1, BLOCK // max(1, rows.shape[1]))
    for block in rows.split(max(1, BLOCK // max(1, len(b)))):
        yield torch.cat([_squares(block, as_rows(part).to(block.device), whole) for part in b.split(few)], dim=1)


def _squares(rows: Tensor, others: Tensor, whole: bool) -> Tensor:
    if whole:  # every term is an integer below 2^53, so that nothing is rounded
        return (rows**2).sum(1, keepdim=True) + (others**2).sum(1) - 2 * rows @ others.T
    return torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist").square()
