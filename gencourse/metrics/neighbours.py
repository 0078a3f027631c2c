"""The training examples nearest to samples: whether a model has learned them by heart."""

from typing import NamedTuple

import torch
from torch import Tensor

from gencourse.arguments import integer
from gencourse.metrics.pairs import squared_distances


class Neighbours(NamedTuple):
    """Distances `(N, k)`, float64, and the places of the neighbours in the training set, `(N, k)` int64, nearest first."""

    distances: Tensor
    indices: Tensor


def nearest_neighbours(samples: Tensor, train: Tensor, k: int = 1) -> Neighbours:
    """The k training examples nearest to each sample in Euclidean distance, pixel by pixel or coordinate by coordinate.

    Exact (every pair is compared, a block at a time), in the units of the data: grey levels for integer images. Of equally
    near examples the one that stands first in the training set comes first. A distance near 0 shows a copy; a large one
    does not show that there is none, since a shift by one pixel is far (Theis et al., 2016, https://arxiv.org/abs/1511.01844).

    Args:
        samples, train: `(N, ...)` and `(M, ...)`, both integers or both real.

    Raises:
        ValueError: if the shapes differ, k is not in 1..M, or there are no samples.

    >>> nearest_neighbours(torch.tensor([[0, 0]]), torch.tensor([[3, 4], [1, 0], [9, 9]]), k=2)
    Neighbours(distances=tensor([[1., 5.]], dtype=torch.float64), indices=tensor([[1, 0]]))
    """
    number = integer(k)
    if number is None or not 1 <= number <= len(train):
        raise ValueError(f"nearest_neighbours: k must be an integer from 1 to the {len(train)} training examples, not {k!r}.")
    if samples.shape[1:] != train.shape[1:] or not len(samples):
        raise ValueError(
            f"nearest_neighbours: samples {tuple(samples.shape)} and train {tuple(train.shape)} must hold examples of one shape."
        )
    if samples.is_floating_point() != train.is_floating_point():
        raise TypeError(f"nearest_neighbours: samples are {samples.dtype} and train is {train.dtype}; give both in one unit.")
    distances, indices = [], []
    for block in squared_distances(samples, train):
        nearest = block.sort(dim=1, stable=True)
        distances.append(nearest.values[:, :number].sqrt())
        indices.append(nearest.indices[:, :number])
    return Neighbours(torch.cat(distances), torch.cat(indices))
