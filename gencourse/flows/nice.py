"""NICE: non-linear independent components estimation (Dinh, Krueger and Bengio, 2015, https://arxiv.org/abs/1410.8516).

Look for a map to coordinates that are independent. If the map is a bijection f, the likelihood is a change of variables:

    log p(x) = sum_d log p_d(f_d(x)) + log |det df/dx|                                     (Section 2 of the paper)

The map is made of additive couplings. One half of the coordinates moves the other by whatever a network says:

    z_1 = x_1,    z_2 = x_2 + m(x_1)          x_1 = z_1,    x_2 = z_2 - m(z_1)             (Section 3.2)

The Jacobian is triangular with ones on its diagonal: m may be anything, and no volume changes. The halves take turns. Since
couplings alone cannot weigh one coordinate against another, the last layer scales each of them (Section 3.3). So log |det| is
one number for all x.
"""

import math
from functools import partial

import torch

from gencourse.arguments import positive_integer, probability, widths
from gencourse.flows.base import LOGISTIC, Flow, Prior
from gencourse.flows.bijections import ActNorm, AdditiveCoupling, Composition, Diagonal, Flatten, Mask, checkerboard
from gencourse.flows.networks import FlatNetwork
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import cosine


class NICE(Flow):
    """Additive couplings between the coordinates with an even number and those with an odd one, and a scale for each.

    On images a pixel's row and column are added: the halves are the two colours of a checkerboard.

    A first scale and shift, set by the first batch, bring data in any units to those of the prior.

    Args:
        space: images of integers, of two pixels or more, or points of two coordinates or more.
        couplings: how many; the halves take turns. Three let every coordinate depend on every other (Section 3.2).
        hidden: the widths of the hidden layers of each coupling's network.
        dropout: the probability with which a hidden unit is left out in training.
        prior: `LOGISTIC`, as in the paper for images, or `NORMAL`.
        alpha: of the logit that images go through; None leaves it out, as the paper does.

    Raises:
        ValueError: if an argument is out of range, or there is nothing to couple.
    """

    def __init__(
        self,
        space: Space,
        *,
        couplings: int = 4,
        hidden: tuple[int, ...] = (256, 256),
        dropout: float = 0.0,
        prior: Prior = LOGISTIC,
        alpha: float | None = 0.01,
    ) -> None:
        super().__init__(space, prior=prior, alpha=alpha)
        couplings, hidden = positive_integer("NICE: couplings", couplings), widths("NICE: hidden", hidden)
        dropout, D = probability("NICE: dropout", dropout), space.dim
        if math.prod(space.shape[-2:]) < 2:
            raise ValueError(f"NICE couples one coordinate or pixel with another, but {space} has only one.")
        even = checkerboard(space.shape).flatten()
        self.bijection = Composition([Flatten(space.shape), ActNorm((D,))])
        for i in range(couplings):
            network = FlatNetwork((D,), (D,), hidden, dropout)
            self.bijection.append(AdditiveCoupling(network, Mask(even if i % 2 == 0 else ~even)))
        self.bijection.append(Diagonal((D,)))


_ADAMW = partial(torch.optim.AdamW, weight_decay=0.01)

RECIPES = (
    Recipe(
        "digits",
        "digits",
        {"couplings": 6, "dropout": 0.3},
        {"steps": 2000, "batch_size": 128, "lr": 1e-3, "optimizer": _ADAMW, "schedule": cosine, "ema": 0.99, "clip": 5.0},
        metric="bits_per_dim",
        band=2.15,
    ),
    Recipe(
        # the paper reaches a log-density of 1980.50 nats on [0, 1)^784, which is 4.36 bits/dim, without a logit
        "mnist",
        "mnist",
        {"couplings": 4, "hidden": (1000,) * 5, "alpha": None},
        {"steps": 20_000, "batch_size": 512, "lr": 1e-3, "schedule": cosine, "ema": 0.999, "clip": 5.0},
        metric="bits_per_dim",
        band=4.5,
        needs="a GPU, ten minutes",
    ),
    Recipe(
        # the paper reaches 4.48 bits/dim, on images that are whitened first, which this model does not do
        "cifar10",
        "cifar10",
        {"couplings": 4, "hidden": (2000,) * 4, "alpha": None},
        {"steps": 50_000, "batch_size": 256, "lr": 5e-4, "schedule": cosine, "ema": 0.999, "clip": 5.0},
        metric="bits_per_dim",
        needs="a GPU, hours",
    ),
)
