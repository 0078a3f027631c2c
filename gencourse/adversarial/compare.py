"""Many losses, one budget: what is left of their differences when each gets the same care.

Three things must be equal for a comparison to be one. The *networks and the data*. The *budget*, a number of updates, the
critic's and the generator's added up: who compares rounds gives a loss with three critic steps twice the work. And the
*search*: each loss is tried at the same number of settings of its knobs, on the same data set, before it is judged on
seeds that the search never saw. A loss that was tuned and one that was not cannot be compared (Lucic et al., 2018,
https://arxiv.org/abs/1711.10337).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gencourse.adversarial import losses
from gencourse.adversarial.base import Adversarial
from gencourse.adversarial.began import BEGAN
from gencourse.adversarial.gan import GAN, MLPDiscriminator, MLPGenerator
from gencourse.adversarial.wgan import WGAN
from gencourse.data import Dataset
from gencourse.space import Space, on_cpu
from gencourse.train import cosine, fit

HIDDEN = (128, 128)


@dataclass(frozen=True)
class Between:
    """A knob that may be turned to any number from `low` to `high`, evenly in its logarithm."""

    low: float
    high: float


Knob = Between | tuple[Any, ...]
"""A range, or a tuple of choices."""


@dataclass(frozen=True)
class Contestant:
    """A loss in the comparison.

    Attributes:
        build: `build(space, **options)` makes an untrained model.
        knobs: what the search may turn, by name: the learning rate `lr`, which goes to `fit`, and options of `build`.
    """

    build: Callable[..., Adversarial]
    knobs: dict[str, Knob] = field(default_factory=dict)


def _latent(space: Space) -> int:
    return 2 if space.dim == 2 else 16


def _networks(space: Space) -> dict[str, Any]:
    """The two networks, the same for all; the generator is drawn first, so that a seed gives all losses the same one."""
    generator = MLPGenerator(space, latent=_latent(space), hidden=HIDDEN)
    return {"latent": _latent(space), "generator": generator, "discriminator": MLPDiscriminator(space, hidden=HIDDEN)}


def _game(loss: losses.Loss) -> Callable[..., GAN]:
    def build(space: Space, *, d_steps: int = 1, beta2: float = 0.999) -> GAN:
        return GAN(space, loss=loss, d_steps=d_steps, betas=(0.5, beta2), **_networks(space))

    return build


def _least_squares(space: Space, *, targets: tuple[float, float, float] = (0.0, 1.0, 1.0), **options: Any) -> GAN:
    return _game(losses.least_squares(*targets))(space, **options)


def _clipped(space: Space, *, clip: float = 0.1, d_steps: int = 3) -> GAN:
    return WGAN(space, d_steps=d_steps, clip=clip, **_networks(space))


def _penalised(space: Space, *, penalty: float = 1.0, d_steps: int = 3, beta2: float = 0.9) -> GAN:
    return WGAN(space, d_steps=d_steps, penalty=penalty, betas=(0.5, beta2), **_networks(space))


def _began(space: Space, *, gamma: float = 0.5, step: float = 1e-2, beta2: float = 0.999) -> BEGAN:
    return BEGAN(space, latent=_latent(space), hidden=HIDDEN, convolutional=False, gamma=gamma, step=step, betas=(0.5, beta2))


RATE: dict[str, Knob] = {"lr": Between(3e-4, 1e-2)}
STEPS: dict[str, Knob] = {"d_steps": (1, 2, 3)}
ADAM: dict[str, Knob] = {"beta2": (0.9, 0.999)}

CONTESTANTS: dict[str, Contestant] = {
    "minimax": Contestant(_game(losses.minimax), {**RATE, **STEPS, **ADAM}),
    "non-saturating": Contestant(_game(losses.non_saturating), {**RATE, **STEPS, **ADAM}),
    "least squares": Contestant(_least_squares, {**RATE, **STEPS, **ADAM, "targets": ((0.0, 1.0, 1.0), (-1.0, 1.0, 0.0))}),
    "hinge": Contestant(_game(losses.hinge), {**RATE, **STEPS, **ADAM}),
    "WGAN, clipping": Contestant(_clipped, {**RATE, **STEPS, "clip": Between(0.01, 0.5)}),  # RMSprop, as in its paper
    "WGAN, penalty": Contestant(_penalised, {**RATE, **STEPS, **ADAM, "penalty": Between(0.03, 30.0)}),
    "BEGAN": Contestant(_began, {**RATE, **ADAM, "gamma": Between(0.3, 0.95), "step": Between(1e-3, 1e-1)}),
}
"""Every loss of the chapter with its knobs: those that all have, in the same ranges, and its own."""


@on_cpu
def settings(name: str, n: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """`n` settings of a contestant's knobs, spread evenly: as many for a loss with many knobs as for one with few.

    A Latin hypercube: each range is cut into n equal parts (in the logarithm) and each part used once, each choice about as
    often as the others. What goes with what is drawn a thousand times; the draw whose nearest two settings lie farthest
    apart is taken.
    """
    knobs = CONTESTANTS[name].knobs
    parts = torch.tensor([n if isinstance(values, Between) else len(values) for values in knobs.values()])
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(1000, n, len(knobs), generator=generator, dtype=torch.float32).argsort(1)  # of 0 .. n-1
    part = draws * parts // n  # (1000, n, K): which part of its range, which choice
    place = (part + 0.5).float() / parts
    apart = torch.cdist(place, place) + 2.0 * len(knobs) * torch.eye(n, dtype=torch.float32)
    taken = part[apart.flatten(1).min(1).values.argmax()]
    return [{knob: _turn(knobs[knob], int(i), n) for knob, i in zip(knobs, row, strict=True)} for row in taken]


def _turn(knob: Knob, i: int, n: int) -> Any:
    """The middle of the i-th of n parts of a range, to two digits, or the i-th choice."""
    if isinstance(knob, Between):
        return float(f"{knob.low * (knob.high / knob.low) ** ((i + 0.5) / n):.2g}")
    return knob[i]


def play(
    name: str,
    dataset: Dataset,
    judge: Callable[[Tensor], dict[str, float]],
    *,
    updates: int,
    seed: int,
    setting: dict[str, Any] | None = None,
    batch_size: int = 128,
    samples: int = 4000,
    **options: Any,
) -> dict[str, Any]:
    """Train one contestant with one seed, judge its samples, and return what happened as plain data.

    Args:
        name: of `CONTESTANTS`.
        judge: gives the scores of samples `(samples, *shape)`, by name.
        updates: of both players together.
        setting: of its knobs, by name; those that are left out have the library's defaults, `lr` 1e-3.
        options: for `fit`.

    Returns:
        The scores beside what was run. A run that ends in numbers that are not finite has `"failed": True` and no scores.
    """
    setting = dict(setting or {})
    knobs = {knob: value for knob, value in setting.items() if knob != "lr"}
    lr = setting.get("lr", 1e-3)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CONTESTANTS[name].build(dataset.space, **knobs)
    rounds = max(1, round(updates / sum(move.times for move in model.moves())))
    run = {"loss": name, "seed": seed, "updates": updates, "rounds": rounds, "setting": {"lr": lr, **knobs}}
    start = time.perf_counter()
    try:
        fit(model, dataset, steps=rounds, batch_size=batch_size, lr=lr, seed=seed, schedule=cosine, ema=0.99, **options)
    except FloatingPointError:
        return {**run, "failed": True, "seconds": round(time.perf_counter() - start, 1)}
    seconds = round(time.perf_counter() - start, 1)
    generator = torch.Generator(model.device).manual_seed(seed)
    drawn = model.sample(samples, generator=generator).cpu()
    if not bool(torch.isfinite(drawn.double()).all()):
        return {**run, "failed": True, "seconds": seconds}
    return {**run, "seconds": seconds, **judge(drawn)}


@on_cpu
def paired_interval(a: Sequence[float], b: Sequence[float], *, level: float = 0.95) -> tuple[float, float, float]:
    """The mean of the differences `a_i - b_i` and the ends of its interval, by Student's t.

    Args:
        a, b: scores of two methods with the same seeds, in the same order.
        level: the share of such intervals that hold the true mean difference, if the differences are about normal.

    Raises:
        ValueError: if the numbers of scores differ, or there is one only.
    """
    from scipy.stats import t

    n = len(a)
    if n != len(b) or n < 2:
        raise ValueError(f"paired_interval compares two or more pairs of scores, not {n} with {len(b)}.")
    differences = torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)
    mean = float(differences.mean())
    half = float(t.ppf((1 + level) / 2, n - 1)) * float(differences.std()) / math.sqrt(n)
    return mean, mean - half, mean + half
