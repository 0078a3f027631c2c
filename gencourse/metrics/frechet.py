"""Distances between two sets of feature vectors: Fréchet's, between fitted Gaussians, and the kernel distance.

On the features of an Inception network trained on ImageNet, and on nothing else, the first is called FID (Heusel et al., 2017,
https://arxiv.org/abs/1706.08500) and the second KID (Binkowski et al., 2018, https://arxiv.org/abs/1801.01401). Here the
features are those of a small classifier of the same data (`gencourse.metrics.classifier`), which is scored itself, so
the numbers carry its name and compare with nothing published. For the real FID install torchmetrics with torch-fidelity
and use `torchmetrics.image.fid.FrechetInceptionDistance`; it downloads the network's weights.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gencourse import arguments
from gencourse.metrics.pairs import BLOCK, as_rows

if TYPE_CHECKING:
    from gencourse.data import Dataset
    from gencourse.metrics.classifier import ScoredClassifier


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """The squared Fréchet distance of the Gaussians fitted to two sets of features, `(N, F)` and `(M, F)`.

    It is biased upwards: two sets from one distribution differ by chance, by about a constant over N, and the constant
    depends on the distribution (Binkowski et al., 2018). So compare distances of the same N and M only, and beside the
    floor that real against real examples have at that N (`frechet_to` measures both).

    Raises:
        ValueError: if the shapes do not fit, or a set has fewer than two examples or values that are not finite.
    """
    a, b = _features(features_a, features_b)
    return gaussian_frechet(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))


def gaussian_frechet(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> float:
    """The squared Fréchet (2-Wasserstein) distance of two Gaussians, from means `(F,)` and covariances `(F, F)`.

        |mu1 - mu2|^2 + tr(C1) + tr(C2) - 2 tr((C1^1/2 C2 C1^1/2)^1/2)

    (Dowson and Landau, 1982). The last trace is the sum of the singular values of `C1^1/2 C2^1/2`, with both roots from
    symmetric eigenvalues: in float64, without the complex numbers that the root of the unsymmetric `C1 C2` brings in,
    and exact to rounding for singular covariances too.

    >>> zero, one = torch.zeros(2), torch.eye(2)
    >>> round(gaussian_frechet(zero, one, zero + 3, one), 6), round(gaussian_frechet(zero, one, zero, 4 * one), 6)
    (18.0, 2.0)
    """
    mu1, mu2 = as_rows(mu1[None])[0].cpu(), as_rows(mu2[None])[0].cpu()
    cov1, cov2 = (as_rows(cov.reshape(len(mu1), -1)).cpu() for cov in (cov1, cov2))
    cross = torch.linalg.svdvals(_root(cov1) @ _root(cov2)).sum()
    return max(0.0, float((mu1 - mu2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross))


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """The squared maximum mean discrepancy of features `(N, F)` and `(M, F)`, with the kernel `(x.y / F + 1)^3`.

    The unbiased estimate: its mean over data sets is the true value whatever N is, so that it may come out below zero
    where the two distributions are one (Binkowski et al., 2018; Gretton et al., 2012, Lemma 6).

    Raises:
        ValueError: if the shapes do not fit, or a set has fewer than two examples or values that are not finite.
    """
    a, b = _features(a, b)
    n, m = len(a), len(b)
    within = (_kernel_sum(a, a) - _kernel(a, a).sum()) / (n * (n - 1)) + (_kernel_sum(b, b) - _kernel(b, b).sum()) / (m * (m - 1))
    return float(within - 2 * _kernel_sum(a, b) / (n * m))


@dataclass(frozen=True)
class FrechetReport:
    """Samples against test examples, and training against test examples at the same number.

    Attributes:
        distance: the mean Fréchet distance of the parts of the samples to the test examples.
        floor: the same of parts of the training examples: what a perfect sampler would score.
        ratio: distance over floor; 1 is as good as real examples.
        n: examples in every set compared.
        parts: how many parts of the samples, and of the training examples, the means are over.
        accuracy: of the classifier whose features these are, on the test examples.
    """

    distance: float
    floor: float
    ratio: float
    n: int
    parts: tuple[int, int]
    accuracy: float

    def __str__(self) -> str:
        return f"Fréchet distance {self.distance:.3f} at n = {self.n}, {self.ratio:.2f} times the floor of {self.floor:.3f}"


def frechet_to(
    dataset: "Dataset", samples: Tensor, classifier: "ScoredClassifier | None" = None, *, seed: int = 0
) -> FrechetReport:
    """The Fréchet distance of samples to the test examples of a data set, beside the floor of its training examples.

    All sets have the same number n: the smallest of the test set, the training set and the samples. Where there are more
    samples or training examples, they are cut into parts of n and the distances averaged, so that neither number rests
    on one draw. On `digits`, draws from the training set itself have a ratio of 1 with a standard deviation of 0.12 over
    seeds, so that smaller differences mean nothing. A sampler that copies training examples does as well: look at nearest
    neighbours too.

    Args:
        samples: `(N, C, H, W)` integer images of the data set's space.
        classifier: whose features are compared; by default `scored_classifier(dataset)`.
        seed: of the order in which test and training examples are taken.
    """
    from gencourse.metrics.classifier import scored_classifier

    classifier = classifier or scored_classifier(dataset)
    n = min(len(dataset.test), len(dataset.train), len(samples))
    generator = torch.Generator("cpu").manual_seed(arguments.seed("frechet_to: seed", seed))

    def some(x: Tensor) -> Tensor:
        return x[torch.randperm(len(x), generator=generator, device="cpu")[: 10 * n].to(x.device)]

    test = classifier.features(some(dataset.test)[:n])

    def mean_distance(x: Tensor) -> tuple[float, int]:
        parts = classifier.features(x[: len(x) // n * n]).split(n)
        return sum(frechet_distance(part, test) for part in parts) / len(parts), len(parts)

    floor, floor_parts = mean_distance(some(dataset.train))
    distance, parts = mean_distance(samples)
    return FrechetReport(distance, floor, distance / floor, n, (parts, floor_parts), classifier.accuracy)


def _features(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features must be (N, F) and (M, F) with N, M of 2 or more, not {tuple(a.shape)} and {tuple(b.shape)}.")
    a, b = as_rows(a), as_rows(b)
    if not (bool(torch.isfinite(a).all()) and bool(torch.isfinite(b).all())):
        raise ValueError("the features contain NaN or infinite values.")
    return a, b.to(a.device)


def _root(cov: Tensor) -> Tensor:
    """The symmetric square root of a covariance; eigenvalues that rounding made negative are 0."""
    values, vectors = torch.linalg.eigh((cov + cov.T) / 2)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """The cubic kernel of each pair of rows, `(N,)`."""
    return ((a * b).sum(1) / a.shape[1] + 1) ** 3


def _kernel_sum(a: Tensor, b: Tensor) -> Tensor:
    """The sum of the cubic kernel over all pairs."""
    blocks = a.split(max(1, BLOCK // len(b)))
    return torch.stack([((block @ b.T / a.shape[1] + 1) ** 3).sum() for block in blocks]).sum()
