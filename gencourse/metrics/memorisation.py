"""Whether a sampler has learned its training examples by heart: nearest neighbours against held-out examples.

A sample near a training example proves nothing, since real examples are near each other too. So the same is asked of examples
that the sampler never saw. Two questions, each with a known answer for a sampler that has not copied:

- is a sample nearer to its nearest training example than to the nearest of as many held-out ones? Training and held-out examples
  are alike to it, so that the ratio of the two distances is below 1 half of the time;
- is it nearer to the training set than all but a twentieth of the held-out examples are? Those who are like them are so with
  probability 1/20 (a count in place of the rank test of Meehan et al., 2020, https://arxiv.org/abs/2004.05675).

Neither sees a copy that is shifted by a pixel, if distances are those of pixels. Samples that are far from everything look
innocent, noise above all: it says nothing of their quality.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gencourse import arguments
from gencourse.metrics.neighbours import nearest_neighbours


class Memorisation(NamedTuple):
    """Shares of the samples.

    Attributes:
        nearer: those nearer to training than to as many held-out examples; 1/2 is innocent. The mean over the parts of the
            training set; equal distances count half.
        copies: those nearer to the training set than `quantile` of the held-out examples; `1 - quantile` is innocent.
    """

    nearer: float
    copies: float


def distance_ratios(samples: Tensor, train: Tensor, held_out: Tensor, *, seed: int = 0) -> Tensor:
    """For each sample the distance to the nearest training over that to the nearest held-out example, `(N, P)`, float64.

    The training set is cut, in random order, into P parts as large as the held-out set; a ratio of two zeros is 1.

    Args:
        samples, train, held_out: `(N, ...)`, `(M, ...)`, `(H, ...)`, all integers or all real, with H <= M.

    Raises:
        ValueError: if the shapes differ, there are no samples, or more held-out than training examples.
    """
    if not 0 < len(held_out) <= len(train):
        raise ValueError(
            f"distance_ratios: there are {len(held_out)} held-out and {len(train)} training examples; give no more held out."
        )
    generator = torch.Generator("cpu").manual_seed(arguments.seed("distance_ratios: seed", seed))
    order = torch.randperm(len(train), generator=generator, device="cpu").to(train.device)
    parts = train[order[: len(train) // len(held_out) * len(held_out)]].split(len(held_out))
    out = nearest_neighbours(samples, held_out).distances
    inside = torch.cat([nearest_neighbours(samples, part).distances for part in parts], dim=1)
    return torch.where(inside == out, torch.ones_like(inside), inside / out)


def memorisation(samples: Tensor, train: Tensor, held_out: Tensor, *, quantile: float = 0.95, seed: int = 0) -> Memorisation:
    """How many samples are suspiciously near to the training set; see the top of this module for what innocence looks like.

    Args:
        samples, train, held_out: `(N, ...)`, `(M, ...)`, `(H, ...)`, images or features, all integers or all real, with H <= M.
        quantile: of the held-out examples that a copy is nearer than.
        seed: of the order in which the training set is cut.

    Raises:
        ValueError: if the shapes differ, there are no samples, or more held-out than training examples.
    """
    ratios = distance_ratios(samples, train, held_out, seed=seed)
    nearer = (ratios < 1).double() + (ratios == 1).double() / 2
    return Memorisation(float(nearer.mean()), float(copies(samples, train, held_out, quantile=quantile).mean()))


def copies(samples: Tensor, train: Tensor, held_out: Tensor, *, quantile: float = 0.95) -> Tensor:
    """Whether each sample is nearer to the training set than this share of the held-out examples: 0 or 1, `(N,)` float64."""
    quantile = arguments.probability("copies: quantile", quantile)
    usual = nearest_neighbours(held_out, train).distances.flatten().sort().values
    limit = usual[int((1 - quantile) * len(usual))]  # a share 1 - quantile of the held-out examples is nearer
    return (nearest_neighbours(samples, train).distances.flatten() < limit).double()
