"""Solvers of differential equations dy/dt = f(t, y): one of a few lines to train with, and others that choose their steps.

A solver is called as `solver(f, y, start, end, parameters)` and gives y at `end`, which may be earlier than `start`. The
parameters are f's, for a solver that differentiates it by itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: The right-hand side: `f(t, y)`, the shape of y.
Function = Callable[[float | Tensor, Tensor], Tensor]
Solver = Callable[[Function, Tensor, float, float, Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Euler:
    """Straight on for each step: the error falls in proportion to their size, and to how much the path bends.

    Args:
        steps: how many; each evaluates f once.
    """

    steps: int

    def __call__(self, f: Function, y: Tensor, start: float, end: float, parameters: Sequence[Tensor] = ()) -> Tensor:
        """From `y` at `start` to what it becomes at `end`, which may be earlier."""
        h = (end - start) / self.steps
        for i in range(self.steps):
            y = torch.add(y, f(start + i * h, y), alpha=h)
        return y


@dataclass(frozen=True)
class RK4:
    """The classical method of Runge and Kutta with steps of equal size: the error falls with their fourth power.

    Args:
        steps: how many; each evaluates f four times.
    """

    steps: int

    def __call__(self, f: Function, y: Tensor, start: float, end: float, parameters: Sequence[Tensor] = ()) -> Tensor:
        """From `y` at `start` to what it becomes at `end`, which may be earlier."""
        h = (end - start) / self.steps
        for i in range(self.steps):
            t = start + i * h
            k1 = f(t, y)
            k2 = f(t + h / 2, torch.add(y, k1, alpha=h / 2))  # y + h / 2 * k1, in one operation
            k3 = f(t + h / 2, torch.add(y, k2, alpha=h / 2))
            k4 = f(t + h, torch.add(y, k3, alpha=h))
            y = torch.add(y, k1 + k4 + 2 * (k2 + k3), alpha=h / 6)
        return y


@dataclass(frozen=True)
class Adaptive:
    """A solver of the package `torchdiffeq` that chooses its steps so that its error stays within a tolerance.

    Args:
        rtol, atol: relative and absolute tolerance of a step.
        method: as torchdiffeq calls it.
        adjoint: gradients by a second equation, run backwards, in place of a graph of all steps: the memory that training takes
            no longer grows with the number of evaluations (Chen et al., 2018, Section 2).
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    method: str = "dopri5"
    adjoint: bool = False

    def __call__(self, f: Function, y: Tensor, start: float, end: float, parameters: Sequence[Tensor] = ()) -> Tensor:
        """From `y` at `start` to what it becomes at `end`, which may be earlier."""
        from torchdiffeq import odeint, odeint_adjoint

        times = torch.tensor([start, end], device=y.device, dtype=y.dtype)
        settings = {"rtol": self.rtol, "atol": self.atol, "method": self.method}
        if self.adjoint:
            return odeint_adjoint(f, y, times, adjoint_params=tuple(parameters), **settings)[-1]
        return odeint(f, y, times, **settings)[-1]
