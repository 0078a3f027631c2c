"""Growing, and the tricks that go with it, each left out in turn: the data of chapter 15's comparison.

    python benchmarks/progressive.py                                                      a few rounds of each, a minute
    python benchmarks/progressive.py --full --out gencourse/records/15-growing.json       half an hour on one core
    python benchmarks/progressive.py --full --parts size --data faces32 --device cuda --out FILE

cost     Seconds that a round takes with networks of each level, on this machine: the least of fifteen.
tricks   On the digits, short runs. All tricks; and without the equalised rate, pixel norm, the minibatch deviation, or fading
         (the block is there at once). For each, three learning rates with a seed of its own, judged on the validation
         examples; the best with five more, which are the same for all, judged on the test examples.
size     Growing against the same networks at full size from the start, with as many rounds as take the same time by `cost`:
         is there a size from which growing helps? For each way three learning rates with seed 0; the best with five more.

Every record is one run: part, data, what was left out or whether it grew, seed, rate, rounds, seconds, and the scores: the
Fréchet ratio, precision and recall, and the smallest share of a class among the samples. Runs that are there already are not
made again, so that a run that was cut off goes on.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gencourse import data, records
from gencourse.adversarial.progressive import Progressive
from gencourse.data import Dataset
from gencourse.data.faces import faces
from gencourse.metrics.classifier import scored_classifier
from gencourse.metrics.frechet import frechet_to
from gencourse.metrics.precision_recall import precision_recall
from gencourse.train import fit

RATES, SEARCH_SEED = (7e-4, 1.5e-3, 3e-3), 1000  # the final seeds are 0, 1, 2, ...
LEFT_OUT: dict[str, dict[str, Any]] = {
    "nothing": {},
    "equalised rate": {"equalised": False},
    "pixel norm": {"pixel_norm": False},
    "minibatch deviation": {"minibatch_sd": False},
    "fading": {"fade": 0.0},
}
SCHEDULES = {"digits": (200, 400), "faces16": (300, 300, 300), "faces32": (300, 300, 300, 300)}


@cache
def dataset_of(name: str) -> Dataset:
    return faces(int(name.removeprefix("faces")), n=5000) if name.startswith("faces") else data.load(name)


def judge(dataset: Dataset, samples: Tensor, examples: Tensor) -> dict[str, float]:
    """The scores of samples against held-out examples, over disjoint sets as large as those."""
    classifier = scored_classifier(dataset)
    n = min(len(examples), len(dataset.train), len(samples))
    real = classifier.features(examples[:n])
    pairs = [precision_recall(real, part) for part in classifier.features(samples).split(n) if len(part) == n]
    return {
        "frechet_ratio": round(frechet_to(dataclasses.replace(dataset, test=examples), samples, classifier).ratio, 3),
        "precision": round(sum(pair.precision for pair in pairs) / len(pairs), 4),
        "recall": round(sum(pair.recall for pair in pairs) / len(pairs), 4),
        "smallest_share": round(float(classifier.class_shares(samples).min()), 4),
    }


def play(
    dataset: Dataset, examples: Tensor, *, rounds: int, rate: float, seed: int, samples: int, device: str, **options: Any
) -> dict[str, Any]:
    """Train one model and judge it on held-out examples."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Progressive(dataset.space, **options)
    start = time.process_time()
    settings = {"batch_size": 64, "lr": rate, "seed": seed, "ema": 0.99, "device": device, "progress": False}
    try:
        history = fit(model, dataset, steps=rounds, **settings)
    except FloatingPointError:
        return {"rounds": rounds, "failed": True}
    spent = {"seconds": round(history.seconds, 1), "cpu_seconds": round(time.process_time() - start, 1)}
    drawn = model.sample(samples, generator=torch.Generator(model.device).manual_seed(0)).cpu()
    return {"rounds": rounds, **spent, **judge(dataset, drawn, examples)}


