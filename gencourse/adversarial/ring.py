"""Three games on the ring of eight Gaussians that differ in one thing each, and what is measured of a game.

A generator much slower than its discriminator settles on few modes and leaves the others out: mode collapse. A discriminator
of one hidden layer less never lets the generator settle at all: its samples run about, and few are good. The two look alike
in a count of covered modes at one moment, and are different failures: count the good samples, and how far samples move.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gencourse.adversarial.gan import GAN
from gencourse.arguments import least_integer
from gencourse.data.toys import RingOfGaussians
from gencourse.metrics.modes import ModeReport, mode_report
from gencourse.space import on_cpu
from gencourse.train import History, fit

RING = RingOfGaussians()
MOMENTS = 60  # of a game at which it is looked at
LATE = 10  # of them at the end, over which one averages
GAMES: dict[str, dict[str, Any]] = {
    "reference": {},
    "slow generator": {"g_lr": 5e-5},
    "weak discriminator": {"d_hidden": (128,)},
}
"""By name, what is changed in a game of two fully connected networks with two hidden layers of 128 and rates of 1e-3."""


@on_cpu
def play(
    name: str, *, seed: int, rounds: int = 3000, after: Callable[[int, GAN], None] | None = None
) -> tuple[GAN, Tensor, dict[str, Any]]:
    """Play one game of 60 rounds or more.

    Returns the model, where it sends 150 fixed latent vectors at 61 moments `(61, 150, 2)`, and its record.

    The record is plain data. At the end of the game: modes `covered` of 8, the share of `good` samples, `overlap`. Over the
    last sixth: the mean of `late_good` and `late_overlap`; how far a sample moves from one moment to the next in the mean,
    `moved`; the mean losses of both players.

    Raises:
        ValueError: if there are fewer rounds than moments.
    """
    rounds = least_integer("play: rounds", rounds, MOMENTS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gan = GAN(RING.space, latent=16, **GAMES[name])
    followed = torch.randn(150, 16, generator=torch.Generator().manual_seed(5))
    ways, reports = [gan.generate(followed)], []

    def watch(step: int, gan: GAN) -> None:
        if step % (rounds // MOMENTS) == 0:
            ways.append(gan.generate(followed))
            reports.append(_report(gan, 2000, step))
        if after:
            after(step, gan)

    options: dict[str, Any] = {"batch_size": 128, "lr": 1e-3, "device": "cpu", "progress": False}
    options["callback"] = watch
    history: History = fit(gan, RING.dataset(), steps=rounds, seed=seed, **options)
    paths, end = torch.stack(ways), _report(gan, 10_000, 9)
    record = {
        "game": name,
        "seed": seed,
        "rounds": rounds,
        "covered": end.covered,
        "good": round(end.good, 4),
        "overlap": round(end.overlap, 4),
        "late_good": round(sum(r.good for r in reports[-LATE:]) / LATE, 4),
        "late_overlap": round(sum(r.overlap for r in reports[-LATE:]) / LATE, 4),
        "moved": round(float(paths[-LATE - 1 :].diff(dim=0).norm(dim=-1).mean()), 4),
        "d_loss": round(float(torch.tensor(history.losses["d"][-rounds // 6 :]).mean()), 4),
        "g_loss": round(float(torch.tensor(history.losses["g"][-rounds // 6 :]).mean()), 4),
        "seconds": round(history.seconds, 1),
    }
    return gan, paths, record


def _report(gan: GAN, n: int, seed: int) -> ModeReport:
    return mode_report(gan.sample(n, generator=torch.Generator().manual_seed(seed)), RING.centres, RING.sd)
