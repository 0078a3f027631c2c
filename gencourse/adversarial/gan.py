"""The generative adversarial network (Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661).

    z ~ p(z) = N(0, I)      noise
    x = G(z)                the generator, a neural network of z: it samples, and has no density
    D(x)                    the discriminator, the probability that x is real; here its logit

    min over G, max over D:   V(D, G) = E[log D(x)] + E[log(1 - D(G(z)))]          (slides 99 to 106)

Algorithm 1 is the list of moves at the end of the class: in every round, `d_steps` times, the discriminator learns to
tell a fresh batch from fresh samples; then the generator learns, once, to pass.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from gencourse.adversarial import losses
from gencourse.adversarial.base import Adversarial
from gencourse.adversarial.losses import Loss
from gencourse.arguments import decay_rates, non_negative, positive, positive_integer, widths
from gencourse.data.toys import RingOfGaussians
from gencourse.networks import mlp
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move, cosine


class GAN(Adversarial):
    """A generator and a discriminator, and the game they play.

    Args:
        space: points, or images of integers. Images are scaled to [-1, 1] for the networks and rounded on the way out.
        latent: the dimension of z.
        generator: a module `(z, one_hot) -> (B, *space.shape)`; None takes a fully connected one.
        discriminator: a module `(y, one_hot) -> (B,)`, logits; None takes a fully connected one.
        hidden, d_hidden: the widths of the hidden layers of the fully connected ones, the discriminator's d_hidden.
        loss: what the two lower, of `gencourse.adversarial.losses`.
        d_steps: the discriminator's updates in a round, each on a fresh batch (k in Algorithm 1).
        penalty: the weight of the gradient penalty in the discriminator's loss; 0 leaves it out.
        clip: the bound of the discriminator's weights, enforced after each update; None leaves them free.
        classes: how many classes `context` distinguishes, labels `(B,)`; both networks see the one-hot label (Mirza and
            Osindero, 2014). None for an unconditional model.
        betas: Adam's, for both players.
        g_lr: the generator's learning rate; None takes `fit`'s, which is the discriminator's.
    """

    def __init__(
        self,
        space: Space,
        *,
        latent: int = 16,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        hidden: tuple[int, ...] = (128, 128),
        d_hidden: tuple[int, ...] = (128, 128),
        loss: Loss = losses.non_saturating,
        d_steps: int = 1,
        penalty: float = 0.0,
        clip: float | None = None,
        classes: int | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
        g_lr: float | None = None,
    ) -> None:
        super().__init__(space, latent=latent, classes=classes)
        name = type(self).__name__
        if not isinstance(loss, Loss):
            raise TypeError(f"{name}: loss must be one of gencourse.adversarial.losses, not {loss!r}.")
        self.loss = loss
        self.d_steps = positive_integer(f"{name}: d_steps", d_steps)
        self.penalty = non_negative(f"{name}: penalty", penalty)
        self.clip = None if clip is None else positive(f"{name}: clip", clip)
        self.betas = decay_rates(f"{name}: betas", betas)
        self.g_lr = None if g_lr is None else positive(f"{name}: g_lr", g_lr)
        hidden, d_hidden = widths(f"{name}: hidden", hidden), widths(f"{name}: d_hidden", d_hidden)
        self.generator = generator or MLPGenerator(space, latent=self.latent, hidden=hidden, classes=self.classes)
        self.discriminator = discriminator or MLPDiscriminator(space, hidden=d_hidden, classes=self.classes)
        if self.penalty and any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.discriminator.modules()):
            raise ValueError(
                f"{name}: a gradient penalty needs a discriminator without batch norm, with which a logit depends on the whole "
                "batch; give one with another norm (DCGAN takes norm=nn.Identity)."
            )

    # --- the game: Algorithm 1 ----------------------------------------------------------------------------------------

    def d_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The discriminator's loss on a batch and as many samples, `(B,)`; it sends no gradient to the generator."""
        real, condition = self.centred(x), self._condition(context, len(x))
        with torch.no_grad():
            fake = self._made(self.draw_latent(len(x)), condition)
        loss = self.loss.d_loss(self._judged(real, condition), self._judged(fake, condition))
        if not self.penalty:
            return loss
        return loss + self.penalty * losses.gradient_penalty(lambda y: self._judged(y, condition), real, fake)

    def g_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The generator's loss on as many samples as there are in the batch, `(B,)`."""
        condition = self._condition(context, len(x))
        return self.loss.g_loss(self._judged(self._made(self.draw_latent(len(x)), condition), condition))

    def moves(self) -> list[Move]:
        """Algorithm 1: `d_steps` updates of the discriminator, one of the generator.

        Neither loss says how good the samples are, so neither is validated.
        """
        critic = list(self.discriminator.parameters())
        clip = partial(losses.clip_weights, critic, self.clip) if self.clip is not None else None
        optimizer = self.optimizer()
        return [
            Move("d", self.d_loss, critic, times=self.d_steps, optimizer=optimizer, after=clip, validate=False),
            Move("g", self.g_loss, self.generator.parameters(), optimizer=optimizer, lr=self.g_lr, validate=False),
        ]

    def optimizer(self) -> Callable[..., torch.optim.Optimizer]:
        """What makes the optimiser of both players: Adam with the model's `betas`."""
        return partial(torch.optim.Adam, betas=self.betas, fused=True)


