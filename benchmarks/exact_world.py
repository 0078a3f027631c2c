"""Every model of the course on the one world whose truth is known: the table of chapter 2.

    python benchmarks/exact_world.py                      the table: what is missing is trained, the record is kept
    python benchmarks/exact_world.py --only vae gan       these; the others' runs stay
    python benchmarks/exact_world.py --steps 50 --seeds 1 --out trial.json     for a trial

The world is `bars_and_stripes`: 14 patterns of 3x3 pixels, each as frequent as another. There is no test set, for there is
nothing else to know: all 14 are trained on, and the model is measured against their distribution (`checks.exact_world`).

The same care for all: 2000 steps, batches of 56 (each pattern four times), Adam, a cosine schedule, weights averaged with 0.99,
no regularisation, and one of five rates. They are tried from the largest down, until the next is worse: which of two is better,
14 000 samples say after 400 steps with a seed of their own, by their total variation from the data. That is a criterion which
implicit models have, too. In the games 400 steps are nothing: there each rate is tried for all 2000. The networks' sizes were
set once, by hand. Models that cannot be built on this world, or learn from something it has not, stand in the record with the
reason.

A record is one run. `stage` is "choice" (of the rate) or "run"; `kl`, `bound`, `off` and `tv` are of the density and `kind` says
how they were found; `sampled` has [total variation, share of no pattern, patterns covered] of the samples; `training` and
`sampling` are seconds of processor time of one thread of one machine, the second for 1000 samples in one batch of 14 000.
Runs that the file has already are not made again.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from gencourse import catalog, data, records
from gencourse.checks import exact_world
from gencourse.flows.ffjord import unit_vectors
from gencourse.markov.base import EnergyModel
from gencourse.train import cosine, fit

OUT = Path(__file__).resolve().parents[1] / "gencourse" / "records" / "02-exact-world.json"
RATES = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4)
CHOICE, SEEDS = 100, (0, 1, 2)
STEPS, BATCH, SAMPLES, DRAWS = 2000, 56, 14_000, 500
FEWER_DRAWS = {"flow_matching": 100}  # each takes 80 evaluations of a field and of its nine derivatives
RECURRENT = {"hidden": 8, "layers": 1, "kernel": 3, "features": 16}
OPTIONS: dict[str, dict[str, Any]] = {
    "fvbn": {},
    "nade": {"hidden": 32},
    "made": {"hidden": (64,)},
    "row_lstm": RECURRENT,
    "diagonal_bilstm": RECURRENT,
    "pixelcnn": {"blocks": 1, "channels": 16, "kernel": 5},
    "gated_pixelcnn": {"blocks": 1, "channels": 16, "kernel": 5},
    "pixelcnn_pp": {"blocks": 1, "channels": 8, "mixtures": 2, "dropout": 0.0},
    "multiscale": {"blocks": 1, "channels": 16, "kernel": 5},
    "nice": {"couplings": 6, "hidden": (64,)},
    "realnvp": {"couplings": 6, "hidden": (64,)},
    "ffjord": {"hidden": (64,), "steps": 2, "finer": 4, "directions": unit_vectors},
    "vae": {"latent": 2, "hidden": (64,)},
    "conv_vae": {"latent": 2, "width": 8},
    "iwae": {"latent": 2, "hidden": (64,), "samples": 5},
    "categorical_vae": {"variables": 4, "states": 4, "hidden": (64,)},
    "boltzmann": {"hidden": 2, "sweeps": 200},
    "rbm": {"hidden": 16, "chains": 100, "sweeps": 200},
    "gsn": {"hidden": (64,)},
    "gan": {"latent": 4, "hidden": (64, 64), "d_hidden": (64, 64)},
    "wgan": {"latent": 4, "hidden": (64, 64)},
    "began": {"latent": 4, "hidden": (64, 64)},
    "ddpm": {"steps": 50, "hidden": 64, "blocks": 2},
    "flow_matching": {"hidden": 64, "blocks": 2},
}
GAMES = ("gan", "wgan", "began")
CONDITIONAL = {
    "pix2pix": "it draws a picture given another picture, and the world has no pairs",
    "cyclegan": "it translates one kind of pictures into another, and the world has one kind",
    "text_to_image": "it draws a picture given a caption, and the world has no captions",
    "scene_graph": "it draws a picture given a scene graph, and the world has no graphs",
}


def left_out() -> dict[str, str]:
    """The models that are not measured, and why: tried here, so that it is true."""
    space, found = data.load("bars_and_stripes").space, {}
    for entry in catalog.MODELS:
        if entry.name in CONDITIONAL:
            found[entry.name] = CONDITIONAL[entry.name]
        elif entry.name not in OPTIONS:
            try:
                entry.build(space, **dict(entry.options))
            except ValueError as error:
                found[entry.name] = f"it cannot be built: {error}"
            else:
                raise SystemExit(f"{entry.name} can be built on {space}: give it a row in OPTIONS.")
    return found


def trained(name: str, rate: float, seed: int, steps: int) -> tuple[Any, float]:
    """A model fitted to the world, and the seconds of processor time that it took."""
    world = data.load("bars_and_stripes")
    torch.manual_seed(seed)
    model = catalog.entry(name).build(world.space, **OPTIONS[name])
    start = time.process_time()
    fit(
        model,
        world.train.repeat(BATCH // len(world.train), 1, 1, 1),
        steps=steps,
        batch_size=BATCH,
        lr=rate,
        schedule=cosine,
        ema=0.99,
        seed=seed,
        device="cpu",
        progress=False,
    )
    return model.eval(), time.process_time() - start


def measured(name: str, model: Any, seed: int, *, whole: bool = True) -> dict[str, Any]:
    """All that is known of a fitted model; what its samples say, if it is only for the choice of a rate."""
    world = exact_world.World.of(data.load("bars_and_stripes").train)
    start = time.process_time()
    drawn = model.sample(SAMPLES, generator=torch.Generator().manual_seed(seed))
    seconds = (time.process_time() - start) * 1000 / SAMPLES
    found = exact_world.samples(drawn, world)
    result: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "sampled": [round(found.tv, 5), round(found.off, 5), found.covered],
        "sampling": round(seconds, 4),
    }
    if not whole:
        return result
    density = exact_world.density(model, world, draws=FEWER_DRAWS.get(name, DRAWS), seed=seed)
    if density:
        result["kind"] = density.kind
        for key in ("kl", "error", "bound", "off", "tv"):
            value = getattr(density, key)
            result[key] = None if value is None else round(value, 6)
    if isinstance(model, EnergyModel):
        ais = model.estimate_log_partition(chains=100, generator=torch.Generator().manual_seed(seed))
        result["log_z"] = [round(float(model.log_partition().detach()), 5), round(ais.log_z, 5), round(ais.standard_error, 5)]
    return result


def chosen_rate(runs: list[dict[str, Any]], name: str) -> float:
    """The rate with the least total variation of samples; a run that failed has 1."""
    tries = [run for run in runs if run["name"] == name and run["stage"] == "choice"]
    return float(min(reversed(tries), key=lambda run: run["sampled"][0])["rate"])  # of equal ones the last


def table(content: dict[str, Any]) -> str:
    """Means over the seeds, one line a model."""
    head = ("", "rate", "kind", "KL", "by bound", "TV", "no pattern", "covered", "training s", "1000 samples s")
    lines = [head]
    for name in OPTIONS:
        runs = [run for run in content["runs"] if run["name"] == name and run["stage"] == "run"]
        if not runs:
            continue

        def mean(key: str, i: int | None = None, digits: int = 3, runs: list[dict[str, Any]] = runs) -> str:
            values = [run.get(key) if i is None else run[key][i] for run in runs]
            return "-" if None in values else f"{sum(values) / len(values):.{digits}f}"

        lines.append(
            (
                catalog.entry(name).title,
                f"{runs[0]['rate']:g}",
                runs[0].get("kind", "samples"),
                mean("kl"),
                mean("bound"),
                mean("sampled", 0),
                mean("sampled", 1),
                mean("sampled", 2, 1),
                mean("training", None, 1),
                mean("sampling"),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))) for line in lines
    ]
    floor = exact_world.tv_floor(SAMPLES, torch.full((14,), 1 / 14, dtype=torch.float64))
    return "\n".join([*rows, f"TV of {SAMPLES} samples of the data themselves: {floor:.3f}", ""]) + "\n".join(
        f"without {name}: {why}" for name, why in content["made with"]["left_out"].items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(OPTIONS), default=list(OPTIONS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    os.nice(10)
    torch.set_num_threads(1)
    content = records.begin(asked.out, threads=1, steps=asked.steps, batch=BATCH, samples=SAMPLES, left_out=left_out())

    def add(name: str, stage: str, rate: float, seed: int) -> None:
        if any([run["name"], run["stage"], run["rate"], run["seed"]] == [name, stage, rate, seed] for run in content["runs"]):
            return
        run: dict[str, Any] = {"name": name, "stage": stage, "rate": rate, "seed": seed}
        try:
            short = stage == "choice" and name not in GAMES
            model, seconds = trained(name, rate, seed, asked.steps // 5 if short else asked.steps)
        except FloatingPointError as error:
            run |= {"sampled": [1.0, 1.0, 0], "failed": str(error)}
        else:
            run |= {**measured(name, model, seed, whole=stage == "run"), "training": round(seconds, 2)}
        content["runs"].append(run)
        print(json.dumps(run), flush=True)
        records.write(asked.out, content)

    for seed in SEEDS[: asked.seeds]:
        for name in asked.only:
            for rate in RATES:
                add(name, "choice", rate, CHOICE)
                if chosen_rate(content["runs"], name) != rate:
                    break
            add(name, "run", chosen_rate(content["runs"], name), seed)
    print(table(content))


if __name__ == "__main__":
    main()
