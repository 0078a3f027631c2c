"""The chain of a generative stochastic network as matrices, where the images can be counted.

A matrix is `(S, S)`, rows from and columns to, float64, on the CPU; images are in the order of `every_example`.
"""

import copy

import torch
from torch import Tensor

from gencourse.checks.invariants import every_example
from gencourse.markov.corruption import Corruption
from gencourse.markov.gsn import GSN
from gencourse.space import Space

MOST_IMAGES = 4096


def corruption_matrix(corruption: Corruption, space: Space) -> Tensor:
    """`C(x~ | x)` of every image x~ (columns) given every x (rows).

    Raises:
        ValueError: if the space has over 4096 images, or the corruption has no `log_prob(noisy, x, space)`.
    """
    if not hasattr(corruption, "log_prob"):
        raise ValueError(f"a transition matrix needs the corruption's log_prob(noisy, x, space), which {corruption!r} has not.")
    images = _images(space)
    return torch.stack([corruption.log_prob(images, x, space) for x in images]).exp()


@torch.no_grad()
def reconstruction_matrix(model: GSN) -> Tensor:
    """`P(x' | x~)` of every image x' (columns) given every x~ (rows), by the network in float64."""
    images = _images(model.space)
    guess = copy.deepcopy(model).to("cpu", torch.float64).eval().reconstruct(images)  # batch (S,)
    return torch.stack([guess.log_prob(x.double()) for x in images], dim=1).exp()


def transition_matrix(model: GSN) -> Tensor:
    """The whole step, `T[x, x'] = sum over x~ of C(x~ | x) P(x' | x~)` (Eq. (12.4) of the book).

    Raises:
        ValueError: as `corruption_matrix`.
    """
    return corruption_matrix(model.corruption, model.space) @ reconstruction_matrix(model)


def _images(space: Space) -> Tensor:
    if space.levels is not None and space.levels**space.dim > MOST_IMAGES:
        raise ValueError(f"a transition matrix needs a space of {MOST_IMAGES} images at most, and {space} has more.")
    return every_example(space)
