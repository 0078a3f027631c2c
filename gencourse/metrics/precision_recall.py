"""Improved precision and recall (Kynkäänniemi et al., 2019, https://arxiv.org/abs/1904.06991).

One number cannot say whether samples are bad or too much alike. Precision is the share of samples that look real; recall
is the share of the real examples that the sampler could have drawn.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gencourse.arguments import integer
from gencourse.metrics.pairs import squared_distances


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]."""

    precision: float
    recall: float


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
    if real.dim() != 2 or fake.dim() != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"precision_recall expects (N, F) and (M, F), not {tuple(real.shape)} and {tuple(fake.shape)}.")
    number = integer(k)
    if number is None or not 1 <= number < min(len(real), len(fake)):
        raise ValueError(f"precision_recall: k must be an integer from 1 to {min(len(real), len(fake)) - 1}, not {k!r}.")
    return PrecisionRecall(_share_inside(fake, real, number), _share_inside(real, fake, number))


def _share_inside(points: Tensor, members: Tensor, k: int) -> float:
    """The share of the points that lie in at least one ball around a member."""
    # the member itself is at distance 0, so that the (k + 1)-th smallest distance is the k-th neighbour's
    radius = torch.cat([block.kthvalue(k + 1, dim=1).values for block in squared_distances(members, members)])  # (M,)
    inside = [(block <= radius).any(dim=1) for block in squared_distances(points, members)]
    return float(torch.cat(inside).double().mean())
