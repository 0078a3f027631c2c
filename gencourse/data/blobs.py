"""A world of three known factors: one bright blob on black, of some size, at some place. All of its images, or some.

Whether a code has one number for each factor can be measured here (`gencourse.metrics.disentanglement`).
The blob moves over twice as many places across as up and down: the factors differ in how much of a picture they change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gencourse import arguments
from gencourse.data.dataset import Dataset
from gencourse.space import Space

FACTORS = ("size", "x", "y")
SIZES, ACROSS, DOWN = 6, 16, 8
SIDE = 16
_NONE = torch.zeros(0, 3, dtype=torch.long, device="cpu")


@dataclass(frozen=True, repr=False)
class BlobDataset(Dataset):
    """A data set of drawn blobs, with the factors of each: int64 `(N, 3)`, columns in the order of `FACTORS`."""

    train_factors: Tensor = _NONE
    valid_factors: Tensor = _NONE
    test_factors: Tensor = _NONE


def every_factor() -> Tensor:
    """The factors of all 768 blobs, int64 `(768, 3)`: size 0..5, x 0..15, y 0..7, the last changing fastest."""
    grid = torch.meshgrid(*(torch.arange(n, device="cpu") for n in (SIZES, ACROSS, DOWN)), indexing="ij")
    return torch.stack(grid, dim=-1).reshape(-1, 3)


def draw_blobs(factors: Tensor) -> Tensor:
    """Draw a blob for each row of factors `(N, 3)`: uint8 `(N, 1, 16, 16)`.

    A blob is a bell `exp(-d^2 / 2r^2)` of the distance d from its centre, with r from 1 to 2.5 pixels, and its centre from 3.5 to
    12.5 across and from 6 to 10 down, pixels being at whole numbers and a half.

    Raises:
        ValueError: if a factor is out of its range.
    """
    most = torch.tensor([SIZES, ACROSS, DOWN], device="cpu") - 1
    if factors.dim() != 2 or factors.shape[1] != 3 or not bool(((factors >= 0) & (factors.cpu() <= most)).all()):
        raise ValueError(f"draw_blobs needs factors (N, 3) of size 0..5, x 0..15 and y 0..7, not {tuple(factors.shape)} such.")
    share = factors.cpu().double() / most  # (N, 3) in [0, 1]
    radius, x, y = 1 + 1.5 * share[:, 0], 3.5 + 9 * share[:, 1], 6 + 4 * share[:, 2]
    line = torch.arange(SIDE, dtype=torch.float64, device="cpu") + 0.5
    squared = (line.view(1, 1, -1) - x.view(-1, 1, 1)) ** 2 + (line.view(1, -1, 1) - y.view(-1, 1, 1)) ** 2  # (N, 16, 16)
    bell = torch.exp(-squared / (2 * radius.view(-1, 1, 1) ** 2))
    return (bell * 255).round().to(torch.uint8).unsqueeze(1)


def blobs(*, seed: int = 0) -> BlobDataset:
    """All 768 blobs on 256 levels, in an order drawn from `seed`: 80 % for training, 10 % for validation, 10 % for test.

    >>> blobs().train.shape
    torch.Size([616, 1, 16, 16])
    """
    factors = every_factor()
    generator = torch.Generator().manual_seed(arguments.seed("blobs: seed", seed))
    factors = factors[torch.randperm(len(factors), generator=generator)]
    images, held_out = draw_blobs(factors), len(factors) // 10
    cut = len(factors) - 2 * held_out
    parts = {"train": slice(cut), "valid": slice(cut, cut + held_out), "test": slice(cut + held_out, None)}
    tensors: dict[str, Any] = {part: images[where] for part, where in parts.items()}
    tensors |= {f"{part}_factors": factors[where] for part, where in parts.items()}
    return BlobDataset(name="blobs", space=Space((1, SIDE, SIDE), levels=256), **tensors)
