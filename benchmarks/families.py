"""What the models of chapter 17's table cost, counted and timed, and where the Markov chains stand: the tables of chapter 19.

    python benchmarks/families.py                         what each costs, two minutes
    python benchmarks/families.py --full --out gencourse/records/19-families.json    the black and white digits too; half an hour

Each model is one of the catalogue, built by its recipe for the data. A record of `costs` is one model:

    parameters            of what is trained (a GAN's discriminator included), and of what draws samples
    passes                how often the most often called layer is called: for samples (of an autoregressive model as on slide 28,
                          without keeping activations), and for the likelihood or its bound
    operations            multiplications and additions of matrix products and convolutions, as PyTorch counts them: for a step of
                          training, for a sample (`naive` without keeping activations), and for the likelihood of an image
    seconds               of processor time on one thread: for a step of training, and for 1000 samples; the least of several
                          tries. `reference` is that of a fixed product of matrices, in the same minute: the ratio travels better

Counts are facts of the recipe, seconds of one machine. None depends on what was learned, so nothing is trained for them.

A record of `judged` is one training on the black and white digits, where Boltzmann machines and generative stochastic networks
are at home: judged as in benchmarks/evaluation_table.py, by `gencourse.metrics.report` on 1440 samples. Runs that the file has
already are not made again.
"""

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gencourse import catalog, data, metrics, records
from gencourse.kinds import Approximate, GenerativeModel, Tractable
from gencourse.markov.rbm import RBM
from gencourse.metrics.classifier import scored_classifier
from gencourse.train import fit

COSTS = {
    "digits": ("pixelcnn_pp", "nice", "realnvp", "glow", "vae", "gan", "dcgan", "biggan", "ddpm", "flow_matching"),
    "binary_digits": ("made", "vae", "rbm", "gsn"),
}
SAMPLES = 1440
LIKELIHOOD_SAMPLES = {"rbm": 100}  # chains of annealing; of a variational model, draws from q(z | x)


def built(name: str, dataset: str, seed: int = 0) -> tuple[GenerativeModel, dict[str, Any]]:
    """An untrained model, and how it would be trained."""
    recipe = catalog.entry(name).recipe(dataset)
    torch.manual_seed(seed)
    return catalog.entry(name).build(data.load(dataset).space, **recipe.options), recipe.fit


def trained(model: GenerativeModel, dataset: str, settings: dict[str, Any], seed: int = 0) -> None:
    fit(model, data.load(dataset), seed=seed, device="cpu", progress=False, **settings)
    model.eval()


def passes(model: nn.Module, call: Callable[[], Any]) -> int:
    """How often the most often called layer with weights is called; of an RBM, which has none, how often its pixels are drawn."""
    calls: Counter[Any] = Counter()
    if isinstance(model, RBM):
        with patch.object(RBM, "visible_logits", autospec=True, side_effect=RBM.visible_logits) as half_step:
            call()
        return half_step.call_count
    layers = [module for module in model.modules() if next(module.parameters(recurse=False), None) is not None]
    hooks = [layer.register_forward_hook(lambda layer, *_: calls.update([layer])) for layer in layers]
    call()
    for hook in hooks:
        hook.remove()
    return max(calls.values(), default=0)


