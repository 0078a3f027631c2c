"""The deep convolutional GAN (Radford, Metz and Chintala, 2016, https://arxiv.org/abs/1511.06434; slides 116 to 122).

A generator of fractionally strided convolutions, a discriminator of strided ones, each the other's mirror image:

    generator       z -> project to 4x4 -> [double the side, halve the channels]* -> double the side -> tanh
    discriminator   x -> halve the side -> [halve the side, double the channels]* -> one logit

The paper's rules: no pooling and no hidden fully connected layers; batch norm everywhere but on the generator's output and
the discriminator's input; ReLU in the generator, leaky ReLU (0.2) in the discriminator; weights from N(0, 0.02^2); Adam with
learning rate 2e-4 and beta_1 = 0.5.

One rule fits all sizes. Kernel 4, stride 2, padding 1 halves an even side exactly, and its transpose doubles it exactly
(Eq. 14.2 of the book); sides are halved as long as they are even and half of them is `base` or more. So 64, 32, 16 and 8 go
down to 4, and 28 to 7.
"""

import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.adversarial import losses
from gencourse.adversarial.gan import GAN
from gencourse.adversarial.layers import measure_batch_norm
from gencourse.adversarial.losses import Loss
from gencourse.arguments import positive_integer
from gencourse.data.faces import faces
from gencourse.recipes import Recipe
from gencourse.space import Space

layer_norm: Callable[[int], nn.Module] = partial(nn.GroupNorm, 1)
"""Normalises each example by itself. With batch norm a critic's output would depend on the whole batch, its gradient too."""


def sides(space: Space, base: int = 4) -> list[tuple[int, int]]:
    """The sides of the feature maps of an image space, largest first: `[(32, 32), (16, 16), (8, 8), (4, 4)]`.

    Raises:
        ValueError: if these are not images, or their sides cannot be halved once.
    """
    if len(space.shape) != 3:
        raise ValueError(f"DCGAN draws images (C, H, W), but the space is {space}; GAN(space) is for points.")
    _, height, width = space.shape
    found = [(height, width)]
    while height % 2 == width % 2 == 0 and min(height, width) >= 2 * base:
        height, width = height // 2, width // 2
        found.append((height, width))
    if len(found) == 1:
        raise ValueError(f"DCGAN halves its images: their sides must be even and {2 * base} or more, not {height}x{width}.")
    return found


def halves(space: Space) -> bool:
    """Whether the space has images that these convolutions can halve.

    Raises:
        TypeError: if it is no `Space`.
    """
    if not isinstance(space, Space):
        raise TypeError(f"expected a gencourse.space.Space first, not {type(space).__name__}.")
    shape = space.shape
    return space.is_discrete and len(shape) == 3 and shape[1] % 2 == shape[2] % 2 == 0 and min(shape[1:]) >= 8


class Generator(nn.Module):
    """Noise to images in [-1, 1] by fractionally strided convolutions.

    Args:
        space: images of integers.
        latent: the dimension of z.
        width: channels of the largest hidden map; each smaller one has twice as many.
        classes: of one-hot labels, which are put beside z; None for none.
        norm: makes a layer of its channels: batch norm, or `nn.Identity` for none.
    """

    def __init__(
        self,
        space: Space,
        *,
        latent: int,
        width: int = 64,
        classes: int | None = None,
        base: int = 4,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        maps = sides(space, base)
        channels = [width * 2**i for i in reversed(range(len(maps) - 1))]
        first = nn.ConvTranspose2d(latent + (classes or 0), channels[0], maps[-1], bias=False)  # 1x1 to the smallest map
        layers: list[nn.Module] = [first, norm(channels[0]), nn.ReLU()]
        for before, after in pairwise(channels):
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False), norm(after), nn.ReLU()]
        layers += [nn.ConvTranspose2d(channels[-1], space.shape[0], 4, stride=2, padding=1), nn.Tanh()]
        self.net = nn.Sequential(*layers)
        self.apply(initialise)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(B, latent)` and one-hot labels `(B, classes)` to `(B, C, H, W)`."""
        z = z if condition is None else torch.cat([z, condition], dim=1)
        return self.net(z[:, :, None, None])


class Discriminator(nn.Module):
    """Images in [-1, 1] to logits by strided convolutions; arguments as the generator's.

    A label enters as one constant map a class, beside the image's channels.
    """

    def __init__(
        self,
        space: Space,
        *,
        width: int = 64,
        classes: int | None = None,
        base: int = 4,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        maps = sides(space, base)
        channels = [width * 2**i for i in range(len(maps) - 1)]
        inputs = space.shape[0] + (classes or 0)
        blocks = [nn.Sequential(nn.Conv2d(inputs, channels[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2))]
        for before, after in pairwise(channels):
            convolution = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
            blocks.append(nn.Sequential(convolution, norm(after), nn.LeakyReLU(0.2)))
        self.blocks = nn.ModuleList(blocks)
        self.logit = nn.Conv2d(channels[-1], 1, maps[-1])
        self.apply(initialise)

    def forward(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(B, C, H, W)` and one-hot labels `(B, classes)` to logits `(B,)`."""
        return self.logit(self.maps(y, condition)[-1]).flatten()  # (B, 1, 1, 1) -> (B,)

    def maps(self, y: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """The feature maps of every hidden layer, largest first."""
        if condition is not None:
            y = torch.cat([y, condition[:, :, None, None].expand(-1, -1, *y.shape[2:])], dim=1)
        found = []
        for block in self.blocks:
            y = block(y)
            found.append(y)
        return found


def initialise(module: nn.Module) -> None:
    """The paper's first weights: convolutions from N(0, 0.02^2), batch norm's scales from N(1, 0.02^2), offsets 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    if isinstance(getattr(module, "bias", None), Tensor):
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]


