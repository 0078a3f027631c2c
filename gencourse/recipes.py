"""A recipe is an experiment: a data set, a model's options, a budget, and the band its result must fall in.

A model's file ends in its recipes. What trains and judges by them is in `gencourse.runs`, above the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gencourse import data
from gencourse.data.dataset import Dataset


@dataclass(frozen=True)
class Recipe:
    """How to train and judge a model on one data set.

    Args:
        name: as on the command line.
        data: the name of a data set, or a function that makes one.
        options: the model's keyword arguments.
        fit: the keyword arguments of `gencourse.train.fit`.
        metric: what `evaluate` reports, one of `METRICS`: "nll" (nats per image), "bits_per_dim"; of models without a density,
            "mode_overlap" on points with known modes (1 is perfect), "frechet_ratio" on labelled images (1 is the floor).
        band: the worst value of the metric on the test set that the recipe must reach.
        samples: draws for each example where the likelihood is estimated; of a model without one, examples to judge.
            None: there is nothing to report (a model without a density, on images without labels).
        needs: the machine and time it is meant for.
        quick: whether `make test` trains it and looks whether the band is reached; the weekly tests do so for every band.
    """

    name: str
    data: str | Callable[[], Dataset]
    options: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    metric: str | None = "nll"
    band: float | None = None
    samples: int = 1000
    needs: str = "two CPU cores, a minute"
    quick: bool = False

    def load(self) -> Dataset:
        """The data set."""
        return data.load(self.data) if isinstance(self.data, str) else self.data()


def __getattr__(name: str) -> Any:
    """`train`, `evaluate`, `load_run` and `METRICS`, which stand above this file, by the names they have always had here."""
    import importlib

    if name in ("train", "evaluate", "load_run", "METRICS"):
        return getattr(importlib.import_module("gencourse.metrics.table" if name == "METRICS" else "gencourse.runs"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
