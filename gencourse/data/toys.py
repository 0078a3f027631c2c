"""Densities in the plane whose truth is known: the smallest worlds for flows and GANs.

Each toy has `space`, `sample(n)` -> `(n, 2)` and `log_prob(x)` -> `(n,)` in nats, for x in the toy's own units (nothing is
standardised). The checkerboard, the rings and the Gaussians have a closed form. The two moons and the spirals are curves
smeared by a Gaussian: their density is an integral along the curve, and `log_prob` computes it by Gauss-Legendre
quadrature, to the precision of float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gencourse import arguments
from gencourse.arguments import non_negative_integer, positive, positive_integer, positives
from gencourse.data.dataset import Dataset
from gencourse.space import Space

__all__ = ["TOYS", "Checkerboard", "GridOfGaussians", "RingOfGaussians", "Rings", "Spirals", "Toy", "TwoMoons"]


@dataclass(frozen=True)
class Toy:
    """A density in the plane. Its arguments must be positive (ValueError otherwise)."""

    space: ClassVar[Space] = Space((2,))

    def __post_init__(self) -> None:
        for field in fields(self):
            check = positives if isinstance(field.default, tuple) else positive_integer if field.type == "int" else positive
            value = check(f"{type(self).__name__}: {field.name}", getattr(self, field.name))
            object.__setattr__(self, field.name, value)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw `n` points, `(n, 2)`, in torch's default float type and on the generator's device.

        Raises:
            ValueError: if n is no integer of 0 or more.
        """
        n = non_negative_integer(f"{type(self).__name__}.sample: n", n)
        device = None if generator is None else generator.device
        u = torch.rand(n, 2, generator=generator, device=device)
        noise = torch.randn(n, 2, generator=generator, device=device)
        return self._transform(u, noise)

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density at the points `x` `(n, 2)`: `(n,)`, nats; -inf where the density is zero.

        Raises:
            TypeError, ValueError: if these are no points of the plane.
        """
        return self._log_prob(self.space.validate(x))

    def dataset(self, *, train: int = 10_000, valid: int = 2_000, test: int = 10_000, seed: int = 0) -> Dataset:
        """Points for training, validation and test, `(train, 2)`, `(valid, 2)` and `(test, 2)`, drawn from `seed`.

        Raises:
            ValueError: if a number is no integer of 0 or more, or seed no integer.
        """
        numbers = [
            non_negative_integer(f"{type(self).__name__}.dataset: {name}", n)
            for name, n in (("train", train), ("valid", valid), ("test", test))
        ]
        generator = torch.Generator().manual_seed(arguments.seed(f"{type(self).__name__}.dataset: seed", seed))
        parts = self.sample(sum(numbers), generator).split(numbers)
        return Dataset(type(self).__name__, self.space, parts[0], parts[1], parts[2], density=self)

    def _transform(self, u: Tensor, noise: Tensor) -> Tensor:
        """Points of the density from uniform `u` in [0, 1) and standard normal `noise`, both `(n, 2)`."""
        raise TypeError(f"{type(self).__name__} must implement _transform.")

    def _log_prob(self, x: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} must implement _log_prob.")


@dataclass(frozen=True)
class Checkerboard(Toy):
    """Uniform on the 8 dark squares, 2 by 2 each, of a board that covers [-4, 4) x [-4, 4): entropy log 32 = 3.466 nats."""

    @property
    def entropy(self) -> float:
        """The log of the area, in nats: no model's expected NLL can be lower."""
        return math.log(32)

    def _transform(self, u: Tensor, noise: Tensor) -> Tensor:
        x, y = (u * 8 - 4).unbind(dim=1)  # uniform on the whole board
        # Dark squares of a row are 4 apart: halve the distance to the one on the left, and shift by 2 in odd rows.
        shift = (y / 2).floor().remainder(2) * 2
        return torch.stack([(x / 4).floor() * 4 + x.remainder(4) / 2 + shift, y], dim=1)

    def _log_prob(self, x: Tensor) -> Tensor:
        on_board = ((x >= -4) & (x < 4)).all(dim=1)
        dark = (x / 2).floor().sum(dim=1).remainder(2) == 0
        return torch.where(on_board & dark, x.new_tensor(-self.entropy), x.new_tensor(-math.inf))


