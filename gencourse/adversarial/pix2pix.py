"""pix2pix: from image to image, with pairs (Isola, Zhu, Zhou and Efros, 2017, https://arxiv.org/abs/1611.07004; slide 125).

    y = G(s, z)        the generator, a U-Net: a source picture s and noise z to a picture
    D(s, y)            the patch discriminator: of every patch of (s, y), a logit that it is real

    min over G, max over D:   gan V(D, G) + l1 E |x - G(s, z)|                              (their Eq. 4)

The L1 error alone is lowest at the median of x given s, pixel by pixel: where a picture could be red or blue it is neither. The
discriminator sees the source too, so that it judges whether x fits s, and it looks at patches: the L1 term already holds the
coarse structure. What the sum does not give is variety: nothing rewards a generator for using z, and it does not (`variety`).

The same class draws large pictures from small ones (super-resolution: a `source` of a smaller side, which is enlarged to its
nearest neighbours) and colours grey ones (a `source` of one channel).
"""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gencourse.adversarial import losses
from gencourse.adversarial.base import Adversarial
from gencourse.adversarial.losses import Loss
from gencourse.adversarial.translation import Layers, PatchDiscriminator, UNet, l1_error, pair_of_spaces, pictures
from gencourse.arguments import decay_rates, non_negative, positive, positive_integer
from gencourse.data.scenes import outlines_to_filled
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move, cosine


