"""The metrics by which recipes are judged, each once: how it is measured, its unit, and which side of a band is right."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencourse.data.captions import facts
from gencourse.data.dataset import Dataset
from gencourse.data.scenes import COLOURS, SHAPES
from gencourse.kinds import GenerativeModel
from gencourse.metrics.frechet import frechet_to
from gencourse.metrics.likelihood import Estimate, nll
from gencourse.metrics.modes import mode_report
from gencourse.metrics.scenes import facts_right, fills, relations_right, striped


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
    batch = max(1, min(200, 200_000 // model.space.dim))  # large images in smaller batches: an estimate holds 50 draws of each
    return nll(model, dataset.test, samples=samples, batch_size=batch, seed=seed)


def _bits_per_dim(model: GenerativeModel, dataset: Dataset, samples: int, seed: int) -> Estimate:
    return _nll(model, dataset, samples, seed).bits_per_dim(model.space)


def _mode_overlap(model: GenerativeModel, dataset: Dataset, samples: int, seed: int) -> Estimate:
    """On an equal mixture of round Gaussians: 1 is perfect, and a missing mode of K costs 1/K."""
    mixture: Any = dataset.density
    if not hasattr(mixture, "centres"):
        raise ValueError(f"mode_overlap is for data with known modes, which {dataset.name!r} has not.")
    overlap = mode_report(_draw(model, dataset, samples, seed), mixture.centres, mixture.sd).overlap
    return Estimate(overlap, math.sqrt(overlap * (1 - overlap) / samples), samples)


def _frechet_ratio(model: GenerativeModel, dataset: Dataset, samples: int, seed: int) -> Estimate:
    """The mean over disjoint sets of samples, each as large as the test set, and its standard error."""
    n = min(len(dataset.test), len(dataset.train))
    parts = _draw(model, dataset, max(2, samples // n) * n, seed).split(n)
    ratios = torch.tensor([frechet_to(dataset, part).ratio for part in parts], dtype=torch.float64)
    return Estimate(float(ratios.mean()), float(ratios.std()) / math.sqrt(len(parts)), n * len(parts))


def _captions_right(model: GenerativeModel, dataset: Dataset, samples: int, seed: int) -> Estimate:
    """The share of pictures that show all four facts of their captions, by a reader that needs no training."""
    scenes: Any = getattr(dataset, "test_scenes", None)
    tokens = dataset.test_labels
    if scenes is None or tokens is None or tokens.dim() != 2:
        raise ValueError(f"captions_right is for drawn scenes with captions, which {dataset.name!r} has not.")
    shapes = [SHAPES[number] for number in scenes.shape.unique().tolist()]
    asked = facts(conditions(model, dataset, samples).cpu())  # type: ignore[union-attr]
    right = facts_right(_draw(model, dataset, samples, seed), asked, shapes=shapes).all(1).double()
    return Estimate(float(right.mean()), float(right.std()) / math.sqrt(samples), samples)


def _palette_share(model: GenerativeModel, dataset: Dataset, samples: int, seed: int) -> Estimate:
    """The share of the test scenes that are filled, as a whole, in one of the colours that there are in training."""
    scenes = _test_scenes(dataset, "palette_share")
    colours = [COLOURS[number] for number in scenes.colour.unique().tolist()]
    return _share(fills(_draw(model, dataset, len(scenes), seed), scenes, colours=colours).whole)


def _stripes_inside(model: GenerativeModel, dataset: Dataset, samples: int, seed: int) -> Estimate:
    """The share of the pixels inside the test scenes that are as in the nearest phase of the stripes."""
    scenes = _test_scenes(dataset, "stripes_inside")
    return _share(striped(_draw(model, dataset, len(scenes), seed), scenes).inside)


def _translation_error(model: GenerativeModel, dataset: Dataset, samples: int, seed: int) -> Estimate:
    """The mean absolute error of translations of the test pictures, on [-1, 1], in the worse of the two directions."""
    translator: Any = model
    if not hasattr(translator, "translate") or dataset.test_labels is None:
        raise ValueError(f"translation_error is for translators both ways and known pairs, not {type(model).__name__}.")
    x, y = dataset.test.to(model.device), dataset.test_labels.to(model.device)
    pairs = ((translator.translate(x), y, translator.other), (translator.back(y), x, model.space))
    errors = [(space.to_signed(made) - space.to_signed(true)).abs().flatten(1).mean(1).cpu() for made, true, space in pairs]
    return max(map(_share, errors), key=lambda estimate: estimate.mean)


def _test_scenes(dataset: Dataset, metric: str) -> Any:
    scenes = getattr(dataset, "test_scenes", None)
    if scenes is None:
        raise ValueError(f"{metric} is for drawn scenes that are known, which {dataset.name!r} has not.")
    return scenes


def _share(values: Tensor) -> Estimate:
    values = values.double()
    return Estimate(float(values.mean()), float(values.std()) / math.sqrt(len(values)), len(values))


def _relations_right(model: GenerativeModel, dataset: Dataset, samples: int, seed: int) -> Estimate:
    """The share of a graph's triples that its picture obeys, by a reader that needs no training."""
    graphs = dataset.test_labels
    if graphs is None or graphs.dim() != 3:
        raise ValueError(f"relations_right is for drawn scenes with scene graphs, which {dataset.name!r} has not.")
    given: Any = conditions(model, dataset, samples)
    right = relations_right(_draw(model, dataset, samples, seed), given.cpu()).nanmean(1).double()
    return Estimate(float(right.mean()), float(right.std()) / math.sqrt(samples), samples)


def _draw(model: GenerativeModel, dataset: Dataset, n: int, seed: int) -> Tensor:
    generator = torch.Generator(device=model.device).manual_seed(seed)
    return model.sample(n, conditions(model, dataset, n), generator=generator).cpu()


def conditions(model: GenerativeModel, dataset: Dataset, n: int) -> Tensor | None:
    """The conditions of the test examples, `(n, ...)`, as often as `n` asks for; None for a model that takes none.

    Raises:
        ValueError: if the model needs conditions and the data have none.
    """
    if model.example_context(1) is None:
        return None
    if dataset.test_labels is None:
        raise ValueError(f"{type(model).__name__} is conditional, and {dataset.name!r} has no conditions to sample with.")
    given = dataset.test_labels
    return given[torch.arange(n, device=given.device) % len(given)].to(model.device)


#: What a recipe's `metric` may name.
METRICS = {
    "nll": Metric(_nll, "nats", decimals=2),
    "bits_per_dim": Metric(_bits_per_dim, "bits/dim"),
    "mode_overlap": Metric(_mode_overlap, higher_is_better=True),
    "frechet_ratio": Metric(_frechet_ratio, decimals=2),
    "captions_right": Metric(_captions_right, higher_is_better=True),
    "relations_right": Metric(_relations_right, higher_is_better=True),
    "palette_share": Metric(_palette_share, higher_is_better=True),
    "stripes_inside": Metric(_stripes_inside, higher_is_better=True),
    "translation_error": Metric(_translation_error),
}
