"""The solvers of chapter 7, which diffusion models use too: they stand in `gencourse.solvers`."""

from gencourse.solvers import RK4 as RK4
from gencourse.solvers import Adaptive as Adaptive
from gencourse.solvers import Function as Function
from gencourse.solvers import Solver as Solver