def operations(call: Callable[[], Any]) -> int:
    """Of matrix products and convolutions, two for each number that is multiplied and added."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def seconds(call: Callable[[], Any], tries: int = 5) -> float:
    """The least processor time of a call."""
    found = []
    for _ in range(tries):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def reference() -> float:
    """Of a hundred products of two 256 by 256 matrices."""
    a = torch.ones(256, 256)
    return seconds(lambda: [a @ a for _ in range(100)], tries=20)


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def cost(name: str, dataset: str) -> dict[str, Any]:
    """What one model costs, as the record has it."""
    model, settings = built(name, dataset)
    one_step = {**settings, "steps": 1, "keep_best": False, "validate_every": 10**6}  # not within the steps that are counted

    def steps(n: int) -> Callable[[], None]:
        return lambda: trained(built(name, dataset)[0], dataset, {**one_step, "steps": n})

    trained(model, dataset, one_step)  # what learns where it stands from the first batch has done so
    x = data.load(dataset).test[:1]
    labels = model.example_context(1)
    many = model.example_context(1000)

    def sample(n: int = 1, **options: Any) -> Callable[[], Any]:
        context = many[:n] if many is not None else None
        return lambda: model.sample(n, context, generator=torch.Generator().manual_seed(0), **options)

    naive = {"cached": False} if "autoregressive" in type(model).__module__ else {}
    found: dict[str, Any] = {
        "parameters": size(model),
        "parameters of the sampler": size(getattr(model, "generator", model)),
        "passes": {"sample": passes(model, sample(**naive))},
        "operations": {"step": operations(steps(2)) - operations(steps(1)), "sample": operations(sample())},
        "steps": settings["steps"],
    }
    if naive:
        found["operations"]["naive"] = operations(sample(**naive))
    likelihood = _likelihood(model, x, labels)
    if likelihood:
        found["passes"]["likelihood"], found["operations"]["likelihood"] = passes(model, likelihood), operations(likelihood)
    few, more = (seconds(steps(n)) for n in (2, 22))
    step, drawn = (more - few) / 20, seconds(sample(1000))
    return found | {"seconds": {"step": round(step, 5), "1000 samples": round(drawn, 4), "reference": round(reference(), 5)}}


def _likelihood(model: GenerativeModel, x: torch.Tensor, labels: torch.Tensor | None) -> Callable[[], Any] | None:
    """The exact log-probability, or one draw of its bound; None where there is neither without further work."""
    if isinstance(model, Tractable):
        return torch.no_grad()(lambda: model.log_prob(x, labels))
    if isinstance(model, Approximate) and hasattr(model, "elbo"):
        return torch.no_grad()(lambda: model.elbo(x, labels))
    return None


def judged(name: str, dataset: str, seed: int) -> dict[str, Any]:
    """The metrics of one training, each with its interval."""
    model, settings = built(name, dataset, seed)
    start = time.process_time()
    trained(model, dataset, settings, seed)
    spent = time.process_time() - start
    content = data.load(dataset)
    result = metrics.report({name: model}, content, samples=SAMPLES, likelihood_samples=LIKELIHOOD_SAMPLES)
    (row,) = result.records()
    values = {key: value[:3] if isinstance(value, list) else value for key, value in row.items() if key != "name"}
    return values | {"training": round(spent, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="train and judge on the black and white digits, three seeds")
    parser.add_argument("--only", nargs="+", help="these models")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    accuracy = round(scored_classifier(data.load("binary_digits")).accuracy, 4)
    content = records.begin(chosen.out, threads=1, samples=SAMPLES, accuracy=accuracy)

    def add(key: dict[str, Any], make: Callable[[], dict[str, Any]]) -> None:
        if any(key.items() <= run.items() for run in content["runs"]) or (chosen.only and key["name"] not in chosen.only):
            return
        content["runs"].append({**key, **make()})
        print(json.dumps(content["runs"][-1]), flush=True)
        records.write(chosen.out, content)

    for dataset, names in COSTS.items():
        for name in names:
            key = {"table": "costs", "data": dataset, "name": name}
            add(key, lambda name=name, dataset=dataset: cost(name, dataset))  # type: ignore[misc]
    if chosen.full:
        os.nice(10)
        for seed in range(chosen.seeds):
            for name in COSTS["binary_digits"]:
                key = {"table": "judged", "data": "binary_digits", "name": name, "seed": seed}
                add(key, lambda name=name, seed=seed: judged(name, "binary_digits", seed))  # type: ignore[misc]


if __name__ == "__main__":
    main()
