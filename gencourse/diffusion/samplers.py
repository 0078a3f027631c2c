"""From noise to data: three ways of using the same denoiser.

A denoiser is a function `eps(x, t)`: the noise it believes to be in x `(B, ...)` at noise level t, a number from 0 to T. Every
sampler reads from it the data it believes in, x_0 = (x - sqrt(1 - abar_t) eps) / sqrt(abar_t), and goes to an earlier level s:

    ancestral   x_s ~ q(x_s | x_t, x_0), or with the larger variance of q(x_t | x_s)
    DDIM        x_s = sqrt(abar_s) x_0 + sqrt(1 - abar_s - sigma^2) eps + sigma z    (Song, Meng and Ermon, 2021, Eq. 12)
    ODE         the limit of DDIM with sigma = 0 in infinitely many steps            (Song et al., 2021, Eq. 13)

With sigma^2 the variance of q(x_s | x_t, x_0), DDIM is the ancestral sampler. In the last step, to s = 0, no noise is added.

Put signal = cos(phi) and noise = sin(phi). Then the equation is dx / dphi = v, with v = cos(phi) eps - sin(phi) x_0, and is
regular at both ends, where others divide by a signal or a noise that is nothing.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from gencourse.arguments import non_negative, positive_integer
from gencourse.diffusion.schedule import Eps, Schedule, V
from gencourse.solvers import RK4, Solver

#: eps(x, t), the shape of x.
Denoiser = Callable[[Tensor, Tensor], Tensor]


def levels(T: int, steps: int | None = None) -> list[int]:
    """T = t_0 > t_1 > ... > 0, evenly spaced up to rounding: `steps + 1` of them, or all T + 1.

    Raises:
        ValueError: if `steps` is no integer from 1 to T.

    >>> levels(1000, 4)
    [1000, 750, 500, 250, 0]
    """
    steps = T if steps is None else positive_integer("steps", steps)
    if steps > T:
        raise ValueError(f"steps must be {T} or fewer, as there are {T} noise levels, not {steps}.")
    return [T - (i * T + steps // 2) // steps for i in range(steps + 1)]


@dataclass(frozen=True)
class Ancestral:
    """The chain that the bound is of: every step draws from the Gaussian of the reverse process.

    Args:
        steps: how many of the T levels to visit; None visits all.
        wide: take beta, the variance of the forward step, in place of beta tilde, that of q(x_s | x_t, x_0). The first is right
            for data that are N(0, I), the second for a single point; other data lie between (Ho et al., 2020, Section 3.2).
    """

    steps: int | None = None
    wide: bool = False

    def path(
        self, denoiser: Denoiser, schedule: Schedule, x: Tensor, *, generator: torch.Generator | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """The level t and x_t after each step, the last at t = 0."""
        for t, s in pairwise(levels(schedule.T, self.steps)):
            x0, _ = _parts(denoiser, schedule, x, t)
            x, variance = schedule.posterior(x0, x, t, s)
            if self.wide:
                variance = -math.expm1(float(schedule.log_alpha_bar[t] - schedule.log_alpha_bar[s]))
            if s > 0:
                x = x + math.sqrt(variance) * _noise(x, generator)
            yield s, x

    def __call__(self, denoiser: Denoiser, schedule: Schedule, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """From x_T to x_0, both `(B, ...)`."""
        return _last(self.path(denoiser, schedule, x, generator=generator))


@dataclass(frozen=True)
class DDIM:
    """Steps that agree with q(x_t | x_0) at each level and may be long.

    Args:
        steps: how many of the T levels to visit; None visits all.
        eta: how much noise is drawn, as a share of the ancestral sampler's standard deviation; at 0 none, so that x_T decides.
    """

    steps: int | None = None
    eta: float = 0.0

    def path(
        self, denoiser: Denoiser, schedule: Schedule, x: Tensor, *, generator: torch.Generator | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """The level t and x_t after each step, the last at t = 0."""
        eta = non_negative("DDIM: eta", self.eta)
        for t, s in pairwise(levels(schedule.T, self.steps)):
            x0, eps = _parts(denoiser, schedule, x, t)
            variance = eta**2 * schedule.posterior(x0, x, t, s)[1]
            gone = -math.expm1(float(schedule.log_alpha_bar[s]))
            x = math.exp(float(schedule.log_alpha_bar[s]) / 2) * x0 + math.sqrt(max(0.0, gone - variance)) * eps
            if variance > 0:
                x = x + math.sqrt(variance) * _noise(x, generator)
            yield s, x

    def __call__(self, denoiser: Denoiser, schedule: Schedule, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """From x_T to x_0, both `(B, ...)`."""
        return _last(self.path(denoiser, schedule, x, generator=generator))


@dataclass(frozen=True)
class ProbabilityFlow:
    """The ordinary differential equation with the same marginals, dx / dphi = v, solved by a solver of chapter 7.

    Time is graded: phi = phi_T r^2 for r in [0, 1] takes its small steps near the data, where the density has its detail. (There
    u = t / T grows like r^4 on the linear curve.)

    Args:
        solver: such as `RK4(20)`, which evaluates the denoiser 80 times.
    """

    solver: Solver = field(default_factory=lambda: RK4(20))

    def __call__(self, denoiser: Denoiser, schedule: Schedule, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """From x_T to x_0, both `(B, ...)`."""
        return self.solver(velocity(denoiser, schedule), x, 1.0, 0.0, ())


Sampler = Ancestral | DDIM | ProbabilityFlow


def velocity(denoiser: Denoiser, schedule: Schedule) -> Callable[[float | Tensor, Tensor], Tensor]:
    """The right-hand side dx / dr = v dphi / dr of the equation, a function of r in [0, 1] (data to noise) and x."""
    last = math.acos(math.exp(float(schedule.log_alpha_bar[-1]) / 2))

    def right_hand_side(r: float | Tensor, x: Tensor) -> Tensor:
        r = torch.as_tensor(r, dtype=torch.float64, device=x.device)
        phi = last * r**2
        # not cos, whose logarithm loses what sin keeps where phi is small
        t = schedule.T * schedule.curve.time(torch.log1p(-(torch.sin(phi) ** 2))).clamp(0, 1)
        signal, noise = torch.cos(phi).to(x.dtype), torch.sin(phi).to(x.dtype)
        # below the first level, which is the last that a denoiser knows, the score is taken to be what it is there
        level = t.clamp(min=1)
        eps = denoiser(x, level) * (noise / schedule.amounts(level, x)[1])
        v = V.of(*Eps.parts(eps, x, signal, noise), signal, noise)
        return v * (2 * last * r).to(x.dtype)

    return right_hand_side


def _parts(denoiser: Denoiser, schedule: Schedule, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """x_0 and eps, as the denoiser believes."""
    level = torch.tensor(float(t), dtype=torch.float64, device=x.device)
    return Eps.parts(denoiser(x, level), x, *schedule.amounts(level, x))


def _noise(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def _last(path: Iterator[tuple[int, Tensor]]) -> Tensor:
    *_, (_, x) = path  # at least one step
    return x
