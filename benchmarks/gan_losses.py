"""The losses of `gencourse.adversarial` with the same care for each: the data of chapter 15's comparison.

    python benchmarks/gan_losses.py                                     two losses on the ring, a minute
    python benchmarks/gan_losses.py --full --out gencourse/records/15-gan-losses.json    all; an hour on one core
    python benchmarks/gan_losses.py --data "ring recipe" --out FILE     the WGAN's own recipe, a minute a seed
    python benchmarks/gan_losses.py --full --data mnist --updates 40000 --device cuda --out FILE

For each data set, and for each loss alike:

    search     as many settings for every loss, one seed each, judged on the validation examples
    confirm    the best third once more, with another seed; the best mean of the two is chosen
    final      the chosen setting with fresh seeds, judged on the test examples

(The ring has no examples to keep apart: its density is known.) Every record of the file is one run: data set, stage, loss,
seed, setting, updates, seconds and scores. The file also says with what and where the runs were made. Runs that are there
already are not made again, so that a run that was cut off goes on.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gencourse import data, records
from gencourse.adversarial import wgan
from gencourse.adversarial.compare import CONTESTANTS, play, settings
from gencourse.data import Dataset
from gencourse.data.toys import RingOfGaussians
from gencourse.metrics.classifier import scored_classifier
from gencourse.metrics.frechet import frechet_to
from gencourse.metrics.modes import mode_report
from gencourse.train import fit

RING = RingOfGaussians()
SEARCH_SEED, CONFIRM_SEED = 1000, 1001  # the final seeds are 0, 1, 2, ...


def judge_ring(samples: torch.Tensor) -> dict[str, float]:
    report = mode_report(samples, RING.centres, RING.sd)
    return {"covered": report.covered, "good": round(report.good, 4), "overlap": round(report.overlap, 4)}


def judges(name: str) -> tuple[Dataset, Callable, Callable]:
    """A data set, who judges in the search, and who judges in the end."""
    if name == "ring":
        return RING.dataset(), judge_ring, judge_ring
    dataset = data.load(name)
    classifier = scored_classifier(dataset)

    def against(examples: torch.Tensor) -> Callable[[torch.Tensor], dict[str, float]]:
        held_out = dataclasses.replace(dataset, test=examples)
        return lambda samples: {"frechet_ratio": round(frechet_to(held_out, samples, classifier).ratio, 3)}

    return dataset, against(dataset.valid), against(dataset.test)


def cost(run: dict[str, Any]) -> float:
    """What the search lowers."""
    if run.get("failed"):
        return math.inf
    return run["frechet_ratio"] if "frechet_ratio" in run else -run["overlap"]


def best(runs: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """The n settings of these runs with the lowest mean cost, best first; a ratio counts by its logarithm."""
    costs: dict[str, list[float]] = {}
    for run in runs:
        value = cost(run)
        costs.setdefault(json.dumps(run["setting"]), []).append(math.log(value) if value > 0 else value)
    return [json.loads(text) for text in sorted(costs, key=lambda text: sum(costs[text]) / len(costs[text]))[:n]]


def by_recipe(seed: int, device: str) -> dict[str, Any]:
    """The library's WGAN on the ring, by its recipe: what the loss can do where the budget is not the point."""
    recipe = next(recipe for recipe in wgan.RECIPES if recipe.name == "ring")
    torch.manual_seed(seed)
    model = wgan.WGAN(RING.space, **recipe.options)
    history = fit(model, recipe.load(), seed=seed, device=device, progress=False, **recipe.fit)
    scores = judge_ring(model.sample(recipe.samples, generator=torch.Generator(model.device).manual_seed(0)).cpu())
    rounds, rate = recipe.fit["steps"], recipe.fit["lr"]
    budget = {"updates": rounds * (model.d_steps + 1), "rounds": rounds, "setting": {"lr": rate}}
    return {"loss": "WGAN, penalty", "seed": seed, **budget, "seconds": round(history.seconds, 1), **scores}


def sets_of(chosen: argparse.Namespace) -> list[str]:
    return chosen.data or (["ring", "digits"] if chosen.full else ["ring"])


class Record:
    """The runs so far, and the file that they go to."""

    def __init__(self, out: Path | None, device: str) -> None:
        self.out = out
        gpu = {"device": torch.cuda.get_device_name()} if torch.cuda.is_available() and device != "cpu" else {}
        self.content = records.begin(out, **gpu, threads=torch.get_num_threads())

    def runs(self, **wanted: Any) -> list[dict[str, Any]]:
        return [run for run in self.content["runs"] if all(run.get(key) == value for key, value in wanted.items())]

    def add(self, make: Callable[[], dict[str, Any]], **known: Any) -> None:
        """Make a run, unless one of these properties is there, and write the file."""
        if self.runs(**known):
            return
        run = {**known, **make()}
        self.content["runs"].append(run)
        print(", ".join(f"{key} {value}" for key, value in run.items()), flush=True)
        records.write(self.out, self.content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all losses, nine settings on the ring and six on images, five seeds")
    parser.add_argument("--data", nargs="+", help="ring, or a labelled set of images")
    parser.add_argument("--losses", nargs="+", choices=list(CONTESTANTS))
    parser.add_argument("--settings", type=int, help="settings tried of each loss")
    parser.add_argument("--seeds", type=int, help="final seeds")
    parser.add_argument("--updates", type=int, default=2400)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    names = chosen.losses or (list(CONTESTANTS) if chosen.full else ["non-saturating", "WGAN, penalty"])
    tried = {name: chosen.settings or ((9 if name == "ring" else 6) if chosen.full else 3) for name in sets_of(chosen)}
    seeds = range(chosen.seeds or (5 if chosen.full else 2))
    record = Record(chosen.out, chosen.device)
    sets = {}
    for name in sets_of(chosen):
        if name == "ring recipe":
            for seed in range(chosen.seeds or 5):
                record.add(lambda seed=seed: by_recipe(seed, chosen.device), data=name, stage="final", seed=seed)
        else:
            sets[name] = judges(name)

    def run(name: str, stage: str, loss: str, seed: int, setting: dict[str, Any]) -> None:
        dataset, valid, test = sets[name]
        judge = test if stage == "final" else valid
        record.add(
            lambda: play(
                loss, dataset, judge, updates=chosen.updates, seed=seed, setting=setting, device=chosen.device, progress=False
            ),
            data=name,
            stage=stage,
            loss=loss,
            seed=seed,
            setting=setting,
        )

    pairs = [(name, loss) for name in sets for loss in names]
    for name, loss in pairs:
        for setting in json.loads(json.dumps(settings(loss, tried[name]))):  # as they will be read again
            run(name, "search", loss, SEARCH_SEED, setting)
        for setting in best(record.runs(data=name, stage="search", loss=loss), max(2, tried[name] // 3)):
            run(name, "confirm", loss, CONFIRM_SEED, setting)
    for seed in seeds:
        for name, loss in pairs:
            again = [run["setting"] for run in record.runs(data=name, stage="confirm", loss=loss)]
            searched = [run for stage in ("search", "confirm") for run in record.runs(data=name, stage=stage, loss=loss)]
            run(name, "final", loss, seed, best([run for run in searched if run["setting"] in again], 1)[0])


if __name__ == "__main__":
    main()
