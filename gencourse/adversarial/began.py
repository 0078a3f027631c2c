"""Boundary equilibrium GAN (Berthelot, Schumm and Metz, 2017, https://arxiv.org/abs/1703.10717; slide 112).

The discriminator is an autoencoder, and what it says of an image is how badly the image comes back:

    L(v) = |v - D(v)|           the reconstruction error: low on what looks like the data
    d:  L(x) - k L(G(z))        the autoencoder learns to bring real images back, and, k times as much, not generated ones
    g:  L(G(z))                 the generator makes what comes back well

Left alone, one player wins. So k is moved after every round to hold the balance E L(G(z)) = gamma E L(x):

    k <- k + step (gamma L(x) - L(G(z))), in [0, 1]            M = L(x) + |gamma L(x) - L(G(z))|

M says how well images come back and how far the balance is off, a curve that a GAN's own losses do not give. It says
nothing of variety: it falls, too, while every sample is the same image. A small gamma asks for images that come back
well, a large one leaves room for variety.
"""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from gencourse.adversarial import dcgan, losses
from gencourse.adversarial.base import Adversarial
from gencourse.adversarial.dcgan import halves, layer_norm
from gencourse.adversarial.gan import MLPGenerator
from gencourse.arguments import decay_rates, positive, positive_integer, widths
from gencourse.networks import mlp
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move, cosine