class Pix2Pix(Adversarial):
    """A U-Net that turns a source picture into one of the space, and the patch discriminator that it plays against.

    `context` is the source pictures, integers `(B, *source.shape)`.

    Args:
        space: images of integers: what is to be drawn.
        source: the space of the source pictures; None takes the same. Its sides are those of `space`, or divide them.
        latent: the dimension of z, which enters at the U-Net's bottleneck.
        widths: channels of the U-Net's maps, from the full side down; each is half as large as the one before.
        d_width: channels of the discriminator's first map; the next have twice as many.
        patch: its convolutions, (kernel, stride) each; `receptive_field(patch)` is the side of what a logit sees.
        l1: the weight of the L1 error; 0 leaves the conditional GAN alone.
        gan: the weight of the discriminator's word; 0 leaves the L1 error alone, and nothing is played against.
        loss: what the two lower, of `gencourse.adversarial.losses`.
        betas: Adam's, for both players.

    Raises:
        ValueError: if the sides do not fit each other or cannot be halved, both weights are 0, or a number is out of range.
    """

    def __init__(
        self,
        space: Space,
        *,
        source: Space | None = None,
        latent: int = 4,
        widths: tuple[int, ...] = (16, 32, 32),
        d_width: int = 16,
        patch: Layers = ((4, 2), (3, 1), (3, 1)),
        l1: float = 10.0,
        gan: float = 1.0,
        loss: Loss = losses.non_saturating,
        betas: tuple[float, float] = (0.5, 0.999),
    ) -> None:
        super().__init__(space, latent=latent)
        self.source, self.enlarge = pair_of_spaces("Pix2Pix", space, source)
        self.l1, self.gan = non_negative("Pix2Pix: l1", l1), non_negative("Pix2Pix: gan", gan)
        if not self.l1 and not self.gan:
            raise ValueError("Pix2Pix: with l1=0 and gan=0 there is nothing to learn; give one of them a weight.")
        if not isinstance(loss, Loss):
            raise TypeError(f"Pix2Pix: loss must be one of gencourse.adversarial.losses, not {loss!r}.")
        self.loss, self.betas = loss, decay_rates("Pix2Pix: betas", betas)
        self.generator = UNet(self.source.shape[0], space.shape[0], sides=space.shape[1:], widths=widths, latent=self.latent)
        self.discriminator = PatchDiscriminator(
            self.source.shape[0] + space.shape[0], sides=space.shape[1:], width=d_width, layers=patch
        )

    # --- the game -----------------------------------------------------------------------------------------------------

    def d_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The discriminator's loss, averaged over patches, `(B,)`; it sends no gradient to the generator."""
        real, source = self.centred(x), self._condition(context, len(x))
        with torch.no_grad():
            fake = self._made(self.draw_latent(len(x)), source)
        return self.loss.d_loss(self.judge(real, source), self.judge(fake, source)).mean(dim=(1, 2))

    def g_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The generator's loss, `(B,)`: `gan` times what the discriminator says, over patches, and `l1` times the L1 error."""
        source = self._condition(context, len(x))
        y = self._made(self.draw_latent(len(x)), source)
        loss = self.l1 * l1_error(y, self.centred(x))
        return loss + self.gan * self.loss.g_loss(self.judge(y, source)).mean(dim=(1, 2)) if self.gan else loss

    def moves(self) -> list[Move]:
        """The discriminator's move and the generator's; the latter alone where `gan` is 0.

        The L1 error alone says which weights are better, and is validated; in the game no loss does.
        """
        adam = partial(torch.optim.Adam, betas=self.betas, fused=True)
        g = Move("g", self.g_loss, self.generator.parameters(), optimizer=adam, validate=not self.gan)
        return [Move("d", self.d_loss, self.discriminator.parameters(), optimizer=adam, validate=False), g] if self.gan else [g]

    def judge(self, y: Tensor, source: Tensor | None) -> Tensor:
        """A logit of each patch of a picture beside its source, both as the networks see them: `(B, h, w)`."""
        return self.discriminator(y, source)

    # --- what the noise does ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def variety(
        self, context: Tensor, *, draws: int = 32, apart: float = 0.05, generator: torch.Generator | None = None
    ) -> "Variety":
        """How much the noise changes the picture of each source `(B, *source.shape)`.

        Args:
            draws: of z, the same for every source.
            apart: pictures whose mean absolute difference is larger, on [-1, 1], count as different.
        """
        draws, apart = positive_integer("variety: draws", draws), positive("variety: apart", apart)
        z = self.draw_latent(draws, generator=generator)
        modes, movement = [], []
        for one in context:
            y = self.space.to_signed(self.generate(z, one.expand(draws, *one.shape))).flatten(1)  # (draws, D)
            kept: list[Tensor] = []
            for picture in y:
                if all((picture - other).abs().mean() > apart for other in kept):
                    kept.append(picture)
            modes.append(len(kept))
            movement.append((y - y.mean(0)).abs().mean())
        return Variety(torch.tensor(modes, device="cpu"), torch.stack(movement).cpu())

    # --- conditions ---------------------------------------------------------------------------------------------------

    def example_context(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`n` source pictures of noise, integers `(n, *source.shape)`."""
        return torch.randint(int(self.source.levels or 2), (n, *self.source.shape), generator=generator, device=self.device)

    def _condition(self, context: Tensor | None, n: int) -> Tensor:
        """The source pictures as the networks see them, `(n, C, H, W)`: on [-1, 1], enlarged to the space's sides."""
        s = pictures("Pix2Pix", self.source, context, n, next(self.discriminator.parameters()))
        return F.interpolate(s, scale_factor=self.enlarge, mode="nearest") if self.enlarge > 1 else s


class Variety(NamedTuple):
    """What the noise does to the pictures of each source.

    Attributes:
        modes: how many different pictures were drawn, `(B,)`; 1 where the noise is ignored.
        movement: the mean absolute distance from their mean, on [-1, 1], `(B,)`.
    """

    modes: Tensor
    movement: Tensor


RECIPES = (
    Recipe(
        # after so few steps the share is anything from 0.1 to 1, as the seed falls: no band can be promised
        "two_colours",
        data=partial(outlines_to_filled, size=16, fill="two colours"),
        options={"source": Space((1, 16, 16), 256), "d_width": 24, "patch": ((4, 2), (4, 2), (3, 1))},
        fit={"steps": 600, "batch_size": 32, "lr": 1e-3, "schedule": cosine, "ema": 0.99, "conditional": True},
        metric="palette_share",
    ),
    Recipe(
        "stripes",
        data=partial(outlines_to_filled, size=16, fill="stripes"),
        options={"source": Space((1, 16, 16), 256)},
        fit={"steps": 600, "batch_size": 32, "lr": 1e-3, "schedule": cosine, "ema": 0.99, "conditional": True},
        metric="stripes_inside",
        band=0.7,
    ),
    Recipe(
        "stripes64",
        data=partial(outlines_to_filled, size=64, fill="stripes", n=20_000),
        options={
            "source": Space((1, 64, 64), 256),
            "widths": (64, 128, 256, 256, 256),
            "d_width": 64,
            "patch": ((4, 2), (4, 2), (4, 1), (4, 1)),
        },
        fit={"steps": 20_000, "batch_size": 32, "lr": 2e-4, "schedule": cosine, "ema": 0.999, "conditional": True},
        metric="stripes_inside",
        needs="one GPU, ten minutes",
    ),
)
