"""Three classical densities of points, each with `log_prob` in nats and `sample`: histogram, kernel density, Gaussian mixture.

A histogram counts what falls into each cell of a box. A kernel density puts a Gaussian of one width on each training point
(E. Parzen, 1962, https://doi.org/10.1214/aoms/1177704472). A mixture has K Gaussians that are free to move and to stretch, and EM
moves them (A. P. Dempster, N. M. Laird and D. B. Rubin, 1977, https://doi.org/10.1111/j.2517-6161.1977.tb01600.x): say of each
point which Gaussian it may have come from, and fit each to its share of the points,

    r_nk = w_k N(x_n; mu_k, Sigma_k) / p(x_n),    w_k = sum_n r_nk / N,    mu_k = sum_n r_nk x_n / sum_n r_nk,    Sigma_k alike

which never lowers the likelihood. Each has a number that decides between too smooth and too rough: cells, width, K. On the
training points the roughest always wins; `best_by_held_out` asks points that none of the densities has seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from gencourse.arguments import non_negative, non_negative_integer, positive, positive_integer
from gencourse.classical.kmeans import KMeans
from gencourse.classical.points import points
from gencourse.metrics.pairs import squared_distances

T = TypeVar("T")
MOST_CELLS = 10_000_000


class Density(Protocol):
    """What has a log-density."""

    def log_prob(self, x: Tensor) -> Tensor:
        """`(N, D)` -> `(N,)`, nats."""
        ...


def best_by_held_out(fit: Callable[[T], Density], values: Iterable[T], valid: Tensor) -> tuple[T, dict[T, float]]:
    """The value whose density finds held-out points `(V, D)` most likely, and the mean log-likelihood of each, in nats.

    Args:
        fit: makes a density from a value, and the training points, which it must know itself.
        values: the widths, or numbers of cells or components, to try.

    Raises:
        ValueError: if there is no value to try.

    >>> x = torch.randn(200, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> best, scores = best_by_held_out(lambda sd: KernelDensity(x[:100], sd), (0.001, 0.3, 10.0), x[100:])
    >>> best
    0.3
    """
    scores = {value: float(fit(value).log_prob(valid).mean()) for value in values}
    if not scores:
        raise ValueError("best_by_held_out needs at least one value to try.")
    return max(scores, key=scores.__getitem__), scores


@dataclass(frozen=True)
class Histogram:
    """A density that is constant in each cell of a box, and zero outside.

    Attributes:
        low, high: `(D,)`, the corners of the box.
        mass: `(bins,) * D`, the probability of each cell.
    """

    low: Tensor
    high: Tensor
    mass: Tensor

    @classmethod
    def fit(cls, x: Tensor, bins: int, *, box: Sequence[tuple[float, float]] | None = None, extra: float = 0.0) -> Histogram:
        """The shares of the points `x` `(N, D)` in `bins` equal cells along each dimension.

        Args:
            box: `(low, high)` for each dimension; by default from the least to the largest coordinate of `x`.
            extra: points that each cell has beforehand, so that no cell has the probability zero.

        Raises:
            TypeError, ValueError: if these are no points, one lies outside the box, the box is empty or has too many cells.
        """
        x, bins = points("Histogram.fit", x), positive_integer("Histogram.fit: bins", bins)
        N, D = x.shape
        extra = non_negative("Histogram.fit: extra", extra)
        if bins**D > MOST_CELLS:
            raise ValueError(f"Histogram.fit: {bins} bins in each of {D} dimensions are {bins**D:.1e} cells; use fewer.")
        edges = torch.stack([x.amin(0), x.amax(0)], 1) if box is None else torch.as_tensor(box, dtype=x.dtype, device=x.device)
        if edges.shape != (D, 2) or not bool((edges[:, 0] < edges[:, 1]).all()):
            raise ValueError(f"Histogram.fit: the box must be {D} pairs (low, high) with low < high, not {edges.tolist()}.")
        low, high = edges.unbind(1)
        cell, inside = _cells(x, low, high, bins)
        if not bool(inside.all()):
            raise ValueError(f"Histogram.fit: {int((~inside).sum())} of {N} points lie outside the box {edges.tolist()}.")
        counts = torch.bincount(cell, minlength=bins**D).double() + extra
        return cls(low, high, (counts / counts.sum()).view((bins,) * D))

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of points `(N, D)`: `(N,)`, nats; -inf outside the box and in cells that are empty."""
        x, bins = points("Histogram.log_prob", x, dim=len(self.low)), self.mass.shape[0]
        cell, inside = _cells(x, self.low, self.high, bins)
        log_volume = ((self.high - self.low) / bins).log().sum()
        return torch.where(inside, self.mass.flatten()[cell].log() - log_volume, -math.inf)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`n` points, `(n, D)`: a cell by its probability, and a place in it, uniform."""
        n, bins = non_negative_integer("Histogram.sample: n", n), self.mass.shape[0]
        chosen = _draw(self.mass.flatten(), n, generator)
        index = torch.stack(torch.unravel_index(chosen, self.mass.shape), 1)  # (n, D)
        place = torch.rand(index.shape, generator=generator, dtype=torch.float64).to(index.device)
        return self.low + (index + place) * (self.high - self.low) / bins


def _cells(x: Tensor, low: Tensor, high: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """The number of each point's cell, and whether it is in the box: `(N,)` each. The upper edge belongs to the last cell."""
    inside = ((x >= low) & (x <= high)).all(1)
    index = ((x - low) / (high - low) * bins).floor().clamp(0, bins - 1).long()  # (N, D)
    number = torch.zeros(len(x), dtype=torch.long, device=x.device)
    for column in index.unbind(1):
        number = number * bins + column
    return number, inside


class KernelDensity:
    """A round Gaussian of standard deviation `sd` on each of the points `x` `(N, D)`.

    Raises:
        TypeError, ValueError: if these are no points, or sd is not positive.
    """

    def __init__(self, x: Tensor, sd: float) -> None:
        self.x, self.sd = points("KernelDensity", x), positive("KernelDensity: sd", sd)

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of points `(M, D)`: `(M,)`, nats. Of a training point it is too high: the point sees itself."""
        x = points("KernelDensity.log_prob", x, dim=self.x.shape[1])
        return torch.cat([self._log_mean(block, len(self.x)) for block in squared_distances(x, self.x)])

    def leave_one_out(self) -> Tensor:
        """The log-density of each training point under the Gaussians of all *others*, `(N,)` nats."""
        squares = torch.cat(list(squared_distances(self.x, self.x)))
        return self._log_mean(squares.fill_diagonal_(math.inf), len(self.x) - 1)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`n` points, `(n, D)`: one of the training points, moved by noise."""
        n = non_negative_integer("KernelDensity.sample: n", n)
        chosen = torch.randint(len(self.x), (n,), generator=generator).to(self.x.device)
        noise = torch.randn(n, self.x.shape[1], generator=generator, dtype=torch.float64).to(self.x.device)
        return self.x[chosen] + self.sd * noise

    def _log_mean(self, squares: Tensor, count: int) -> Tensor:
        """From squared distances `(M, N)` to log 1/count sum_n N(x; x_n, sd^2 I)."""
        log_norm = self.x.shape[1] / 2 * math.log(2 * math.pi * self.sd**2)
        return torch.logsumexp(-squares / (2 * self.sd**2), 1) - math.log(count) - log_norm


@dataclass(frozen=True)
class GaussianMixture:
    """K Gaussians with full covariances, and their weights.

    Attributes:
        weights: `(K,)`, summing to one.
        means: `(K, D)`.
        covariances: `(K, D, D)`.
        history: the mean log-likelihood of the training points, nats, before the first step of EM and after each; it never falls.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    history: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls,
        x: Tensor,
        K: int,
        *,
        start: GaussianMixture | None = None,
        steps: int = 200,
        tolerance: float = 1e-6,
        floor: float = 1e-6,
        generator: torch.Generator | None = None,
    ) -> GaussianMixture:
        """EM on the points `x` `(N, D)`, until a step gains less than `tolerance` nats a point.

        Args:
            start: where it begins; by default the clusters of one run of k-means++.
            floor: no covariance gets an eigenvalue below this. Without it a Gaussian can shrink onto one point, and the
                likelihood grow for ever.

        Raises:
            TypeError, ValueError: if these are no points or fewer than K, or a number is out of range.
        """
        K, floor = positive_integer("GaussianMixture.fit: K", K), positive("GaussianMixture.fit: floor", floor)
        x = points("GaussianMixture.fit", x, least=K)
        steps = non_negative_integer("GaussianMixture.fit: steps", steps)
        tolerance = non_negative("GaussianMixture.fit: tolerance", tolerance)
        mixture = start or from_clusters(x, KMeans.fit(x, K, starts=1, generator=generator).assign(x), K, floor=floor)
        if mixture.means.shape != (K, x.shape[1]):
            raise ValueError(f"GaussianMixture.fit: the start has means {tuple(mixture.means.shape)}, not {(K, x.shape[1])}.")
        history = [float(mixture.log_prob(x).mean())]
        for _ in range(steps):
            mixture = m_step(x, mixture.responsibilities(x), floor=floor)
            history.append(float(mixture.log_prob(x).mean()))
            if history[-1] - history[-2] < tolerance:
                break
        return cls(mixture.weights, mixture.means, mixture.covariances, tuple(history))

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of points `(N, D)`: `(N,)`, nats."""
        return torch.logsumexp(self.log_parts(x), 1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """r_nk, the probability that a point came from each Gaussian, `(N, K)`: the E step."""
        return torch.softmax(self.log_parts(x), 1)

    def log_parts(self, x: Tensor) -> Tensor:
        """log w_k N(x; mu_k, Sigma_k), `(N, K)`."""
        D = self.means.shape[1]
        x = points("GaussianMixture", x, dim=D)
        factor = torch.linalg.cholesky(self.covariances)  # (K, D, D)
        centred = (x - self.means.unsqueeze(1)).mT  # (K, D, N)
        squares = torch.linalg.solve_triangular(factor, centred, upper=False).square().sum(1).T  # (N, K)
        log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        return self.weights.log() - 0.5 * (D * math.log(2 * math.pi) + log_det + squares)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`n` points, `(n, D)`: a Gaussian by its weight, and a draw from it."""
        n = non_negative_integer("GaussianMixture.sample: n", n)
        k = _draw(self.weights, n, generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64).to(k.device)
        return self.means[k] + (torch.linalg.cholesky(self.covariances)[k] @ noise.unsqueeze(2)).squeeze(2)


def m_step(x: Tensor, r: Tensor, *, floor: float = 1e-6) -> GaussianMixture:
    """The mixture of the largest sum_nk r_nk log(w_k N(x_n; mu_k, Sigma_k)) whose covariances have no eigenvalue below `floor`.

    Args:
        x, r: points `(N, D)` and their responsibilities `(N, K)`, rows that sum to one.
    """
    share = r.sum(0)  # (K,), how many points each Gaussian has
    some = share.clamp(min=torch.finfo(share.dtype).tiny).unsqueeze(1)
    means = (r.T @ x) / some  # (K, D)
    centred = x - means.unsqueeze(1)  # (K, N, D)
    scatter = (r.T.unsqueeze(2) * centred).mT @ centred / some.unsqueeze(2)  # (K, D, D)
    values, vectors = torch.linalg.eigh(scatter)
    # raising the small eigenvalues is the best that the limit allows, not a patch: so the likelihood still never falls
    covariances = (vectors * values.clamp(min=floor).unsqueeze(1)) @ vectors.mT
    return GaussianMixture(share / len(x), means, covariances)


def from_clusters(x: Tensor, labels: Tensor, K: int, *, floor: float = 1e-6) -> GaussianMixture:
    """A mixture of the points `(N, D)` of each cluster, from labels `(N,)`: what EM begins with."""
    return m_step(x, torch.nn.functional.one_hot(labels, K).double(), floor=floor)


def _draw(probabilities: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """`n` draws with these probabilities `(C,)`, as indices; none of none."""
    if n == 0:
        return torch.zeros(0, dtype=torch.long, device=probabilities.device)
    drawn = torch.multinomial(probabilities.cpu(), n, replacement=True, generator=generator)
    return drawn.to(probabilities.device)
