"""Many losses, one budget: what is left of their differences when networks, data and the number of updates are the same.

The budget is a number of *updates*, the critic's and the generator's added up, so that a loss that wants three critic
steps a round gets half as many rounds as one that wants one. Who compares rounds gives the first twice the work.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gencourse.adversarial import losses
from gencourse.adversarial.began import BEGAN
from gencourse.adversarial.gan import GAN, MLPDiscriminator, MLPGenerator
from gencourse.adversarial.wgan import WGAN
from gencourse.data import Dataset
from gencourse.space import Space
from gencourse.train import cosine, fit

HIDDEN = (128, 128)


def _game(loss: losses.Loss) -> Callable[[Space], GAN]:
    def build(space: Space) -> GAN:
        generator = MLPGenerator(space, latent=_latent(space), hidden=HIDDEN)
        discriminator = MLPDiscriminator(space, hidden=HIDDEN)
        return GAN(space, latent=_latent(space), generator=generator, discriminator=discriminator, loss=loss)

    return build


def _wasserstein(**options: Any) -> Callable[[Space], GAN]:
    def build(space: Space) -> GAN:
        networks = _game(losses.wasserstein)(space)
        chosen = {name: value(space) if callable(value) else value for name, value in options.items()}
        return WGAN(
            space,
            latent=_latent(space),
            generator=networks.generator,
            discriminator=networks.discriminator,
            d_steps=3,
            betas=(0.5, 0.9),
            **chosen,
        )

    return build


def _began(space: Space) -> GAN:
    return BEGAN(space, latent=_latent(space), hidden=HIDDEN, convolutional=False)


def _latent(space: Space) -> int:
    return 2 if space.dim == 2 else 16


CONTESTANTS: dict[str, Callable[[Space], GAN]] = {
    "minimax": _game(losses.minimax),
    "non-saturating": _game(losses.non_saturating),
    "least squares": _game(losses.least_squares()),
    "hinge": _game(losses.hinge),
    "WGAN, clipping": _wasserstein(clip=0.1),
    "WGAN, penalty": _wasserstein(penalty=lambda space: 10.0 if space.is_discrete else 0.1),
    "BEGAN": _began,
}
"""Each makes an untrained model for a space: the same fully connected networks, the loss's own number of critic steps."""


def play(
    name: str,
    dataset: Dataset,
    judge: Callable[[Tensor], dict[str, float]],
    *,
    updates: int,
    seed: int,
    lr: float = 1e-3,
    batch_size: int = 128,
    samples: int = 4000,
    **options: Any,
) -> dict[str, Any]:
    """Train one contestant with one seed, judge its samples, and return what happened as plain data.

    Args:
        name: of `CONTESTANTS`.
        judge: gives the scores of samples, by name.
        updates: of both players together.
        options: for `fit`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CONTESTANTS[name](dataset.space)
    rounds = max(1, round(updates / (model.d_steps + 1)))
    start = time.perf_counter()
    fit(model, dataset, steps=rounds, batch_size=batch_size, lr=lr, seed=seed, schedule=cosine, ema=0.99, **options)
    seconds = time.perf_counter() - start
    generator = torch.Generator(model.device).manual_seed(seed)
    scores = judge(model.sample(samples, generator=generator).cpu())
    return {"loss": name, "seed": seed, "lr": lr, "updates": updates, "rounds": rounds, "seconds": round(seconds, 1), **scores}
