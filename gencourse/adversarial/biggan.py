"""BigGAN (Brock, Donahue and Simonyan, 2019, https://arxiv.org/abs/1809.11096; slide 126), at a size for one machine.

A class-conditional game from the parts of its time, made large. What is here:

    generator       residual blocks; conditional batch norm, told the class by one embedding that all blocks share, and a piece
                    of z of its own ("skip-z")
    discriminator   spectral norm in every layer, a sum over all places, and the projection of the features on the class
    losses          hinge; for the generator an orthogonal penalty: beta * |W W^T * (1 - I)|^2, rows at right angles
    truncation      z is drawn again while an entry lies beyond psi: a small psi buys fidelity with variety

What is not: the paper's size, batches of 2048 on hundreds of accelerators, and the spectral norm in its generator. The averaged
weights that it samples from are `fit(ema=...)`; batch norm's statistics belong to one set of weights and one psi, and are
measured afresh for each.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.adversarial import dcgan, losses
from gencourse.adversarial.gan import GAN
from gencourse.adversarial.layers import (
    ConditionalBatchNorm2d,
    ProjectionHead,
    SelfAttention,
    SpectralNorm,
    measure_batch_norm,
)
from gencourse.arguments import non_negative, positive, positive_integer
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import cosine


def truncated_normal(
    shape: tuple[int, ...],
    psi: float | None,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Standard normal numbers between -psi and psi: those outside are drawn again, until none is left; None does not truncate.

    The variance is 1 - 2 psi phi(psi) / (2 Phi(psi) - 1). Clamped numbers would pile up at the ends. Of numbers within psi, a
    share 2 Phi(psi) - 1 is kept in each turn, so that a tiny psi takes long.

    Raises:
        ValueError: if psi is below 0.01.
    """
    z = torch.randn(shape, generator=generator, device=device, dtype=dtype)
    if psi is None:
        return z
    if not positive("truncation", psi) >= 0.01:
        raise ValueError(f"truncation must be 0.01 or more, not {psi!r}: smaller ones would have to be drawn for too long.")
    flat = z.view(-1)
    outside = (flat.abs() > psi).nonzero().squeeze(1)
    while len(outside):
        again = torch.randn(len(outside), generator=generator, device=z.device, dtype=z.dtype)
        flat[outside] = again
        outside = outside[again.abs() > psi]
    return z


def orthogonal_penalty(network: nn.Module) -> Tensor:
    """The sum over weight matrices of `|W W^T * (1 - I)|^2`, `()`: how far rows are from right angles, whatever their lengths.

    Over linear layers and convolutions, `(outputs, inputs * kernel)`; those that embed a condition are left out (Eq. 3).
    """
    total = torch.zeros((), device=next(network.parameters()).device)
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and not isinstance(module, Embedding):
            rows = module.weight.flatten(1)
            products = rows @ rows.T
            total = total + (products - products.diag().diag()).square().sum()
    return total


