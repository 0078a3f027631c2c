"""Distributions over grey levels that `torch.distributions` lacks, and how to draw from any with a generator."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, constraints

from gencourse.networks import full_precision
from gencourse.space import Space


def pixel_by_pixel(out: Tensor, space: Space, log_scale: Tensor | None = None) -> Independent:
    """A network's numbers `(..., *space.shape)` as independent pixels: batch `(...)`, event `space.shape`.

    On two levels they are the logits of Bernoulli pixels. On more their sigmoid is the place of a discretised logistic, on real
    values they are the mean of a Gaussian; `log_scale`, of `space.shape`, is the logarithm of its scale.
    """
    pixels: Distribution
    if space.levels == 2:
        return BernoulliPixels(Bernoulli(logits=out, validate_args=False), len(space.shape), validate_args=False)
    if log_scale is None:
        raise ValueError(f"pixel_by_pixel: {space} needs a log_scale.")
    if space.levels:
        pixels = DiscretizedLogistic(torch.sigmoid(out), full_precision(log_scale), space.levels, validate_args=False)
    else:
        pixels = Normal(out, torch.exp(full_precision(log_scale)), validate_args=False)
    return Independent(pixels, len(space.shape), validate_args=False)


class BernoulliPixels(Independent):
    """Independent Bernoulli pixels, whose log-probability is the same to the bit as `Independent`'s in fewer passes over them."""

    def log_prob(self, value: Tensor) -> Tensor:
        """The sum over the pixels, in nats; batch and event of `value` broadcast."""
        logits, value = torch.broadcast_tensors(self.base_dist.logits, value)
        losses = F.binary_cross_entropy_with_logits(logits, value, reduction="none")
        return -losses.flatten(-self.reinterpreted_batch_ndims).sum(-1)


