"""What a data set is, below everything that makes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gencourse.space import Space


class Density(Protocol):
    """What points were drawn from, where it is known."""

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density at the points `x` `(n, D)`: `(n,)`, nats."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test examples of one space.

    Attributes:
        name: as given to `load`.
        space: where the examples live.
        train, valid, test: uint8 images `(N, C, H, W)`, or points `(N, D)` where the space is real-valued.
        train_labels, valid_labels, test_labels: int64 `(N,)`, or None.
        augment: applied to each training batch by `fit`, or None. Random binarisation, say.
        density: the density that points were drawn from, one of `gencourse.data.toys`; None where nobody knows it.
    """

    name: str
    space: Space
    train: Tensor
    valid: Tensor
    test: Tensor
    train_labels: Tensor | None = None
    valid_labels: Tensor | None = None
    test_labels: Tensor | None = None
    augment: Callable[[Tensor], Tensor] | None = None
    density: Density | None = None

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {self.space}, train={len(self.train)}, valid={len(self.valid)}, test={len(self.test)})"
