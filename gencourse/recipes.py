"""A recipe is an experiment: a data set, a model's options, a budget, and the band its result must fall in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from gencourse import checkpoint, data
from gencourse.space import Space
from gencourse.train import History, fit

if TYPE_CHECKING:
    from gencourse.catalog import Entry
    from gencourse.data import Dataset
    from gencourse.kinds import GenerativeModel
    from gencourse.metrics.likelihood import Estimate


class Metric(NamedTuple):
    """How a trained model is judged.

    Attributes:
        measure: `measure(model, dataset, samples, seed)` gives an estimate on the test part, with its standard error.
        unit: of its numbers; empty for a ratio.
        decimals: how many are worth printing.
        higher_is_better: which side of the band is the right one.
    """

    measure: Callable[[GenerativeModel, Dataset, int, int], Estimate]
    unit: str = ""
    decimals: int = 3
    higher_is_better: bool = False

    @property
    def sign(self) -> str:
        """How a value in the band compares with the band."""
        return ">=" if self.higher_is_better else "<="

    def reaches(self, value: float, band: float | None) -> bool:
        """Whether a value is in the band; everything is, where there is none."""
        return band is None or (value >= band if self.higher_is_better else value <= band)


def _nll(model: GenerativeModel, dataset: Dataset, samples: int, seed: int) -> Estimate:
    from gencourse.metrics.likelihood import nll

    return nll(model, dataset.test, samples=samples, seed=seed)


def _bits_per_dim(model: GenerativeModel, dataset: Dataset, samples: int, seed: int) -> Estimate:
    return _nll(model, dataset, samples, seed).bits_per_dim(model.space)


def _mode_overlap(model: GenerativeModel, dataset: Dataset, samples: int, seed: int) -> Estimate:
    """On an equal mixture of round Gaussians: 1 is perfect, and a missing mode of K costs 1/K."""
    from gencourse.metrics.likelihood import Estimate
    from gencourse.metrics.modes import mode_report

    mixture: Any = dataset.density
    overlap = mode_report(_draw(model, samples, seed), mixture.centres, mixture.sd).overlap
    return Estimate(overlap, math.sqrt(overlap * (1 - overlap) / samples), samples)


def _frechet_ratio(model: GenerativeModel, dataset: Dataset, samples: int, seed: int) -> Estimate:
    """The mean over disjoint sets of samples, each as large as the test set, and its standard error."""
    from gencourse.metrics.frechet import frechet_to
    from gencourse.metrics.likelihood import Estimate

    n = min(len(dataset.test), len(dataset.train))
    parts = _draw(model, max(2, samples // n) * n, seed).split(n)
    ratios = torch.tensor([frechet_to(dataset, part).ratio for part in parts], dtype=torch.float64)
    return Estimate(float(ratios.mean()), float(ratios.std()) / math.sqrt(len(parts)), n * len(parts))


def _draw(model: GenerativeModel, n: int, seed: int) -> Tensor:
    return model.sample(n, generator=torch.Generator(device=model.device).manual_seed(seed)).cpu()


#: What a recipe's `metric` may name.
METRICS = {
    "nll": Metric(_nll, "nats", decimals=2),
    "bits_per_dim": Metric(_bits_per_dim, "bits/dim"),
    "mode_overlap": Metric(_mode_overlap, higher_is_better=True),
    "frechet_ratio": Metric(_frechet_ratio, decimals=2),
}


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
        needs: the machine and time it is meant for.
    """

    name: str
    data: str | Callable[[], Dataset]
    options: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    metric: str = "nll"
    band: float | None = None
    samples: int = 1000
    needs: str = "two CPU cores, a minute"

    def load(self) -> Dataset:
        """The data set."""
        return data.load(self.data) if isinstance(self.data, str) else self.data()


def evaluate(model: GenerativeModel, recipe: Recipe, *, samples: int | None = None, seed: int = 0) -> dict[str, Any]:
    """The recipe's metric on its test set, with the standard error and the band."""
    metric = METRICS[recipe.metric]
    estimate = metric.measure(model, recipe.load(), samples or recipe.samples, seed)
    in_band = metric.reaches(estimate.mean, recipe.band)
    return {"metric": recipe.metric, **asdict(estimate), "band": recipe.band, "in_band": in_band}


def train(entry: Entry, recipe: Recipe, out: str | Path, **overrides: Any) -> tuple[GenerativeModel, History]:
    """Train a catalogue entry by a recipe and leave everything needed to use the model in the folder `out`.

    `model.pt` has the weights, `run.json` how to build the model, `history.json` the curves, `checkpoint.pt` the means to
    resume. `overrides` replace arguments of `fit` (`steps`, `seed`, `device`, `resume`, ...).
    """
    out = Path(out)
    dataset = recipe.load()
    settings = {**recipe.fit, **overrides}
    with torch.random.fork_rng():
        torch.manual_seed(settings.get("seed", 0))  # the initial weights
        model = entry.build(dataset.space, **recipe.options)
    history = fit(model, dataset, out=out, **settings)
    space = {"shape": list(dataset.space.shape), "levels": dataset.space.levels}
    plain = {name: value for name, value in settings.items() if isinstance(value, int | float | str | None)}
    options = {name: json.loads(json.dumps(value, default=_written)) for name, value in recipe.options.items()}
    run = {"model": entry.name, "recipe": recipe.name, "space": space, "options": options, "fit": plain}
    checkpoint.save(out / "model.pt", {name: value.cpu() for name, value in model.state_dict().items()})
    checkpoint.write_json(out / "run.json", run)
    checkpoint.write_json(out / "history.json", history.to_dict())
    return model, history


def load_run(folder: str | Path) -> tuple[GenerativeModel, Entry, Recipe]:
    """The model that `train` left in a folder, with its catalogue entry and recipe.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
        ValueError: if a file is damaged or is of another model.
    """
    from gencourse import catalog

    folder = Path(folder)
    path = folder / "run.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no finished run (there is no run.json); train one with `gencourse train`.")
    try:
        run = json.loads(path.read_text())
        space = Space(tuple(run["space"]["shape"]), run["space"]["levels"])
        entry = catalog.entry(run["model"])
        recipe = entry.recipe(run["recipe"])
        if run["options"].keys() != recipe.options.keys():
            raise ValueError(f"{path}: the recipe {recipe.name!r} of {entry.name} has changed since; its options are others.")
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}).") from None
    model = entry.build(space, **recipe.options)
    try:
        model.load_state_dict(checkpoint.load(folder / "model.pt"))
    except RuntimeError:
        raise ValueError(f"{folder / 'model.pt'} holds the weights of another architecture than run.json says.") from None
    return model, entry, recipe


def _written(value: Any) -> str:
    """How an option that is not plain data, such as a loss, is recorded."""
    return str(getattr(value, "name", None) or getattr(value, "__name__", None) or type(value).__name__)
