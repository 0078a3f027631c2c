"""Encoders trained without labels, where labels are few: the data of chapter 8's comparison.

    python benchmarks/few_labels.py                                                    10 and 100 labels, one seed, a minute
    python benchmarks/few_labels.py --full --out gencourse/records/08-few-labels.json  all; half an hour on one core

A network is trained from scratch, or from an autoencoder's encoder, which goes on learning or is frozen; beside them stand the
nearest neighbour and logistic regression on pixels. Every way gets the learning rate (or the regularisation) that suits it at
that number of labels: the one with the best accuracy on the *validation* images, the mean of two seeds that are used for nothing
else. Then it is trained with ten other seeds, and judged on the test images. The file holds all runs, those of the choice too;
a run that stands in it already is not made again.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from gencourse import records
from gencourse.variational.few_labels import ENCODERS, WAYS, on_pixels, play

COUNTS = (10, 20, 50, 100, 200, 500, 1000)
RATES = {False: (1e-3, 3e-3, 1e-2), True: (1e-2, 3e-2, 1e-1)}  # a softmax layer alone wants larger ones
REGULARISATION = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
CHOOSING, SEEDS = (100, 101), tuple(range(10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all numbers of labels, three rates, ten seeds")
    parser.add_argument("--encoders", nargs="+", choices=list(ENCODERS), default=list(ENCODERS))
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    counts = COUNTS if chosen.full else (10, 100)
    choosing, seeds = (CHOOSING, SEEDS) if chosen.full else ((), SEEDS[:1])
    content = records.begin(chosen.out)
    made = {_key(run): run for run in content["runs"]}

    def run(measure: Callable[..., float], classifier: dict[str, Any], labels: int, value: float, seed: int, part: str) -> float:
        record = {**classifier, "labels": labels, "value": value, "seed": seed, "part": part}
        if _key(record) not in made:
            record["accuracy"] = round(measure(labels, value, seed, part), 4)
            made[_key(record)] = record
            content["runs"].append(record)
            print(", ".join(f"{key} {value}" for key, value in record.items()), flush=True)
            records.write(chosen.out, content)
        return float(made[_key(record)]["accuracy"])

    competitors: list[tuple[Callable[..., float], dict[str, Any], tuple[float, ...]]] = [
        (_nearest, {"encoder": "pixels", "way": "nearest neighbour"}, (1,)),
        (_logistic, {"encoder": "pixels", "way": "logistic regression"}, REGULARISATION),
    ]
    for encoder in chosen.encoders:
        for way, how in WAYS.items():

            def network(labels: int, lr: float, seed: int, part: str, encoder: str = encoder, way: str = way) -> float:
                return play(encoder, way, labels, seed=seed, lr=lr, part=part)

            competitors.append((network, {"encoder": encoder, "way": way}, RATES[how.frozen]))

    for encoder in dict.fromkeys(classifier["encoder"] for _, classifier, _ in competitors):
        ours = [competitor for competitor in competitors if competitor[1]["encoder"] == encoder]
        scores: dict[tuple[str, int, float], list[float]] = {}
        for seed in choosing:  # seed by seed, since an autoencoder of a seed serves all its runs
            for measure, classifier, values in ours:
                for labels in counts:
                    for value in values if len(values) > 1 else ():
                        score = run(measure, classifier, labels, value, seed, "valid")
                        scores.setdefault((classifier["way"], labels, value), []).append(score)
        for seed in seeds:
            for measure, classifier, values in ours:
                for labels in counts:
                    best = values[len(values) // 2]
                    if choosing:
                        best = max(values, key=lambda v, c=classifier, n=labels: sum(scores.get((c["way"], n, v), ())))
                    run(measure, classifier, labels, best, seed, "test")


def _nearest(labels: int, neighbours: float, seed: int, part: str) -> float:
    return on_pixels(KNeighborsClassifier(int(neighbours)), labels, seed=seed, part=part)


def _logistic(labels: int, c: float, seed: int, part: str) -> float:
    return on_pixels(LogisticRegression(C=c, max_iter=5000), labels, seed=seed, part=part)


def _key(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record[name] for name in ("encoder", "way", "labels", "value", "seed", "part"))


if __name__ == "__main__":
    main()
