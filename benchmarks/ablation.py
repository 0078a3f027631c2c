"""The experiments of chapter 5 over seeds: the ablation, dropout, softmax against mixture, and the models of chapters 3 to 5.

    python benchmarks/ablation.py                         two rows of the ablation for one seed, half a minute
    python benchmarks/ablation.py --full --out gencourse/records/05-experiments.json    all of it, half an hour on one core

What is trained is written in the chapter: this script runs the cells of the notebook that are tagged `experiment`, and
then the functions which they define. Each competitor's learning rate is the one with the lowest validation loss in a
search with a seed of its own (100); the comparison has the seeds 0, 1, 2, ... Every record of the file is one run. Runs that the
file has already are not made again.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gencourse import catalog, records
from gencourse.metrics.likelihood import nll
from gencourse.train import fit

CHAPTER = Path(__file__).parents[1] / "book" / "05-better-pixelcnn.ipynb"
SEARCH_SEED = 100
STEPS = {"ablation": 400, "dropout": 800, "heads": 300}
RATES = {"ablation": (3e-3, 1e-2, 3e-2), "dropout": (2e-3, 5e-3, 1.2e-2), "heads": (1e-3, 3e-3, 1e-2)}
MODELS = ("fvbn", "nade", "made", "pixelcnn", "gated_pixelcnn", "pixelcnn_pp", "multiscale")


def cells() -> dict[str, Any]:
    """What the notebook's cells tagged `experiment` define; the imports are one of them."""
    notebook, names = json.loads(CHAPTER.read_text()), {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if "experiment" in cell["metadata"].get("tags", []):
            exec(source.replace("resolve(profile)", '"cpu"'), names)
    return names


def experiments(names: dict[str, Any]) -> dict[str, tuple[list[Any], Callable[[Any, float, int, int], dict[str, Any]]]]:
    """For each experiment its competitors, and how to train one: `(name, rate, seed, steps)` to the scores of a record."""

    def ablation(name: str, rate: float, seed: int, steps: int) -> dict[str, Any]:
        losses, valid, weights = names["ablate"](name, rate, seed, steps)
        return {"valid": valid, "test": float(losses.mean()), "weights": weights}

    def dropout(name: float, rate: float, seed: int, steps: int) -> dict[str, Any]:
        curve = names["overfit"](name, rate, seed, steps)
        stopped = min(curve, key=lambda point: point[2])
        last = {"last train": curve[-1][1], "last test": curve[-1][3]}
        return {"valid": stopped[2], "test": stopped[3], "stopped at": stopped[0], **last}

    def heads(name: str, rate: float, seed: int, steps: int) -> dict[str, Any]:
        model, valid = names["train_head"](name, rate, seed, steps)
        return {"valid": valid, "test": nll(model, names["grey"].test).mean}

    return {"ablation": (list(names["ROWS"]), ablation), "dropout": ([0.0, 0.5], dropout), "heads": (list(names["HEADS"]), heads)}


def by_recipe(name: str, seed: int) -> dict[str, Any]:
    """A model of the catalogue trained by its recipe on the black and white digits."""
    entry = catalog.entry(name)
    recipe = entry.recipe("binary_digits")
    dataset = recipe.load()
    torch.manual_seed(seed)
    model = entry.build(dataset.space, **recipe.options)
    history = fit(model, dataset, seed=seed, device="cpu", progress=False, **recipe.fit)
    valid = min(loss for _, loss in history.valid)
    size = sum(parameter.numel() for parameter in model.parameters())
    return {"steps": recipe.fit["steps"], "valid": valid, "test": nll(model, dataset.test).mean, "weights": size}


class Record:
    """The runs so far, in a file after each of them."""

    def __init__(self, out: Path | None) -> None:
        self.out = out
        self.content = records.begin(out)
        self.runs: list[dict[str, Any]] = self.content["runs"]

    def run(self, key: dict[str, Any], score: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The record of this key, made now unless it is there."""
        for run in self.runs:
            if all(run.get(name) == value for name, value in key.items()):
                return run
        start = time.perf_counter()
        scores = {name: round(value, 4) if isinstance(value, float) else value for name, value in score().items()}
        self.runs.append({**key, **scores, "seconds": round(time.perf_counter() - start, 1)})
        print(json.dumps(self.runs[-1]), flush=True)
        records.write(self.out, self.content)
        return self.runs[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all experiments, five seeds, each competitor's rate searched")
    parser.add_argument("--only", nargs="+", choices=[*STEPS, "models"], help="these experiments")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--models-seeds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    record = Record(chosen.out)
    todo = chosen.only or ([*STEPS, "models"] if chosen.full else ["ablation"])
    for experiment, (names, score) in experiments(cells()).items():
        if experiment not in todo:
            continue
        steps = STEPS[experiment]
        key = {"experiment": experiment, "steps": steps}

        def run(name: Any, rate: float, seed: int, key: dict[str, Any] = key, score: Any = score) -> dict[str, Any]:
            return record.run({**key, "name": name, "lr": rate, "seed": seed}, lambda: score(name, rate, seed, key["steps"]))

        best = {}
        for name in names if chosen.full else names[:2]:
            rates = RATES[experiment] if chosen.full else RATES[experiment][1:2]
            best[name] = min(rates, key=lambda rate: run(name, rate, SEARCH_SEED)["valid"])
        for seed in range(chosen.seeds or (5 if chosen.full else 0)):
            for name, rate in best.items():
                run(name, rate, seed)
    if "models" in todo:
        for seed in range(chosen.models_seeds):
            for name in MODELS:
                record.run(
                    {"experiment": "models", "name": name, "seed": seed}, lambda name=name, seed=seed: by_recipe(name, seed)
                )


if __name__ == "__main__":
    main()
