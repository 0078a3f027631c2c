"""Distributions over grey levels that `torch.distributions` lacks."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints


class DiscretizedLogistic(Distribution):
    """A logistic distribution on [0, 1], its mass gathered on the integers `0 .. levels - 1`.

    Grey level k stands for the point `k / (levels - 1)` and gets the mass of the interval half a level to each side;
    the two end levels take the tails. So the masses sum to one (Salimans et al., 2017, Eq. 2,
    https://arxiv.org/abs/1701.05517, who scale pixels to [-1, 1] instead).

    Args:
        loc: the mean before discretisation, in units where the grey levels span [0, 1]; any shape.
        log_scale: the log of the scale, in the same units; broadcasts with `loc`.
        levels: the number of grey levels.
    """

    arg_constraints = {"loc": constraints.real, "log_scale": constraints.real}  # noqa: RUF012

    def __init__(self, loc: Tensor, log_scale: Tensor, levels: int, validate_args: bool | None = None) -> None:
        self.loc, self.log_scale = torch.broadcast_tensors(loc, log_scale)
        self.levels = levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The integers `0 .. levels - 1`."""
        return constraints.integer_interval(0, self.levels - 1)

    @property
    def mean(self) -> Tensor:
        """The expected grey level, summed over the levels: `sum_k P(level >= k)` for k = 1 .. levels - 1."""
        edges = (torch.arange(1, self.levels, device=self.loc.device) - 0.5) / (self.levels - 1)
        z = (self.loc.unsqueeze(-1) - edges) * torch.exp(-self.log_scale).unsqueeze(-1)
        return torch.sigmoid(z).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass of each grey level in nats, the shape of `loc`; accurate far into the tails.

        With a and b the standardised edges of the level's interval, the mass is `sigmoid(b) - sigmoid(a)`, and

            log(sigmoid(b) - sigmoid(a)) = log sigmoid(b) + log sigmoid(-a) + log(1 - exp(a - b)),

        where nothing cancels; the end levels keep only one of the first two terms.
        """
        value = value.to(self.loc.dtype)
        inverse_scale = torch.exp(-self.log_scale)
        half = 0.5 / (self.levels - 1)
        centred = value / (self.levels - 1) - self.loc
        a, b = inverse_scale * (centred - half), inverse_scale * (centred + half)
        width = 2 * half * inverse_scale
        # log(1 - exp(-w)): expm1 where w is small, log1p where exp(-w) is
        log_width = torch.where(width < 0.7, torch.log(-torch.expm1(-width)), torch.log1p(-torch.exp(-width)))
        inside = F.logsigmoid(b) + F.logsigmoid(-a) + log_width
        result = torch.where(value < 0.5, F.logsigmoid(b), inside)
        return torch.where(value > self.levels - 1.5, F.logsigmoid(-a), result)

    def sample(  # type: ignore[override]
        self, sample_shape: tuple[int, ...] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw grey levels, int64."""
        shape = self._extended_shape(torch.Size(sample_shape))
        u = torch.rand(shape, generator=generator, device=self.loc.device, dtype=self.loc.dtype)
        u = u.clamp(torch.finfo(u.dtype).tiny, 1 - torch.finfo(u.dtype).eps)
        point = self.loc + torch.exp(self.log_scale) * (torch.log(u) - torch.log1p(-u))
        return (point * (self.levels - 1)).round().clamp(0, self.levels - 1).long()