class BigGAN(GAN):
    """A conditional GAN with a residual generator, a projection discriminator under spectral norm, and truncated sampling.

    Args:
        space: images of integers, with even sides of 8 or more.
        latent: the dimension of z, cut into as many pieces as there are blocks and one: z's first piece makes the smallest map.
        width: channels of the generator's maps.
        d_width: channels of the discriminator's largest map; each smaller one has twice as many.
        classes: how many classes `context` distinguishes, labels `(B,)`. None conditions the blocks on z alone.
        embedding: the dimension of the classes' vectors, which all of the generator's blocks share.
        attention: the side of the maps, 32 say, after which both networks have self-attention; None for none.
        orthogonal: the weight beta of the orthogonal penalty in the generator's loss.
        base: the smallest side to go down to, as in `DCGAN`.
        betas: Adam's, for both players.
        g_lr: the generator's learning rate; None takes `fit`'s, which is the discriminator's.

    Raises:
        ValueError: if a number is out of range, there is no map of the side that attention asks for, or z is too short.
    """

    def __init__(
        self,
        space: Space,
        *,
        latent: int = 24,
        width: int = 32,
        d_width: int = 32,
        classes: int | None = None,
        embedding: int = 16,
        attention: int | None = None,
        orthogonal: float = 1e-4,
        base: int = 4,
        betas: tuple[float, float] = (0.0, 0.99),
        g_lr: float | None = None,
    ) -> None:
        if not dcgan.halves(space):
            raise ValueError(f"BigGAN draws images of integers with even sides of 8 or more, but the space is {space}.")
        sizes = {"latent": latent, "width": width, "d_width": d_width, "embedding": embedding, "base": base}
        latent, width, d_width, embedding, base = (positive_integer(f"BigGAN: {name}", n) for name, n in sizes.items())
        classes = None if classes is None else positive_integer("BigGAN: classes", classes)
        maps = dcgan.sides(space, base)
        if latent < len(maps):
            raise ValueError(f"BigGAN: z is cut into {len(maps)} pieces, so latent must be {len(maps)} or more, not {latent}.")
        if attention is not None and attention not in [side for side, _ in maps[:-1]]:
            sides = ", ".join(str(side) for side, _ in maps[:-1])
            raise ValueError(f"BigGAN: attention must be None or the side of a map, one of {sides}, not {attention!r}.")
        shared = {"classes": classes, "attention": attention}
        super().__init__(
            space,
            latent=latent,
            classes=classes,
            generator=Generator(space.shape[0], maps, latent=latent, width=width, embedding=embedding, **shared),
            discriminator=Discriminator(space.shape[0], maps, width=d_width, **shared),
            loss=losses.hinge,
            betas=betas,
            g_lr=g_lr,
        )
        self.orthogonal = non_negative("BigGAN: orthogonal", orthogonal)

    def g_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The generator's loss on as many samples as there are in the batch, `(B,)`, with the orthogonal penalty."""
        loss = super().g_loss(x, context)
        return loss + self.orthogonal * orthogonal_penalty(self.generator) if self.orthogonal else loss

    # --- sampling: truncation, and the statistics that belong to it ---------------------------------------------------

    def sample(
        self, n: int, context: Tensor | None = None, *, truncation: float | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw `n` examples, `(n, *space.shape)`, with every entry of z between `-truncation` and `truncation`.

        Batch norm's statistics are measured for this truncation, and put back after it: the model stays as it was.

        Raises:
            ValueError: if `n` is negative, the truncation is below 0.01, or the context is no labels `(n,)`.
        """
        if truncation is None:
            return super().sample(n, context, generator=generator)
        with self.evaluation(n), torch.no_grad(), self._settled_for(truncation):
            return self.generate(self.draw_latent(n, truncation=truncation, generator=generator), context)

    def draw_latent(self, n: int, *, truncation: float | None = None, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of z, `(n, latent)`, on the model's device; truncated, if asked for."""
        weight = next(self.generator.parameters())
        return truncated_normal((n, self.latent), truncation, generator=generator, device=weight.device, dtype=weight.dtype)

    def settle(
        self,
        n: int = 2000,
        context: Tensor | None = None,
        *,
        truncation: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Measure the generator's batch-norm statistics afresh, on `n` draws of z; `fit(ema=...)` asks for it at its end.

        Labels `(n,)` are drawn, all classes alike, if none are given.
        """
        context = self.example_context(n, generator=generator) if context is None else context
        z, condition = self.draw_latent(n, truncation=truncation, generator=generator), self._condition(context, n)
        pieces = max(1, n // 250)
        conditions = [None] * pieces if condition is None else condition.chunk(pieces)
        measure_batch_norm(self.generator, zip(z.chunk(pieces), conditions, strict=False))

    @contextmanager
    def _settled_for(self, truncation: float) -> Iterator[None]:
        """The statistics of a truncation inside the block, the same each time; the model's own after it."""
        own = {name: value.clone() for name, value in self.generator.named_buffers()}
        self.settle(truncation=truncation, generator=torch.Generator(self.device).manual_seed(0))
        try:
            yield
        finally:
            for name, value in self.generator.named_buffers():
                value.copy_(own[name])


# --- networks ---------------------------------------------------------------------------------------------------------


class Embedding(nn.Linear):
    """A vector for each class, linear in the one-hot label."""


class Generator(nn.Module):
    """z and one-hot labels to images in [-1, 1], by residual blocks that double the side."""

    def __init__(
        self,
        channels: int,
        maps: list[tuple[int, int]],
        *,
        latent: int,
        width: int,
        classes: int | None,
        embedding: int,
        attention: int | None,
    ) -> None:
        super().__init__()
        pieces = len(maps)  # one for the smallest map, and one a block
        self.pieces = [latent // pieces + (i < latent % pieces) for i in range(pieces)]
        self.embed = None if classes is None else Embedding(classes, embedding, bias=False)
        told = 0 if classes is None else embedding
        self.first = nn.Linear(self.pieces[0], width * math.prod(maps[-1]))
        self.smallest = (width, *maps[-1])
        self.blocks = nn.ModuleList(UpBlock(width, piece + told) for piece in self.pieces[1:])
        self.attention = nn.ModuleDict({str(side): SelfAttention(width) for side, _ in maps if side == attention})
        self.last = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1), nn.Tanh())
        for module in self.modules():
            if isinstance(module, nn.Conv2d) or module is self.first:
                nn.init.orthogonal_(module.weight)  # the paper's first weights

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(B, latent)` and one-hot labels `(B, classes)` to `(B, C, H, W)`."""
        start, *pieces = z.split(self.pieces, dim=1)
        told = [] if self.embed is None else [self.embed(condition)]  # (B, embedding)
        y = self.first(start).unflatten(1, self.smallest)
        for block, piece in zip(self.blocks, pieces, strict=True):
            y = block(y, torch.cat([piece, *told], dim=1))
            if str(y.shape[2]) in self.attention:
                y = self.attention[str(y.shape[2])](y)
        return self.last(y)


class UpBlock(nn.Module):
    """norm, ReLU, double the side, convolve, norm, ReLU, convolve, beside a skip that doubles the side and nothing else."""

    def __init__(self, width: int, condition_dim: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ConditionalBatchNorm2d(width, condition_dim) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, y: Tensor, condition: Tensor) -> Tensor:
        """`(B, width, H, W)` and `(B, condition_dim)` to `(B, width, 2H, 2W)`."""
        double = partial(F.interpolate, scale_factor=2)
        h = self.convolutions[0](double(F.relu(self.norms[0](y, condition))))
        return double(y) + self.convolutions[1](F.relu(self.norms[1](h, condition)))


class Discriminator(nn.Module):
    """Images in [-1, 1] and one-hot labels to logits: strided convolutions, a sum over all places, the projection."""

    def __init__(
        self, channels: int, maps: list[tuple[int, int]], *, width: int, classes: int | None, attention: int | None
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [SpectralNorm(nn.Conv2d(channels, width, 3, padding=1)), nn.LeakyReLU(0.2)]
        for side, _ in maps[:-1]:
            if side == attention:
                layers.append(SelfAttention(width, wrap=SpectralNorm))
            layers += [SpectralNorm(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
            width *= 2
        self.net = nn.Sequential(*layers)
        self.head = ProjectionHead(width, classes, wrap=SpectralNorm)

    def features(self, y: Tensor) -> Tensor:
        """What is projected, `(B, F)`: the last map, summed over its places."""
        return self.net(y).sum((2, 3))

    def forward(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(B, C, H, W)` and one-hot labels `(B, classes)` to logits `(B,)`."""
        return self.head(self.features(y), condition)


RECIPES = (
    Recipe(
        "digits",
        data="digits",
        options={"classes": 10, "base": 2, "g_lr": 5e-4},
        fit={"steps": 2200, "batch_size": 64, "lr": 1e-3, "schedule": cosine, "ema": 0.999, "conditional": True},
        metric="frechet_ratio",
        samples=3600,
        band=1.4,
    ),
    Recipe(
        "fashion_mnist",
        data="fashion_mnist",
        options={"classes": 10, "latent": 60, "width": 64, "embedding": 32, "attention": 14, "g_lr": 1e-4},
        fit={"steps": 15_000, "batch_size": 128, "lr": 4e-4, "schedule": cosine, "ema": 0.999, "conditional": True},
        metric="frechet_ratio",
        needs="one GPU, ten minutes",
    ),
    Recipe(
        "cifar10",
        data="cifar10",
        options={"classes": 10, "latent": 80, "width": 128, "d_width": 64, "embedding": 64, "attention": 16, "g_lr": 1e-4},
        fit={"steps": 20_000, "batch_size": 128, "lr": 4e-4, "schedule": cosine, "ema": 0.999, "conditional": True},
        metric="frechet_ratio",
        needs="one GPU, half an hour",
    ),
)