class DCGAN(GAN):
    """A GAN whose two networks are convolutional.

    Args:
        space: images of integers, of any size with even sides (`sides` has the rule).
        latent: the dimension of z.
        width: channels of the largest hidden map of both networks.
        classes: labels to condition on, or None.
        base: the smallest side to go down to.
        norm: between the layers: batch norm, or `nn.Identity` for none.
        loss, d_steps, penalty, clip, betas, g_lr: the game's, as in `GAN`. A gradient penalty needs `norm=nn.Identity`: with
            batch norm a logit depends on the whole batch.
    """

    def __init__(
        self,
        space: Space,
        *,
        latent: int = 64,
        width: int = 64,
        classes: int | None = None,
        base: int = 4,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        loss: Loss = losses.non_saturating,
        d_steps: int = 1,
        penalty: float = 0.0,
        clip: float | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
        g_lr: float | None = None,
    ) -> None:
        if not isinstance(space, Space):
            raise TypeError(f"DCGAN expects a gencourse.space.Space first, not {type(space).__name__}.")
        if space.levels is None:
            raise ValueError(f"DCGAN draws images of integers, but the space is {space}; GAN(space) is for points.")
        latent, width, base = (
            positive_integer(f"DCGAN: {name}", value) for name, value in (("latent", latent), ("width", width), ("base", base))
        )
        classes = None if classes is None else positive_integer("DCGAN: classes", classes)
        super().__init__(
            space,
            latent=latent,
            classes=classes,
            generator=Generator(space, latent=latent, width=width, classes=classes, base=base, norm=norm),
            discriminator=Discriminator(space, width=width, classes=classes, base=base, norm=norm),
            loss=loss,
            d_steps=d_steps,
            penalty=penalty,
            clip=clip,
            betas=betas,
            g_lr=g_lr,
        )

    @torch.no_grad()
    def discriminator_features(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """What the discriminator sees in each image, `(B, F)`: all its layers, each max-pooled to 4x4 or less (section 5.1)."""
        with self.evaluation():
            maps = self.discriminator.maps(self.centred(x), self._condition(context, len(x)))  # type: ignore[operator]
        pooled = [F.adaptive_max_pool2d(m, (min(4, m.shape[2]), min(4, m.shape[3]))).flatten(1) for m in maps]
        return torch.cat(pooled, dim=1)

    @torch.no_grad()
    def settle(self, n: int = 2000, context: Tensor | None = None, *, generator: torch.Generator | None = None) -> None:
        """Measure the generator's batch-norm statistics afresh, on `n` draws of z.

        Those gathered in training trail behind the weights, and belong to others where the weights were averaged
        (`fit(ema=...)`, which settles the model itself). Labels `(n,)` of a conditional model are drawn, if none are given.
        """
        if self.classes and context is None:
            context = torch.randint(self.classes, (n,), generator=generator, device=self.device)
        z, condition = self.draw_latent(n, generator=generator), self._condition(context, n)
        pieces = max(1, n // 250)
        conditions = condition.chunk(pieces) if condition is not None else [None] * pieces
        measure_batch_norm(self.generator, zip(z.chunk(pieces), conditions, strict=False))


def trained_on_faces() -> tuple[DCGAN, dict[str, Any]]:
    """The model of the recipe "faces", trained and settled, and how it came about; float16 weights that come with the package."""
    with np.load(Path(__file__).with_name("dcgan_faces.npz")) as file:
        run = json.loads(str(file["run"]))
        weights = {name: torch.from_numpy(file[name]) for name in file.files if name != "run"}
    model = DCGAN(Space(tuple(run["space"]["shape"]), run["space"]["levels"]), **run["options"])
    model.load_state_dict(weights)
    return model.eval(), run


RECIPES = (
    Recipe(
        "digits",
        data="digits",
        options={"latent": 64, "width": 32, "base": 2},
        fit={"steps": 3000, "batch_size": 64, "lr": 1e-3, "ema": 0.999},
        metric="frechet_ratio",
        band=3.0,
        quick=True,
    ),
    Recipe(
        "faces",
        data=partial(faces, size=32, n=10_000),
        options={"latent": 32, "width": 16},
        fit={"steps": 10_000, "batch_size": 64, "lr": 1e-3, "ema": 0.999},
        metric="frechet_ratio",
        needs="two CPU cores, ten minutes",
    ),
    Recipe(
        "mnist",
        data="mnist",
        options={"latent": 64, "width": 64},
        fit={"steps": 20_000, "batch_size": 128, "lr": 2e-4},
        metric="frechet_ratio",
        needs="one GPU, ten minutes",
    ),
    Recipe(
        "fashion_mnist",
        data="fashion_mnist",
        options={"latent": 64, "width": 64},
        fit={"steps": 20_000, "batch_size": 128, "lr": 2e-4},
        metric="frechet_ratio",
        needs="one GPU, ten minutes",
    ),
    Recipe(
        "faces64",
        data=partial(faces, size=64, colour=True, n=50_000),
        options={"latent": 64, "width": 64},
        fit={"steps": 20_000, "batch_size": 128, "lr": 2e-4},
        metric="frechet_ratio",
        needs="one GPU, ten minutes",
    ),
)
