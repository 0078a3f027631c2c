"""Principal components: the few directions in which points vary most; and the density of which they are the likeliest account.

The covariance S of the data (with 1/N) has eigenvalues lambda_1 >= ... >= lambda_D and eigenvectors u_j. Projected on the first
K of them, the points keep the variance lambda_1 + ... + lambda_K and lose the rest; no other K directions keep more (K. Pearson,
1901, https://doi.org/10.1080/14786440109462720). The singular values s_j of the centred data give both: lambda_j = s_j^2 / N.

Probabilistic PCA (M. E. Tipping and C. M. Bishop, 1999, https://doi.org/10.1111/1467-9868.00196) makes a density of it: K
standard normal numbers z, and x = W z + mean + noise of variance sigma^2 in all directions. So x is Gaussian with covariance
W W^T + sigma^2 I, and the likelihood is largest at

    sigma^2 = (lambda_{K+1} + ... + lambda_D) / (D - K),    W = (u_1 ... u_K) (Lambda_K - sigma^2 I)^{1/2}
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gencourse.arguments import non_negative_integer, positive_integer
from gencourse.classical.points import points


@dataclass(frozen=True)
class PCA:
    """The first K principal axes of a set of points.

    Attributes:
        mean: `(D,)`.
        axes: `(D, K)`, orthonormal columns; the largest entry of each is positive.
        variances: `(D,)`, all eigenvalues of the covariance, the largest first.
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor

    @classmethod
    def fit(cls, x: Tensor, K: int) -> PCA:
        """The axes of the points `x` `(N, D)`, by a singular value decomposition.

        Raises:
            TypeError, ValueError: if these are no points, fewer than two, or K is not from 1 to D and N.
        """
        x, K = points("PCA.fit", x, least=2), positive_integer("PCA.fit: K", K)
        if min(x.shape) < K:
            raise ValueError(
                f"PCA.fit: {K} components were asked for, but {len(x)} points of {x.shape[1]} dimensions have fewer."
            )
        mean = x.mean(0)
        _, singular, rows = torch.linalg.svd(x - mean, full_matrices=False)
        variances = x.new_zeros(x.shape[1])
        variances[: len(singular)] = singular.square() / len(x)
        signs = torch.gather(rows, 1, rows.abs().argmax(1, keepdim=True)).sign()  # else they would be the processor's choice
        return cls(mean, (signs * rows)[:K].T, variances)

    @property
    def kept(self) -> float:
        """The share of the variance that lies along the axes, 0 to 1."""
        return float(self.variances[: self.axes.shape[1]].sum() / self.variances.sum())

    def project(self, x: Tensor) -> Tensor:
        """Points to coordinates along the axes: `(N, D)` -> `(N, K)`."""
        return (points("PCA.project", x, dim=len(self.mean)) - self.mean) @ self.axes

    def reconstruct(self, z: Tensor) -> Tensor:
        """Coordinates to points of the plane: `(N, K)` -> `(N, D)`."""
        return points("PCA.reconstruct", z, dim=self.axes.shape[1]) @ self.axes.T + self.mean


@dataclass(frozen=True)
class ProbabilisticPCA:
    """The Gaussian N(mean, W W^T + sigma^2 I).

    Attributes:
        mean: `(D,)`.
        W: `(D, K)`.
        sigma2: the variance of the noise.
    """

    mean: Tensor
    W: Tensor
    sigma2: float

    @classmethod
    def fit(cls, x: Tensor, K: int) -> ProbabilisticPCA:
        """The parameters of the largest likelihood for the points `x` `(N, D)`, in closed form.

        Raises:
            TypeError, ValueError: as `PCA.fit`, or if nothing is left for the noise: K = D, or points that lie in K dimensions.
        """
        pca = PCA.fit(x, K)
        D, K = pca.axes.shape
        sigma2 = float(pca.variances[K:].mean()) if K < D else 0.0
        if sigma2 <= 1e-12 * float(pca.variances[0]):
            raise ValueError(f"ProbabilisticPCA.fit: beyond {K} components the points do not vary; take fewer.")
        return cls(pca.mean, pca.axes * (pca.variances[:K] - sigma2).clamp(min=0).sqrt(), sigma2)

    @property
    def covariance(self) -> Tensor:
        """W W^T + sigma^2 I, `(D, D)`."""
        return self.W @ self.W.T + self.sigma2 * torch.eye(len(self.mean), dtype=self.W.dtype, device=self.W.device)

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of points `(N, D)`: `(N,)`, nats. No matrix larger than K x K is inverted."""
        D, K = self.W.shape
        centred = points("ProbabilisticPCA.log_prob", x, dim=D) - self.mean
        M = self.W.T @ self.W + self.sigma2 * torch.eye(K, dtype=self.W.dtype, device=self.W.device)
        inside = centred @ self.W  # (N, K)
        squares = (centred.square().sum(1) - (inside @ torch.linalg.inv(M) * inside).sum(1)) / self.sigma2  # Woodbury
        log_det = torch.linalg.slogdet(M).logabsdet + (D - K) * math.log(self.sigma2)
        return -0.5 * (D * math.log(2 * math.pi) + log_det + squares)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`n` points, `(n, D)`: a latent z, carried into the plane, and noise."""
        n = non_negative_integer("ProbabilisticPCA.sample: n", n)
        D, K = self.W.shape
        z = torch.randn(n, K, generator=generator, dtype=torch.float64).to(self.W.device)
        noise = torch.randn(n, D, generator=generator, dtype=torch.float64).to(self.W.device)
        return z @ self.W.T + self.mean + math.sqrt(self.sigma2) * noise
