"""Priors, posteriors, bounds and beta on binary digits: the data of chapter 10's comparison.

    python benchmarks/latent_space.py                                               one seed of each, three minutes
    python benchmarks/latent_space.py --seeds 5 --out gencourse/records/10-latent.json      half an hour on one core

All models of a seed have the same first weights where they have the same layers, the same batches and the same number of steps;
what is compared is the only thing that differs. Weights are those of the best validation loss. Every record of the file is one
run: part, model, seed, and scores on the 360 test images in nats per image. Runs that are there already are not made again, so
that a run that was cut off goes on.

    models       z of 8 (and of 2): the negative log-likelihood by 1000 importance weights, the negative ELBO, active units
    rates        the same models at several learning rates: validation NLL, with a seed that is in no comparison
    tuned        as `models`, each at the rate that was its best there; not in the record yet (half an hour more)
    categorical  256 states of z, as 4 variables of 4 and 2 of 16: the estimators of the gradient; the likelihood is exact
    beta         a weight of the KL from 0.5 to 10: rate and distortion
    blobs        the same weight where the factors of each image are known: MIG and DCI beside the rate
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gencourse import data, records
from gencourse.data.blobs import draw_blobs, every_factor
from gencourse.flows.realnvp import RealNVP
from gencourse.kinds import GenerativeModel
from gencourse.metrics.disentanglement import dci, mig
from gencourse.metrics.likelihood import nll
from gencourse.space import Space
from gencourse.train import cosine, fit
from gencourse.variational.beta import active_units, code_information, rate_distortion
from gencourse.variational.categorical import (
    CategoricalVAE,
    GumbelSoftmax,
    ScoreFunction,
    StraightThrough,
    exact_elbo,
    exact_log_prob,
)
from gencourse.variational.iwae import IWAE
from gencourse.variational.posteriors import Coupling
from gencourse.variational.posteriors import MixtureOfGaussians as MixturePosterior
from gencourse.variational.priors import MixtureOfGaussians, VampPrior
from gencourse.variational.vae import VAE

DIGITS = data.load("binary_digits")
STEPS = 3000
WEIGHTS = 1000
FIT: dict[str, Any] = {"steps": STEPS, "batch_size": 100, "lr": 2e-3, "schedule": cosine, "ema": 0.995}
ADAMW = partial(torch.optim.AdamW, weight_decay=1e-4)


def vamp(latent: int) -> VampPrior:
    return VampPrior(DIGITS.space, DIGITS.train, components=50)


def flow(latent: int) -> RealNVP:
    return RealNVP(Space((latent,)), couplings=4, hidden=(32,))


MODELS: dict[str, Callable[[], VAE]] = {
    "VAE": partial(VAE, DIGITS.space, latent=8, hidden=(200,)),
    "mixture prior": partial(VAE, DIGITS.space, latent=8, hidden=(200,), prior=MixtureOfGaussians),
    "VampPrior": partial(VAE, DIGITS.space, latent=8, hidden=(200,), prior=vamp),
    "flow prior": partial(VAE, DIGITS.space, latent=8, hidden=(200,), prior=flow),
    "IWAE 5": partial(IWAE, DIGITS.space, latent=8, hidden=(200,), samples=5),
    "mixture posterior": partial(VAE, DIGITS.space, latent=8, hidden=(200,), posterior=MixturePosterior),
    "coupling posterior": partial(VAE, DIGITS.space, latent=8, hidden=(200,), posterior=Coupling),
    "VAE, z of 2": partial(VAE, DIGITS.space, latent=2, hidden=(200,)),
    "mixture posterior, z of 2": partial(VAE, DIGITS.space, latent=2, hidden=(200,), posterior=MixturePosterior),
}
ESTIMATORS = {
    "log p(x)": exact_log_prob,
    "exact ELBO": exact_elbo,
    "Gumbel-softmax": GumbelSoftmax,
    "straight-through": StraightThrough,
    "score function": ScoreFunction,
    "score function, no baseline": partial(ScoreFunction, decay=None),
}
SHAPES = ((4, 4), (2, 16))  # variables and states: 256 states of z in both
PARTS = ("models", "rates", "categorical", "beta", "blobs", "tuned")
RATES, RATE_SEED = (2e-3, 4e-3, 8e-3, 1.6e-2), 5
BLOB_BETAS = (1.0, 4.0, 10.0)
BLOB_STEPS = 2500
BETAS = (0.5, 1.0, 2.0, 4.0, 10.0)


def trained(make: Callable[[], GenerativeModel], seed: int, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """A model and how long it took."""
    torch.manual_seed(seed)
    model = make()
    history = fit(model, DIGITS, seed=seed, optimizer=ADAMW, device="cpu", progress=False, **{**FIT, **settings})
    return model, {"best_step": history.best_step, "seconds": round(history.seconds, 1)}


def judged(model: VAE) -> dict[str, float]:
    """Of a mixture posterior as many draws of each component as make the same number in all."""
    K = getattr(model.family, "components", 1)
    generator = torch.Generator().manual_seed(0)
    x = DIGITS.test
    parts = rate_distortion(model, x, samples=100 // K, generator=generator)
    information, aggregate = code_information(model, x, samples=4, generator=generator)
    return {
        "nll": round(nll(model, x, samples=WEIGHTS // K).mean, 4),
        "-elbo": round(parts.rate + parts.distortion, 4),
        "rate": round(parts.rate, 4),
        "distortion": round(parts.distortion, 4),
        "information": round(information, 4),
        "aggregate_kl": round(aggregate, 4),
        "active": active_units(model, x, generator=generator),
    }


def run_model(name: str, seed: int, lr: float = FIT["lr"]) -> dict[str, Any]:
    model, how = trained(MODELS[name], seed, lr=lr)
    return {**judged(model), **how}


def run_rate(name: str, lr: float) -> dict[str, Any]:
    model, how = trained(MODELS[name], RATE_SEED, lr=lr)
    score = nll(model, DIGITS.valid, samples=WEIGHTS // getattr(model.family, "components", 1)).mean
    return {"valid_nll": round(score, 4), **how}


def best_rate(name: str, runs: list[dict[str, Any]]) -> float:
    """The rate with which this model did best on the validation images."""
    tried = {run["lr"]: run["valid_nll"] for run in runs if run["part"] == "rates" and run["model"] == name}
    if not tried:
        raise SystemExit(f"{name}: no learning rate was tried; make the part rates first.")
    return min(tried, key=lambda lr: tried[lr])


def run_beta(beta: float, seed: int) -> dict[str, Any]:
    model, how = trained(partial(VAE, DIGITS.space, latent=8, hidden=(200,), beta=beta), seed)
    return {**judged(model), **how}


def run_categorical(name: str, variables: int, states: int, seed: int) -> dict[str, Any]:
    estimator = ESTIMATORS[name]
    make = partial(CategoricalVAE, DIGITS.space, variables=variables, states=states, estimator=estimator)
    model, how = trained(make, seed, steps=2500)
    with torch.no_grad():
        elbo = float(model.eval().exact_elbo(DIGITS.test).mean())
    return {"nll": round(nll(model, DIGITS.test).mean, 4), "-elbo": round(-elbo, 4), **how}


def run_blobs(beta: float, seed: int) -> dict[str, Any]:
    """A VAE of five numbers on the 768 blobs, each pixel a Gaussian of sd 0.15; the KL's weight rises over half of the steps.

    With this sd the KL at a weight of 4 is about the log 768 = 6.64 nats that the factors hold. A larger one cannot be paid for,
    and whole factors are given up.
    """
    torch.manual_seed(seed)
    factors = every_factor()
    x = draw_blobs(factors).float() / 255
    model = VAE(Space((1, 16, 16)), latent=5, hidden=(150,), beta=0.0)
    model.log_scale.data.fill_(math.log(0.15))
    model.log_scale.requires_grad_(False)

    def rise(step: int, model: Any) -> None:
        model.beta = beta * min(1.0, 2 * step / BLOB_STEPS)

    settings = {**FIT, "steps": BLOB_STEPS, "optimizer": ADAMW, "keep_best": False, "callback": rise}
    history = fit(model, x, seed=seed, device="cpu", progress=False, **settings)
    parts = rate_distortion(model, x, samples=20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        q = model.eval().encode(x)
        each = 0.5 * (q.mean.square() + q.variance - q.variance.log() - 1).mean(0)  # (5,) nats
        error = float((model.decode_mean(q.mean) - x).square().mean())
    scores = dci(q.mean, factors)
    return {
        "mig": round(mig(q.mean, factors, kl=each), 4),
        "disentanglement": round(scores.disentanglement, 4),
        "completeness": round(scores.completeness, 4),
        "informativeness": round(scores.informativeness, 4),
        "rate": round(parts.rate, 4),
        "mse": round(error, 6),
        "active": int((each > 0.01).sum()),
        "seconds": round(history.seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:-1])
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    record = records.begin(chosen.out, threads=1, steps=STEPS)
    runs: list[tuple[dict[str, Any], Callable[[], dict[str, Any]]]] = []
    if "rates" in chosen.parts:
        for name in MODELS:
            runs += [({"part": "rates", "model": name, "lr": lr, "seed": RATE_SEED}, partial(run_rate, name, lr)) for lr in RATES]
    for seed in range(chosen.seeds):
        if "models" in chosen.parts:
            runs += [({"part": "models", "model": name, "seed": seed}, partial(run_model, name, seed)) for name in MODELS]
        if "categorical" in chosen.parts:
            for name in ESTIMATORS:
                for N, K in SHAPES:
                    known = {"part": "categorical", "estimator": name, "variables": N, "states": K, "seed": seed}
                    runs.append((known, partial(run_categorical, name, N, K, seed)))
        if "beta" in chosen.parts:
            runs += [({"part": "beta", "beta": beta, "seed": seed}, partial(run_beta, beta, seed)) for beta in BETAS]
        if "blobs" in chosen.parts:
            runs += [({"part": "blobs", "beta": beta, "seed": seed}, partial(run_blobs, beta, seed)) for beta in BLOB_BETAS]
        if "tuned" in chosen.parts:
            for name in MODELS:
                lr = best_rate(name, record["runs"])
                runs.append(({"part": "tuned", "model": name, "lr": lr, "seed": seed}, partial(run_model, name, seed, lr)))
    for known, make in runs:
        if any(all(run.get(key) == value for key, value in known.items()) for run in record["runs"]):
            continue
        record["runs"].append({**known, **make()})
        print(record["runs"][-1], flush=True)
        records.write(chosen.out, record)


if __name__ == "__main__":
    main()
