"""Ten small pictures of every model, for the tree: drawn after a short training by one of its own recipes.

The file beside this one holds them as PNG, with how each came about. To make it again, for some twenty minutes of one core (a
model that is there already is not trained again; a name trains that model alone):

    python -m gencourse.explorers.tree_samples [NAME ...]
"""

import io
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gencourse import catalog
from gencourse.data import Dataset
from gencourse.kinds import GenerativeModel
from gencourse.train import fit
from gencourse.viz.images import mosaic

#: The recipe, where it is not the model's first; and the steps, where those of the recipe take long.
RECIPE = {
    "realnvp": "digits",
    "gan": "digits",
    "wgan": "digits",
    "pix2pix": "stripes",
    "ddpm": "digits",
    "flow_matching": "digits",
}
STEPS = {
    "nade": 2000,
    "row_lstm": 500,
    "diagonal_bilstm": 250,
    "pixelcnn_pp": 400,
    "multiscale": 500,
    "realnvp": 1500,
    "glow": 500,
    "ffjord": 600,
    "rbm": 5000,
    "dcgan": 2000,
    "wgan": 2000,
    "biggan": 700,
    "text_to_image": 1000,
    "scene_graph": 250,
    "ddpm": 2000,
    "flow_matching": 2000,
}
COUNT = 10
_FILE = Path(__file__).with_name("tree_samples.npz")


@dataclass(frozen=True)
class Sample:
    """What a model drew.

    Attributes:
        png: the pictures, five a row, a dot a pixel.
        says: what they are and how long was trained, a sentence or two.
        run: recipe, data, steps, seed, and the processor's seconds.
    """

    png: bytes
    says: str
    run: dict[str, Any]


def samples() -> dict[str, Sample]:
    """The pictures that come with the package, by the model's name."""
    found = {}
    with np.load(_FILE) as file:
        for name, run in json.loads(str(file["runs"])).items():
            found[name] = Sample(file[name].tobytes(), _said(run), run)
    return found


def _said(run: dict[str, Any]) -> str:
    part = f"{run['steps']:,} steps" if run["steps"] == run["of"] else f"{run['steps']:,} of its {run['of']:,} steps"
    return (
        f"{run['shows']}. Trained on {run['data']} by its recipe {run['recipe']}, {part}, "
        f"{round(run['cpu_seconds'])} s of one core."
    )


def _draw(model: GenerativeModel, dataset: Dataset, conditional: bool) -> tuple[np.ndarray, str]:
    """A grid `(H, W)` or `(H, W, 3)` in [0, 1], and what it shows."""
    generator = torch.Generator().manual_seed(1)
    if not dataset.space.is_discrete:
        return _points(model.sample(4000, generator=generator)), "4,000 points, the denser the darker"
    if not conditional:
        return mosaic(model.sample(COUNT, generator=generator), dataset.space, ncols=5), "Ten draws"
    assert dataset.test_labels is not None
    if dataset.test_labels.dim() == 1:
        return mosaic(model.sample(COUNT, torch.arange(COUNT), generator=generator), dataset.space, ncols=5), "One of each class"
    given = dataset.test_labels[: COUNT // 2 if dataset.test_labels.dim() == 4 else COUNT]
    drawn = model.sample(len(given), given, generator=generator)
    if given.dim() < 4:
        return mosaic(drawn, dataset.space, ncols=5), f"Ten draws, each of {'a caption' if given.dim() == 2 else 'a graph'}"
    above = given.expand(-1, dataset.space.shape[0], -1, -1)  # a grey outline above a picture in colour
    return mosaic(torch.cat([above.to(drawn.dtype), drawn]), dataset.space, ncols=5), "Above what was given, below what was made"


def _points(x: Tensor, reach: float = 4.5, cells: int = 48) -> np.ndarray:
    counts, _, _ = np.histogram2d(-x[:, 1].numpy(), x[:, 0].numpy(), cells, [[-reach, reach]] * 2)
    return 1 - np.clip(counts / 5, 0, 1)


def _train(names: list[str]) -> None:
    """Write the file, a model at a time."""
    kept: dict[str, Any] = {}
    runs: dict[str, Any] = {}
    if _FILE.exists():
        with np.load(_FILE) as file:
            runs = json.loads(str(file["runs"]))
            kept = {name: file[name] for name in runs}
    for entry in catalog.MODELS:
        if (names and entry.name not in names) or (not names and entry.name in runs):
            continue
        recipe = entry.recipe(RECIPE.get(entry.name, entry.recipes[0].name))
        dataset = recipe.load()
        torch.manual_seed(0)
        model = entry.build(dataset.space, **recipe.options)
        steps = STEPS.get(entry.name, recipe.fit["steps"])
        start = time.process_time()
        fit(model, dataset, **{**recipe.fit, "steps": steps}, seed=0, device="cpu", progress=False)
        seconds = time.process_time() - start
        grid, shows = _draw(model, dataset, bool(recipe.fit.get("conditional")))
        buffer = io.BytesIO()
        colours = grid if grid.ndim == 3 else np.repeat(grid[..., None], 3, axis=2)
        Image.fromarray(np.round(255 * colours).astype(np.uint8)).save(buffer, "png", optimize=True)
        kept[entry.name] = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
        runs[entry.name] = {
            "recipe": recipe.name,
            "data": dataset.name,
            "steps": steps,
            "of": recipe.fit["steps"],
            "seed": 0,
            "cpu_seconds": round(seconds, 1),
            "shows": shows,
            "torch": str(torch.__version__),
        }
        ordered = {model.name: runs[model.name] for model in catalog.MODELS if model.name in runs}
        np.savez_compressed(_FILE, runs=json.dumps(ordered), **{name: kept[name] for name in ordered})
        print(entry.name, runs[entry.name], len(buffer.getvalue()), flush=True)


if __name__ == "__main__":
    _train(sys.argv[1:])
