"""The models of the course on the digits, and samplers that are no models, by every metric: the table of chapter 17.

    python benchmarks/evaluation_table.py                     those who need no training, one seed, a minute
    python benchmarks/evaluation_table.py --full --out gencourse/records/17-evaluation.json    all; two hours on one core

Each model is trained by its recipe `digits`, with three seeds, and judged by `gencourse.metrics.report` on the same test images,
with the same floor, on 1440 samples: four parts of 360. Beside them stand those who show how a metric can be fooled:

    training images      each once: what a perfect sampler would score, but for the copies
    test images          the very images that all are compared with
    memoriser            draws from the training images, with replacement
    ten images           one training image of each class, again and again
    five classes         training images of the digits 0 to 4: a sampler that drops modes, and nothing else
    averages             the mean of a training image and its four nearest neighbours: blurred
    centroids            of 300 k-means clusters of the training images: averages that beat real images by Parzen windows
    noisy centroids      the same with noise of sd 0.1 on each pixel, which Parzen windows hardly mind
    noise                independent pixels with each pixel's own histogram

A record is one run: who, the seed, each metric as [value, low, high], what the likelihood is (in nats), Parzen's estimate with
its standard error, and the seconds of training and of 1000 samples. Ranks follow from the values (`COLUMNS` of
`gencourse.metrics.report` says which is best). Runs that the file has already are not made again.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from gencourse import catalog, data, metrics, records
from gencourse.metrics.classifier import scored_classifier
from gencourse.metrics.judge import Judge
from gencourse.metrics.neighbours import nearest_neighbours
from gencourse.metrics.parzen import parzen_estimate
from gencourse.train import fit

SAMPLES = 1440
MODELS = (
    "pixelcnn_pp", "nice", "realnvp", "glow", "vae", "gan", "dcgan", "wgan", "progressive", "biggan", "ddpm", "flow_matching",
)  # fmt: skip
LIKELIHOOD_SAMPLES = {"ddpm": 1}  # the bound: a path takes as many evaluations as the chain has steps
DIGITS = data.load("digits")


def draw(x: Tensor, n: int, generator: torch.Generator) -> Tensor:
    return x[torch.randint(len(x), (n,), generator=generator)]


def of_each_class(generator: torch.Generator) -> Tensor:
    return torch.cat([draw(DIGITS.train[DIGITS.train_labels == k], 1, generator) for k in range(10)])


def averages(generator: torch.Generator) -> Tensor:
    chosen = draw(DIGITS.train, SAMPLES, generator)
    five = nearest_neighbours(chosen, DIGITS.train, k=5).indices  # itself is the first
    return DIGITS.train[five].double().mean(1).round().long()


def centroids(generator: torch.Generator, noise: float = 0.0) -> Tensor:
    seed = int(torch.randint(2**31, (), generator=generator))
    clusters = KMeans(300, n_init=1, random_state=seed).fit(DIGITS.train.flatten(1).double().numpy() / 16)
    chosen = draw(torch.from_numpy(clusters.cluster_centers_).view(-1, *DIGITS.space.shape), SAMPLES, generator)
    return DIGITS.space.from_unit(chosen + noise * torch.randn(chosen.shape, generator=generator, dtype=torch.float64))


def independent(generator: torch.Generator) -> Tensor:
    order = torch.rand(SAMPLES, len(DIGITS.train), generator=generator).argsort(1)[
        :, : DIGITS.space.dim
    ]  # an image for each pixel
    pixels = DIGITS.train.flatten(1)[order, torch.arange(DIGITS.space.dim)]
    return pixels.view(-1, *DIGITS.space.shape)


NO_MODELS: dict[str, Callable[[torch.Generator], Tensor]] = {
    "training images": lambda g: DIGITS.train[torch.randperm(len(DIGITS.train), generator=g)],
    "test images": lambda g: DIGITS.test,
    "memoriser": lambda g: draw(DIGITS.train, SAMPLES, g),
    "ten images": lambda g: draw(of_each_class(g), SAMPLES, g),
    "five classes": lambda g: draw(DIGITS.train[DIGITS.train_labels < 5], SAMPLES, g),
    "averages": averages,
    "centroids": centroids,
    "noisy centroids": lambda g: centroids(g, 0.1),
    "noise": independent,
}


def trained(name: str, seed: int, steps: int | None) -> tuple[Any, float]:
    """A model by its recipe, and the seconds of processor time that it took."""
    recipe = catalog.entry(name).recipe("digits")
    torch.manual_seed(seed)
    model = catalog.entry(name).build(DIGITS.space, **recipe.options)
    settings = recipe.fit | ({"steps": steps} if steps else {})
    start = time.process_time()
    fit(model, recipe.load(), seed=seed, device="cpu", progress=False, **settings)
    return model.eval(), time.process_time() - start


def judged(name: str, sampler: Any, judge: Judge) -> dict[str, Any]:
    """What the table has of one sampler."""
    result = metrics.report({name: sampler}, DIGITS, samples=SAMPLES, likelihood_samples=LIKELIHOOD_SAMPLES)
    (row,) = result.records()
    values = {key: value[:3] if isinstance(value, list) else value for key, value in row.items()}
    unit = DIGITS.space.to_unit
    sets = (judge.samples_of(name, sampler, SAMPLES), DIGITS.test, DIGITS.valid)
    parzen = parzen_estimate(*(unit(x, torch.float64) for x in sets))
    likelihood = parzen.log_likelihood
    values["parzen"] = [round(likelihood.mean, 3), round(likelihood.standard_error, 3), round(parzen.sigma, 4)]
    return values | {"sampling": round(result.rows[0].seconds, 3)}


def with_a_recipe(names: list[str]) -> list[str]:
    """Those that are in the catalogue and have a recipe for the digits; the others are named."""
    found = []
    for name in names:
        try:
            recipe = catalog.entry(name).recipe("digits")
        except ValueError as error:
            print(f"without {name}: {error}", flush=True)
            continue
        if recipe.data == "digits":
            found.append(name)
        else:
            print(f"without {name}: its recipe has other data.", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the models too, three seeds")
    parser.add_argument("--only", nargs="+", choices=[*MODELS, *NO_MODELS], help="these; the others' records stay")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--steps", type=int, help="of training, in place of the recipes', for a trial")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    os.nice(10)
    torch.set_num_threads(1)
    everyone = [*NO_MODELS, *MODELS] if chosen.full else list(NO_MODELS)
    names = chosen.only or everyone
    models = with_a_recipe([name for name in names if name in MODELS])
    classifier = scored_classifier(DIGITS)
    content = records.begin(chosen.out, threads=1, samples=SAMPLES, accuracy=round(classifier.accuracy, 4))
    judge = Judge(DIGITS, len(DIGITS.test), classifier, 2, 0)
    for seed in range(chosen.seeds or (3 if chosen.full else 1)):
        for name in [*(name for name in names if name in NO_MODELS), *models]:
            if any(run["name"] == name and run["seed"] == seed for run in content["runs"]):
                continue
            training: dict[str, Any] = {}
            if name in NO_MODELS:
                sampler = NO_MODELS[name](torch.Generator().manual_seed(seed))
            else:
                sampler, seconds = trained(name, seed, chosen.steps)
                training = {"training": round(seconds, 1)} | ({"steps": chosen.steps} if chosen.steps else {})
            content["runs"].append(
                {"name": name, "seed": seed, "model": name in MODELS, **judged(name, sampler, judge), **training}
            )
            print(json.dumps(content["runs"][-1]), flush=True)
            records.write(chosen.out, content)


if __name__ == "__main__":
    main()