class BEGAN(Adversarial):
    """A game whose discriminator is an autoencoder, with a controller that balances the two players.

    `discriminator(y)` gives reconstruction errors `(B,)` in place of logits, the *mean* over pixels of `|y - D(y)|` with grey
    levels in [-1, 1]: k moves in proportion to an error, so that with the sum its pace would depend on the size of the image.

    Args:
        space: images with even sides take convolutional networks, everything else fully connected ones.
        latent: the dimension of z.
        code: the dimension of the autoencoder's code; by default `latent`, or half the dimensions of the space where that is
            less: an autoencoder without a bottleneck would bring everything back.
        hidden: widths of the fully connected layers.
        width: channels of the largest hidden map of the convolutional networks.
        convolutional: False takes the fully connected networks for images too.
        gamma: the ratio of errors to hold, in [0, 1].
        step: how far k moves in a round.
        betas: Adam's, for both players.

    Attributes:
        k: the controller's state, a buffer: it is saved with the weights, so that a resumed run goes on where it was.
        convergence: M of the last round, a buffer.

    Raises:
        ValueError: if gamma is no ratio in [0, 1], or a size, a width or a rate is out of range.
    """

    k: Tensor
    convergence: Tensor

    def __init__(
        self,
        space: Space,
        *,
        latent: int = 16,
        code: int | None = None,
        hidden: tuple[int, ...] = (128, 128),
        width: int = 64,
        convolutional: bool = True,
        gamma: float = 0.5,
        step: float = 1e-3,
        betas: tuple[float, float] = (0.5, 0.999),
    ) -> None:
        super().__init__(space, latent=latent)
        if not 0 <= gamma <= 1:
            raise ValueError(f"BEGAN: gamma must be a ratio in [0, 1], not {gamma!r}.")
        self.gamma, self.step = float(gamma), positive("BEGAN: step", step)
        self.betas = decay_rates("BEGAN: betas", betas)
        hidden, width = widths("BEGAN: hidden", hidden), positive_integer("BEGAN: width", width)
        code = min(self.latent, max(1, space.dim // 2)) if code is None else positive_integer("BEGAN: code", code)
        encoder: nn.Module
        decoder: nn.Module
        if halves(space) and convolutional:
            self.generator, decoder = (
                dcgan.Generator(space, latent=n, width=width, norm=layer_norm) for n in (self.latent, code)
            )
            encoder = Encoder(space, code=code, width=width)
        else:
            self.generator, decoder = (MLPGenerator(space, latent=n, hidden=hidden) for n in (self.latent, code))
            encoder = nn.Sequential(nn.Flatten(), mlp(space.dim, hidden, code, partial(nn.LeakyReLU, 0.2)))
        self.discriminator = Autoencoder(encoder, decoder)
        self.register_buffer("k", torch.zeros(()))
        self.register_buffer("convergence", torch.zeros(()))

    def d_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The autoencoder's loss L(x) - k L(G(z)) on a batch and as many samples, `(B,)`."""
        return losses.began(self.k).d_loss(*self._errors(x, context))

    def g_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The generator's loss L(G(z)) on as many samples as there are in the batch, `(B,)`."""
        self._unconditional(context)
        return losses.began(self.k).g_loss(self.discriminator(self.generator(self.draw_latent(len(x)))))

    def _errors(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """L(x) and L(G(z)), `(B,)` each, without a gradient to the generator."""
        self._unconditional(context)
        with torch.no_grad():
            fake = self.generator(self.draw_latent(len(x)))
        return self.discriminator(self.centred(x)), self.discriminator(fake)

    def moves(self) -> list[Move]:
        """The autoencoder's move, then the generator's; after it k takes its step, from the errors of both."""
        errors: dict[str, list[Tensor]] = {"real": [], "fake": []}  # of this round; a batch may come in several pieces

        def d(x: Tensor, context: Tensor | None = None) -> Tensor:
            """`d_loss`, which notes the errors of the real examples on the way."""
            real, fake = self._errors(x, context)
            errors["real"].append(real.detach().mean())
            return losses.began(self.k).d_loss(real, fake)

        def g(x: Tensor, context: Tensor | None = None) -> Tensor:
            """`g_loss`, whose values are the errors of the generated ones."""
            loss = self.g_loss(x, context)
            errors["fake"].append(loss.detach().mean())
            return loss

        def balance() -> None:
            real, fake = (_mean(errors[name]) for name in ("real", "fake"))
            k, convergence = losses.began_balance(self.k, real, fake, gamma=self.gamma, step=self.step)
            self.k.copy_(k)
            self.convergence.copy_(convergence)
            for pieces in errors.values():
                pieces.clear()

        adam = partial(torch.optim.Adam, betas=self.betas, fused=True)
        return [
            Move("d", d, self.discriminator.parameters(), optimizer=adam, validate=False),
            Move("g", g, self.generator.parameters(), optimizer=adam, after=balance, validate=False),
        ]


def _mean(pieces: list[Tensor]) -> Tensor:
    """Over the pieces of the batch, and over the processes, so that k is the same number in all of them."""
    mean = torch.stack(pieces).mean()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean = mean / torch.distributed.get_world_size()
    return mean


# --- networks ---------------------------------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """An encoder to `(B, code)` and a decoder back; its value is the reconstruction error."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def reconstruct(self, y: Tensor) -> Tensor:
        """D(y), `(B, *shape)`."""
        return self.decoder(self.encoder(y))

    def forward(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """L(y) = the mean over dimensions of `|y - D(y)|`, `(B,)`."""
        return (y - self.reconstruct(y)).abs().flatten(1).mean(1)


class Encoder(nn.Module):
    """Images to codes by strided convolutions: the mirror image of the DCGAN's generator."""

    def __init__(self, space: Space, *, code: int, width: int) -> None:
        super().__init__()
        maps = dcgan.sides(space)
        channels = [space.shape[0], *[width * 2**i for i in range(len(maps) - 1)]]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), layer_norm(after), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers, nn.Conv2d(channels[-1], code, maps[-1]), nn.Flatten())
        self.apply(dcgan.initialise)

    def forward(self, y: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, code)`."""
        return self.net(y)


RECIPES = (
    Recipe(
        # the balance is kept and M falls, but the samples are all alike: no band can be promised (chapter 15)
        "digits",
        data="digits",
        options={"latent": 16, "hidden": (256, 256), "convolutional": False, "step": 1e-2},
        fit={"steps": 2000, "batch_size": 128, "lr": 1e-3, "schedule": cosine, "ema": 0.99},
        metric="frechet_ratio",
        samples=3600,
    ),
    Recipe(
        "mnist",
        data="mnist",
        options={"latent": 64, "width": 64, "gamma": 0.7},
        fit={"steps": 50_000, "batch_size": 64, "lr": 1e-4, "schedule": cosine, "ema": 0.999},
        metric="frechet_ratio",
        needs="one GPU, ten minutes",
    ),
)
