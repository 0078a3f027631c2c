"""Does walkback repair a chain of reconstructions, or blur it? The data of chapter 12's comparison.

    python benchmarks/gsn_walkback.py                                            one level of noise, two seeds, a minute
    python benchmarks/gsn_walkback.py --full --out gencourse/records/12-walkback.json     all; some minutes on one core

On `binary_digits`, at each level of noise, three ways to train one network by as many updates:

    plain       one noisy image for each image, and the image is the target
    walkback    three steps of the chain more, with the same target
    repeated    no walk, but four noisy images for each image: as many targets as walkback has (at the lowest noise)

For each way and level the learning rate is chosen by chains against the validation images, with a seed of its own (stage
"search"). Then fresh seeds, judged on the test images (stage "final"): the Fréchet ratio of 360 chains after 200 steps from
noise, and of single steps from the test images; what a classifier says of five chains of 500 steps; the reconstruction's own
loss on the test images, in nats. Runs that are in the file are not made again.
"""

import argparse
import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gencourse import data, records
from gencourse.data import Dataset
from gencourse.markov.chains import chain_labels, classes_visited, label_changes
from gencourse.markov.corruption import SaltAndPepper
from gencourse.markov.gsn import GSN
from gencourse.metrics.classifier import ScoredClassifier, scored_classifier
from gencourse.metrics.frechet import frechet_to
from gencourse.train import cosine, fit

WAYS = {"plain": 0, "walkback": 3, "repeated": 0}
LEVELS = (0.05, 0.2)
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
SEARCH_SEED = 1000  # the final seeds are 0, 1, 2, ...


def train(dataset: Dataset, way: str, rho: float, lr: float, seed: int, steps: int) -> GSN:
    torch.manual_seed(seed)
    model = GSN(dataset.space, corruption=SaltAndPepper(rho), walkback=WAYS[way], hidden=(200, 200))
    fit(
        model,
        dataset.train.repeat(4, 1, 1, 1) if way == "repeated" else dataset.train,
        steps=steps,
        batch_size=400 if way == "repeated" else 100,
        lr=lr,
        schedule=cosine,
        ema=0.99,
        optimizer=partial(torch.optim.AdamW, weight_decay=0.01),
        seed=seed,
        device="cpu",
        progress=False,
    )
    return model


@torch.no_grad()
def judge(model: GSN, dataset: Dataset, classifier: ScoredClassifier) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)

    def ratio(images: torch.Tensor) -> float:
        return round(frechet_to(dataset, images, classifier).ratio, 3)

    test = dataset.test
    first = model.step(test, generator=generator)
    labels = chain_labels(classifier, model.chain(test[:5], 500, generator=generator))
    shares = classes_visited(labels, classifier.classes)
    noisy = torch.cat([model.corrupt(test, generator=generator) for _ in range(10)])
    loss = -model.reconstruct(noisy).log_prob(test.repeat(10, 1, 1, 1).float()).mean()
    return {
        "noise_200": ratio(model.sample(len(test), generator=generator)),
        "data_1": ratio(first),
        "classes": [int((row > 0).sum()) for row in shares],
        "rarest": round(float(shares.mean(0).min()), 4),
        "changes": round(float(label_changes(labels).mean()), 4),
        "step_loss": round(float(loss), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="both levels of noise, five seeds")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    record = records.begin(chosen.out, threads=torch.get_num_threads())
    dataset = data.load("binary_digits")
    classifier = scored_classifier(dataset)
    valid = dataclasses.replace(dataset, test=dataset.valid)

    def run(stage: str, way: str, rho: float, lr: float, seed: int) -> dict[str, Any]:
        known = {"stage": stage, "way": way, "rho": rho, "lr": lr, "seed": seed, "steps": chosen.steps}
        for before in record["runs"]:
            if all(before.get(key) == value for key, value in known.items()):
                return before
        model = train(dataset, way, rho, lr, seed, chosen.steps)
        if stage == "search":
            samples = model.sample(2 * len(valid.test), generator=torch.Generator().manual_seed(0))
            scores = {"noise_200": round(frechet_to(valid, samples, classifier).ratio, 3)}
        else:
            scores = judge(model, dataset, classifier)
        record["runs"].append({**known, **scores})
        print(", ".join(f"{key} {value}" for key, value in record["runs"][-1].items()), flush=True)
        records.write(chosen.out, record)
        return record["runs"][-1]

    levels = LEVELS if chosen.full else LEVELS[:1]
    pairs = [(way, rho) for rho in levels for way in ("plain", "walkback")]
    for these in (pairs, [("repeated", LEVELS[0])]):
        best = {}
        for way, rho in these:
            tried = [run("search", way, rho, lr, SEARCH_SEED) for lr in RATES]
            best[way, rho] = min(tried, key=lambda found: found["noise_200"])["lr"]
        for seed in range(5 if chosen.full else 2):
            for way, rho in these:
                run("final", way, rho, best[way, rho], seed)


if __name__ == "__main__":
    main()
