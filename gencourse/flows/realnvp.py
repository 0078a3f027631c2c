"""RealNVP: real-valued non-volume preserving transformations (Dinh, Sohl-Dickstein and Bengio, 2017,
https://arxiv.org/abs/1605.08803).

NICE's coupling only shifts. RealNVP's scales too, and both are any functions of the half that is kept (Eqs. 4, 5 and 8):

    z_1 = x_1,    z_2 = x_2 * exp(s(x_1)) + t(x_1),        log |det dz/dx| = sum_j s_j(x_1)
    x_1 = z_1,    x_2 = (z_2 - t(z_1)) * exp(-s(z_1))

On images, what is kept is the dark squares of a checkerboard, then the bright ones; then 2x2 blocks become channels, half of
the channels are kept, then the others (Fig. 3). At each scale half of the channels are done and leave; the rest goes on at half
the resolution (Fig. 4). Between couplings each channel is normalised; where the paper uses batch norm, here stands ActNorm,
Glow's replacement for it, whose scale is a parameter and no statistic of the batch.
"""

import math
from functools import partial

import torch
from torch import nn

from gencourse.arguments import non_negative_integer, positive_integer, probability, widths
from gencourse.data.toys import TwoMoons
from gencourse.flows.base import NORMAL, Flow, Prior
from gencourse.flows.bijections import (
    ActNorm,
    AffineCoupling,
    Composition,
    Flatten,
    Halves,
    Mask,
    Split,
    Squeeze,
    checkerboard,
)
from gencourse.flows.networks import ConvNetwork, FlatNetwork
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import cosine


class RealNVP(Flow):
    """Affine couplings: of halves of the coordinates on points, of checkerboards and channels on images.

    Args:
        space: images of integers, of two pixels or more, or points of two coordinates or more.
        couplings: how many of one kind follow each other; the two parts take turns.
        scales: on images, how many resolutions. At all but the last, `couplings` checkerboards are followed by as many
            couplings of channels, and half of the channels leave. Each scale halves the sides.
        hidden: the widths of the hidden layers of each coupling's network, which is fully connected.
        channels: on images, convolutional networks with as many channels in their place.
        blocks: the residual blocks of a convolutional network.
        dropout: the probability with which a hidden unit (or channel) is left out in training.
        prior: of z.
        alpha: of the logit that images go through; None leaves it out.

    Raises:
        ValueError: if an argument is out of range or does not fit the space, or there is nothing to couple.
    """

    def __init__(
        self,
        space: Space,
        *,
        couplings: int = 6,
        scales: int = 1,
        hidden: tuple[int, ...] = (256, 256),
        channels: int | None = None,
        blocks: int = 2,
        dropout: float = 0.0,
        prior: Prior = NORMAL,
        alpha: float | None = 0.01,
    ) -> None:
        super().__init__(space, prior=prior, alpha=alpha)
        self.couplings, self.hidden = positive_integer("RealNVP: couplings", couplings), widths("RealNVP: hidden", hidden)
        self.channels = None if channels is None else positive_integer("RealNVP: channels", channels)
        self.blocks, self.dropout = non_negative_integer("RealNVP: blocks", blocks), probability("RealNVP: dropout", dropout)
        scales = positive_integer("RealNVP: scales", scales)
        if math.prod(space.shape[-2:]) < 2:
            raise ValueError(f"RealNVP couples one coordinate or pixel with another, but {space} has only one.")
        if len(space.shape) == 1:
            if scales > 1 or self.channels:
                raise ValueError(f"RealNVP: scales and channels are for images, but {space} has no height and width.")
            self.bijection = self._of_points(space.dim)
            return
        if len(space.shape) != 3 or any(side % 2 ** (scales - 1) for side in space.shape[1:]):
            raise ValueError(f"RealNVP: {scales} scales need images whose sides 2 divides {scales - 1} times, not {space}.")
        self.bijection = self._of_images(space.shape, scales)

    def _of_points(self, D: int) -> Composition:
        layers = Composition([ActNorm((D,))])
        for i in range(self.couplings):
            kept = (D + 1) // 2 if i % 2 == 0 else D // 2
            network = FlatNetwork((kept,), (2 * (D - kept),), self.hidden, self.dropout)
            layers += [AffineCoupling(network, Halves(swap=i % 2 == 1)), ActNorm((D,))]
        return layers

    def _of_images(self, shape: tuple[int, ...], scales: int) -> Composition:
        """`(B, *shape)` -> `(B, D)`."""
        C, H, W = shape
        layers = Composition([self._norm(shape)])
        for i in range(self.couplings):
            dark = Mask(checkerboard(shape, flip=i % 2 == 1))
            layers += [AffineCoupling(self._network(shape), dark), self._norm(shape)]
        if scales == 1:
            layers.append(Flatten(shape))
            return layers
        layers.append(Squeeze())
        whole, half = (4 * C, H // 2, W // 2), (2 * C, H // 2, W // 2)
        for i in range(self.couplings):
            layers += [AffineCoupling(self._network(half), Halves(swap=i % 2 == 1)), self._norm(whole)]
        layers.append(Split(whole, rest=self._of_images(half, scales - 1)))
        return layers

    def _network(self, shape: tuple[int, ...]) -> nn.Module:
        """From what is kept to s and t; both parts of a coupling of images have the same shape."""
        C, H, W = shape
        if self.channels:
            return ConvNetwork(C, 2 * C, self.channels, blocks=self.blocks, dropout=self.dropout)
        return FlatNetwork(shape, (2 * C, H, W), self.hidden, self.dropout)

    def _norm(self, shape: tuple[int, ...]) -> ActNorm:
        """Convolutions treat all places alike; a fully connected network knows each."""
        return ActNorm((shape[0], 1, 1) if self.channels else shape)


_ADAMW = partial(torch.optim.AdamW, weight_decay=0.01)
_DIGITS = {"batch_size": 128, "lr": 1e-3, "optimizer": _ADAMW, "schedule": cosine, "ema": 0.99, "clip": 5.0}


RECIPES = (
    Recipe(
        "two_moons",
        data=TwoMoons().dataset,
        options={"couplings": 6, "hidden": (64, 64)},
        fit={"steps": 1500, "batch_size": 256, "lr": 2e-3, "schedule": cosine, "ema": 0.99},
        band=1.15,
        quick=True,
    ),
    Recipe("digits", "digits", {"dropout": 0.3}, {"steps": 2000, **_DIGITS}, metric="bits_per_dim", band=2.09),
    Recipe(
        # a model of this kind reaches 1.06 bits/dim (Grathwohl et al., 2019, Table 2)
        "mnist",
        "mnist",
        {"couplings": 4, "scales": 3, "channels": 64, "alpha": 1e-3},
        {"steps": 20_000, "batch_size": 512, "lr": 1e-3, "schedule": cosine, "ema": 0.999, "clip": 5.0},
        metric="bits_per_dim",
        band=1.2,
        needs="a GPU, ten minutes",
    ),
    Recipe(
        # the paper reaches 3.49 bits/dim, with eight residual blocks a network
        "cifar10",
        "cifar10",
        {"couplings": 4, "scales": 3, "channels": 64, "blocks": 8, "alpha": 0.05},
        {"steps": 100_000, "batch_size": 64, "lr": 1e-3, "schedule": cosine, "ema": 0.999, "clip": 5.0},
        metric="bits_per_dim",
        needs="a GPU, a day",
    ),
)
