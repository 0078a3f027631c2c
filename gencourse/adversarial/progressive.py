"""Progressive growing (Karras, Aila, Laine and Lehtinen, 2018, https://arxiv.org/abs/1710.10196; slide 124).

Both networks begin with images of 4x4 pixels, and grow by a block each time the side doubles. A new block is faded in:

    generator        (1 - a) * double(image of the old last layer) + a * image of the new one
    discriminator    (1 - a) * old first layer(halve(x))           + a * new block(x)
    real images      (1 - a) * double(halve(x))                    + a * x

with a from 0 to 1 over the first part of the level's rounds. At a = 0 the new networks compute exactly what the old ones did,
so that nothing learned is lost; at a = 1 the old layers are gone. Three tricks go with it: weights that are scaled when they are
used (`Equalised`), vectors of length one at each pixel of the generator (`PixelNorm`), and a map that tells the discriminator how
much the images of a batch differ (`MinibatchStd`). The game here is the non-saturating one with a gradient penalty at the real
examples (Mescheder, Geiger and Nowozin, 2018, https://arxiv.org/abs/1801.04406), which needs one critic step where the paper's
WGAN-GP is slower.
"""

import math
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.adversarial import dcgan, losses
from gencourse.adversarial.gan import GAN
from gencourse.adversarial.layers import Equalised, Layer, MinibatchStd, PixelNorm
from gencourse.arguments import non_negative, non_negative_integer, positive_integer, probability
from gencourse.data.faces import faces
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move


def stage(step: int, schedule: tuple[int, ...], fade: float) -> tuple[int, float]:
    """The level, 0 for the smallest, and the weight `a` of its newest layers in round `step`, counted from 0.

    Level k lasts `schedule[k]` rounds, the last for ever. In the first `fade` of them `a` climbs in equal steps, the first of
    which is taken at once, and ends at 1. The first level has nothing to be faded from.
    """
    level = 0
    while level < len(schedule) - 1 and step >= schedule[level]:
        step -= schedule[level]
        level += 1
    fading = round(fade * schedule[level]) if level else 0
    return level, 1.0 if step >= fading else (step + 1) / fading


def double(y: Tensor) -> Tensor:
    """Each pixel four times, `(B, C, H, W)` to `(B, C, 2H, 2W)`."""
    return F.interpolate(y, scale_factor=2)


def halve(y: Tensor) -> Tensor:
    """The mean of four pixels, `(B, C, 2H, 2W)` to `(B, C, H, W)`: added in pairs, it undoes `double` to the last bit."""
    above, below = y[..., ::2, :], y[..., 1::2, :]
    return 0.25 * ((above[..., ::2] + above[..., 1::2]) + (below[..., ::2] + below[..., 1::2]))


