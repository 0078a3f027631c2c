"""A run is a folder: a model trained by a recipe, with everything that is needed to use it again.

`train` makes one, `load_run` reads it, `evaluate` judges its model. A run is rebuilt from what its `run.json` recorded. What
cannot be written down, such as a loss, is recorded by name and taken from the recipe, if that still has it.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch

from gencourse import catalog, checkpoint
from gencourse.catalog import Entry
from gencourse.data.dataset import Dataset
from gencourse.data.own import Pictures
from gencourse.kinds import GenerativeModel, Implicit
from gencourse.metrics.table import METRICS
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import History, cosine, fit

_LARGEST = 10**8  # numbers in an example; more is a damaged file
_MANY = 30_000_000  # parameters that a laptop takes long to train
_MOST_SAMPLES = 10**6  # more is a damaged file too
_OLD_RECORD = {"model": str, "recipe": str, "space": dict, "options": dict}  # what an earlier version wrote
_RECORD = {**_OLD_RECORD, "data": str | dict, "metric": str | None, "band": int | float | None, "samples": int}


def evaluate(model: GenerativeModel, recipe: Recipe, *, samples: int | None = None, seed: int = 0) -> dict[str, Any]:
    """The recipe's metric on its test set, with the standard error and the band.

    Raises:
        ValueError: if the recipe has no metric, or the metric comes out as no number.
    """
    if recipe.metric is None:
        raise ValueError(
            f"there is nothing to measure: {type(model).__name__} has no likelihood, and the images no labels; look at samples."
        )
    metric = METRICS[recipe.metric]
    estimate = metric.measure(model, recipe.load(), samples or recipe.samples, seed)
    if math.isnan(estimate.mean):
        raise ValueError(f"{recipe.metric} of {type(model).__name__} is not a number (nan); its weights are useless.")
    in_band = metric.reaches(estimate.mean, recipe.band)
    return {"metric": recipe.metric, **asdict(estimate), "band": recipe.band, "in_band": in_band}


def train(entry: Entry, recipe: Recipe, out: str | Path, **overrides: Any) -> tuple[GenerativeModel, History]:
    """Train a catalogue entry by a recipe and leave everything needed to use the model in the folder `out`.

    `model.pt` has the weights, `run.json` how to build and judge the model, `history.json` the curves, `checkpoint.pt` the
    means to resume. `overrides` replace arguments of `fit` (`steps`, `seed`, `device`, `resume`, ...).
    """
    out = Path(out).expanduser()
    dataset = recipe.load()
    settings = {**recipe.fit, **overrides}
    with torch.random.fork_rng():
        torch.manual_seed(settings.get("seed", 0))  # the initial weights
        model = entry.build(dataset.space, **recipe.options)
    parameters = sum(p.numel() for p in model.parameters())
    if isinstance(recipe.data, Pictures) and parameters > _MANY:
        warnings.warn(
            f"{entry.title} has {parameters / 1e6:.0f} million parameters for images of {dataset.space}, which takes long; "
            "smaller images make it smaller.",
            stacklevel=2,
        )
    history = fit(model, dataset, out=out, **settings)
    plain = {name: _plain(value) for name, value in settings.items() if isinstance(value, int | float | str | None | np.generic)}
    run = {
        "model": entry.name,
        "recipe": recipe.name,
        "space": {"shape": list(dataset.space.shape), "levels": dataset.space.levels},
        "options": {name: _plain(value) for name, value in recipe.options.items()},
        "fit": plain,
        "data": _data_record(recipe.data),
        "metric": recipe.metric,
        "band": recipe.band,
        "samples": recipe.samples,
    }
    checkpoint.save(out / "model.pt", {name: value.cpu() for name, value in model.state_dict().items()})
    checkpoint.write_json(out / "run.json", run)
    checkpoint.write_json(out / "history.json", history.to_dict())
    return model, history


def own_recipe(entry: Entry, pictures: Pictures, *, steps: int | None = None) -> Recipe:
    """How to train a model on pictures of one's own: its default options, and settings that are usual for its kind.

    Args:
        pictures: `gencourse.data.Pictures(folder, size=28)`.
        steps: of training; by default 2000.
    """
    implicit = issubclass(entry.cls, Implicit)
    rate: dict[str, Any] = {"lr": 2e-4} if implicit else {"lr": 1e-3, "schedule": cosine}
    size = min(100, len(pictures().train))
    return Recipe(
        "own",
        data=pictures,
        fit={"steps": steps or 2000, "batch_size": size, "ema": 0.999, **rate},
        metric=None if implicit else "bits_per_dim",
        samples=100,
        needs="what your pictures need",
    )


def load_run(folder: str | Path) -> tuple[GenerativeModel, Entry, Recipe]:
    """The model that `train` left in a folder, with its catalogue entry and the recipe as it was recorded.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
        ValueError: if a file is damaged or is of another model, or names what the recipe no longer has.
    """
    folder = Path(folder)
    path = folder / "run.json"
    if not path.is_file():
        if (folder / "checkpoint.pt").is_file():
            raise FileNotFoundError(
                f"{folder} holds a run that was not finished; the same `gencourse train` command with --resume goes on with it."
            )
        raise FileNotFoundError(f"{folder} holds no finished run (there is no run.json); train one with `gencourse train`.")
    try:
        run = _read(path)
        space, entry = Space(tuple(run["space"]["shape"]), run["space"]["levels"]), catalog.entry(run["model"])
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}).") from None
    recipe = _recorded(entry, run, path)
    try:
        model = entry.build(space, **recipe.options)
    except (TypeError, ValueError, RuntimeError, MemoryError, OverflowError, ArithmeticError, IndexError) as error:
        raise ValueError(f"{path}: no {entry.title} can be built as it says ({' '.join(str(error).split())[:200]}).") from None
    _load_weights(model, folder / "model.pt")
    return model, entry, recipe


def _read(path: Path) -> dict[str, Any]:
    """What a `run.json` says, each part of it of the kind that it should be.

    Raises:
        ValueError: what is wrong, as a part of a sentence.
    """
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("it is no JSON in UTF-8") from None
    if not isinstance(run, dict):
        raise ValueError("it holds no names and values")

    def expect(name: str, kinds: Any, value: Any) -> None:
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(f"its {name!r} cannot be {value!r}"[:200])

    for name, kinds in (_RECORD if "metric" in run else _OLD_RECORD).items():
        if name not in run:
            raise ValueError(f"it has no {name!r}")
        expect(name, kinds, run[name])
    if "shape" not in run["space"] or "levels" not in run["space"]:
        raise ValueError("its 'space' has no 'shape' or no 'levels'")
    shape = run["space"]["shape"]
    expect("shape", list, shape)
    if not all(isinstance(size, int) for size in shape) or math.prod(shape) > _LARGEST:
        raise ValueError(f"its 'shape' cannot be {shape!r}")
    if run.get("metric") not in (None, *METRICS):
        raise ValueError(f"there is no metric {run['metric']!r}; there are: {', '.join(METRICS)}")
    if "metric" in run and not 1 <= run["samples"] <= _MOST_SAMPLES:
        raise ValueError(f"its 'samples' cannot be {run['samples']!r}")
    if isinstance(record := run.get("data"), dict):
        wanted = ("images", "size", "grey", "seed", "fingerprint") if "images" in record else ("function",)
        if missing := [name for name in wanted if name not in record]:
            raise ValueError(f"its 'data' has no {missing[0]!r}")
    return run


def _load_weights(model: GenerativeModel, path: Path) -> None:
    """Load the weights, all of them finite real numbers."""
    weights = checkpoint.load(path)
    if not isinstance(weights, dict) or not all(isinstance(v, torch.Tensor) and not v.is_complex() for v in weights.values()):
        raise ValueError(f"{path} holds no weights; train the model anew.")
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise ValueError(f"{path} holds the weights of another architecture than run.json says.") from None
    wrong = sum(int((~torch.isfinite(value)).sum()) for value in model.parameters())
    wrong += sum(int(torch.isnan(value).sum()) for value in model.buffers())
    if wrong:
        raise ValueError(f"{path}: {wrong} of its weights are not finite (nan or inf); train the model anew.")


def _recorded(entry: Entry, run: dict[str, Any], path: Path) -> Recipe:
    """The recipe as `run.json` has it; what it has by name only is today's, if it still has that name."""
    today = next((recipe for recipe in entry.recipes if recipe.name == run["recipe"]), None)
    if today is None and "metric" not in run:
        entry.recipe(run["recipe"])  # says that there is none
    options = {}
    for name, value in run["options"].items():
        now = None if today is None else today.options.get(name)
        if value == _plain(now):
            options[name] = now
        elif _names_something(value):
            raise ValueError(
                f"{path}: the recipe {run['recipe']!r} of {entry.name} has changed since; its option {name} was {value!r}."
            )
        else:
            options[name] = _tuples(value)
    recipe = today or Recipe(str(run["recipe"]), data=_lost(path, "not recorded"))
    if "metric" not in run:  # written by an earlier version
        return replace(recipe, options=options)
    data = _recorded_data(run["data"], today, path)
    return replace(recipe, data=data, options=options, **{name: run[name] for name in ("metric", "band", "samples")})