def sample(distribution: Distribution, n: int | None = None, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw from a distribution with a generator, which `torch.distributions` cannot: integers where it is over integers.

    Args:
        distribution: Bernoulli, categorical, Gaussian or (a mixture of) discretised logistic, its event dimensions
            reinterpreted (`Independent`) or not.
        n: how many draws: `(n, *batch, *event)`; None draws one, `(*batch, *event)`.

    Raises:
        FloatingPointError: if its parameters are NaN, which would be drawn from in silence.
        TypeError: if it is of another kind.
    """
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    before = () if n is None else (n,)
    if isinstance(distribution, Bernoulli):
        logits = _finite(distribution.logits)
        u = torch.rand((*before, *logits.shape), generator=generator, device=logits.device, dtype=logits.dtype)
        return (u < torch.sigmoid(logits)).long()
    if isinstance(distribution, Categorical):
        cumulative = _finite(distribution.logits).double().exp().cumsum(-1)  # (..., levels)
        shape = (*before, *distribution.logits.shape[:-1], 1)
        u = torch.rand(shape, generator=generator, device=cumulative.device, dtype=cumulative.dtype)
        return (u * cumulative[..., -1:] >= cumulative[..., :-1]).sum(-1)
    if isinstance(distribution, DiscretizedLogistic | DiscretizedLogisticMixture):
        _finite(distribution.loc)
        return distribution.sample(before, generator=generator)
    if isinstance(distribution, Normal):
        loc = _finite(distribution.loc)
        eps = torch.randn((*before, *loc.shape), generator=generator, device=loc.device, dtype=loc.dtype)
        return loc + distribution.scale * eps
    raise TypeError(f"sample does not know how to draw from a {type(distribution).__name__} with a generator.")


def _finite(parameters: Tensor) -> Tensor:
    # The sum is NaN if a parameter is, and the cheapest look at all of them; infinite ones, which are fine, may cancel in it.
    if bool(parameters.sum().isnan()) and bool(parameters.isnan().any()):
        raise FloatingPointError(
            "there is nothing to draw: the distribution's parameters are NaN, as the model's weights may be."
        )
    return parameters


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
        """The expected grey level, the shape of `loc`: `sum_k P(level >= k)` over k = 1 .. levels - 1."""
        edges = (torch.arange(1, self.levels, device=self.loc.device, dtype=self.loc.dtype) - 0.5) / (self.levels - 1)
        z = (self.loc.unsqueeze(-1) - edges) * torch.exp(-self.log_scale).unsqueeze(-1)
        return torch.sigmoid(z).sum(-1)

    @property
    def variance(self) -> Tensor:
        """The variance of the grey level, summed over the levels; the shape of `loc`."""
        return _variance(self)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass of each grey level in nats, the shape of `loc`; accurate far into the tails.

        With a and b the standardised edges of the level's interval, the mass is `sigmoid(b) - sigmoid(a)`, and

            log(sigmoid(b) - sigmoid(a)) = log sigmoid(b) + log sigmoid(-a) + log(1 - exp(a - b)),

        where nothing cancels; the end levels keep only one of the first two terms.

        Raises:
            ValueError: if arguments are validated (as by default) and a value is no level.
        """
        if self._validate_args:
            self._validate_sample(value)
        value = value.to(self.loc.dtype)
        inverse_scale = torch.exp(-self.log_scale)
        # Neighbours share an edge, so compute it from the same numbers: then rounding takes from one what it gives the other.
        a = inverse_scale * ((value - 0.5) / (self.levels - 1) - self.loc)
        b = inverse_scale * ((value + 0.5) / (self.levels - 1) - self.loc)
        log_width = torch.log(-torch.expm1(-inverse_scale / (self.levels - 1)))  # log(1 - exp(a - b)), where a - b would cancel
        inside = F.logsigmoid(b) + F.logsigmoid(-a) + log_width
        result = torch.where(value < 0.5, F.logsigmoid(b), inside)
        return torch.where(value > self.levels - 1.5, F.logsigmoid(-a), result)

    def sample(  # type: ignore[override]
        self, sample_shape: tuple[int, ...] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw grey levels, `(*sample_shape, *batch)` int64."""
        shape = self._extended_shape(torch.Size(sample_shape))
        u = torch.rand(shape, generator=generator, device=self.loc.device, dtype=self.loc.dtype)
        u = u.clamp(torch.finfo(u.dtype).tiny, 1 - torch.finfo(u.dtype).eps)
        point = self.loc + torch.exp(self.log_scale) * (torch.log(u) - torch.log1p(-u))
        return (point * (self.levels - 1)).round().clamp(0, self.levels - 1).long()

    def expand(self, batch_shape: tuple[int, ...], _instance: None = None) -> "DiscretizedLogistic":  # type: ignore[override]
        """The same distribution with a larger batch."""
        shape = torch.Size(batch_shape)
        return DiscretizedLogistic(self.loc.expand(shape), self.log_scale.expand(shape), self.levels, validate_args=False)


class DiscretizedLogisticMixture(Distribution):
    """A mixture of discretised logistics (Salimans et al., 2017, Eq. 2): its masses sum to one as theirs do.

    Args:
        logits: of the components' weights, `(..., K)`; they need not be normalised.
        loc, log_scale: of the components, `(..., K)`, in units where the grey levels span [0, 1].
        levels: the number of grey levels.
    """

    arg_constraints = {"logits": constraints.real_vector, "loc": constraints.real, "log_scale": constraints.real}  # noqa: RUF012

    def __init__(self, logits: Tensor, loc: Tensor, log_scale: Tensor, levels: int, validate_args: bool | None = None) -> None:
        self.logits = torch.log_softmax(logits, dim=-1)
        self.components = DiscretizedLogistic(loc, log_scale, levels, validate_args=False)
        self.levels = levels
        self.loc, self.log_scale = self.components.loc, self.components.log_scale
        super().__init__(self.loc.shape[:-1], validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The integers `0 .. levels - 1`."""
        return constraints.integer_interval(0, self.levels - 1)

    @property
    def mean(self) -> Tensor:
        """The expected grey level, `(...)`."""
        return (self.logits.exp() * self.components.mean).sum(-1)

    @property
    def variance(self) -> Tensor:
        """The variance of the grey level, `(...)`, summed over the levels."""
        return _variance(self)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass of each grey level in nats, `(...)`: the components' are added as probabilities, without leaving logs.

        Raises:
            ValueError: if arguments are validated (as by default) and a value is no level.
        """
        if self._validate_args:
            self._validate_sample(value)
        return torch.logsumexp(self.logits + self.components.log_prob(value.unsqueeze(-1)), dim=-1)

    def sample(  # type: ignore[override]
        self, sample_shape: tuple[int, ...] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw grey levels, `(*sample_shape, *batch)` int64: first the component, then from it."""
        shape = self._extended_shape(torch.Size(sample_shape))
        weights = self.logits.exp().expand(*shape, -1).flatten(0, -2)  # (N, K)
        which = torch.multinomial(weights, 1, generator=generator).view(*shape, 1)
        loc, log_scale = (p.expand(*shape, -1).gather(-1, which).squeeze(-1) for p in (self.loc, self.log_scale))
        return DiscretizedLogistic(loc, log_scale, self.levels, validate_args=False).sample(generator=generator)

    def expand(  # type: ignore[override]
        self, batch_shape: tuple[int, ...], _instance: None = None
    ) -> "DiscretizedLogisticMixture":
        """The same distribution with a larger batch."""
        shape = (*batch_shape, self.logits.shape[-1])
        logits, loc, log_scale = (p.expand(shape) for p in (self.logits, self.loc, self.log_scale))
        return DiscretizedLogisticMixture(logits, loc, log_scale, self.levels, validate_args=False)

    def log_masses(self, i: int) -> Tensor:
        """Log-masses of every level of pixel `i`, a flat index into the batch shape after its first dimension: `(B, levels)`."""
        logits, loc, log_scale = (p.flatten(1, -2)[:, i].unsqueeze(1) for p in (self.logits, self.loc, self.log_scale))
        one = DiscretizedLogisticMixture(logits, loc, log_scale, self.levels, validate_args=False)  # batch (B, 1)
        return one.log_prob(torch.arange(self.levels, device=loc.device))


def _variance(d: DiscretizedLogistic | DiscretizedLogisticMixture) -> Tensor:
    """`sum_k p(k) (k - mean)^2`, in the shape of a batch."""
    k = torch.arange(d.levels, device=d.loc.device).view(-1, *[1] * len(d.batch_shape))  # (levels, 1, ..., 1)
    return (d.log_prob(k).exp() * (k - d.mean) ** 2).sum(0)
