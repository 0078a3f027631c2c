"""k-means: K centres, each point belongs to the nearest, and the sum of squared distances to them is to be small.

    J(c, mu) = sum_n |x_n - mu_{c_n}|^2

Lloyd's algorithm lowers J in two half steps, again and again (S. Lloyd, Least squares quantization in PCM, 1982,
https://doi.org/10.1109/TIT.1982.1056489). With the centres held, each point goes to the nearest; with the assignment held, each
centre goes to the mean of its points. Neither can raise J, and there are finitely many assignments, so it ends: in a local
minimum, which depends on the start. k-means++ draws the first centres one by one, far from those already there, and its J is in
the mean at most 8 (log K + 2) times the least possible, before any step is taken (D. Arthur and S. Vassilvitskii, k-means++: The
Advantages of Careful Seeding, 2007). What is best of several starts is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gencourse.arguments import positive_integer
from gencourse.classical.points import points
from gencourse.metrics.pairs import squared_distances

#: `start(x, K, generator=...)` -> the first centres, `(K, D)`.
Start = Callable[..., Tensor]


@dataclass(frozen=True)
class KMeans:
    """Centres, and how they were found.

    Attributes:
        centres: `(K, D)`, float64.
        history: J after each half step, an assignment and a move of the centres in turn; it never rises.
    """

    centres: Tensor
    history: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls, x: Tensor, K: int, *, start: Start | None = None, starts: int = 10, generator: torch.Generator | None = None
    ) -> KMeans:
        """The best of several runs of Lloyd's algorithm on the points `x` `(N, D)`.

        Args:
            start: `plus_plus`, the default, or `random_start`.
            starts: how many runs.

        Raises:
            TypeError, ValueError: if these are no points, there are fewer than K, or a number is not positive.
        """
        starts = positive_integer("KMeans.fit: starts", starts)
        begin = plus_plus if start is None else start
        runs = [lloyd(x, begin(x, K, generator=generator)) for _ in range(starts)]
        return min(runs, key=lambda run: run.history[-1])

    def assign(self, x: Tensor) -> Tensor:
        """The nearest centre of each point: `(N, D)` -> `(N,)`, 0 to K - 1."""
        return _distances(points("KMeans.assign", x, dim=self.centres.shape[1]), self.centres).argmin(1)


def objective(x: Tensor, centres: Tensor, labels: Tensor) -> float:
    """J: the sum of squared distances of points `(N, D)` to the centres `(K, D)` that `labels` `(N,)` give them."""
    return float((x - centres[labels]).square().sum())


def lloyd(x: Tensor, centres: Tensor, *, steps: int = 1000) -> KMeans:
    """Lloyd's algorithm from these centres `(K, D)`, until no point changes its centre. A centre without points stays.

    Raises:
        TypeError, ValueError: if these are no points of one space, or `steps` is not positive.
    """
    x = points("lloyd", x)
    mu = points("lloyd: centres", centres, dim=x.shape[1]).to(x.device)
    steps = positive_integer("lloyd: steps", steps)
    history: list[float] = []
    labels = torch.full((len(x),), -1, device=x.device)
    for _ in range(steps):
        before, labels = labels, _distances(x, mu).argmin(1)  # each point to the nearest centre
        if torch.equal(before, labels):
            break
        history.append(objective(x, mu, labels))
        counts = torch.bincount(labels, minlength=len(mu)).unsqueeze(1)  # (K, 1)
        sums = torch.zeros_like(mu).index_add(0, labels, x)
        mu = torch.where(counts > 0, sums / counts.clamp(min=1), mu)  # each centre to the mean of its points
        history.append(objective(x, mu, labels))
    return KMeans(mu, tuple(history))


def random_start(x: Tensor, K: int, *, generator: torch.Generator | None = None) -> Tensor:
    """K different points, all equally likely: `(K, D)`.

    Raises:
        TypeError, ValueError: if these are no points, or fewer than K.
    """
    x = points("random_start", x, least=positive_integer("random_start: K", K))
    return x[torch.randperm(len(x), generator=generator)[:K].to(x.device)]


def plus_plus(x: Tensor, K: int, *, generator: torch.Generator | None = None) -> Tensor:
    """K points `(K, D)`, drawn one by one, each in proportion to its squared distance from the nearest one before it.

    Raises:
        TypeError, ValueError: if these are no points, or fewer than K different ones.
    """
    x = points("plus_plus", x, least=positive_integer("plus_plus: K", K))
    chosen = [int(torch.randint(len(x), (), generator=generator))]
    nearest = _distances(x, x[chosen])[:, 0]  # (N,)
    while len(chosen) < K:
        if not bool(nearest.any()):
            raise ValueError(f"plus_plus: there are only {len(chosen)} different points, fewer than K = {K}.")
        chosen.append(int(torch.multinomial(nearest.cpu(), 1, generator=generator)))
        nearest = torch.minimum(nearest, _distances(x, x[chosen[-1:]])[:, 0])
    return x[chosen]


def _distances(x: Tensor, centres: Tensor) -> Tensor:
    """Squared distances, `(N, K)`."""
    return torch.cat(list(squared_distances(x, centres)))
