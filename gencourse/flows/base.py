"""What all flows share: a bijection, a prior, and the change of variables.

    log p(x) = log p_Z(z) + log |det dz/dx|,    z = f(x)

and a sample is the inverse of a draw from the prior. That is a density of real numbers. An integer image x gets uniform noise,
y = (x + u) / levels, and the density of y bounds the probability of x: by Jensen's inequality (Theis et al., 2016, Section 3.1)

    log P(x) = log E_u[p(y) / levels^D] >= E_u[log p(y)] - D log levels.

With pixels at the ends of the range, as most have, y is taken through a logit first, so that the edges of the cube lie far out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.arguments import positive, positive_integer
from gencourse.flows.bijections import Logit, undo
from gencourse.kinds import Tractable
from gencourse.metrics.likelihood import log_mean_exp
from gencourse.networks import full_precision
from gencourse.space import Space


@dataclass(frozen=True)
class Prior:
    """A distribution of independent coordinates, all alike.

    Attributes:
        name: as it is recorded.
        log_density: of each coordinate, elementwise, in nats.
        sample: `sample(like, generator)` draws numbers in the shape, type and place of `like`.
    """

    name: str
    log_density: Callable[[Tensor], Tensor]
    sample: Callable[[Tensor, torch.Generator | None], Tensor]

    def log_prob(self, z: Tensor) -> Tensor:
        """`(B, D)` -> `(B,)` nats."""
        return self.log_density(z).sum(1)


def _normal_log_density(z: Tensor) -> Tensor:
    return -0.5 * z**2 - 0.5 * math.log(2 * math.pi)


def _normal_sample(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _logistic_log_density(z: Tensor) -> Tensor:
    return -F.softplus(z) - F.softplus(-z)


def _logistic_sample(like: Tensor, generator: torch.Generator | None) -> Tensor:
    u = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    u = u.clamp(torch.finfo(u.dtype).tiny, 1 - torch.finfo(u.dtype).eps)
    return torch.log(u) - torch.log1p(-u)


#: N(0, 1).
NORMAL = Prior("normal", _normal_log_density, _normal_sample)
#: The standard logistic distribution, whose tails fall more slowly: the prior of the paper on NICE.
LOGISTIC = Prior("logistic", _logistic_log_density, _logistic_sample)


class Flow(Tractable):
    """A density made of a bijection and a prior. Subclasses set `bijection`, `(B, *space.shape)` <-> `(B, D)`.

    Args:
        space: images of integers, or points.
        prior: of z.
        alpha: images go through `Logit(alpha)` first; None leaves them on the unit cube. Points stay as they are.
    """

    bijection: nn.Module

    def __init__(self, space: Space, *, prior: Prior = NORMAL, alpha: float | None = 0.01) -> None:
        super().__init__(space)
        self.prior = prior
        self.logit = None if alpha is None or not space.is_discrete else Logit(alpha)

    def encode(self, y: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """From real data, `(B, *space.shape)`, images dequantised on [0, 1), to `z` `(B, D)` and the log-determinant `(B,)`.

        Args:
            generator: of what the bijection draws, if it draws anything.
        """
        y = y.to(self._dtype)
        if self.logit is None:
            return self.bijection(y)
        h, first = self.logit(y)
        z, second = self.bijection(h)
        return z, first + second

    def decode(self, z: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """The inverse of `encode`: real data, `(B, *space.shape)`, images on about [0, 1], and its own log-determinant `(B,)`."""
        h, first = self.bijection.inverse(z.to(self._dtype))  # type: ignore[operator]
        if self.logit is None:
            return h, first
        y, second = self.logit.inverse(h)
        return y, first + second

    def log_density(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The exact log-density of real data, `(B,)` nats: points, or images dequantised on [0, 1)."""
        z, log_det = self.encode(y, generator)
        return self.prior.log_prob(full_precision(z)) + log_det

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, *, samples: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Of points, the exact log-density, `(B,)` nats. Of integer images, a lower bound on the log-probability, from noise.

        With one sample of the noise, the result is an unbiased estimate of the bound (a single value may lie above the
        log-probability). With K, it is the log of the mean of K importance weights, whose expectation rises with K and
        tends to the log-probability itself.

        Args:
            x: `(B, *space.shape)`, integers `0 .. levels - 1` or points. Values out of range are not looked for.
            samples: K, the draws of the dequantisation noise for each image; of no consequence for points.
            generator: of the noise; None takes torch's own.

        Raises:
            TypeError: if `x` holds numbers of the wrong kind, floats where integers belong or the reverse.
            ValueError: if `x` has another shape, `samples` is no positive integer, or a `context` is given.
        """
        self._unconditional(context)
        samples = positive_integer("samples", samples)
        x = self.space.validate(x, values=False)
        bounds = []
        for _ in range(samples if self.space.is_discrete else 1):
            y, log_det = self.dequantize(x, generator)
            bounds.append(self.log_density(y, generator) + log_det)
        return bounds[0] if len(bounds) == 1 else log_mean_exp(torch.stack(bounds))

    def dequantize(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Real data from `x` `(B, *space.shape)` and their part of the log-determinant, `(B,)`: points are real already."""
        if not self.space.is_discrete:
            return x, x.new_zeros(len(x))
        return self.space.dequantize(x, generator=generator)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw `n` examples, `(n, *space.shape)`: the inverse of z from the prior, z multiplied by the temperature.

        A temperature below 1 keeps to the likelier part of the space (Kingma and Dhariwal, 2018, Section 6). What leaves the
        grey levels by rounding, or by a hair at their ends, is clamped to the nearest.

        Raises:
            ValueError: if `n` is negative, the temperature is not positive, or a `context` is given.
            FloatingPointError: if images are NaN, as those of NaN weights are.
        """
        self._unconditional(context)
        temperature = positive("temperature", temperature)
        with self.evaluation(n):
            y = self._from_noise(temperature * self.draw(n, generator), generator)
        if not self.space.is_discrete:
            return y
        if bool(torch.isnan(y).any()):
            name = type(self).__name__
            raise FloatingPointError(f"{name}.sample: the images are NaN; are all the model's weights finite numbers?")
        return self.space.quantize(y)

    def _from_noise(self, z: Tensor, generator: torch.Generator | None) -> Tensor:
        """What `decode` gives, without the log-determinant, for which `sample` has no use; who changes one changes both."""
        h = undo(self.bijection, z)
        return h if self.logit is None else self.logit.undo(h)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of z from the prior, `(n, D)`."""
        like = torch.empty(n, self.space.dim, device=self.device, dtype=self._dtype)
        return self.prior.sample(like, generator)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype
