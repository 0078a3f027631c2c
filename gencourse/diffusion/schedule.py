"""Noise schedules, and the one quantity that a denoiser can be asked for in four dresses.

A schedule says how much of the data is left at each of T noise levels. Data x_0 become noise x_T, and any level is reached in
one step (Ho, Jain and Abbeel, 2020, Eq. 4, https://arxiv.org/abs/2006.11239):

    q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I),    abar_t = prod_(i <= t) (1 - beta_i)

Knowing x_0, the way back is Gaussian too (their Eqs. 6 and 7), and from t to any earlier s, with b = 1 - abar_t / abar_s:

    q(x_s | x_t, x_0) = N( [sqrt(abar_s) b x_0 + sqrt(abar_t / abar_s) (1 - abar_s) x_t] / (1 - abar_t),
                           b (1 - abar_s) / (1 - abar_t) I )

Here abar is a curve over u = t / T in [0, 1], with a closed form: T says how finely a chain steps along it, and no step count
needs another curve. Index t runs from 0, where abar = 1, to T, so that every formula is written as it stands.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gencourse.arguments import integer, positive_integer
from gencourse.space import on_cpu


class Curve(Protocol):
    """How much signal is left at u in [0, 1], and where how much is left."""

    def log_alpha_bar(self, u: Tensor) -> Tensor:
        """log abar(u), any shape: 0 at u = 0, and falling."""
        ...

    def time(self, log_alpha_bar: Tensor) -> Tensor:
        """The u of each log abar: the inverse."""
        ...


@dataclass(frozen=True)
class Linear:
    """beta rises linearly: abar(u) = exp(-start u - (end - start) u^2 / 2).

    The limit of many steps (Song et al., 2021, Eq. 33, https://arxiv.org/abs/2011.13456) of Ho et al.'s T = 1000 steps with beta
    from .0001 to .02. Those betas at T = 100 would leave a third of the signal's variance at the end; on this curve they are
    1000 / T times as large, as they must be.
    """

    start: float = 0.1
    end: float = 20.0

    def log_alpha_bar(self, u: Tensor) -> Tensor:
        """log abar(u)."""
        return -(self.start * u + (self.end - self.start) * u**2 / 2)

    def time(self, log_alpha_bar: Tensor) -> Tensor:
        """The root of a quadratic, written so that nothing cancels near u = 0."""
        return -2 * log_alpha_bar / (self.start + torch.sqrt(self.start**2 - 2 * (self.end - self.start) * log_alpha_bar))


@dataclass(frozen=True)
class Cosine:
    """The angle whose cosine is sqrt(abar) grows linearly (Nichol and Dhariwal, 2021, https://arxiv.org/abs/2102.09672).

    Noise comes on more slowly than on the linear curve. Theirs ends at abar = 0, from where nothing can be told of x_0, and they
    cut the last betas off; this one ends at abar = `least`.
    """

    offset: float = 0.008
    least: float = 1e-4

    @property
    def _angles(self) -> tuple[float, float]:
        first = math.pi / 2 * self.offset / (1 + self.offset)
        return first, math.acos(math.sqrt(self.least) * math.cos(first))

    def log_alpha_bar(self, u: Tensor) -> Tensor:
        """log abar(u)."""
        first, last = self._angles
        log_cosine = torch.log(torch.cos(first + (last - first) * u)) - math.log(math.cos(first))
        return 2 * log_cosine.clamp(max=0)  # rounding could put it above 0 at u = 0

    def time(self, log_alpha_bar: Tensor) -> Tensor:
        """From the cosine back to the angle."""
        first, last = self._angles
        return (torch.acos(torch.exp(log_alpha_bar / 2) * math.cos(first)) - first) / (last - first)


class Schedule:
    """T noise levels along a curve; everything is computed in float64, and given in the type of what it is applied to.

    Attributes:
        T: the number of steps.
        curve: abar as a function of u = t / T.
        alpha_bar, beta, beta_tilde: `(T + 1,)` float64, by t = 0 .. T: the signal left, the noise of a step, and the variance
            of q(x_(t-1) | x_t, x_0). At t = 0 there is no step: abar = 1, and the other two are 0.

    Raises:
        ValueError: if T is no positive integer.
    """

    @on_cpu
    def __init__(self, T: int, curve: Curve | None = None) -> None:
        self.T, self.curve = positive_integer("Schedule: T", T), curve or Linear()
        self.log_alpha_bar = self.curve.log_alpha_bar(torch.arange(self.T + 1, dtype=torch.float64) / self.T)
        self.alpha_bar = self.log_alpha_bar.exp()
        self.beta = -torch.expm1(self.log_alpha_bar.diff(prepend=self.log_alpha_bar[:1]))
        gone = -torch.expm1(self.log_alpha_bar)  # 1 - abar, without a difference of nearly equal numbers
        self.beta_tilde = torch.cat([gone[:1], self.beta[1:] * gone[:-1] / gone[1:]])

    def amounts(self, t: Tensor | float, like: Tensor) -> tuple[Tensor, Tensor]:
        """How much signal and how much noise is in x_t: sqrt(abar_t) and sqrt(1 - abar_t), `(B, 1, ...)` to go with `like`.

        Args:
            t: `(B,)` or a single number from 0 to T, which need not be an integer.
        """
        log_alpha_bar = self.curve.log_alpha_bar(torch.as_tensor(t, dtype=torch.float64, device=like.device) / self.T)
        return _beside(torch.exp(log_alpha_bar / 2), like), _beside(torch.sqrt(-torch.expm1(log_alpha_bar)), like)

    def q_sample(self, x0: Tensor, t: Tensor | float, eps: Tensor) -> Tensor:
        """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, the shape of `x0` `(B, ...)`; t is `(B,)` or one number for all."""
        signal, noise = self.amounts(t, x0)
        return signal * x0 + noise * eps

    def posterior(self, x0: Tensor, xt: Tensor, t: int, s: int | None = None) -> tuple[Tensor, float]:
        """Mean, the shape of `x0`, and variance of q(x_s | x_t, x_0); by default s = t - 1.

        Raises:
            ValueError: if not 0 <= s < t <= T.
        """
        s = t - 1 if s is None else s
        if integer(t) is None or integer(s) is None or not 0 <= s < t <= self.T:
            raise ValueError(f"posterior: t and s must be integers with 0 <= s < t <= {self.T}, not t={t!r} and s={s!r}.")
        later, earlier = float(self.log_alpha_bar[t]), float(self.log_alpha_bar[s])
        b, gone, gone_s = (-math.expm1(value) for value in (later - earlier, later, earlier))
        mean = (math.exp(earlier / 2) * b / gone) * x0 + (math.exp((later - earlier) / 2) * gone_s / gone) * xt
        return mean, b * gone_s / gone

    def __repr__(self) -> str:
        return f"Schedule({self.T}, {self.curve})"


def _beside(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).view(-1, *[1] * (like.dim() - 1)) if values.dim() else values.to(like.dtype)


# --- four dresses -----------------------------------------------------------------------------------------------------
# With x_t = signal x_0 + noise eps, each of x_0, eps, v and the score gives the other three. What a network is trained to say
# changes how much each noise level counts, and where its errors are magnified: x_0 from eps is divided by the signal, which is
# nearly nothing at the end; eps from x_0 by the noise, which is nearly nothing at the beginning. v is divided by neither.


class Eps:
    """The noise (Ho et al., 2020)."""

    @staticmethod
    def of(x0: Tensor, eps: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """From both parts of x_t."""
        return eps

    @staticmethod
    def parts(value: Tensor, xt: Tensor, signal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """x_0 and eps, from x_t and the value."""
        return (xt - noise * value) / signal, value


class X0:
    """The data without the noise."""

    @staticmethod
    def of(x0: Tensor, eps: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """From both parts of x_t."""
        return x0

    @staticmethod
    def parts(value: Tensor, xt: Tensor, signal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """x_0 and eps, from x_t and the value."""
        return value, (xt - signal * value) / noise


class V:
    """v = sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans and Ho, 2022, https://arxiv.org/abs/2202.00512): the direction in which
    x_t moves when the angle between signal and noise grows."""

    @staticmethod
    def of(x0: Tensor, eps: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """From both parts of x_t."""
        return signal * eps - noise * x0

    @staticmethod
    def parts(value: Tensor, xt: Tensor, signal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """x_0 and eps, from x_t and the value: a rotation."""
        return signal * xt - noise * value, noise * xt + signal * value


class Score:
    """grad log p(x_t) = -eps / sqrt(1 - abar), for the eps that is expected given x_t (Song and Ermon, 2019)."""

    @staticmethod
    def of(x0: Tensor, eps: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """From both parts of x_t."""
        return -eps / noise

    @staticmethod
    def parts(value: Tensor, xt: Tensor, signal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """x_0 and eps, from x_t and the value: Tweedie's formula."""
        return (xt + noise**2 * value) / signal, -noise * value


Dress = type[Eps] | type[X0] | type[V] | type[Score]


def convert(value: Tensor, xt: Tensor, alpha_bar: Tensor | float, given: Dress, wanted: Dress) -> Tensor:
    """The same knowledge in another dress, the shape of `value`: `convert(eps, xt, alpha_bar, Eps, V)`.

    Args:
        alpha_bar: a number between 0 and 1, or a tensor that goes with `xt`.
    """
    alpha_bar = torch.as_tensor(alpha_bar, dtype=xt.dtype, device=xt.device)
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return wanted.of(*given.parts(value, xt, signal, noise), signal, noise)
