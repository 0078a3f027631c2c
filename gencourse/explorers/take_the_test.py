"""A test of one reader in the page: real digits or samples of the course's models? (HYPE; Zhou et al., 2019; slide 128)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gencourse import data
from gencourse.adversarial import biggan, dcgan, gan
from gencourse.data.dataset import Dataset
from gencourse.explorers.base import Explorer
from gencourse.explorers.gibbs_sampling import stream
from gencourse.metrics.answers import FORMAT
from gencourse.metrics.hype import Staircase
from gencourse.space import Space
from gencourse.train import fit
from gencourse.viz.theme import Picture


class TakeTheTest(Explorer):
    """Say of pictures whether they are real or generated: HYPE-infinity without limits of time, HYPE-time for some milliseconds.

    Half of the pictures are real, in an order of `order`. The score comes at the end; nothing leaves the browser. The page saves
    the answers in the format of `gencourse.metrics.answers`, and counts them as `gencourse.metrics.hype` does.

    Args:
        real: real images `(N, 1, H, W)` of grey levels; None takes the digits and samples of `pictures`.
        fakes: each model's samples, `(M, 1, H, W)`, by name.
        names: of the real images; None counts them.
        levels: how many grey levels there are.
        staircase: of exposures; its start and bounds in milliseconds.
        last: how many answers the score of HYPE-time is the mean exposure of.
        seed: of the order, see `one_pixel_at_a_time.uniforms`.

    Raises:
        ValueError: if the images do not fit, there are too few, or the seed is out of range.
    """

    module: ClassVar[Path] = Path(__file__).with_name("take_the_test.js")
    helpers: ClassVar[tuple[Path, ...]] = (Path(__file__).with_name("plane.js"), Path(__file__).with_name("pixels.js"))

    def __init__(
        self,
        real: Tensor | None = None,
        fakes: Mapping[str, Tensor] | None = None,
        *,
        names: Sequence[str] | None = None,
        levels: int = 17,
        staircase: Staircase | None = None,
        last: int = 50,
        seed: int = 0,
    ) -> None:
        if (real is None) != (fakes is None):
            raise ValueError("TakeTheTest needs real images and fakes, or neither, for those that come with the package.")
        if real is None or fakes is None:
            real, fakes, names, _ = pictures()
        names = [f"real-{i:03d}" for i in range(len(real))] if names is None else list(names)
        if not 2 <= levels <= 36:
            raise ValueError(f"TakeTheTest: levels must be in 2..36, as the page is sent one character a pixel, not {levels}.")
        if real.dim() != 4 or real.shape[1] != 1 or not fakes:
            raise ValueError(
                f"TakeTheTest needs grey images (N, 1, H, W) and one model's fakes or more, not {tuple(real.shape)}."
            )
        space = Space(tuple(real.shape[1:]), levels)
        for x in (real, *fakes.values()):
            space.validate(x)
        if (
            len(names) != len(real)
            or len(real) < _LENGTHS[0] // 2 + _EXAMPLES
            or min(map(len, fakes.values())) < _LENGTHS[0] // 2
        ):
            raise ValueError(
                f"TakeTheTest needs {_LENGTHS[0] // 2 + _EXAMPLES} real images or more, each with a name, and "
                f"{_LENGTHS[0] // 2} fakes of each model or more."
            )
        if not 0 <= seed < 2**32:
            raise ValueError(f"TakeTheTest: seed must be in 0..{2**32 - 1}, not {seed}.")
        state: dict[str, Any] = {
            "format": FORMAT,
            "height": space.shape[1],
            "width": space.shape[2],
            "levels": levels,
            "real": {"names": list(names), "images": _sent(real)},
            "fakes": [{"name": name, "title": _TITLES.get(name, name), "images": _sent(x)} for name, x in fakes.items()],
            "lengths": [n for n in _LENGTHS if n // 2 <= min(len(real) - _EXAMPLES, *map(len, fakes.values()))],
            "examples": _EXAMPLES,
            "staircase": asdict(staircase or Staircase()),
            "last": last,
            "test": "infinity",
            "whose": "",  # fakes: a model's name, or all models' in equal parts
            "n": 40,
            "seed": seed,
            "rater": "",
            "answers": [],
        }
        state["n"] = min(state["lengths"], key=lambda n: abs(n - 40))
        super().__init__(
            state,
            still=_still(real, fakes, levels)._repr_png_(),
            alt="Real digits in the first row, and beneath them rows of samples, a row for each of "
            f"{', '.join(_TITLES.get(name, name) for name in fakes)}.",
        )


_LENGTHS = (24, 40, 80, 120)
_EXAMPLES = 8  # real images that are shown before the test, and not in it
_TITLES = {"independent_pixels": "independent pixels", "gan": "GAN", "dcgan": "DCGAN", "biggan": "BigGAN"}


def order(n: int, reals: int, fakes: Sequence[int], seed: int) -> list[tuple[int, int]]:
    """The page's order: n pairs of a model, -1 for real, and the number of the picture among its own.

    Args:
        n: an even number; half of the pictures are real.
        reals: how many real images there are.
        fakes: how many each model in the test has; each gives as many, up to one more of the first ones.
        seed: of the numbers.
    """
    numbers = stream(seed)

    def shuffled(items: list[Any]) -> list[Any]:  # Fisher and Yates
        for i in range(len(items) - 1, 0, -1):
            j = int(next(numbers) * (i + 1))
            items[i], items[j] = items[j], items[i]
        return items

    chosen = [(-1, i) for i in shuffled(list(range(reals)))[: n // 2]]
    for k, count in enumerate(fakes):
        share = (n // 2 + len(fakes) - 1 - k) // len(fakes)
        chosen += [(k, i) for i in shuffled(list(range(count)))[:share]]
    return shuffled(chosen)


class Pictures(NamedTuple):
    """Real digits `(N, 1, 8, 8)`, samples `(60, 1, 8, 8)` by model, the names of the real ones, and how they came about."""

    real: Tensor
    fakes: dict[str, Tensor]
    names: list[str]
    run: dict[str, Any]


def pictures() -> Pictures:
    """120 test digits and 60 samples of each of four models, which come with the package.

    The models are independent pixels, each with its own frequencies in the training images, and GAN, DCGAN and BigGAN by their
    recipes `digits`, seed 0; nobody has chosen among the samples. To make them again, for about four minutes of one core:

        python -m gencourse.explorers.take_the_test
    """
    with np.load(_FILE) as file:
        run = json.loads(str(file["run"]))
        real, fakes = (torch.from_numpy(file[name].astype(np.int64)) for name in ("real", "fakes"))
        names = [f"test-{i}" for i in file["places"].tolist()]
    return Pictures(real, dict(zip(run["models"], fakes, strict=True)), names, run)


_FILE = Path(__file__).with_name("hype_digits.npz")
_REALS, _FAKES = 120, 60


def _make() -> None:
    """Write the file of `pictures`."""
    dataset = data.load("digits")
    places = torch.randperm(len(dataset.test), generator=torch.Generator().manual_seed(0))[:_REALS].sort().values
    g = torch.Generator().manual_seed(0)
    pixels = torch.stack([x[torch.randint(len(x), (_FAKES,), generator=g)] for x in dataset.train.flatten(1).T], dim=1)
    fakes, recipes = [pixels.view(_FAKES, *dataset.space.shape).long()], {}
    for family, kind in ((gan, gan.GAN), (dcgan, dcgan.DCGAN), (biggan, biggan.BigGAN)):
        model, settings = _trained(family, kind, dataset)
        labels = torch.arange(_FAKES) % 10 if model.classes else None
        fakes.append(model.sample(_FAKES, labels, generator=torch.Generator().manual_seed(0)).cpu())
        recipes[kind.__name__.lower()] = settings
    run = {
        "data": dataset.name,
        "models": list(_TITLES),
        "recipe": "digits",
        "options": recipes,
        "seed": 0,
        "torch": str(torch.__version__),
    }
    arrays = {"real": dataset.test[places], "places": places, "fakes": torch.stack(fakes)}
    kinds = {"real": np.uint8, "places": np.int16, "fakes": np.uint8}
    np.savez_compressed(
        _FILE,
        run=json.dumps(run),
        **{name: x.numpy().astype(kinds[name]) for name, x in arrays.items()},  # type: ignore[arg-type]
    )
    print(run)


def _trained(family: Any, kind: Any, dataset: Dataset) -> tuple[Any, dict[str, Any]]:
    """The model of the recipe `digits`, in evaluation mode, and the recipe's options."""
    recipe = next(recipe for recipe in family.RECIPES if recipe.name == "digits")
    torch.manual_seed(0)
    model = kind(dataset.space, **recipe.options)
    fit(model, dataset, **recipe.fit, seed=0, device="cpu", progress=False)
    return model.eval(), recipe.options


def _sent(x: Tensor) -> list[str]:
    """Images as text, a character a pixel: 0 .. 9, a .. z."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    return ["".join(digits[v] for v in row) for row in x.flatten(1).tolist()]


def _still(real: Tensor, fakes: Mapping[str, Tensor], levels: int) -> Picture:
    """Some of each, in rows with their names."""
    rows = {"real": real, **{_TITLES.get(name, name): x for name, x in fakes.items()}}
    figure, across = Picture(6.8, 0.1 + 0.52 * len(rows)), 10
    for i, (name, images) in enumerate(rows.items()):
        axes: Axes = figure.add_subplot(len(rows), 1, i + 1)
        gap = torch.full((across, images.shape[2], 1), float("nan"))
        strip = torch.cat([images[:across, 0].double(), gap], dim=2).transpose(0, 1).flatten(1)
        axes.imshow(strip.numpy(), cmap="gray", vmin=0, vmax=levels - 1, interpolation="nearest")
        axes.axis("off")
        axes.text(-2, images.shape[2] / 2, name, ha="right", va="center", fontsize=9)
    figure.subplots_adjust(0.22, 0.02, 0.99, 0.98, 0.0, 0.12)
    return figure


if __name__ == "__main__":
    _make()
