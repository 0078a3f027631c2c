"""The solvers of chapter 7, which diffusion models use too: they stand in `gencourse.solvers`."""

from gencourse.solvers import RK4, Adaptive, Function, Solver

__all__ = ["RK4", "Adaptive", "Function", "Solver"]
