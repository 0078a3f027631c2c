"""The game of a GAN, played live in the page: choose the data, the loss and k, and watch it converge or collapse.

Generator and discriminator are small networks in JavaScript with a backward pass and an Adam of their own (slides 99-112).
"""

from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gencourse.data.toys import RingOfGaussians
from gencourse.explorers.base import Explorer
from gencourse.explorers.one_pixel_at_a_time import uniforms
from gencourse.viz.theme import COLOURS, Picture

_RING = RingOfGaussians()
WORLDS: dict[str, dict[str, Any]] = {
    "gaussian": {"name": "one Gaussian", "dim": 1, "centres": [[1.0]], "sd": 0.5, "box": 4.0},
    "bimodal": {"name": "two Gaussians", "dim": 1, "centres": [[-1.5], [1.5]], "sd": 0.4, "box": 4.0},
    "ring": {"name": "ring of 8 Gaussians", "dim": 2, "centres": _RING.centres.double().tolist(), "sd": _RING.sd, "box": 3.0},
}
LOSSES = ("minimax", "non_saturating", "least_squares", "clipping", "penalty")
# A penalty of weight w holds a critic of one variable at a slope of +1 or -1, and lets it change its mind only when the
# means are 2 w apart: on a line the usual 10 would send the generator to and fro.
SETTINGS: dict[str, Any] = {"hidden": 32, "batch": 64, "betas": [0.5, 0.9], "clip": 0.1, "penalty": 0.1}


class TheGame(Explorer):
    """Train a GAN on a line or in the plane, in the page: start, pause, step, and change the rules.

    Both players have two hidden layers of 32 leaky ReLUs, and each has an Adam with beta = (0.5, 0.9). A round is that of
    Algorithm 1 (Goodfellow et al., 2014) with 64 points: k moves of D, one of G. The losses are those of
    `gencourse.adversarial.losses`: minimax, non-saturating, least squares, and Wasserstein with weights clipped to
    [-0.1, 0.1] or with a gradient penalty of weight 0.1. The same seed and settings give the same run.

    Args:
        world: the data shown first: "gaussian", "bimodal" (both on a line) or "ring" (in the plane).
        loss: "minimax", "non_saturating", "least_squares", "clipping" or "penalty".
        d_steps: k, the moves of D in a round: 1, 2, 5 or 10.
        lr: the learning rate of both: 0.0003, 0.001, 0.003 or 0.01.
        seed: of the first weights, the noise and the real points.

    Raises:
        ValueError: if a setting is not one of these.
    """

    module: ClassVar[Path] = Path(__file__).with_name("the_game.js")

    def __init__(
        self, world: str = "ring", *, loss: str = "non_saturating", d_steps: int = 1, lr: float = 0.003, seed: int = 0
    ) -> None:
        choices = {"world": tuple(WORLDS), "loss": LOSSES, "d_steps": (1, 2, 5, 10), "lr": (0.0003, 0.001, 0.003, 0.01)}
        chosen = {"world": world, "loss": loss, "d_steps": d_steps, "lr": lr}
        for name, value in chosen.items():
            if value not in choices[name]:
                raise ValueError(f"TheGame: {name} must be one of {', '.join(map(str, choices[name]))}, not {value!r}.")
        if not 0 <= seed < 2**32:
            raise ValueError(f"TheGame: seed must be in 0..{2**32 - 1}, not {seed}.")
        name = WORLDS[world]["name"]
        super().__init__(
            {**chosen, "seed": seed, "worlds": WORLDS, "settings": SETTINGS},
            still=_still(WORLDS[world], first_points(world, seed))._repr_png_(),
            alt=f"Real points ({name}) and the points that an untrained generator makes of noise, before the first round.",
        )


def normals(seed: int, n: int, skip: int = 0) -> Tensor:
    """The page's normal numbers, `(n,)` float64, after `skip` uniform ones: Box and Muller's from two uniforms each."""
    u = uniforms(seed, skip + 2 * n)[skip:].view(n, 2)
    return torch.sqrt(-2 * torch.log(1 - u[:, 0])) * torch.cos(2 * torch.pi * u[:, 1])


def first_points(world: str, seed: int, n: int = 400) -> Tensor:
    """What the page's generator makes of its first `n` noises before the first round, `(n, dim)` float64."""
    dim, hidden = WORLDS[world]["dim"], SETTINGS["hidden"]
    sizes = [dim, hidden, hidden, dim]
    # what the page shows draws from seed 1: first 300 real points, each of one uniform number and `dim` normal ones
    x = normals(1, n * dim, skip=300 * (1 + 2 * dim)).view(n, dim)
    u = 2 * uniforms(seed, sum((a + 1) * b for a, b in pairwise(sizes))) - 1
    for a, b in pairwise(sizes):
        layer, u = u[: (a + 1) * b] / a**0.5, u[(a + 1) * b :]
        x = x @ layer[: a * b].view(b, a).T + layer[a * b :]  # (n, b)
        if len(u):
            x = torch.nn.functional.leaky_relu(x, 0.2)
    return x


def _still(world: dict[str, Any], made: Tensor) -> Picture:
    """The first frame, without the discriminator."""
    figure = Picture(4.0, 4.2)
    axes = figure.add_subplot(1, 1, 1)
    centres, sd, box = np.array(world["centres"]), world["sd"], world["box"]
    rng = np.random.default_rng(0)
    if world["dim"] == 2:
        real = centres[rng.integers(len(centres), size=300)] + sd * rng.standard_normal((300, 2))
        axes.plot(*real.T, "+", color=COLOURS[0], markersize=6, label="real")
        axes.plot(*made.numpy().T, "o", color=COLOURS[1], markersize=4, markeredgecolor="white", label="generated")
        axes.set(xlim=(-box, box), ylim=(-box, box), aspect="equal")
    else:
        x = np.linspace(-box, box, 321)
        density = np.exp(-0.5 * ((x[:, None] - centres[:, 0]) / sd) ** 2).mean(1) / (sd * np.sqrt(2 * np.pi))
        axes.plot(x, density, color=COLOURS[0], linewidth=2.5, label="density of the data")
        axes.hist(made[:, 0].numpy(), bins=40, range=(-box, box), density=True, color=COLOURS[1], label="generated")
        axes.set(xlim=(-box, box), ylim=(0, 1.8 * density.max()))
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.legend(loc="upper center", ncols=2, frameon=False, fontsize=9)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.92)
    return figure
