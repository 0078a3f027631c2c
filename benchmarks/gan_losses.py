"""The losses of `gencourse.adversarial` at equal budget, over seeds and learning rates: the data of chapter 15's comparison.

    python benchmarks/gan_losses.py                                  two losses on the ring, a minute
    python benchmarks/gan_losses.py --full --out book/15-gan-losses.json    all, on ring and digits; half an hour on two cores
    python benchmarks/gan_losses.py --data "ring recipe" --seeds 5 --out FILE    the WGAN's own recipe, a minute a seed
    python benchmarks/gan_losses.py --full --data mnist --updates 40000 --device cuda --out FILE

Every record of the file is one run: loss, seed, learning rate, updates, seconds and scores. The file also says with what
and where the runs were made. Records stay, but for those of a data set and a loss that are run again.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch

from gencourse import __version__, data
from gencourse.adversarial import wgan
from gencourse.adversarial.compare import CONTESTANTS, play
from gencourse.data.toys import RingOfGaussians
from gencourse.metrics.classifier import scored_classifier
from gencourse.metrics.frechet import frechet_to
from gencourse.metrics.modes import mode_report
from gencourse.train import fit

RING = RingOfGaussians()


def judge_ring(samples: torch.Tensor) -> dict[str, float]:
    report = mode_report(samples, RING.centres, RING.sd)
    return {"covered": report.covered, "good": round(report.good, 4), "overlap": round(report.overlap, 4)}


def by_recipe(seed: int, device: str) -> dict[str, Any]:
    """The library's WGAN on the ring, by its recipe: what the loss can do where the budget is not the point."""
    recipe = next(recipe for recipe in wgan.RECIPES if recipe.name == "ring")
    torch.manual_seed(seed)
    model = wgan.WGAN(RING.space, **recipe.options)
    history = fit(model, recipe.load(), seed=seed, device=device, progress=False, **recipe.fit)
    scores = judge_ring(model.sample(recipe.samples, generator=torch.Generator(model.device).manual_seed(0)).cpu())
    rounds, rate = recipe.fit["steps"], recipe.fit["lr"]
    budget = {"lr": rate, "updates": rounds * (model.d_steps + 1), "rounds": rounds, "seconds": round(history.seconds, 1)}
    return {"loss": "WGAN, penalty", "seed": seed, **budget, **scores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all losses, three seeds, two learning rates")
    parser.add_argument("--data", nargs="+", help="ring, or a labelled set of images")
    parser.add_argument("--losses", nargs="+", choices=list(CONTESTANTS))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--lr", type=float, nargs="+")
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    sets = chosen.data or (["ring", "digits"] if chosen.full else ["ring"])
    names = chosen.losses or (list(CONTESTANTS) if chosen.full else ["non-saturating", "WGAN, penalty"])
    seeds = range(chosen.seeds or (3 if chosen.full else 1))
    rates = chosen.lr or ([5e-4, 2e-3] if chosen.full else [1e-3])
    content = json.loads(chosen.out.read_text()) if chosen.out and chosen.out.exists() else {"runs": []}
    where = torch.cuda.get_device_name() if torch.cuda.is_available() and chosen.device != "cpu" else platform.machine() + " CPU"
    content["made with"] = {"gencourse": __version__, "torch": torch.__version__.split("+")[0], "device": where}
    for name in sets:
        if name.startswith("ring"):
            dataset, judge = RING.dataset(), judge_ring
        else:
            dataset = data.load(name)
            classifier = scored_classifier(dataset)

            def judge(samples, dataset=dataset, classifier=classifier):
                return {"frechet_ratio": round(frechet_to(dataset, samples, classifier).ratio, 3)}

        recipe = name == "ring recipe"
        cases = [("WGAN, penalty", 0.0)] if recipe else [(loss, lr) for lr in rates for loss in names]
        content["runs"] = [run for run in content["runs"] if run["data"] != name or run["loss"] not in dict(cases)]
        for seed in seeds:
            for loss, lr in cases:
                if recipe:
                    run = by_recipe(seed, chosen.device)
                else:
                    budget = {"updates": chosen.updates, "lr": lr}
                    run = play(loss, dataset, judge, seed=seed, device=chosen.device, progress=False, **budget)
                content["runs"].append({"data": name, **run})
                print(", ".join(f"{key} {value}" for key, value in content["runs"][-1].items()), flush=True)
                if chosen.out:
                    lines = ",\n".join("  " + json.dumps(run) for run in content["runs"])
                    head = json.dumps(content["made with"])
                    chosen.out.write_text(f'{{"made with": {head},\n "runs": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