def seconds_a_round(dataset: Dataset, level: int, rounds: int = 15) -> float:
    """Of both players' moves at a level, without a fade: the least CPU time of several rounds, which others disturb least."""
    levels = len(SCHEDULES[dataset.name])
    model = Progressive(dataset.space, schedule=(0,) * level + (10**6,) * (levels - level), fade=0.0)
    clock: list[float] = []

    def note(step: int, trained: Any) -> None:
        clock.append(time.process_time())

    fit(model, dataset, steps=rounds, batch_size=64, device="cpu", progress=False, callback=note)
    return min(b - a for a, b in pairwise(clock))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all parts, five seeds, whole schedules")
    parser.add_argument("--parts", nargs="+", choices=("cost", "tricks", "size"))
    parser.add_argument("--data", nargs="+", choices=tuple(SCHEDULES), help="of the part `size`")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    parts = chosen.parts or ("cost", "tricks", "size")
    names = chosen.data or (["digits", "faces16"] if chosen.full else ["digits"])
    seeds, shrink = range(chosen.seeds or (5 if chosen.full else 1)), 1 if chosen.full else 50
    record = records.begin(chosen.out, threads=torch.get_num_threads())

    def runs(**wanted: Any) -> list[dict[str, Any]]:
        return [run for run in record["runs"] if all(run.get(key) == value for key, value in wanted.items())]

    def add(make: Callable[[], dict[str, Any]], **known: Any) -> dict[str, Any]:
        """The run with these properties, made if it is not there."""
        if not runs(**known):
            record["runs"].append({**known, **make()})
            print(", ".join(f"{key} {value}" for key, value in record["runs"][-1].items()), flush=True)
            records.write(chosen.out, record)
        return runs(**known)[0]

    def trained(name: str, part: str, **settings: Any) -> Callable[[], dict[str, Any]]:
        dataset = dataset_of(name)
        examples = dataset.valid if part == "search" else dataset.test
        return lambda: play(dataset, examples, samples=max(2, 1800 // len(examples)) * len(examples), **settings)

    costs = {}
    for name in names if {"cost", "size"} & set(parts) else []:
        for level in range(len(SCHEDULES[name])):
            side = dataset_of(name).space.shape[1] >> (len(SCHEDULES[name]) - 1 - level)
            measure = lambda name=name, level=level: {"seconds": round(seconds_a_round(dataset_of(name), level), 5)}  # noqa: E731
            costs[name, level] = add(measure, part="cost", data=name, side=side)["seconds"]

    if "tricks" in parts:
        schedule = tuple(max(2, n // shrink) for n in SCHEDULES["digits"])
        best = {}
        for what, options in LEFT_OUT.items():
            for rate in RATES if chosen.full else RATES[1:2]:
                settings = {"rounds": sum(schedule), "schedule": schedule, "device": chosen.device, "rate": rate, **options}
                make = trained("digits", "search", seed=SEARCH_SEED, **settings)
                add(make, part="search", data="digits", left_out=what, seed=SEARCH_SEED, rate=rate)
            found = [run for run in runs(part="search", left_out=what) if "failed" not in run]
            best[what] = min(found, key=lambda run: run["frechet_ratio"])["rate"]
        for seed in seeds:
            for what, options in LEFT_OUT.items():
                settings = {"rounds": sum(schedule), "schedule": schedule, "device": chosen.device, "rate": best[what], **options}
                make = trained("digits", "tricks", seed=seed, **settings)
                add(make, part="tricks", data="digits", left_out=what, seed=seed, rate=best[what])

    for name in names if "size" in parts else []:
        schedule = tuple(max(2, n // shrink) for n in SCHEDULES[name])
        last = len(schedule) - 1
        same_time = round(sum(n * costs[name, level] for level, n in enumerate(schedule)) / costs[name, last])
        ways = {True: (schedule, sum(schedule), 0.5), False: ((0,) * last + (same_time,), same_time, 0.0)}
        for grows, (plan, rounds, fade) in ways.items():

            def run(seed: int, rate: float, known: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
                make = trained(known["data"], "size", seed=seed, rate=rate, **settings)
                return add(make, **known, seed=seed, rate=rate)

            known = {"part": "size", "data": name, "grows": grows}
            settings = {"rounds": rounds, "schedule": plan, "fade": fade, "device": chosen.device}
            tried = [run(0, rate, known, settings) for rate in (RATES if chosen.full else RATES[1:2])]
            best = min(tried, key=lambda found: found["frechet_ratio"])["rate"]
            for seed in range(1, len(seeds) + 1) if chosen.full else ():
                run(seed, best, known, settings)


if __name__ == "__main__":
    main()
