"""Trained diffusion models run in the page, from noise to data: each state beside what the network takes its data for."""

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import nn

from gencourse import data
from gencourse.data.toys import Checkerboard
from gencourse.diffusion import schedule
from gencourse.diffusion.ddpm import DDPM
from gencourse.diffusion.networks import ResidualMLP
from gencourse.diffusion.samplers import DDIM
from gencourse.explorers.base import Explorer, pack
from gencourse.explorers.rate_and_distortion import normals
from gencourse.space import Space
from gencourse.train import cosine, fit
from gencourse.viz.theme import COLOURS, Picture


class FromNoiseToData(Explorer):
    """Follow points and digits through the levels of noise, in as many steps as one likes, by DDIM or by the ancestral sampler.

    Beside each state x_t stands the x_0 that the network believes in. Digits are drawn for a class, with a weight of guidance.
    The networks run in the page, in double precision, with float16 weights: 28 KB for points, 156 KB for digits. The steps are
    those of `gencourse.diffusion.samplers`, with the numbers of `rate_and_distortion.normals`: x_T takes one a coordinate, and so
    does each ancestral step but the last.

    Args:
        points: a DDPM of points of the checkerboard; None takes that of `trained`.
        digits: a DDPM of grey images with classes; None takes that of `trained`.
        count: how many points are drawn.
        steps: at the beginning.
        seed: of the page's random numbers, see `one_pixel_at_a_time.uniforms`.

    Raises:
        TypeError: if the page cannot run a model.
        ValueError: if it is of other data, or a number is out of range.
    """

    module: ClassVar[Path] = Path(__file__).with_name("from_noise_to_data.js")
    helpers: ClassVar[tuple[Path, ...]] = tuple(
        Path(__file__).with_name(f"{name}.js") for name in ("plane", "pixels", "networks")
    )

    def __init__(
        self, points: DDPM | None = None, digits: DDPM | None = None, *, count: int = 500, steps: int = 20, seed: int = 0
    ) -> None:
        if points is None or digits is None:
            ours = trained()
            points, digits = points or ours[0], digits or ours[1]
        sent = {"points": as_sent(points), "digits": as_sent(digits)}
        if points.space != Space((2,)) or points.classes:
            raise ValueError(
                f"FromNoiseToData: points must be a model of points of the plane without classes, not {points.space}."
            )
        if len(digits.space.shape) != 3 or digits.space.shape[0] != 1 or not digits.classes:
            raise ValueError(f"FromNoiseToData: digits must be a model of grey images with classes, not {digits.space}.")
        most = min(100, points.schedule.T, digits.schedule.T)
        if not (2 <= steps <= most and 5 <= count <= 5000 and 0 <= seed < 2**32):
            raise ValueError(
                f"FromNoiseToData: steps must be in 2..{most}, count in 5..5000 and seed in 0..{2**32 - 1}, "
                f"not {steps}, {count} and {seed}."
            )
        state = {
            "models": {name: packed(model) for name, model in sent.items()},
            "height": digits.space.shape[1],
            "width": digits.space.shape[2],
            "count": count,
            "most": most,
            "data": "points",
            "sampler": "DDIM",
            "steps": steps,
            "label": -2,  # a class, -1 for none, -2 for one of each
            "weight": 1.5,
            "seed": seed,
            "at": 0,
        }
        super().__init__(
            state,
            still=_still(sent["points"], sent["digits"], count, seed)._repr_png_(),
            alt="Above, points that begin as a cloud of noise and end on the dark squares of a board; beneath, images that begin "
            "as noise and end as digits, one of each class.",
        )


def as_sent(model: DDPM) -> DDPM:
    """A copy on the CPU, in double precision, with the weights as they are sent: rounded to float16.

    Raises:
        TypeError: if it is no DDPM that predicts the noise with a `ResidualMLP`.
    """
    if not isinstance(model, DDPM):
        raise TypeError(f"FromNoiseToData needs a DDPM, not {type(model).__name__}.")
    if not isinstance(model.network, ResidualMLP) or model.predicts is not schedule.Eps:
        raise TypeError("FromNoiseToData: the page can run a ResidualMLP that predicts the noise, and no other network.")
    sent = copy.deepcopy(model).cpu().double().eval().requires_grad_(False)
    for number in (*sent.parameters(), *sent.buffers()):
        number.copy_(number.half())
    return sent


def packed(sent: DDPM) -> dict[str, Any]:
    """The model of `as_sent` as JSON."""
    network = sent.network
    assert isinstance(network, ResidualMLP)  # as_sent has checked it

    def layer(module: nn.Module) -> dict[str, Any]:
        return {name: pack(value, torch.float16) for name, value in module.named_parameters()}

    level = network.level
    return {
        "shape": list(sent.space.shape),
        "scale": sent.scale,
        "images": sent.space.is_discrete,
        "log_alpha_bar": sent.schedule.log_alpha_bar.tolist(),
        "features": level.features,
        "time": [layer(level.time[0]), layer(level.time[2])],
        "labels": None if level.label is None else pack(level.label.weight.T, torch.float16),
        "classes": sent.classes or 0,
        "frequencies": network.waves.shape[1],
        "waves": pack(network.waves, torch.float16),
        "first": layer(network.first),
        "blocks": [{name: layer(part) for name, part in block.named_children()} for block in network.blocks],
        "norm": layer(network.last[0]),
        "last": layer(network.last[2]),
    }