@dataclass(frozen=True)
class Rings(Toy):
    """Concentric rings: one of the `radii` at random, a radius from N(radius, sd^2), an angle uniform.

    With rho = |x|, the density is `mean_k [N(rho; r_k, sd^2) + N(-rho; r_k, sd^2)] / (2 pi rho)`: 1/rho is the Jacobian of
    polar coordinates, and a negative radius is the positive one on the other side. (At the very centre this is infinite,
    with a mass of no consequence while sd is a small part of the radii.)
    """

    radii: tuple[float, ...] = (1.0, 2.0, 3.0)
    sd: float = 0.1

    def _transform(self, u: Tensor, noise: Tensor) -> Tensor:
        ring = (u[:, 0] * len(self.radii)).long().clamp(max=len(self.radii) - 1)
        radius = u.new_tensor(self.radii)[ring] + self.sd * noise[:, 0]
        angle = 2 * math.pi * u[:, 1]
        return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)

    def _log_prob(self, x: Tensor) -> Tensor:
        rho = x.norm(dim=1, keepdim=True)  # (n, 1)
        radii = x.new_tensor([sign * r for r in self.radii for sign in (1, -1)])  # N(-rho; r) = N(rho; -r)
        log_normal = -0.5 * ((rho - radii) / self.sd) ** 2 - math.log(self.sd * math.sqrt(2 * math.pi))  # (n, 2K)
        return log_normal.logsumexp(dim=1) - math.log(len(self.radii)) - torch.log(2 * math.pi * rho[:, 0])


class _Smeared(Toy):
    """Centres plus Gaussian noise: `p(x) = sum_k w_k N(x; c_k, sd^2 I)`."""

    sd: float

    @property
    def centres(self) -> Tensor:
        """The centres, `(K, 2)`: the modes, or the nodes along the curve."""
        return torch.from_numpy(self._components()[0]).to(torch.get_default_dtype())

    def _components(self) -> tuple[np.ndarray, np.ndarray]:
        """The centres `(K, 2)` and their weights `(K,)`, which sum to 1."""
        raise TypeError(f"{type(self).__name__} must implement _components.")

    def _transform(self, u: Tensor, noise: Tensor) -> Tensor:
        centres = self.centres.to(u)
        return centres[(u[:, 0] * len(centres)).long().clamp(max=len(centres) - 1)] + self.sd * noise

    def _log_prob(self, x: Tensor) -> Tensor:
        centres, weights = (torch.from_numpy(array).to(x) for array in self._components())
        parts = []
        for some in x.split(4096):  # all points times all nodes would need much memory
            squares = (some[:, :1] - centres[:, 0]) ** 2 + (some[:, 1:] - centres[:, 1]) ** 2  # (n, K)
            parts.append((weights.log() - squares / (2 * self.sd**2)).logsumexp(dim=1))
        return torch.cat(parts) - math.log(2 * math.pi * self.sd**2)


@dataclass(frozen=True)
class RingOfGaussians(_Smeared):
    """`n` Gaussians of equal weight on a circle: the set on which GANs are seen to drop modes.

    >>> ring = RingOfGaussians(n=4)
    >>> ring.centres.round(decimals=2).abs()
    tensor([[2., 0.],
            [0., 2.],
            [2., 0.],
            [0., 2.]])
    >>> ring.sample(100).shape
    torch.Size([100, 2])
    """

    n: int = 8
    radius: float = 2.0
    sd: float = 0.05

    def _components(self) -> tuple[np.ndarray, np.ndarray]:
        angle = 2 * np.pi * np.arange(self.n) / self.n
        return self.radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), np.full(self.n, 1 / self.n)


