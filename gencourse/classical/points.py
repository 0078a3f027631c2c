"""What the methods of this folder take: points."""

import torch
from torch import Tensor

from gencourse.metrics.pairs import as_rows


def points(what: str, x: Tensor, *, least: int = 1, dim: int | None = None) -> Tensor:
    """The points `(N, D)` in float64, without gradient; `what` is how an error begins, such as `"KMeans.fit"`.

    Args:
        least: how many there must be.
        dim: the D that they must have, if it is known.

    Raises:
        TypeError: if these are no floating-point numbers.
        ValueError: if the shape is another, there are too few, or one is not finite.
    """
    if not (isinstance(x, Tensor) and x.is_floating_point()):
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{what} expects points as a tensor of floats, not {kind}; of images, space.to_unit(x).flatten(1).")
    if x.dim() != 2 or x.shape[1] < 1 or (dim is not None and x.shape[1] != dim):
        shape = "(N, D)" if dim is None else f"(N, {dim})"
        raise ValueError(f"{what} expects points {shape}, but the tensor has shape {tuple(x.shape)}.")
    if len(x) < least:
        raise ValueError(f"{what} needs {least} points or more, not {len(x)}.")
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{what}: some coordinates are NaN or infinite.")
    return as_rows(x)