def trained() -> tuple[DDPM, DDPM, dict[str, Any]]:
    """A DDPM of the checkerboard and one of `digits` with classes, smaller than the chapter's, and how they came about.

    The weights are float16 and come with the package. To train them again, for a minute of one core:

        python -m gencourse.explorers.from_noise_to_data
    """
    models, runs = [], {}
    for name in ("points", "digits"):
        with np.load(Path(__file__).with_name(f"diffusion_{name}.npz")) as file, torch.random.fork_rng(devices=[]):
            run = runs[name] = json.loads(str(file["run"]))
            model = _untrained(name)
            like = model.state_dict()
            parts = torch.from_numpy(file["weights"]).float().split([value.numel() for value in like.values()])
        model.load_state_dict({key: part.view_as(value) for (key, value), part in zip(like.items(), parts, strict=True)})
        assert (run["steps"], run["curve"]) == (model.schedule.T, repr(model.schedule.curve))
        models.append(model.eval())
    return models[0], models[1], runs


_FIT: dict[str, Any] = {"lr": 2e-3, "schedule": cosine, "ema": 0.999, "seed": 5}


def _untrained(name: str) -> DDPM:
    if name == "points":
        return DDPM(Space((2,)), steps=100, curve=schedule.Linear(), hidden=48, blocks=2, frequencies=16, scale=2.3)
    return DDPM(data.load("digits").space, steps=200, hidden=96, blocks=3, classes=10, drop_label=0.3)


def _train() -> None:
    """Write the files of `trained`."""
    jobs: dict[str, tuple[Any, dict[str, Any]]] = {
        "points": (partial(Checkerboard().dataset, train=200_000), {"steps": 4000, "batch_size": 256}),
        "digits": (partial(data.load, "digits"), {"steps": 6000, "batch_size": 128, "conditional": True}),
    }
    for name, (load, settings) in jobs.items():
        torch.manual_seed(_FIT["seed"])
        model, dataset = _untrained(name), load()
        fit(model, dataset, **_FIT, **settings, device="cpu", progress=False)
        _write(name, model, dataset.name, settings)


def _write(name: str, model: DDPM, dataset: str, settings: dict[str, Any]) -> None:
    run = {
        "data": dataset,
        "steps": model.schedule.T,
        "curve": repr(model.schedule.curve),
        "scale": model.scale,
        "parameters": sum(p.numel() for p in model.parameters()),
        "drop_label": model.drop_label if model.classes else None,
        "fit": _FIT | settings | {"schedule": "cosine"},
        "torch": str(torch.__version__),
    }
    weights = np.concatenate([value.half().flatten().numpy() for value in model.state_dict().values()])
    np.savez_compressed(Path(__file__).with_name(f"diffusion_{name}.npz"), run=json.dumps(run), weights=weights)
    print(run)


@torch.no_grad()
def _still(points: DDPM, digits: DDPM, count: int, seed: int) -> Picture:
    """Five states of each."""
    figure, shown = Picture(6.6, 2.2), (0, 10, 15, 18, 20)
    grid = figure.add_gridspec(
        2, len(shown), height_ratios=(2.4, 1), left=0.01, right=0.99, bottom=0.02, top=0.9, wspace=0.05, hspace=0.06
    )
    classes = digits.classes or 0
    for row, (model, labels, n) in enumerate(((points, None, count), (digits, torch.arange(classes), classes))):
        x = normals(seed, n * model.space.dim).view(n, *model.space.shape)
        path = [x, *(x for _, x in DDIM(20).path(model.denoiser(labels, n, guidance=1.5), model.schedule, x))]
        for k, step in enumerate(shown):
            x = path[step]
            axes: Axes = figure.add_subplot(grid[row, k])
            if row == 0:
                board = (torch.arange(6)[:, None] + torch.arange(6)) % 2 == 1  # light squares; the outer ring is not the board
                board[[0, -1]] = board[:, [0, -1]] = True
                axes.imshow(board.numpy(), cmap="gray", vmin=-4, vmax=1, extent=(-6, 6, -6, 6), origin="lower")
                axes.plot(*(x * model.scale).T.numpy(), ".", color=COLOURS[0], markersize=2)
                axes.set(xlim=(-6, 6), ylim=(-6, 6), aspect="equal")
            else:
                gap = x.new_full((n, x.shape[2], 1), float("nan"))
                wide = torch.cat([x[:, 0], gap], dim=2)  # (n, H, W + 1)
                rows = [part.transpose(0, 1).flatten(1) for part in wide.split(-(-n // 2)) if len(part) == -(-n // 2)]
                axes.imshow(torch.cat(rows).numpy(), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
            axes.grid(False)
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(f"step {step} of 20", fontsize=9)
    return figure


if __name__ == "__main__":
    _train()
