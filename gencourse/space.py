"""Where the data live: images of integers, or real-valued points.

A model is built on a `Space`. It takes and returns integer images of that space, so that any two models of the same
space can be compared in nats per image, whatever scaling or dequantisation they do inside.
"""

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from gencourse.arguments import integer

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Space:
    """The set a model's data come from.

    Args:
        shape: the shape of one example: `(C, H, W)` for images, `(D,)` for points.
        levels: the number of grey levels, 2 or more: pixels are the integers `0 .. levels - 1`.
            None for real-valued points.

    Raises:
        ValueError: if the shape is empty or not positive, or `levels` is less than 2.

    >>> space = Space((1, 2, 2), levels=3)
    >>> space.dim, space.is_discrete
    (4, True)
    >>> x = torch.tensor([[[[0, 1], [2, 1]]]])
    >>> space.validate(x).shape
    torch.Size([1, 1, 2, 2])
    >>> space.validate(x + 1)
    Traceback (most recent call last):
    ValueError: Space((1, 2, 2), levels=3) expects integers 0..2, but the tensor has values 1..3.
    """

    shape: tuple[int, ...]
    levels: int | None = None

    def __post_init__(self) -> None:
        shape = tuple(map(integer, self.shape)) if isinstance(self.shape, Iterable) else ()  # a list is welcome too
        if not shape or any(n is None or n < 1 for n in shape):
            raise ValueError(f"Space: shape must be a tuple of positive integers such as (1, 28, 28), not {self.shape}.")
        levels = integer(self.levels)
        if self.levels is not None and (levels is None or levels < 2):
            raise ValueError(f"Space: levels must be an integer of 2 or more, or None for real values, not {self.levels}.")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "levels", levels)

    @property
    def dim(self) -> int:
        """The number of pixels, colour channels counted apart, or of coordinates."""
        return math.prod(self.shape)

    @property
    def is_discrete(self) -> bool:
        """True for images of integers."""
        return self.levels is not None

    def validate(self, x: Tensor, *, values: bool = True) -> Tensor:
        """Return `x` unchanged if it is a batch of this space, `(B, *shape)`.

        Args:
            values: False looks at the kind and the shape alone. Looking at the values makes a GPU wait, so models leave it
                to `fit`, `nll` and whoever is in doubt.

        Raises:
            TypeError: if the numbers are of the wrong kind (floats where integers belong, or the reverse).
            ValueError: if the shape is wrong, or a value is outside `0 .. levels - 1` or not finite.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"{self} expects a torch.Tensor of shape (B, {self._dims()}), not {type(x).__name__}.")
        if tuple(x.shape[1:]) != self.shape or x.dim() != len(self.shape) + 1:
            raise ValueError(f"{self} expects a batch of shape (B, {self._dims()}), but the tensor has shape {tuple(x.shape)}.")
        if self.levels is None:
            if not x.is_floating_point():
                raise TypeError(f"{self} expects real values, but the tensor is {x.dtype}; convert it with x.float().")
            if values and not bool(torch.isfinite(x).all()):
                raise ValueError(f"{self}: the data contain NaN or infinite values.")
            return x
        if x.is_floating_point() or x.is_complex():
            raise TypeError(
                f"{self} expects integers 0..{self.levels - 1}, but the tensor is {x.dtype}; "
                "for pixels scaled to [0, 1], space.from_unit(x) gives them back."
            )
        if values and x.numel():
            numbers = x.long() if x.dtype in (torch.uint16, torch.uint32, torch.uint64) else x  # these have no minimum
            low, high = int(numbers.min()), int(numbers.max())
            if not 0 <= low <= high < self.levels:
                raise ValueError(f"{self} expects integers 0..{self.levels - 1}, but the tensor has values {low}..{high}.")
        return x

    def to_unit(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Map grey levels of any shape linearly to [0, 1]: `x / (levels - 1)`.

        Args:
            dtype: of the result; None takes torch's default float type.

        Raises:
            ValueError: if the space has no grey levels; so do `from_unit`, `dequantize`, `quantize` and `bits_per_dim`.

        >>> Space((3,), levels=3).to_unit(torch.tensor([[0, 1, 2]]))
        tensor([[0.0000, 0.5000, 1.0000]])
        """
        return x.to(dtype or torch.get_default_dtype()) / (self._levels("to_unit") - 1)

    def to_signed(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """What networks are given: grey levels scaled linearly to [-1, 1], points as they are; the shape of `x`.

        Args:
            dtype: of the result; None takes torch's default float type.
        """
        y = x.to(dtype or torch.get_default_dtype())
        return y if self.levels is None else y * (2 / (self.levels - 1)) - 1

    def from_signed(self, y: Tensor) -> Tensor:
        """The nearest examples to what a network gives, the shape of `y`; the inverse of `to_signed`.

        Raises:
            ValueError: if there is NaN among the grey levels.
        """
        return y if self.levels is None else self.from_unit((y + 1) / 2)

    def from_unit(self, u: Tensor) -> Tensor:
        """Map [0, 1] to the nearest grey level (int64), the same shape; the exact inverse of `to_unit` on integers.

        Values outside [0, 1] are clamped.

        Raises:
            ValueError: if a value is NaN.
        """
        levels = self._levels("from_unit")
        if bool(torch.isnan(u).any()):
            raise ValueError(f"{self}.from_unit: the picture contains NaN.")
        return (u.clamp(0, 1) * (levels - 1)).round().long()

    def dequantize(self, x: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Add uniform noise to the integers: `y = (x + u) / levels`, with u uniform on [0, 1).

        If `log p(y)` is a density of y, then `log p(y) + log_det` is, in expectation over u, a lower bound on the log of
        the probability *mass* of x (Theis, van den Oord and Bethge, 2016, https://arxiv.org/abs/1511.01844).

        Returns:
            `y`: in [0, 1), the shape of x, float32 even where torch's default type is shorter: sixteen bits would put points
            into other cells.  `log_det`: `(B,)`, nats, equal to `-dim * log(levels)`.
        """
        levels = self._levels("dequantize")
        dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
        u = torch.rand(x.shape, generator=generator, device=x.device, dtype=dtype)
        # Two rounding errors could carry a point over the edge of its cell; keep it inside by as much.
        margin = 2 * torch.finfo(dtype).eps
        low, high = x.to(dtype) * (1 + margin), (x.to(dtype) + 1) * (1 - margin)
        y = torch.clamp(x + u, low, high) / levels
        return y, y.new_full((len(x),), -self.dim * math.log(levels))

    def quantize(self, y: Tensor) -> Tensor:
        """Undo `dequantize`: the cell of [0, 1) that y is in, as int64, the shape of `y`; values outside are clamped."""
        levels = self._levels("quantize")
        return (y * levels).floor().long().clamp(0, levels - 1)

    def bits_per_dim(self, log_prob: Tensor) -> Tensor:
        """Bits per dimension of log-probabilities in nats: `-log_prob / (dim * log 2)`, the same shape.

        A uniform model of 8-bit images scores exactly 8.

        >>> space = Space((1, 28, 28), levels=256)
        >>> float(space.bits_per_dim(torch.tensor(-space.dim * math.log(256), dtype=torch.float64)))
        8.0
        """
        self._levels("bits_per_dim")
        return -log_prob / (self.dim * math.log(2))

    def _levels(self, what: str) -> int:
        if self.levels is None:
            raise ValueError(f"{what} needs grey levels, but {self} is real-valued.")
        return self.levels

    def _dims(self) -> str:
        return ", ".join(map(str, self.shape))

    def __str__(self) -> str:
        return f"Space({self.shape}, levels={self.levels})" if self.is_discrete else f"Space({self.shape})"


def on_cpu(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, in which the CPU is torch's default device, whatever it is where it is called from."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.device("cpu"):
            return function(*args, **kwargs)

    return called
