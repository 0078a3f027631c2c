"""What a run of `fit` is told: its plan, checked before anything is trained."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gencourse import arguments
from gencourse.data import Dataset
from gencourse.kinds import Learner
from gencourse.space import Space

Pair = tuple[Tensor, Tensor | None]


@dataclass
class Plan:
    """The arguments of `fit`, as plain numbers: what every process of a run is told.

    Raises:
        ValueError: if one is out of range.
    """

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
    precision: str
    device: str
    devices: int
    micro_batches: int
    resident: bool
    out: Path | None
    checkpoint_every: int
    resume: bool
    callback: Callable[[int, Learner], None] | None
    progress: bool

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "devices", "checkpoint_every"):
            setattr(self, name, arguments.positive_integer(f"fit: {name}", getattr(self, name)))
        defaults = {"validate_every": max(1, self.steps // 20), "micro_batches": self.devices}
        for name, default in defaults.items():
            given = getattr(self, name)
            setattr(self, name, default if given is None else arguments.positive_integer(f"fit: {name}", given))
        self.lr = arguments.positive("fit: lr", self.lr)
        seed = arguments.integer(self.seed)
        if seed is None:
            raise ValueError(f"fit: seed must be an integer, not {self.seed!r}.")
        self.seed = seed
        if self.ema is not None:
            self.ema = arguments.positive("fit: ema", self.ema)
            if self.ema >= 1:
                raise ValueError(f"fit: ema must lie between 0 and 1, such as 0.999, not {self.ema!r}.")
        if self.clip is not None:
            self.clip = arguments.positive("fit: clip", self.clip)
        self.keep_best, self.resident, self.resume = bool(self.keep_best), bool(self.resident), bool(self.resume)
        for name, example in {"schedule": "cosine", "optimizer": "torch.optim.Adam"}.items():
            if not callable(getattr(self, name)):
                raise ValueError(f"fit: {name} must be a function such as {example}, not {getattr(self, name)!r}.")
        for name in ("augment", "callback"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise ValueError(f"fit: {name} must be a function or None, not {getattr(self, name)!r}.")
        self.rate(0.0)
        if self.out is not None:
            try:
                self.out = Path(self.out).expanduser()
            except (TypeError, RuntimeError):
                raise ValueError(f"fit: out must be the path of a folder, not {self.out!r}.") from None

    def rate(self, progress: float) -> float:
        """What the schedule multiplies the learning rates by, at a progress in [0, 1).

        Raises:
            ValueError: if the schedule gives no finite number.
        """
        factor = self.schedule(progress)
        try:
            number = float(factor)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"fit: schedule({progress:g}) must be a finite number, to multiply the rate by, not {factor!r}.")
        return number

    def check(self, space: Space) -> None:
        """Look at the data before anything is trained.

        Raises:
            TypeError, ValueError: if they are not of the space, or too few.
        """
        if self.valid is not None and len(self.valid[0]) == 0:
            raise ValueError("fit: there are 0 validation examples; leave valid out to train without validation.")
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

    def told(self) -> dict[str, Any]:
        """What others may want to know of the run while it is at work."""
        return {name: getattr(self, name) for name in ("steps", "batch_size", "lr", "seed")}


def parts(data: "Dataset | Tensor | Pair", valid: "Tensor | Pair | None", conditional: bool) -> tuple[Pair, Pair | None]:
    """The training and the validation part of what `fit` was given, `(N, *shape)`, each with its conditions `(N, ...)`, if any.

    Raises:
        TypeError: if `data` is nothing that `fit` takes.
        ValueError: if a `Dataset` without labels is to be conditioned on them.
    """
    if isinstance(data, Dataset):
        if conditional and data.train_labels is None:
            raise ValueError(f"fit: the data set {data.name!r} has no labels to condition on.")
        labels = (data.train_labels, data.valid_labels) if conditional else (None, None)
        if valid is None and len(data.valid):
            valid = (data.valid, labels[1])
        data = (data.train, labels[0])
    elif not isinstance(data, Tensor | tuple):
        raise TypeError(
            f"fit: data must be a Dataset, a tensor, or a pair (examples, conditions), not {type(data).__name__}; "
            "torch.from_numpy(x) makes a tensor of an array."
        )
    return _pair(data), None if valid is None else _pair(valid)


def _pair(data: Tensor | Pair) -> Pair:
    x, context = data if isinstance(data, tuple) else (data, None)
    return (x.detach() if isinstance(x, Tensor) else x), context