# --- networks ---------------------------------------------------------------------------------------------------------


class MLPGenerator(nn.Module):
    """Fully connected, ReLU; ends in tanh on images, which live in [-1, 1]."""

    def __init__(self, space: Space, *, latent: int, hidden: tuple[int, ...] = (128, 128), classes: int | None = None) -> None:
        super().__init__()
        self.shape, self.bounded = space.shape, space.is_discrete
        self.net = mlp(latent + (classes or 0), hidden, space.dim, nn.ReLU)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(B, latent)` and one-hot labels to `(B, *shape)`."""
        y = self.net(z if condition is None else torch.cat([z, condition], dim=1)).unflatten(1, self.shape)
        return torch.tanh(y) if self.bounded else y


class MLPDiscriminator(nn.Module):
    """Fully connected, leaky ReLU, no sigmoid: the losses take logits."""

    def __init__(self, space: Space, *, hidden: tuple[int, ...] = (128, 128), classes: int | None = None) -> None:
        super().__init__()
        self.net = mlp(space.dim + (classes or 0), hidden, 1, partial(nn.LeakyReLU, 0.2))

    def forward(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(B, *shape)` and one-hot labels to logits `(B,)`."""
        y = y.flatten(1)
        return self.net(y if condition is None else torch.cat([y, condition], dim=1)).squeeze(1)


RECIPES = (
    Recipe(
        "ring",
        data=RingOfGaussians().dataset,
        options={"latent": 2},
        fit={"steps": 8000, "batch_size": 128, "lr": 1e-3, "schedule": cosine},
        metric="mode_overlap",
        samples=10_000,
        band=0.8,
        quick=True,
    ),
    Recipe(
        # a generator much slower than its discriminator settles on one mode: the overlap comes near 1/8, and to no more
        "ring_collapse",
        data=RingOfGaussians().dataset,
        options={"latent": 16, "g_lr": 5e-5},
        fit={"steps": 3000, "batch_size": 128, "lr": 1e-3},
        metric="mode_overlap",
        samples=10_000,
    ),
    Recipe(
        # one hidden layer less in the discriminator, and the generator never settles: no band can be promised
        "ring_unsettled",
        data=RingOfGaussians().dataset,
        options={"latent": 16, "d_hidden": (128,)},
        fit={"steps": 3000, "batch_size": 128, "lr": 1e-3},
        metric="mode_overlap",
        samples=10_000,
    ),
    Recipe(
        "digits",
        data="digits",
        options={"latent": 64, "hidden": (256, 256)},
        fit={"steps": 5000, "batch_size": 64, "lr": 1e-3, "ema": 0.99},
        metric="frechet_ratio",
        samples=3600,
        band=3.3,
        quick=True,
    ),
)
