"""Noise that somebody chose: the half of a generative stochastic network's step that is not learned.

A corruption is a function `(x, space, generator) -> x~` on batches of a space. One that can also say how probable its result is,
by `log_prob(noisy, x, space)`, can be written as a matrix where the images can be counted (`gencourse.checks.corruption_matrix`).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gencourse.arguments import positive, probability
from gencourse.space import Space


class Corruption(Protocol):
    """Noise: what becomes of a batch `(B, *space.shape)`. Any function of these arguments will do."""

    def __call__(self, x: Tensor, space: Space, generator: torch.Generator | None = None) -> Tensor:
        """Spoiled examples of the space, the shape of `x`."""
        ...


@dataclass(frozen=True)
class SaltAndPepper:
    """Each pixel is hit with probability `rho` and becomes white, at probability `salt`, or black; else it stays (Eq. (12.1)).

    Whatever it was: with two levels and a fair coin, one hit in two puts back what was there.
    """

    rho: float
    salt: float = 0.5

    def __post_init__(self) -> None:
        probability("SaltAndPepper: rho", self.rho)
        probability("SaltAndPepper: salt", self.salt)

    @property
    def name(self) -> str:
        """As a run records it."""
        return f"SaltAndPepper({self.rho}, {self.salt})"

    def __call__(self, x: Tensor, space: Space, generator: torch.Generator | None = None) -> Tensor:
        """Spoiled images, int64, the shape of `x`."""
        if space.levels is None:
            raise ValueError(f"SaltAndPepper is for grey levels, but {space} is real-valued; use GaussianNoise.")
        u = torch.rand(x.shape, generator=generator, device=x.device)
        hit, white = u < self.rho, u < self.rho * self.salt
        return x.long().masked_fill(hit, 0).masked_fill(white, space.levels - 1)

    def log_prob(self, noisy: Tensor, x: Tensor, space: Space) -> Tensor:
        """`log C(noisy | x)`, pixels summed: nats, `(...)`, float64, for images `(..., *space.shape)` that broadcast."""
        stays, black = (noisy == x).double(), (noisy == 0).double()
        white = (noisy == (space.levels or 2) - 1).double()
        mass = (1 - self.rho) * stays + self.rho * (self.salt * white + (1 - self.salt) * black)
        return mass.log().flatten(mass.dim() - len(space.shape)).sum(-1)


@dataclass(frozen=True)
class GaussianNoise:
    """`x + sd * eps` with eps from N(0, I): noise for points, in their units."""

    sd: float

    def __post_init__(self) -> None:
        positive("GaussianNoise: sd", self.sd)

    @property
    def name(self) -> str:
        """As a run records it."""
        return f"GaussianNoise({self.sd})"

    def __call__(self, x: Tensor, space: Space, generator: torch.Generator | None = None) -> Tensor:
        """Spoiled points, the shape and type of `x`."""
        if space.is_discrete:
            raise ValueError(f"GaussianNoise is for points, but {space} has grey levels; use SaltAndPepper.")
        return x + self.sd * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
