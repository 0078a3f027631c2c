"""The Wasserstein GAN (Arjovsky, Chintala and Bottou, 2017, https://arxiv.org/abs/1701.07875), its critic held by clipping
or by a gradient penalty (Gulrajani et al., 2017, https://arxiv.org/abs/1704.00028); slide 124.

    W(p, q) = max over 1-Lipschitz f of   E_p[f(x)] - E_q[f(x)]          the dual of the distance (Eq. 15.7 of the book)

A network, the critic, stands in for f, and the generator lowers what it finds. What is new against the GAN is little: no
sigmoid and no logarithm, several critic steps in a round, so that the maximum is nearly reached before the generator
moves, and something that keeps the critic's slope at one:

    penalty    + weight * (|grad f(y)| - 1)^2 at points y between real and generated examples; Adam without momentum
    clip       every weight stays in [-c, c]; RMSprop; simpler, and worse: the chapter shows why
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gencourse.adversarial import dcgan, losses
from gencourse.adversarial.dcgan import halves, layer_norm
from gencourse.adversarial.gan import GAN, MLPDiscriminator, MLPGenerator
from gencourse.arguments import positive_integer, widths
from gencourse.data.toys import RingOfGaussians
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import cosine


class WGAN(GAN):
    """A GAN whose discriminator is a critic: an unbounded function whose slope is kept near one.

    Args:
        space: images with even sides take the convolutional networks of the DCGAN, with layer norm for batch norm;
            everything else takes fully connected ones.
        latent: the dimension of z.
        generator, discriminator: modules in place of the default ones, as in `GAN`.
        hidden: widths of the fully connected layers.
        width: channels of the largest hidden map of the convolutional networks.
        convolutional: False takes the fully connected networks for images too.
        d_steps: the critic's updates in a round.
        penalty: the weight of the gradient penalty: 10 in the paper, and by default; about 0.1 on points.
        clip: the bound of the critic's weights, 0.01 in the paper, in place of the penalty.
        classes: labels to condition on, or None.
        betas: Adam's, with the penalty; clipping goes with RMSprop, as in the paper, for momentum upset it there.

    Raises:
        ValueError: if both a penalty and a bound are given.
    """

    def __init__(
        self,
        space: Space,
        *,
        latent: int = 16,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        hidden: tuple[int, ...] = (128, 128, 128),
        width: int = 64,
        convolutional: bool = True,
        d_steps: int = 5,
        penalty: float | None = None,
        clip: float | None = None,
        classes: int | None = None,
        betas: tuple[float, float] = (0.0, 0.9),
    ) -> None:
        if clip is not None and penalty:
            raise ValueError(f"WGAN: give a penalty or a bound for clipping, not both (penalty={penalty}, clip={clip}).")
        if clip is None and penalty is None:
            penalty = 10.0
        images = halves(space) and convolutional
        latent = positive_integer("WGAN: latent", latent)
        classes = None if classes is None else positive_integer("WGAN: classes", classes)
        sizes: dict[str, Any] = (
            {"width": positive_integer("WGAN: width", width), "norm": layer_norm}
            if images
            else {"hidden": widths("WGAN: hidden", hidden)}
        )
        if generator is None:
            generator = (dcgan.Generator if images else MLPGenerator)(space, latent=latent, classes=classes, **sizes)
        if discriminator is None:
            discriminator = (dcgan.Discriminator if images else MLPDiscriminator)(space, classes=classes, **sizes)
            last = [module for module in discriminator.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
            last.register_parameter("bias", None)  # f and f + 1 are the same critic: no loss would move it
        super().__init__(
            space,
            latent=latent,
            generator=generator,
            discriminator=discriminator,
            loss=losses.wasserstein,
            d_steps=d_steps,
            penalty=penalty or 0.0,
            clip=clip,
            classes=classes,
            betas=betas,
        )

    def optimizer(self) -> Callable[..., torch.optim.Optimizer]:
        """Adam with the penalty, RMSprop with clipping, for both players."""
        return super().optimizer() if self.clip is None else torch.optim.RMSprop

    @torch.no_grad()
    def distance(self, x: Tensor, context: Tensor | None = None, *, generator: torch.Generator | None = None) -> float:
        """The critic's estimate of the Wasserstein distance to the generator: `mean f(x) - mean f(G(z))`.

        As many z as x, `(B, *shape)`. In the units of `centred` examples, times the critic's largest slope: 1 at best with the
        penalty, any number with clipping. Of a critic that is not optimal it is too low, on examples it was trained on too high.
        """
        condition = self._condition(context, len(x))
        with self.evaluation():
            fake = self._made(self.draw_latent(len(x), generator=generator), condition)
            return float((self._judged(self.centred(x), condition) - self._judged(fake, condition)).mean())


RECIPES = (
    Recipe(
        "ring",
        data=RingOfGaussians().dataset,
        options={"latent": 2, "d_steps": 3, "penalty": 0.1, "betas": (0.5, 0.9)},
        fit={"steps": 3500, "batch_size": 128, "lr": 2e-3, "schedule": cosine, "ema": 0.995},
        metric="mode_overlap",
        samples=10_000,
        band=0.9,
        quick=True,
    ),
    Recipe(
        "digits",
        data="digits",
        options={"latent": 32, "hidden": (256, 256), "convolutional": False, "d_steps": 3, "betas": (0.5, 0.9)},
        fit={"steps": 3000, "batch_size": 64, "lr": 1e-3, "schedule": cosine, "ema": 0.99},
        metric="frechet_ratio",
        samples=3600,
        band=3.0,
    ),
    Recipe(
        "mnist",
        data="mnist",
        options={"latent": 64, "width": 64},
        fit={"steps": 15_000, "batch_size": 64, "lr": 2e-4, "schedule": cosine, "ema": 0.999},
        metric="frechet_ratio",
        needs="one GPU, ten minutes",
    ),
    Recipe(
        "fashion_mnist",
        data="fashion_mnist",
        options={"latent": 64, "width": 64},
        fit={"steps": 15_000, "batch_size": 64, "lr": 2e-4, "schedule": cosine, "ema": 0.999},
        metric="frechet_ratio",
        needs="one GPU, ten minutes",
    ),
)
