"""What a run of `fit` is told: its plan, checked before anything is trained."""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gencourse.kinds import GenerativeModel
from gencourse.space import Space

Pair = tuple[Tensor, Tensor | None]


@dataclass
class Plan:
    """The arguments of `fit`: what every process of a run is told."""

    train: Pair
    valid: Pair | None
    augment: Callable[[Tensor], Tensor] | None
    steps: int
    batch_size: int
    lr: float
    seed: int
    optimizer: Callable[..., torch.optim.Optimizer]
    schedule: Callable[[float], float]
    clip: float | None
    ema: float | None
    keep_best: bool
    validate_every: int
    devices: int
    micro_batches: int
    resident: bool
    out: Path | None
    checkpoint_every: int
    resume: bool
    callback: Callable[[int, GenerativeModel], None] | None
    progress: bool

    def check(self, space: Space) -> None:
        """Raise one clear sentence if an argument is out of range or the data are not of the space."""
        for name in ("steps", "batch_size", "devices", "micro_batches", "validate_every", "checkpoint_every"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"fit: {name} must be a positive integer, not {value!r}.")
        if not (isinstance(self.lr, int | float) and math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"fit: lr must be a positive number, not {self.lr!r}.")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"fit: ema must lie between 0 and 1, such as 0.999, not {self.ema!r}.")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"fit: clip must be a positive norm, or None, not {self.clip!r}.")
        for part in (self.train, self.valid):
            if part is None:
                continue
            x, context = part
            if part is self.train and self.augment is not None:
                with torch.random.fork_rng():
                    space.validate(self.augment(x[:64]))
            else:
                space.validate(x)
            if context is not None and len(context) != len(x):
                raise ValueError(f"fit: {len(x)} examples, but {len(context)} conditions.")
        n = len(self.train[0])
        if self.batch_size > n:
            raise ValueError(f"fit: batch_size is {self.batch_size}, but there are only {n} training examples.")
        if self.batch_size % self.micro_batches or self.micro_batches % self.devices:
            raise ValueError(
                f"fit: {self.micro_batches} micro-batches must divide the batch of {self.batch_size} "
                f"and be shared evenly by {self.devices} device(s)."
            )
        if self.out and self.out.exists() and not self.out.is_dir():
            raise NotADirectoryError(f"fit: out must be a folder, but {self.out} is a file.")
        if self.out and (self.out / "checkpoint.pt").exists() and not self.resume:
            raise FileExistsError(
                f"fit: {self.out} already holds a run; pass resume=True to continue it, or choose another folder."
            )

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a run to continue another."""
        x = self.train[0]
        same = ["batch_size", "lr", "seed", "clip", "ema", "keep_best", "micro_batches"]
        constant_rate = self.schedule(0.0) == self.schedule(0.5) == self.schedule(1.0)  # such a run may go on for longer
        if not constant_rate:
            same += ["steps", "validate_every"]
        return {
            "schedule": getattr(self.schedule, "__name__", "a function"),
            **{name: getattr(self, name) for name in same},
            "data": f"{tuple(x.shape)} crc32={zlib.crc32(x.cpu().contiguous().numpy().tobytes()):08x}",
        }


def pair(data: Tensor | Pair) -> Pair:
    """Examples and their conditions, if there are any."""
    return data if isinstance(data, tuple) else (data, None)
