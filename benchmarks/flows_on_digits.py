"""NICE, RealNVP, Glow and ten Gaussians on the digits, five seeds each: the data of chapter 6's comparison.

    python benchmarks/flows_on_digits.py                     two of them, few steps, half a minute
    python benchmarks/flows_on_digits.py --full --out gencourse/records/06-flows.json    all; half an hour on one core

Each flow has the options, the steps and the learning rate of the library's recipe. With a seed that is used for nothing else
(100), half and twice the rate are tried too: these records, `search`, show by their validation loss how far each flow is from
its best rate. The mixture's `reg_covar` is chosen by validation for each seed. A seed sets the first weights, the order of the
batches and their noise, or where EM begins and the noise that it sees. Every competitor is then judged on the same test images
with the same 16 draws of noise: `test`, the mean of the sixteen bounds, and `test 16`, the bound from all of them together,
both in bits per dimension. A record is one run; runs that the file has already are not made again.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from gencourse import catalog, data, records
from gencourse.flows.bijections import Logit
from gencourse.metrics.likelihood import log_mean_exp
from gencourse.train import fit

TIMES = (0.5, 1, 2)  # the recipe's rate
REGULARISATIONS = (0.01, 0.03, 0.1, 0.3, 1.0)
SEARCH_SEED = 100
DRAWS = 16
FLOWS, GAUSSIANS = ("nice", "realnvp", "glow"), "ten Gaussians"

DIGITS = data.load("digits")
LOGIT = Logit(0.01)

#: The log-density of dequantised images, `(B, 1, 8, 8)` on [0, 1) -> `(B,)` nats.
LogDensity = Callable[[Tensor], Tensor]


@torch.no_grad()
def judge(log_density: LogDensity) -> dict[str, float]:
    """The two scores on the test images; the noise is the same for all who are judged."""
    log_weights = []
    for k in range(DRAWS):
        y, log_det = DIGITS.space.dequantize(DIGITS.test, generator=torch.Generator().manual_seed(k))
        log_weights.append(log_density(y) + log_det)
    stacked = torch.stack(log_weights).double()  # (16, B)
    bits = {"test": stacked.mean(0), "test 16": log_mean_exp(stacked)}
    return {name: round(float(DIGITS.space.bits_per_dim(nats).mean()), 4) for name, nats in bits.items()}


def train(name: str, rate: float, seed: int, steps: int | None) -> dict[str, Any]:
    """A flow by its recipe, but for the rate; `steps` in place of the recipe's for a trial."""
    recipe = catalog.entry(name).recipe("digits")
    torch.manual_seed(seed)
    model = catalog.entry(name).build(DIGITS.space, **recipe.options)
    settings = recipe.fit | {"lr": rate} | ({"steps": steps} if steps else {})
    history = fit(model, DIGITS, seed=seed, device="cpu", progress=False, **settings)
    if history.valid[-1][0] < settings["steps"]:
        raise SystemExit("The training was stopped: this run does not count.")
    valid = min(loss for _, loss in history.valid) / (DIGITS.space.dim * math.log(2))
    size = sum(parameter.numel() for parameter in model.parameters())
    return {"steps": settings["steps"], "valid": round(valid, 4), **judge(model.eval().log_density), "weights": size}


def ten_gaussians(seed: int) -> dict[str, Any]:
    """A mixture of ten Gaussians with full covariances in logit space, from ten noisy copies of each training image."""

    def reals(x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        y, first = DIGITS.space.dequantize(x, generator=torch.Generator().manual_seed(seed))
        h, second = LOGIT(y.double())
        return h.flatten(1), first + second

    def density_of(mixture: GaussianMixture) -> LogDensity:
        def log_density(y: Tensor) -> Tensor:
            h, log_det = LOGIT(y.double())
            return torch.from_numpy(mixture.score_samples(h.flatten(1).numpy())) + log_det

        return log_density

    many, _ = reals(DIGITS.train.repeat(10, 1, 1, 1), 1000 + seed)
    h, log_det = reals(DIGITS.valid, 100)
    found = []
    for reg in REGULARISATIONS:
        mixture = GaussianMixture(10, reg_covar=reg, random_state=seed, max_iter=30, tol=1e-2).fit(many.numpy())
        valid = DIGITS.space.bits_per_dim(torch.from_numpy(mixture.score_samples(h.numpy())) + log_det)
        found.append((float(valid.mean()), reg, mixture))
    valid, reg, mixture = min(found, key=lambda entry: entry[:2])
    D = DIGITS.space.dim
    return {"reg": reg, "valid": round(valid, 4), **judge(density_of(mixture)), "weights": 10 * (1 + D + D * (D + 1) // 2) - 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all, three rates of each flow, the recipes' steps, five seeds")
    parser.add_argument("--only", nargs="+", choices=[*FLOWS, GAUSSIANS], help="these; the others' records stay")
    parser.add_argument("--steps", type=int, help="in place of the recipes'")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    everyone, times, seeds = (FLOWS, TIMES, range(5)) if chosen.full else (FLOWS[:1], TIMES[1:], range(1))
    names = [name for name in everyone if name in (chosen.only or everyone)]
    steps = chosen.steps or (None if chosen.full else 150)
    content = records.begin(chosen.out, threads=1)

    def run(make: Callable[[], dict[str, Any]], **key: Any) -> dict[str, Any]:
        for known in content["runs"]:
            if all(known.get(name) == value for name, value in key.items()):
                return dict(known)
        start = time.process_time()
        scores = make()
        content["runs"].append({**key, **scores, "seconds": round(time.process_time() - start, 1)})
        print(json.dumps(content["runs"][-1]), flush=True)
        records.write(chosen.out, content)
        return dict(content["runs"][-1])

    def flow(stage: str, name: str, rate: float, seed: int) -> dict[str, Any]:
        return run(lambda: train(name, rate, seed, steps), stage=stage, name=name, lr=rate, seed=seed)

    usual = {name: catalog.entry(name).recipe("digits").fit["lr"] for name in names}
    for name, rate in usual.items():
        for k in times:
            flow("search", name, k * rate, SEARCH_SEED)
    for seed in seeds:
        if GAUSSIANS in (chosen.only or [GAUSSIANS]):
            run(lambda seed=seed: ten_gaussians(seed), stage="final", name=GAUSSIANS, seed=seed)
        for name, rate in usual.items():
            flow("final", name, rate, seed)


if __name__ == "__main__":
    main()
