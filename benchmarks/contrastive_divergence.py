"""CD-1, persistent chains or CD-10: which reaches the higher likelihood? The data of chapter 11's comparison.

    python benchmarks/contrastive_divergence.py --steps 500 --seeds 1                            a first look, a minute
    python benchmarks/contrastive_divergence.py --out gencourse/records/11-contrastive-divergence.json       some minutes

One restricted Boltzmann machine with 16 hidden units, on `binary_digits`, so that every likelihood is exact: log Z sums over the
2^16 states of the hidden side. Three ways to dream, by as many updates of 100 images each, at a rate that falls to zero:

    cd1         one step of Gibbs sampling, begun at the batch
    pcd1        one step of 100 chains that go on from where they were
    cd10        ten steps, begun at the batch

For each way the learning rate is chosen by the validation images' exact likelihood, with a seed of its own (stage "search").
Then fresh seeds, the same for all ways: the same first weights and the same batches (stage "final"). Along each of these, eight
times, what is exact (nats per image, on the training and test images) and what is often watched instead: the squared error of a
reconstruction, and the pseudo-likelihood. Runs that are in the file are not made again.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from gencourse import data, records
from gencourse.data import Dataset
from gencourse.markov.rbm import RBM
from gencourse.train import fit, linear, sgd

WAYS: dict[str, dict[str, int]] = {"cd1": {}, "pcd1": {"chains": 100}, "cd10": {"k": 10}}
RATES = (0.4, 0.8, 1.6, 3.2)
HIDDEN = 16
LOOKS = 8  # along a run
SEARCH_SEED = 1000  # the final seeds are 0, 1, 2, ...


@torch.no_grad()
def look(model: RBM, dataset: Dataset) -> dict[str, float]:
    """What is exact, and what is watched, now."""
    log_z = model.log_partition()
    train, test = (-float((-model.free_energy(x) - log_z).mean()) for x in (dataset.train, dataset.test))
    v = dataset.test.flatten(1).float()
    back = torch.sigmoid(model.visible_logits(torch.sigmoid(model.hidden_logits(dataset.test))))
    return {
        "train": round(train, 4),
        "test": round(test, 4),
        "reconstruction": round(float((v - back).square().sum(1).mean()), 4),
        "pseudo": round(float(model.pseudo_nll(dataset.test).mean()), 4),
    }


def train(dataset: Dataset, way: str, lr: float, seed: int, steps: int, *, looks: int) -> tuple[RBM, list[dict[str, float]]]:
    torch.manual_seed(seed)
    model = RBM(dataset.space, hidden=HIDDEN, **WAYS[way])
    curve: list[dict[str, float]] = []

    def callback(step: int, now: Any) -> None:
        if looks and step % (steps // looks) == 0:
            curve.append({"step": step, **look(model, dataset)})

    settings: dict[str, Any] = {"schedule": linear, "optimizer": sgd, "keep_best": False, "device": "cpu", "progress": False}
    fit(model, dataset, steps=steps, batch_size=100, lr=lr, seed=seed, callback=callback, validate_every=steps, **settings)
    return model.eval(), curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    record = records.begin(chosen.out, threads=torch.get_num_threads())
    dataset = data.load("binary_digits")

    def run(stage: str, way: str, lr: float, seed: int) -> dict[str, Any]:
        known = {"stage": stage, "way": way, "lr": lr, "seed": seed, "steps": chosen.steps, "hidden": HIDDEN}
        for before in record["runs"]:
            if all(before.get(key) == value for key, value in known.items()):
                return before
        model, curve = train(dataset, way, lr, seed, chosen.steps, looks=LOOKS if stage == "final" else 0)
        found: dict[str, Any] = {**known, "valid": round(-float(model.log_prob(dataset.valid).detach().mean()), 4)}
        if stage == "final":
            found |= {**look(model, dataset), "curve": curve}
        record["runs"].append(found)
        print(", ".join(f"{key} {value}" for key, value in found.items() if key != "curve"), flush=True)
        records.write(chosen.out, record)
        return found

    for way in WAYS:
        tried = [run("search", way, lr, SEARCH_SEED) for lr in RATES]
        best = min(tried, key=lambda found: found["valid"])["lr"]
        for seed in range(chosen.seeds):
            run("final", way, best, seed)


if __name__ == "__main__":
    main()
