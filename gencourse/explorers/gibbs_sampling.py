"""A restricted Boltzmann machine draws in the page, by Gibbs sampling; the reader holds pixels fast (slide 16)."""

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gencourse import data
from gencourse.explorers.base import Explorer, pack
from gencourse.explorers.one_pixel_at_a_time import uniforms
from gencourse.markov.rbm import RBM, RECIPES
from gencourse.space import Space
from gencourse.train import fit
from gencourse.viz.theme import Picture


class GibbsSampling(Explorer):
    """Watch an RBM draw: a unit, a side or a sweep at a time, at any temperature, with the pixels held that one draws.

    Beside the pixels stand the hidden units, the mean image of the sweeps since something was changed, and the free energy, with
    those of digits and of noise to compare. A held pixel keeps its value, so the others are drawn given it.

    The machine runs in the page, in double precision, with float16 weights: 11 KB for 64 pixels and 64 hidden units. Its chain is
    that of `RBM.gibbs`, with the same number for each unit.

    Args:
        model: an RBM of grey images, without classes.
        images: digits `(N, 1, H, W)` to compare free energies with.
        offered: how many of them, from the first, the chain may begin with.
        seed: of the page's random numbers, see `one_pixel_at_a_time.uniforms`.

    Raises:
        TypeError: if the model is not an RBM.
        ValueError: if it is not one of grey images without classes, or the images do not fit.
    """

    module: ClassVar[Path] = Path(__file__).with_name("gibbs_sampling.js")
    helpers: ClassVar[tuple[Path, ...]] = (Path(__file__).with_name("plane.js"), Path(__file__).with_name("pixels.js"))

    def __init__(self, model: RBM, images: Tensor, *, offered: int = 8, seed: int = 0) -> None:
        if not isinstance(model, RBM):
            raise TypeError(f"GibbsSampling needs an RBM, not {type(model).__name__}.")
        space = model.space
        if len(space.shape) != 3 or space.shape[0] != 1 or model.classes:
            raise ValueError(
                f"GibbsSampling shows an RBM of grey images without classes, not one of {space}, {model.classes} classes."
            )
        if not 0 <= seed < 2**32:
            raise ValueError(f"GibbsSampling: seed must be in 0..{2**32 - 1}, not {seed}.")
        if not len(space.validate(images)):
            raise ValueError("GibbsSampling needs at least one image to compare with.")
        machine = as_sent(model)
        with torch.no_grad():
            digits = machine.free_energy(images.cpu())
            noise = torch.randint(2, (1000, *space.shape), generator=torch.Generator().manual_seed(0))
            seen = {"mean": digits.mean(), "low": digits.quantile(0.05), "high": digits.quantile(0.95)}
            seen["noise"] = machine.free_energy(noise).mean()
        state = {
            "network": {name: pack(getattr(machine, name), torch.float16) for name in _PARTS},
            "height": space.shape[1],
            "width": space.shape[2],
            "images": ["".join(map(str, x.flatten().tolist())) for x in images[:offered].long()],
            "known": {name: round(float(value), 3) for name, value in seen.items()},  # free energies, nats
            "seed": seed,
            "image": -1,
            "held": "." * space.dim,  # or the value of a pixel that is held
            "temperature": 1.0,
            "pen": "1",
            "x": "",
            "turns": 0,
        }
        chain = Chain(machine, seed=seed)
        mean = torch.zeros(space.dim, dtype=torch.float64)
        for _ in range(_SWEEPS):
            chain.advance(machine.hidden + space.dim)
            mean += chain.v / _SWEEPS
        super().__init__(
            state,
            still=_still(chain, mean, space.shape)._repr_png_(),
            alt=f"An image that an RBM has reached from noise by {_SWEEPS} sweeps of Gibbs sampling, its hidden units, and the "
            "mean of the images on the way.",
        )

    @classmethod
    def of_digits(cls) -> "GibbsSampling":
        """With the machine of `trained_on_digits`, and the test images of the data that it has not seen."""
        return cls(trained_on_digits()[0], data.load("binary_digits").test)


_SWEEPS = 100  # of the still picture