class Progressive(GAN):
    """A GAN whose networks grow from small images to large ones.

    Args:
        space: images of integers, with even sides of 8 or more: the last level's. Smaller levels draw smaller images, which
            are enlarged, so that `sample` gives examples of the space at any time.
        latent: the dimension of z.
        width: channels of all maps up to eight times the smallest side; beyond, they are halved with each level.
        schedule: rounds for each level but the last, which has the same number if there is one number for all; or one for each
            level. Zeros leave levels out: (0, 0, n) with `fade=0` trains at full size from the start.
        fade: the share of a level's rounds in which it is faded in, in [0, 1).
        gamma: the penalty's weight; half of it multiplies the squared gradient, as in the paper.
        equalised, pixel_norm, minibatch_sd: False leaves a trick out. Without the first the weights have the same values at the
            start, but are not scaled in use.
        base: the smallest side, as in `DCGAN`.
        betas: Adam's, for both players.
        g_lr: the generator's learning rate; None takes `fit`'s, which is the discriminator's.

    Attributes:
        step: rounds played, a buffer from which level and fading follow: a run that was cut off grows on where it was.

    Raises:
        ValueError: if a number is out of range, or the schedule has another number of levels than the space.
    """

    step: Tensor

    def __init__(
        self,
        space: Space,
        *,
        latent: int = 32,
        width: int = 32,
        schedule: int | tuple[int, ...] = 400,
        fade: float = 0.5,
        gamma: float = 0.1,
        equalised: bool = True,
        pixel_norm: bool = True,
        minibatch_sd: bool = True,
        base: int = 4,
        betas: tuple[float, float] = (0.0, 0.99),
        g_lr: float | None = None,
    ) -> None:
        if not dcgan.halves(space):
            raise ValueError(f"Progressive draws images of integers with even sides of 8 or more, but the space is {space}.")
        latent, width, base = (
            positive_integer(f"Progressive: {name}", value)
            for name, value in (("latent", latent), ("width", width), ("base", base))
        )
        maps = dcgan.sides(space, base)[::-1]  # smallest first
        given = schedule if isinstance(schedule, tuple | list) else (schedule,) * len(maps)
        rounds = tuple(non_negative_integer("Progressive: schedule", n) for n in given)
        if len(rounds) != len(maps):
            sides = ", ".join(f"{h}x{w}" for h, w in maps)
            raise ValueError(f"Progressive: schedule needs {len(maps)} numbers of rounds, for {sides}, not {schedule!r}.")
        widths = [max(1, width >> max(0, level - 3)) for level in range(len(maps))]
        channels = space.shape[0]
        super().__init__(
            space,
            latent=latent,
            generator=Generator(channels, maps[0], widths, latent=latent, equalised=equalised, pixel_norm=pixel_norm),
            discriminator=Discriminator(channels, maps[0], widths, equalised=equalised, minibatch_sd=minibatch_sd),
            loss=losses.non_saturating,
            betas=betas,
            g_lr=g_lr,
        )
        self.schedule, self.fade = rounds, probability("Progressive: fade", fade)
        self.gamma = non_negative("Progressive: gamma", gamma)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def stage(self) -> tuple[int, float]:
        """The level and the weight of its newest layers now, as `stage` counts them."""
        return stage(int(self.step), self.schedule, self.fade)

    # --- the game -----------------------------------------------------------------------------------------------------

    def d_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The discriminator's loss on a batch and as many samples, with the penalty at the real examples, `(B,)`."""
        self._unconditional(context)
        real = self.faded(self.centred(x)).requires_grad_()
        with torch.no_grad():
            fake = self._made(self.draw_latent(len(x)))
        logits = self._judged(real)
        loss = self.loss.d_loss(logits, self._judged(fake))
        return loss + self.gamma / 2 * losses.r1_penalty(real, logits) if self.gamma else loss

    def faded(self, y: Tensor) -> Tensor:
        """The real images `(B, *shape)` as the discriminator meets them now: no finer than the generator's."""
        level, a = self.stage()
        if level == 0 or a == 1:
            return y  # the discriminator halves them itself
        steps = len(self.schedule) - 1 - level
        for _ in range(steps):
            y = halve(y)
        y = (1 - a) * double(halve(y)) + a * y
        for _ in range(steps):
            y = double(y)
        return y

    def moves(self) -> list[Move]:
        """The discriminator's move, then the generator's, which ends the round: the networks may grow."""
        moves = super().moves()
        moves[-1].after = self._count
        return moves

    def _count(self) -> None:
        self.step.add_(1)

    def _made(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.generator(z, *self.stage())

    def _judged(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.discriminator(y, *self.stage())


# --- networks ---------------------------------------------------------------------------------------------------------


class Generator(nn.Module):
    """z to images of the last level's size, by the layers up to a level.

    Args:
        channels: of the images.
        smallest: height and width of the first map.
        widths: channels of each level's maps.
    """

    def __init__(
        self,
        channels: int,
        smallest: tuple[int, int],
        widths: list[int],
        *,
        latent: int,
        equalised: bool = True,
        pixel_norm: bool = True,
    ) -> None:
        super().__init__()
        scaled, norm = partial(_scaled, equalised=equalised), PixelNorm if pixel_norm else nn.Identity

        def convolved(before: int, after: int) -> list[nn.Module]:
            return [scaled(nn.Conv2d(before, after, 3, padding=1)), nn.LeakyReLU(0.2), norm()]

        first = widths[0]
        projected = scaled(nn.Linear(latent, first * math.prod(smallest)), gain=math.sqrt(2) / 4)
        start = [PixelNorm(), projected, nn.Unflatten(1, (first, *smallest)), nn.LeakyReLU(0.2), norm()]
        self.blocks = nn.ModuleList([nn.Sequential(*start, *convolved(first, first))])
        for before, after in pairwise(widths):
            self.blocks.append(nn.Sequential(nn.Upsample(scale_factor=2), *convolved(before, after), *convolved(after, after)))
        self.to_image = nn.ModuleList(scaled(nn.Conv2d(width, channels, 1), gain=1.0) for width in widths)

    def forward(self, z: Tensor, level: int, a: float = 1.0) -> Tensor:
        """`(B, latent)` to `(B, C, H, W)`, unbounded, each of the level's pixels as a block; the newest layers weigh `a`."""
        y = before = self.blocks[0](z)
        for block in self.blocks[1 : level + 1]:
            before, y = y, block(y)
        image = self.to_image[level](y)
        if level and a < 1:
            image = (1 - a) * double(self.to_image[level - 1](before)) + a * image
        for _ in range(len(self.blocks) - 1 - level):
            image = double(image)
        return image


class Discriminator(nn.Module):
    """Images of the last level's size to logits, by the layers up to a level; arguments as the generator's."""

    def __init__(
        self,
        channels: int,
        smallest: tuple[int, int],
        widths: list[int],
        *,
        equalised: bool = True,
        minibatch_sd: bool = True,
    ) -> None:
        super().__init__()
        scaled = partial(_scaled, equalised=equalised)

        def convolved(before: int, after: int) -> list[nn.Module]:
            return [scaled(nn.Conv2d(before, after, 3, padding=1)), nn.LeakyReLU(0.2)]

        first = widths[0]
        seen = [MinibatchStd(), *convolved(first + 1, first)] if minibatch_sd else convolved(first, first)
        dense = [scaled(nn.Linear(first * math.prod(smallest), first)), nn.LeakyReLU(0.2), scaled(nn.Linear(first, 1), gain=1.0)]
        self.blocks = nn.ModuleList([nn.Sequential(*seen, nn.Flatten(), *dense)])
        for before, after in pairwise(widths):
            self.blocks.append(nn.Sequential(*convolved(after, after), *convolved(after, before), nn.AvgPool2d(2)))
        self.from_image = nn.ModuleList(
            nn.Sequential(scaled(nn.Conv2d(channels, width, 1)), nn.LeakyReLU(0.2)) for width in widths
        )

    def forward(self, y: Tensor, level: int, a: float = 1.0) -> Tensor:
        """`(B, C, H, W)` to logits `(B,)`, from the image halved to the level's size; the newest layers weigh `a`."""
        for _ in range(len(self.blocks) - 1 - level):
            y = halve(y)
        h = self.from_image[level](y)
        for k in range(level, 0, -1):
            h = self.blocks[k](h)
            if k == level and a < 1:
                h = (1 - a) * self.from_image[level - 1](halve(y)) + a * h
        return self.blocks[0](h).squeeze(1)


def _scaled(layer: Layer, gain: float = math.sqrt(2), *, equalised: bool) -> nn.Module:
    """The layer with equalised weights, or with weights of the same values that are used as they are."""
    wrapped = Equalised(layer, gain)
    if equalised:
        return wrapped
    with torch.no_grad():
        layer.weight.copy_(wrapped.weight())
    return layer


RECIPES = (
    Recipe(
        # growing does not help at this size (chapter 15): no band is promised
        "digits",
        data="digits",
        options={"schedule": (600, 1000)},
        fit={"steps": 1600, "batch_size": 64, "lr": 1.5e-3, "ema": 0.99},
        metric="frechet_ratio",
        samples=3600,
        needs="two CPU cores, two minutes",
    ),
    Recipe(
        "faces",
        data=partial(faces, size=32, n=50_000),
        options={"schedule": (3000, 5000, 7000, 10_000), "width": 128, "latent": 64},
        fit={"steps": 25_000, "batch_size": 64, "lr": 1e-3, "ema": 0.999},
        metric="frechet_ratio",
        needs="one GPU, ten minutes",
    ),
    Recipe(
        "fashion_mnist",
        data="fashion_mnist",
        options={"schedule": (4000, 6000, 10_000), "width": 128, "latent": 64},
        fit={"steps": 20_000, "batch_size": 64, "lr": 1e-3, "ema": 0.999},
        metric="frechet_ratio",
        needs="one GPU, ten minutes",
    ),
    Recipe(
        "cifar10",
        data="cifar10",
        options={"schedule": (5000, 8000, 12_000, 20_000), "width": 256, "latent": 128},
        fit={"steps": 45_000, "batch_size": 64, "lr": 1e-3, "ema": 0.999},
        metric="frechet_ratio",
        needs="one GPU, an hour",
    ),
)
