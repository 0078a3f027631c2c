"""Denoising diffusion and flow matching on equal terms: the data of chapter 18's comparison.

    python benchmarks/diffusion.py                                               two seeds, no search, two minutes
    python benchmarks/diffusion.py --full --out gencourse/records/18-diffusion.json     all; some minutes on one core

On the checkerboard, with one network (two residual blocks of 128), the same points and as many updates, two things to learn:

    ddpm    the noise, on the linear curve, T = 100
    flow    the velocity of straight paths

For each the learning rate is chosen among three by the exact log-density of *validation* points under its own ordinary
differential equation, with a seed of its own (stage "search"). Then five fresh seeds, the same for both (stage "final"): that
log-density of test points in nats, and the share of 2000 samples on the dark squares by how often the network is asked. `ddim`
and `euler` are the two models' usual samplers; `ode` is Euler's method on the first model's equation, in graded time. Runs that
are in the file are not made again.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch

from gencourse import records
from gencourse.data import Dataset
from gencourse.data.toys import Checkerboard
from gencourse.diffusion.ddpm import DDPM
from gencourse.diffusion.flow_matching import FlowMatching
from gencourse.diffusion.samplers import DDIM, ProbabilityFlow
from gencourse.solvers import RK4, Euler
from gencourse.train import cosine, fit

NETWORK: dict[str, Any] = {"hidden": 128, "blocks": 2, "frequencies": 32, "scale": 2.3}
RATES = (1e-3, 2e-3, 4e-3)
ASKED = (5, 10, 20, 50)
SEARCH_SEED = 1000  # the final seeds are 0, 1, 2, ...


def train(dataset: Dataset, way: str, lr: float, seed: int, steps: int) -> DDPM | FlowMatching:
    torch.manual_seed(seed)
    model = DDPM(dataset.space, steps=100, **NETWORK) if way == "ddpm" else FlowMatching(dataset.space, **NETWORK)
    given: dict[str, Any] = {"batch_size": 256, "schedule": cosine, "ema": 0.999, "device": "cpu", "progress": False}
    fit(model, dataset, steps=steps, lr=lr, seed=seed, **given)
    return model


@torch.no_grad()
def nll(model: DDPM | FlowMatching, x: torch.Tensor) -> float:
    log_prob = model.ode_log_prob if isinstance(model, DDPM) else model.log_prob
    return round(-float(log_prob(x, solver=RK4(20)).mean()), 4)


def on_dark(samples: torch.Tensor) -> float:
    return round(float((Checkerboard().log_prob(samples) > -math.inf).double().mean()), 4)


def judge(model: DDPM | FlowMatching, dataset: Dataset) -> dict[str, Any]:
    def shares(samplers: list[dict[str, Any]]) -> list[float]:
        return [on_dark(model.sample(2000, generator=torch.Generator().manual_seed(0), **how)) for how in samplers]

    found: dict[str, Any] = {"nll": nll(model, dataset.test)}
    if isinstance(model, FlowMatching):
        found["euler"] = shares([{"solver": Euler(n)} for n in ASKED])
    else:
        found["ddim"] = shares([{"sampler": DDIM(n)} for n in ASKED])
        found["ode"] = shares([{"sampler": ProbabilityFlow(Euler(n))} for n in ASKED])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="rates by validation, five seeds")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    record = records.begin(chosen.out, threads=torch.get_num_threads())
    dataset = Checkerboard().dataset(train=200_000, valid=1000, test=1000)

    def run(stage: str, way: str, lr: float, seed: int) -> dict[str, Any]:
        known = {"stage": stage, "way": way, "lr": lr, "seed": seed, "steps": chosen.steps}
        for before in record["runs"]:
            if all(before.get(key) == value for key, value in known.items()):
                return before
        model = train(dataset, way, lr, seed, chosen.steps)
        assert dataset.valid is not None
        scores = {"nll": nll(model, dataset.valid)} if stage == "search" else judge(model, dataset)
        record["runs"].append({**known, **scores})
        print(", ".join(f"{key} {value}" for key, value in record["runs"][-1].items()), flush=True)
        records.write(chosen.out, record)
        return record["runs"][-1]

    best = {}
    for way in ("ddpm", "flow"):
        tried = [run("search", way, lr, SEARCH_SEED) for lr in (RATES if chosen.full else RATES[1:2])]
        best[way] = min(tried, key=lambda found: found["nll"])["lr"]
    for seed in range(5 if chosen.full else 2):
        for way in ("ddpm", "flow"):
            run("final", way, best[way], seed)


if __name__ == "__main__":
    main()
