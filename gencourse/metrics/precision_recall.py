"""Improved precision and recall (Kynkäänniemi et al., 2019, https://arxiv.org/abs/1904.06991), density and coverage.

One number cannot say whether samples are bad or too much alike. Precision is the share of samples that look real; recall
is the share of the real examples that the sampler could have drawn. One stray example has a large ball, which makes both too
kind. Density counts in how many balls a sample lies, and coverage asks only for balls of real examples, which do not grow when
the samples are bad (Naeem et al., 2020, https://arxiv.org/abs/2002.09797).
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gencourse.arguments import integer
from gencourse.metrics.pairs import squared_distances


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """A mean number of balls, about 1 for equal distributions and not bounded by it, and a share in [0, 1]."""

    density: float
    coverage: float


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> PrecisionRecall:
    """How many of the fake features lie on the manifold of the real ones (precision), and the reverse (recall).

    The manifold of a set is the union of the balls around its members that reach to their k-th nearest neighbour in the
    set, a copy of the member itself being a neighbour (Eq. 1 of the paper). Both shares depend on k and on the numbers of
    examples; the paper takes k = 3 and equal numbers. Not even two sets from one distribution score 1, and the less so the
    more features there are: read both beside what training examples score against test examples.

    Args:
        real, fake: `(N, F)` and `(M, F)` features, such as `ScoredClassifier.features`.

    Raises:
        ValueError: if the shapes do not fit or a set has no more than k members.

    >>> real = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
    >>> precision_recall(real, real[:3], k=1)
    PrecisionRecall(precision=1.0, recall=0.5)
    """
    number = _checked("precision_recall", real, fake, k, min(len(real), len(fake)))
    shares = (float((ball_counts(*sets, number) > 0).double().mean()) for sets in ((fake, real), (real, fake)))
    return PrecisionRecall(*shares)


def density_coverage(real: Tensor, fake: Tensor, *, k: int = 5) -> DensityCoverage:
    """In how many balls of real features a sample lies, over k (density), and the share of these balls that hold one (coverage).

    The balls are those of `precision_recall`. Of two sets from one continuous distribution the density is 1 on average, and the
    coverage `expected_coverage(N, M, k)`, whatever the distribution (Eqs. 5 to 7 of the paper, which takes k = 5).

    Args:
        real, fake: `(N, F)` and `(M, F)` features, such as `ScoredClassifier.features`.

    Raises:
        ValueError: if the shapes do not fit or there are no more than k real examples.

    >>> real = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
    >>> density_coverage(real, real[1:2], k=1)
    DensityCoverage(density=3.0, coverage=0.5)
    """
    number = _checked("density_coverage", real, fake, k, len(real))
    if not len(fake):
        raise ValueError("density_coverage: there are no samples.")
    density = ball_counts(fake, real, number).double().mean() / number
    return DensityCoverage(float(density), float(covered(fake, real, number).double().mean()))


def expected_coverage(n: int, m: int, k: int) -> float:
    """The mean coverage of n real examples by m samples of the same continuous distribution.

    Of an example's k nearest among the n - 1 + m others, all must be real for its ball to hold no sample:
    `1 - prod_{i=1..k} (n - i) / (n + m - i)`.
    """
    return 1 - math.prod((n - i) / (n + m - i) for i in range(1, k + 1))


def ball_counts(points: Tensor, members: Tensor, k: int) -> Tensor:
    """In how many balls around members, which reach to their k-th neighbour, each of the points lies: `(N,)` int64."""
    return torch.cat([inside.sum(1) for inside in _inside(points, members, k)])


def covered(points: Tensor, members: Tensor, k: int) -> Tensor:
    """Whether the ball around each member, which reaches to its k-th neighbour, holds one of the points: `(M,)` bool."""
    return torch.stack([inside.any(0) for inside in _inside(points, members, k)]).any(0)


def _inside(points: Tensor, members: Tensor, k: int) -> Iterator[Tensor]:
    """Which of the points lie in which ball, in blocks `(n, M)` from the top."""
    # the member itself is at distance 0, so that the (k + 1)-th smallest distance is the k-th neighbour's
    radius = torch.cat([block.kthvalue(k + 1, dim=1).values for block in squared_distances(members, members)])  # (M,)
    return (block <= radius for block in squared_distances(points, members))


def _checked(name: str, real: Tensor, fake: Tensor, k: int, least: int) -> int:
    if real.dim() != 2 or fake.dim() != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"{name} expects (N, F) and (M, F), not {tuple(real.shape)} and {tuple(fake.shape)}.")
    number = integer(k)
    if number is None or not 1 <= number < least:
        raise ValueError(f"{name}: k must be an integer from 1 to {least - 1}, not {k!r}.")
    return number
