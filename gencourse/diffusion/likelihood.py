"""What likelihoods of diffusion models are made of: grey levels under a Gaussian, and the divergence of a field."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from gencourse.solvers import Solver


class DiscretizedNormal(Distribution):
    """A Gaussian on [-1, 1], its mass gathered on the integers `0 .. levels - 1` (Ho et al., 2020, Eq. 13).

    Grey level k stands for the point `2 k / (levels - 1) - 1` and gets the mass of the interval half a level to each side; the
    two end levels take the tails.

    Args:
        loc, scale: before discretisation, in units where the grey levels span [-1, 1]; they broadcast.
        levels: the number of grey levels.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}  # noqa: RUF012

    def __init__(self, loc: Tensor, scale: Tensor, levels: int) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.levels = levels
        super().__init__(self.loc.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The location as a grey level between the integers."""
        return (self.loc.clamp(-1, 1) + 1) / 2 * (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass of each grey level in nats, the shape of `loc`; accurate far into the tails.

        An interval to the right of the mean is looked at in the mirror: there both its ends have small probabilities beneath
        them, whose difference loses nothing.
        """
        value = value.to(self.loc.dtype)
        half = 1 / (self.levels - 1)
        centre = 2 * half * value - 1 - self.loc
        low = torch.where(value < 0.5, -math.inf, (centre - half) / self.scale)
        high = torch.where(value > self.levels - 1.5, math.inf, (centre + half) / self.scale)
        mirrored = low + high > 0
        low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
        above = torch.special.log_ndtr(high)
        # where nothing lies beneath the lower end, its logarithm is -inf, whose gradient would be NaN: leave it out
        bounded = torch.isfinite(low)
        beneath = torch.special.log_ndtr(torch.where(bounded, low, high - 1))
        inside = above + torch.log(-torch.expm1((beneath - above).clamp(max=-1e-30)))
        return torch.where(bounded, inside, above)


def flow_log_density(
    field: Callable[[float | Tensor, Tensor], Tensor],
    y: Tensor,
    solver: Solver,
    *,
    directions: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The log-density at `y` `(B, *shape)` of what a field carries from noise at r = 1 to data at r = 0: `(B,)` nats.

    log p(y) = log N(y(1); 0, I) + the integral of the divergence of the field along the way, as in chapter 7.

    Args:
        field: dy / dr, a function of r and y.
        directions: for the divergence, `(K, 1 or B, D)` from y; by default all D unit vectors, so that it is exact and D times
            as dear as the field. Random signs make Hutchinson's estimate of it, drawn once for the whole way.
    """
    B, D, shape = len(y), y[0].numel() if len(y) else 0, y.shape
    v = torch.eye(D, device=y.device, dtype=y.dtype).unsqueeze(1) if directions is None else directions(y)

    def right_hand_side(r: float | Tensor, state: Tensor) -> Tensor:
        z = state[:, :D].view(shape)
        pairs = [torch.func.jvp(lambda z: field(r, z), (z,), (one.expand(B, D).reshape(shape),)) for one in v]
        divergence = sum((pair[1].flatten(1) * one).sum(1) for pair, one in zip(pairs, v, strict=True))
        return torch.cat([pairs[0][0].flatten(1), divergence.unsqueeze(1)], dim=1)  # type: ignore[attr-defined]

    state = solver(right_hand_side, torch.cat([y.flatten(1), y.new_zeros(B, 1)], dim=1), 0.0, 1.0, ())
    z = state[:, :D]
    return -0.5 * (z.square().sum(1) + D * math.log(2 * math.pi)) + state[:, D]


def random_signs(y: Tensor) -> Tensor:
    """One direction for each example, `(1, B, D)`, of independent signs."""
    return torch.randint(2, (1, len(y), y[0].numel()), device=y.device).to(y.dtype) * 2 - 1
