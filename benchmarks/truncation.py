"""Fidelity against variety: BigGAN's samples under truncation, with several seeds. The data of chapter 15's truncation curve.

    python benchmarks/truncation.py                                           one seed on the digits, two minutes
    python benchmarks/truncation.py --seeds 5 --out gencourse/records/15-truncation.json             ten minutes on one core
    python benchmarks/truncation.py --seeds 5 --orthogonal 0 --out FILE       without the orthogonal penalty
    python benchmarks/truncation.py --data fashion_mnist --recipe fashion_mnist --device cuda --out FILE

A model is trained by its recipe for each seed and sampled at each truncation psi, with the labels of the test examples, so that
every set of samples has their shares of the classes. Each record is one set of samples: seed, psi (null: none), whether batch
norm's statistics were measured for this psi (`settled`) or are those of all z, and the scores: precision and recall, the Fréchet
ratio, and the share of samples that the scored classifier takes for the class asked for. They are means over disjoint sets
as large as the test set. The record `"psi": "training examples"` has the scores of those. Runs that are there already are not
made again.
"""

import argparse
import functools
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gencourse import data, records
from gencourse.adversarial import biggan
from gencourse.adversarial.biggan import BigGAN
from gencourse.data import Dataset
from gencourse.metrics.classifier import scored_classifier
from gencourse.metrics.frechet import frechet_to
from gencourse.metrics.precision_recall import precision_recall
from gencourse.train import fit

PSI = (None, 2.0, 1.5, 1.0, 0.7, 0.5, 0.3, 0.1)


def judge(dataset: Dataset, samples: Tensor, labels: Tensor) -> dict[str, float]:
    """The scores of samples and the classes that were asked for, over disjoint sets as large as the test set."""
    classifier = scored_classifier(dataset)
    n = min(len(dataset.test), len(samples))
    real = classifier.features(dataset.test[:n])
    pairs = [precision_recall(real, part) for part in classifier.features(samples).split(n) if len(part) == n]
    return {
        "precision": round(sum(pair.precision for pair in pairs) / len(pairs), 4),
        "recall": round(sum(pair.recall for pair in pairs) / len(pairs), 4),
        "frechet_ratio": round(frechet_to(dataset, samples, classifier).ratio, 3),
        "accuracy": round(float((classifier.predict(samples) == labels).double().mean()), 4),
    }


def trained(dataset: Dataset, seed: int, chosen: argparse.Namespace) -> tuple[BigGAN, dict[str, Any]]:
    """The model of a seed, from the folder of weights if it is there, and how long its training took."""
    recipe = next(recipe for recipe in biggan.RECIPES if recipe.name == chosen.recipe)
    options = dict(recipe.options) | ({} if chosen.orthogonal is None else {"orthogonal": chosen.orthogonal})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BigGAN(dataset.space, **options)
    path = chosen.weights / f"{chosen.data}-{model.orthogonal:g}-{seed}.pt" if chosen.weights else None
    if path and path.exists():
        saved = torch.load(path)
        model.load_state_dict(saved["weights"])
        return model.to(chosen.device), saved["run"]
    start = time.process_time()
    history = fit(model, dataset, seed=seed, device=chosen.device, progress=False, **{**recipe.fit, **chosen.fit})
    run = {"seconds": round(history.seconds, 1), "cpu_seconds": round(time.process_time() - start, 1)}
    if path:
        torch.save({"weights": {name: value.cpu() for name, value in model.state_dict().items()}, "run": run}, path)
    return model, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, help="of training, in place of the recipe's")
    parser.add_argument("--orthogonal", type=float, help="the penalty's weight, in place of the recipe's")
    parser.add_argument("--samples", type=int, default=5, help="sets of samples, each as large as the test set")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", type=Path, help="a folder to keep the trained weights in, and to look for them")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    chosen.fit = {} if chosen.steps is None else {"steps": chosen.steps}
    record = records.begin(chosen.out, threads=torch.get_num_threads())
    dataset = data.load(chosen.data)
    assert dataset.test_labels is not None and dataset.train_labels is not None
    labels = dataset.test_labels.repeat(chosen.samples)

    def add(known: dict[str, Any], **scores: Any) -> None:
        record["runs"].append({**known, **scores})
        print(", ".join(f"{key} {value}" for key, value in record["runs"][-1].items()), flush=True)
        records.write(chosen.out, record)

    def missing(known: dict[str, Any]) -> bool:
        return not any(all(run.get(key) == value for key, value in known.items()) for run in record["runs"])

    real = {"data": chosen.data, "psi": "training examples"}
    if missing(real):
        add(real, **judge(dataset, dataset.train, dataset.train_labels))
    for seed in range(chosen.seeds):
        beta = chosen.orthogonal if chosen.orthogonal is not None else 1e-4
        rows = [
            {"data": chosen.data, "seed": seed, "orthogonal": beta, "psi": psi, "settled": settled}
            for psi in PSI
            for settled in ((True,) if psi is None else (True, False))
        ]
        make = functools.cache(functools.partial(trained, dataset, seed, chosen))
        for row in filter(missing, rows):
            model, run = make()
            generator = torch.Generator(model.device).manual_seed(0)
            asked = labels.to(model.device)
            if row["settled"]:
                samples = model.sample(len(labels), asked, truncation=row["psi"], generator=generator)
            else:
                samples = model.generate(model.draw_latent(len(labels), truncation=row["psi"], generator=generator), asked)
            add(row, **run, **judge(dataset, samples.cpu(), labels))


if __name__ == "__main__":
    main()
