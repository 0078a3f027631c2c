"""Fréchet's distance between two sets of feature vectors: that of the Gaussians fitted to them, and how far it is biased.

On the features of an Inception network trained on ImageNet, and on nothing else, it is called FID (Heusel et al., 2017,
https://arxiv.org/abs/1706.08500). Here the features are those of a small classifier of the same data
(`gencourse.metrics.classifier`), which is scored itself, so the numbers carry its name and compare with nothing published.
`inception_fid` is the real one, where torchmetrics is installed and may download the network's weights.

The estimate from n examples is too large by about c / n, and c depends on the distribution, so that of two models the worse may
have the smaller number (Binkowski et al., 2018, https://arxiv.org/abs/1801.01401). `gaussian_frechet_bias` says how large c is
for equal Gaussians, and `frechet_extrapolated` takes it away by a straight line in 1/n (Chong and Forsyth, 2020,
https://arxiv.org/abs/1911.07023).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gencourse import arguments
from gencourse.metrics.pairs import as_rows, two_sets
from gencourse.space import Space

if TYPE_CHECKING:
    from gencourse.data import Dataset
    from gencourse.metrics.classifier import ScoredClassifier


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """The squared Fréchet distance of the Gaussians fitted to two sets of features, `(N, F)` and `(M, F)`.

    It is biased upwards: two sets from one distribution differ by chance, by about a constant over N, and the constant
    depends on the distribution. So compare distances of the same N and M only, and beside the
    floor that real against real examples have at that N (`frechet_to` measures both).

    Raises:
        ValueError: if the shapes do not fit, or a set has fewer than two examples or values that are not finite.
    """
    a, b = two_sets(features_a, features_b)
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


def gaussian_frechet_bias(cov: Tensor, n: int, m: int | None = None) -> float:
    """What the distance of n to m examples of one Gaussian with this covariance `(F, F)` is on average, to the first order.

        (1/n + 1/m) (tr C + 1/2 sum_ij (1 + [i = j]) l_i l_j / (l_i + l_j)),    l the eigenvalues of C

    The first term is the noise of the means; the second that of the covariances, whose entries have in the eigenbasis the
    variance `(1 + [i = j]) l_i l_j / n`, in the metric of the distance at C. For C = I it is `(1/n + 1/m) F (F + 5) / 4`.

    Args:
        m: of the other set; None takes n.

    >>> round(gaussian_frechet_bias(torch.eye(3), 100), 6)
    0.12
    """
    values = torch.linalg.eigvalsh(as_rows(cov).cpu())
    values = values[values > 0]
    products = torch.outer(values, values) / (values[:, None] + values)
    constant = values.sum() + (products.sum() + products.diagonal().sum()) / 2
    return float(constant) * (1 / n + 1 / (n if m is None else m))


@dataclass(frozen=True)
class Extrapolation:
    """A straight line through Fréchet distances at several numbers of examples.

    Attributes:
        limit: its value at 1/n = 0, the distance without the bias of first order.
        slope: the constant c of the bias c / n.
        sizes: the numbers of examples, n.
        distances: the mean distance at each.
    """

    limit: float
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def frechet_extrapolated(
    features_a: Tensor, features_b: Tensor, *, points: int = 5, repeats: int = 10, seed: int = 0
) -> Extrapolation:
    """The Fréchet distance that infinitely many examples would have, from a line in 1/n (Chong and Forsyth, 2020).

    Subsets of n of both sets, `(N, F)` and `(M, F)`, are compared, for n evenly spaced in 1/n from the smaller of N and M down to
    a quarter of it. The line is right as far as the bias is c / n: with fewer examples than a few times F it bends.

    Args:
        points: how many numbers n.
        repeats: subsets drawn for each.
        seed: of the subsets.

    Raises:
        ValueError: if the shapes do not fit, or there are fewer than 16 examples in a set, fewer than 2 points or no repeats.
    """
    a, b = two_sets(features_a, features_b, least=16)
    points = arguments.least_integer("frechet_extrapolated: points", points, 2)
    repeats = arguments.positive_integer("frechet_extrapolated: repeats", repeats)
    generator = torch.Generator("cpu").manual_seed(arguments.seed("frechet_extrapolated: seed", seed))
    largest = min(len(a), len(b))
    sizes = [round(largest / (1 + 3 * k / (points - 1))) for k in range(points)]

    def some(x: Tensor, n: int) -> Tensor:
        return x[torch.randperm(len(x), generator=generator, device="cpu")[:n].to(x.device)]

    distances = [sum(frechet_distance(some(a, n), some(b, n)) for _ in range(repeats)) / repeats for n in sizes]
    u = torch.tensor([1 / n for n in sizes], dtype=torch.float64, device="cpu")
    d = torch.tensor(distances, dtype=torch.float64, device="cpu")
    slope = float(((u - u.mean()) * (d - d.mean())).sum() / (u - u.mean()).square().sum())
    return Extrapolation(float(d.mean()) - slope * float(u.mean()), slope, tuple(sizes), tuple(distances))


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


def inception_fid(real: Tensor, fake: Tensor, space: Space, *, network: nn.Module | None = None) -> float:
    """The real FID, on 2048 features of the Inception network, of grey or colour images `(N, C, H, W)` of a space.

    It compares with published figures only for the same data, the same number of images (mostly 50 000) and the same resizing;
    of digits of 8 x 8 pixels it says nothing. The network's weights are downloaded once.

    Args:
        network: other features for torchmetrics, from uint8 images `(N, 3, H, W)`; None takes Inception's.

    Raises:
        ImportError: if torchmetrics or torch-fidelity is not installed.
        ValueError: if the images are not of the space, or are not grey or in colour.
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance

        fid = FrechetInceptionDistance(feature=2048 if network is None else network)
    except ModuleNotFoundError:
        raise ImportError(
            "inception_fid needs torchmetrics and torch-fidelity, which the course does not install: "
            "run `pip install 'torchmetrics[image]'`."
        ) from None
    if len(space.shape) != 3 or space.shape[0] not in (1, 3):
        raise ValueError(f"inception_fid needs grey or colour images (C, H, W), not {space}.")
    for x, is_real in ((real, True), (fake, False)):
        for part in space.validate(x).split(100):
            fid.update((255 * space.to_unit(part, torch.float32)).round().byte().expand(-1, 3, -1, -1), real=is_real)
    return float(fid.compute())


def _root(cov: Tensor) -> Tensor:
    """The symmetric square root of a covariance; eigenvalues that rounding made negative are 0."""
    values, vectors = torch.linalg.eigh((cov + cov.T) / 2)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T