def _recorded_data(record: Any, today: Recipe | None, path: Path) -> str | Callable[[], Dataset]:
    if isinstance(record, str):
        return record
    if "images" in record:
        return Pictures(record["images"], record["size"], record["grey"], record["seed"], record["fingerprint"])
    if today is not None and _data_record(today.data) == record:
        return today.data
    return _lost(path, repr(record["function"]))


def _data_record(data: str | Callable[[], Dataset]) -> Any:
    if isinstance(data, str):
        return data
    return data.record() if isinstance(data, Pictures) else {"function": _written(data)}


def _lost(path: Path, what: str) -> Callable[[], Dataset]:
    def load() -> Dataset:
        raise ValueError(f"{path}: the data of this run ({what}) are known only to the program that made them; evaluate there.")

    return load


def _plain(value: Any) -> Any:
    """An option as it is recorded: plain data by value, anything else by name."""
    return json.loads(json.dumps(value, default=_written))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _names_something(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list | dict) and any(map(_names_something, value)))


def _written(value: Any) -> Any:
    """How an option that is not plain data is recorded: a number by its value, anything else, such as a loss, by its name."""
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, partial):
        return f"{_written(value.func)}({', '.join(f'{name}={setting!r}' for name, setting in value.keywords.items())})"
    if isinstance(value, MethodType):
        return f"{value.__self__!r}.{value.__name__}"
    return str(getattr(value, "name", None) or getattr(value, "__name__", None) or type(value).__name__)
