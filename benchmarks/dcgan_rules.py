"""What each of the DCGAN's rules is worth on the digits: the data of chapter 14's ablation.

    python benchmarks/dcgan_rules.py                          two variants, one seed, half a minute
    python benchmarks/dcgan_rules.py --full --out gencourse/records/14-dcgan-rules.json    all; a quarter of an hour on one core

Every variant gets the learning rate that suits it: of `RATES` the one with the lowest distance to the *validation* images,
the mean of two seeds which are used for nothing else. Then it is trained with that rate from five other seeds, and judged
on the test images. The file holds all runs, those of the choice too.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from gencourse import data, records
from gencourse.adversarial.rules import VARIANTS, play
from gencourse.metrics.classifier import scored_classifier
from gencourse.metrics.frechet import frechet_to

RATES = (3e-4, 1e-3, 3e-3, 1e-2)
CHOOSING, SEEDS = (100, 101), (0, 1, 2, 3, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all variants, four rates, five seeds")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), help="only these; the others' records stay")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    names = chosen.variants or (list(VARIANTS) if chosen.full else ["all rules", "no batch norm"])
    choosing, seeds, rates = (CHOOSING, SEEDS, RATES) if chosen.full else ((), SEEDS[:1], RATES[1:2])
    digits = data.load("digits")
    classifier = scored_classifier(digits)
    validation = dataclasses.replace(digits, test=digits.valid, test_labels=digits.valid_labels)
    content = records.begin(chosen.out)
    content["runs"] = [run for run in content["runs"] if run["variant"] not in names]

    def run(name: str, lr: float, seed: int, part: str) -> float:
        against = validation if part == "valid" else digits
        ratio = play(name, digits, lambda x: frechet_to(against, x, classifier).ratio, seed=seed, lr=lr, rounds=chosen.rounds)
        record = {"variant": name, "lr": lr, "seed": seed, "rounds": chosen.rounds, "part": part, "ratio": round(ratio, 3)}
        content["runs"].append(record)
        print(", ".join(f"{key} {value}" for key, value in record.items()), flush=True)
        records.write(chosen.out, content)
        return ratio

    for name in names:
        best = rates[0]
        if choosing:
            best = min(rates, key=lambda lr, name=name: np.mean([run(name, lr, seed, "valid") for seed in choosing]))
        for seed in seeds:
            run(name, best, seed, "test")


if __name__ == "__main__":
    main()