@dataclass(frozen=True)
class GridOfGaussians(_Smeared):
    """`side` x `side` Gaussians of equal weight on a square grid around the origin; 25 by default."""

    side: int = 5
    spacing: float = 2.0
    sd: float = 0.05

    def _components(self) -> tuple[np.ndarray, np.ndarray]:
        ticks = self.spacing * (np.arange(self.side) - (self.side - 1) / 2)
        grid = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=2).reshape(-1, 2)
        return grid, np.full(len(grid), 1 / len(grid))


class _Curve(_Smeared):
    """Two arms of a curve c(t), with t in [0, 1] and density w(t), smeared by Gaussian noise.

    The sum over centres is the quadrature of `p(x) = int w(t) [N(x; c_1(t)) + N(x; c_2(t))] / 2 dt`.
    """

    def _arms(self, t: np.ndarray) -> np.ndarray:
        """The two arms at `t` `(n,)`: `(2, n, 2)`."""
        raise TypeError(f"{type(self).__name__} must implement _arms.")

    def _density(self, t: np.ndarray) -> np.ndarray:
        return np.ones_like(t)

    def _quantile(self, u: Tensor) -> Tensor:
        return u

    def _longest_gap(self) -> float:
        """The largest distance of neighbouring nodes, times their number."""
        raise TypeError(f"{type(self).__name__} must implement _longest_gap.")

    def _components(self) -> tuple[np.ndarray, np.ndarray]:
        # Nodes h = 0.8 sd apart at most: the error of a Gaussian's sum is then about exp(-2 pi^2 (sd / h)^2) = 4e-14.
        nodes, weights = np.polynomial.legendre.leggauss(32 + math.ceil(self._longest_gap() / (0.8 * self.sd)))
        t, weights = (nodes + 1) / 2, weights / 2
        return self._arms(t).reshape(-1, 2), np.tile(weights * self._density(t) / 2, 2)

    def _transform(self, u: Tensor, noise: Tensor) -> Tensor:
        t = self._quantile(u[:, 0])
        arms = torch.from_numpy(self._arms(t.double().cpu().numpy())).to(u)  # (2, n, 2)
        return torch.where(u[:, 1:] < 0.5, arms[0], arms[1]) + self.sd * noise


@dataclass(frozen=True)
class TwoMoons(_Curve):
    """Two interleaved half circles of radius 1, smeared by N(0, sd^2): the familiar picture, with a density."""

    sd: float = 0.1

    def _arms(self, t: np.ndarray) -> np.ndarray:
        outer = np.stack([np.cos(np.pi * t), np.sin(np.pi * t)], axis=1)
        return np.stack([outer, np.array([1.0, 0.5]) - outer])

    def _longest_gap(self) -> float:
        return math.pi**2 / 2  # speed pi, and Gauss-Legendre nodes are pi / 2K apart in the middle


@dataclass(frozen=True)
class Spirals(_Curve):
    """Two spiral arms of one and a half turns, from the centre out to `radius`, smeared by N(0, sd^2).

    The angle is 3 pi t and t has density 2t, so that the points are spread nearly evenly along the arms.
    """

    sd: float = 0.1
    radius: float = 3.0

    def _arms(self, t: np.ndarray) -> np.ndarray:
        arm = self.radius * t[:, None] * np.stack([np.cos(3 * np.pi * t), np.sin(3 * np.pi * t)], axis=1)
        return np.stack([arm, -arm])

    def _density(self, t: np.ndarray) -> np.ndarray:
        return 2 * t

    def _quantile(self, u: Tensor) -> Tensor:
        return u.sqrt()

    def _longest_gap(self) -> float:
        return 9.8 * self.radius  # at t = 3/4, where 3 pi t sqrt(t (1 - t)) is largest


TOYS: dict[str, type[Toy]] = {
    "two_moons": TwoMoons,
    "rings": Rings,
    "checkerboard": Checkerboard,
    "spirals": Spirals,
    "ring_of_gaussians": RingOfGaussians,
    "grid_of_gaussians": GridOfGaussians,
}
