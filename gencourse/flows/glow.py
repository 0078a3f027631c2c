"""Glow: generative flow with invertible 1x1 convolutions (Kingma and Dhariwal, 2018, https://arxiv.org/abs/1807.03039).

One step of flow is three bijections (Table 1 of the paper), at each of the H x W places of an image with C channels:

    ActNorm            z = s * x + b                                      log |det| = H W sum_c log |s_c|
    1x1 convolution    z = W x                                            log |det| = H W log |det W|
    affine coupling    z_a = x_a,  z_b = x_b * exp(s(x_a)) + t(x_a)       log |det| = the sum of s(x_a)

The convolution takes the place of a fixed permutation: which channels are mixed is learned. A level squeezes 2x2 blocks into
channels, takes `steps` such steps, and lets half of the channels go (Fig. 2b). What goes is a Gaussian whose mean and scale
depend on what stays, which is one more affine coupling. A temperature below 1 makes samples likelier and less varied.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from gencourse.arguments import positive_integer, probability
from gencourse.flows.base import Flow
from gencourse.flows.bijections import (
    ActNorm,
    AffineCoupling,
    Composition,
    Flatten,
    Halves,
    InvertibleLinear,
    Permutation,
    Split,
    Squeeze,
)
from gencourse.flows.networks import ConvNetwork, FlatNetwork
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import cosine


class Glow(Flow):
    """Glow on images. On points, which have no neighbours, the 1x1 convolution is a matrix and the networks fully connected.

    Args:
        space: images of integers, or points of two coordinates or more.
        levels: on images, how often 2x2 blocks become channels (L of the paper).
        steps: of flow in each level (K).
        channels: of the hidden layers of each coupling's network, on points its hidden units.
        dropout: the probability with which a hidden channel is left out in training.
        mixing: makes what mixes the channels from their number: `InvertibleLinear`, or `reversal`, which is fixed.
        alpha: of the logit that images go through; None leaves it out.

    Raises:
        ValueError: if an argument is out of range or does not fit the space, or there is nothing to couple.
    """

    def __init__(
        self,
        space: Space,
        *,
        levels: int = 1,
        steps: int = 8,
        channels: int = 64,
        dropout: float = 0.0,
        mixing: Callable[[int], nn.Module] = InvertibleLinear,
        alpha: float | None = 0.01,
    ) -> None:
        super().__init__(space, alpha=alpha)
        levels, self.steps = positive_integer("Glow: levels", levels), positive_integer("Glow: steps", steps)
        self.channels, self.dropout = positive_integer("Glow: channels", channels), probability("Glow: dropout", dropout)
        self.mixing = mixing
        if space.dim < 2:
            raise ValueError(f"Glow couples one coordinate with another, but {space} has only one.")
        if len(space.shape) == 1:
            if levels > 1:
                raise ValueError(f"Glow: levels are for images, but {space} has no height and width.")
            self.bijection = self._steps(space.shape)
            return
        if len(space.shape) != 3 or any(side % 2**levels for side in space.shape[1:]):
            raise ValueError(f"Glow: {levels} levels need images whose sides 2 divides {levels} times, not {space}.")
        self.bijection = self._levels(space.shape, levels)

    def _levels(self, shape: tuple[int, ...], levels: int) -> Composition:
        """`(B, *shape)` -> `(B, D)`."""
        C, H, W = shape
        whole, half = (4 * C, H // 2, W // 2), (2 * C, H // 2, W // 2)
        layers = Composition([Squeeze(), *self._steps(whole)])
        if levels == 1:
            layers.append(Flatten(whole))
            return layers
        layers.append(self._coupling(whole))  # what goes, given what stays
        layers.append(Split(whole, rest=self._levels(half, levels - 1)))
        return layers

    def _steps(self, shape: tuple[int, ...]) -> Composition:
        """Fig. 2a, `steps` times."""
        C, *sides = shape
        layers = Composition()
        for _ in range(self.steps):
            layers += [ActNorm((C, *(1 for _ in sides))), self.mixing(C), self._coupling(shape)]
        return layers

    def _coupling(self, shape: tuple[int, ...]) -> AffineCoupling:
        C, *sides = shape
        kept, changed = (C + 1) // 2, C // 2
        network: nn.Module
        if sides:
            network = ConvNetwork(kept, 2 * changed, self.channels, dropout=self.dropout)
        else:
            network = FlatNetwork((kept,), (2 * changed,), (self.channels, self.channels), self.dropout)
        return AffineCoupling(network, Halves())


def reversal(n: int) -> Permutation:
    """The channels in reverse order: what the 1x1 convolution is compared with."""
    return Permutation(range(n)[::-1])


_ADAMW = partial(torch.optim.AdamW, weight_decay=0.01)

RECIPES = (
    Recipe(
        "digits",
        "digits",
        {"levels": 2, "steps": 6, "channels": 48, "dropout": 0.2},
        {"steps": 1500, "batch_size": 128, "lr": 2e-3, "optimizer": _ADAMW, "schedule": cosine, "ema": 0.99, "clip": 20.0},
        metric="bits_per_dim",
        band=2.07,
    ),
    Recipe(
        # a model of this kind reaches 1.05 bits/dim (Grathwohl et al., 2019, Table 2)
        "mnist",
        "mnist",
        {"levels": 2, "steps": 16, "channels": 128, "alpha": 1e-3},
        {"steps": 20_000, "batch_size": 256, "lr": 1e-3, "schedule": cosine, "ema": 0.999, "clip": 20.0},
        metric="bits_per_dim",
        band=1.15,
        needs="a GPU, ten minutes",
    ),
    Recipe(
        # the paper reaches 3.35 bits/dim
        "cifar10",
        "cifar10",
        {"levels": 3, "steps": 32, "channels": 512, "alpha": 0.05},
        {"steps": 500_000, "batch_size": 64, "lr": 1e-3, "schedule": cosine, "ema": 0.999, "clip": 20.0},
        metric="bits_per_dim",
        needs="several GPUs, days",
    ),
)