class Chain:
    """The page's chain, in Python: a turn is one unit's, hidden units first, then pixels, in order.

    Each turn takes one uniform number u, also that of a pixel that is held; the unit is on if u is less than its probability.

    Args:
        model: an RBM.
        image: `(1, H, W)` to begin with; None takes noise, one number a pixel.
        seed: of the numbers.
        numbers: to be used in place of those.
    """

    def __init__(self, model: RBM, image: Tensor | None = None, *, seed: int = 0, numbers: Iterator[float] | None = None) -> None:
        self.model, self.turns = as_sent(model), 0
        self.numbers = numbers or stream(seed)
        self.h = torch.zeros(model.hidden, dtype=torch.float64)
        coins = image if image is not None else torch.tensor([next(self.numbers) < 0.5 for _ in range(model.space.dim)])
        self.v = coins.flatten().double()

    @torch.no_grad()
    def advance(self, turns: int, *, temperature: float = 1.0, held: dict[int, int] | None = None) -> "Chain":
        """So many turns on; `held` has the pixels that keep a value, and the values, which they take at once."""
        held, hidden = held or {}, self.model.hidden
        for i, value in held.items():
            self.v[i] = value
        for _ in range(turns):
            unit, u = self.turns % (hidden + len(self.v)), next(self.numbers)
            if unit < hidden:
                logit = self.model.hidden_bias[unit] + self.v @ self.model.weight[:, unit]
                self.h[unit] = float(u < torch.sigmoid(logit / temperature))
            elif unit - hidden not in held:
                logit = self.model.visible_bias[unit - hidden] + self.model.weight[unit - hidden] @ self.h
                self.v[unit - hidden] = float(u < torch.sigmoid(logit / temperature))
            self.turns += 1
        return self


def as_sent(model: RBM) -> RBM:
    """A copy on the CPU, in double precision, with the weights as they are sent: rounded to float16."""
    sent = copy.deepcopy(model).cpu().double().requires_grad_(False).eval()
    for parameter in sent.parameters():
        parameter.copy_(parameter.half())
    return sent


def stream(seed: int) -> Iterator[float]:
    """The page's random numbers without an end; as `uniforms`, whose state grows by the same step each time."""
    while True:
        yield from uniforms(seed, 1024).tolist()
        seed = (seed + 1024 * 0x6D2B79F5) % 2**32


def trained_on_digits() -> tuple[RBM, dict[str, Any]]:
    """An RBM with 64 hidden units on `binary_digits`, and how it came about; float16 weights that come with the package.

    It is the recipe `binary_digits` of `gencourse.markov.rbm`, seed 0. To train it again, for some minutes of one core:

        python -c "from gencourse.explorers.gibbs_sampling import train; train()"
    """
    with np.load(_WEIGHTS) as file, torch.random.fork_rng(devices=[]):
        run = json.loads(str(file["run"]))
        model = RBM(Space(tuple(run["space"]["shape"]), run["space"]["levels"]), hidden=run["hidden"])
        with torch.no_grad():
            for name in _PARTS:
                getattr(model, name).copy_(torch.from_numpy(file[name]))
    return model.eval(), run


_WEIGHTS = Path(__file__).with_name("rbm_digits.npz")
_PARTS = ("weight", "visible_bias", "hidden_bias")


def train() -> None:
    """Write the file of `trained_on_digits`."""
    recipe, dataset = RECIPES[0], data.load("binary_digits")
    torch.manual_seed(0)
    model = RBM(dataset.space, **recipe.options)
    fit(model, dataset, **recipe.fit, seed=0, device="cpu")
    model.eval()
    estimate = model.estimate_log_partition(chains=200, temperatures=5000, generator=torch.Generator().manual_seed(0))
    nll = float(model.free_energy(dataset.test).mean().detach() + estimate.log_z)
    run = {
        "recipe": f"rbm, {recipe.name}",
        "space": {"shape": list(dataset.space.shape), "levels": dataset.space.levels},
        "hidden": model.hidden,
        "steps": recipe.fit["steps"],
        "seed": 0,
        "torch": str(torch.__version__),
        "test nll estimated by annealing, nats": round(nll, 2),
    }
    weights = {name: getattr(model, name).detach().half().numpy() for name in _PARTS}
    np.savez_compressed(_WEIGHTS, run=json.dumps(run), **weights)
    print(run)


def _still(chain: Chain, mean: Tensor, size: tuple[int, ...]) -> Picture:
    """The pixels, the hidden units and the mean image."""
    across = math.ceil(math.sqrt(len(chain.h)))
    units = torch.cat([chain.h, chain.h.new_full((-len(chain.h) % across,), math.nan)]).view(-1, across)
    figure = Picture(6.2, 2.3)
    panels = {"pixels v": chain.v.view(size[1:]), "hidden units h": units, f"mean of {_SWEEPS} sweeps": mean.view(size[1:])}
    for i, (title, values) in enumerate(panels.items()):
        axes: Axes = figure.add_subplot(1, 3, i + 1)
        axes.set_facecolor("#b8c4d0")
        axes.imshow(values.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.grid(False)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(title, fontsize=9)
    figure.subplots_adjust(0.01, 0.02, 0.99, 0.87, 0.04)
    return figure
