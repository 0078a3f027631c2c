"""Distances between two sets of examples by a kernel: the maximum mean discrepancy and the error of its estimate.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)

x and x' are independent draws of one distribution, y and y' of the other. It is the squared distance of the two means in the
space of the kernel, and 0 only for equal distributions where the kernel is characteristic, as the Gaussian one is (Gretton et
al., 2012, https://jmlr.org/papers/v13/gretton12a.html). With the cubic kernel `(x.y / F + 1)^3` of F features the moments up to
the third are compared. On Inception's features that is KID (Binkowski et al., 2018, https://arxiv.org/abs/1801.01401); on those
of a classifier of one's own it is a number that compares with nothing published.

The estimate here leaves the pairs (x_i, x_i) out, so that its mean is the true value whatever the numbers of examples are. It
may come out below zero where the two distributions are one. Its variance follows from Hoeffding's decomposition: a first-order
part over n and a second-order part over n^2. Between equal distributions the first vanishes and the second is all there is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gencourse.arguments import positive
from gencourse.metrics.pairs import BLOCK, squared_distances, two_sets

#: `kernel(a, b)`: rows `(N, F)` and `(M, F)` in float64 -> the kernel of each pair, `(N, M)`.
Kernel = Callable[[Tensor, Tensor], Tensor]


def cubic(a: Tensor, b: Tensor) -> Tensor:
    """The kernel of KID, `(x.y / F + 1)^3` of each pair of rows `(N, F)` and `(M, F)`: `(N, M)`."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def rbf(bandwidth: float) -> Kernel:
    """The Gaussian kernel `exp(-|x - y|^2 / (2 bandwidth^2))`, for which MMD is 0 only between equal distributions.

    Raises:
        ValueError: if the bandwidth is not positive; `median_distance` is the usual choice.
    """
    width = positive("rbf: bandwidth", bandwidth)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([torch.exp(-block / (2 * width**2)) for block in squared_distances(a, b)])

    return kernel


def median_distance(a: Tensor, b: Tensor) -> float:
    """The median distance of rows `(N, F)` to rows `(M, F)`: a bandwidth at which neither all pairs nor none are alike."""
    a, b = two_sets(a, b)
    return float(torch.cat([block.flatten() for block in squared_distances(a, b)]).median().sqrt())


@dataclass(frozen=True)
class Discrepancy:
    """An estimate of MMD^2 and its standard error over draws of both sets."""

    value: float
    standard_error: float

    def __str__(self) -> str:
        return f"MMD² {self.value:.4g} ± {self.standard_error:.2g}"


def mmd(a: Tensor, b: Tensor, kernel: Kernel = cubic) -> Discrepancy:
    """The unbiased estimate of MMD^2 between features `(N, F)` and `(M, F)`, with its standard error.

    Both sets count as drawn anew: the error says how far other samples and other test examples would move the value. Where it is
    small, the estimate is not normal but leans to the right, so that twice the error is a rough interval only.

    Raises:
        ValueError: if the shapes do not fit, or a set has fewer than three examples or values that are not finite.
    """
    a, b = two_sets(a, b, least=3)
    n, m = len(a), len(b)
    aa, bb, ab, ba = _row_means(a, a, kernel), _row_means(b, b, kernel), _row_means(a, b, kernel), _row_means(b, a, kernel)
    value = aa.mean() + bb.mean() - 2 * ab.mean()
    # second order: what is left of the kernel when both marginal means are taken away, squared
    pairs_a, pairs_b, across = _rest(a, a, aa, aa, kernel), _rest(b, b, bb, bb, kernel), _rest(a, b, ab, ba, kernel)
    # first order: how far one example moves the estimate; its sample variance holds some of the second order, taken off again
    first_a = (aa - ab).var() - pairs_a / (n - 1) - across / m
    first_b = (bb - ba).var() - pairs_b / (m - 1) - across / n
    second = 2 * pairs_a / (n * (n - 1)) + 2 * pairs_b / (m * (m - 1)) + 4 * across / (n * m)
    variance = second + 4 * first_a.clamp_min(0) / n + 4 * first_b.clamp_min(0) / m
    return Discrepancy(float(value), math.sqrt(float(variance)))


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """The squared maximum mean discrepancy of features `(N, F)` and `(M, F)`, with the kernel `(x.y / F + 1)^3`.

    The unbiased estimate (Gretton et al., 2012, Lemma 6), as `mmd` has it, in less time and without its error.

    Raises:
        ValueError: if the shapes do not fit, or a set has fewer than two examples or values that are not finite.
    """
    a, b = two_sets(a, b)
    within = _row_means(a, a, cubic).mean() + _row_means(b, b, cubic).mean()
    return float(within - 2 * _row_means(a, b, cubic).mean())


def _row_means(a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
    """For each of `a` the mean kernel with the `b`, `(N,)`; with the others, where the two are one set."""
    sums = torch.cat([kernel(part, b).sum(1) for part in a.split(_rows(b))])
    if a is not b:
        return sums / len(b)
    itself = torch.cat([kernel(part, part).diagonal() for part in a.split(min(1000, _rows(b)))])
    return (sums - itself) / (len(b) - 1)


def _rest(a: Tensor, b: Tensor, means_a: Tensor, means_b: Tensor, kernel: Kernel) -> Tensor:
    """The mean square of `k(x, y) - E_y k - E_x k + E k` over all pairs, without those of an example with itself."""
    total, done, centre = a.new_zeros(()), 0, means_a.mean()
    for part in a.split(_rows(b)):
        rows = slice(done, done := done + len(part))
        squares = (kernel(part, b) - means_a[rows, None] - means_b + centre).square()
        if a is b:
            squares[torch.arange(len(part), device=a.device), torch.arange(rows.start, rows.stop, device=a.device)] = 0
        total += squares.sum()
    return total / (len(a) * (len(b) - (a is b)))


def _rows(b: Tensor) -> int:
    return max(1, BLOCK // len(b))
