"""Densities of real values, and the bijections they are made with: what has to be so for `log_prob` to be a density's logarithm.

A bijection is any object with `forward(x) -> (z, log_det)` and `inverse(z) -> (x, log_det)`, where `log_det` `(B,)` is the
logarithm of the absolute determinant of that map's own Jacobian.
"""

import copy
import math
from typing import Protocol

import torch
from torch import Tensor

from gencourse.kinds import Tractable


class Bijection(Protocol):
    """A smooth map with a smooth inverse, both with their log-determinants."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, ...)` -> z, the same number of dimensions, and `(B,)`."""
        ...

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z -> x, `(B, ...)`, and the inverse's own log-determinant, `(B,)`."""
        ...


@torch.no_grad()
def assert_density_integrates(
    model: Tractable, context: Tensor | None = None, *, reach: float = 8.0, points: int = 400, atol: float = 1e-3
) -> None:
    """Assert that the density of a model of points in the plane (or on the line) integrates to one, in float64.

    By the midpoint rule, on a grid of `points` places in each dimension between `-reach` and `reach`. What lies outside is
    missed, and a feature narrower than `2 * reach / points` may be: choose them so that the density is at home there.

    Args:
        model: a tractable model of a real-valued space of one or two dimensions; it is copied, not changed.
        context: the condition of every point, `(1, ...)`, if the model is conditional.
        atol: the largest departure of the integral from 1.

    Raises:
        AssertionError: if it does not.
        ValueError: if the space has grey levels or more than two dimensions.
    """
    space = model.space
    if space.is_discrete or space.dim > 2:
        raise ValueError(f"assert_density_integrates is for real values in one or two dimensions, not for {space}.")
    double = copy.deepcopy(model).double().eval()
    side = 2 * reach / points
    axis = torch.linspace(-reach + side / 2, reach - side / 2, points, dtype=torch.float64, device=model.device)
    grid = torch.cartesian_prod(*[axis] * space.dim).view(-1, *space.shape)
    total = 0.0
    for x in grid.split(10_000):
        condition = None if context is None else context.expand(len(x), *context.shape[1:])
        total += float(double.log_prob(x, condition).exp().sum()) * side**space.dim
    if not abs(total - 1) <= atol:
        raise AssertionError(f"{type(model).__name__}: its density integrates to {total:.6g}, not 1.")


def assert_invertible(bijection: Bijection, x: Tensor, *, atol: float = 1e-6) -> None:
    """Assert that `inverse` undoes `forward` at each `x` `(B, ...)`, and that its log-determinant is the other's negative.

    Raises:
        AssertionError: if either is not so.
    """
    z, log_det = bijection.forward(x)
    back, inverse_log_det = bijection.inverse(z)
    error = _largest(back - x)
    if not error <= atol:
        raise AssertionError(f"{type(bijection).__name__}: inverse(forward(x)) is {error:.3g} away from x.")
    gap = _largest(log_det + inverse_log_det)
    if not gap <= atol:
        raise AssertionError(
            f"{type(bijection).__name__}: the log-determinants of the two directions must be each other's negative; "
            f"their sum reaches {gap:.3g}."
        )


def assert_log_det(bijection: Bijection, x: Tensor, *, atol: float = 1e-6) -> None:
    """Assert that the log-determinant of `forward` is that of its Jacobian, by autograd, at each `x` `(B, ...)`.

    One backward pass a dimension: for small inputs, and best in float64.

    Raises:
        AssertionError: if it is not.
        ValueError: if z has not as many numbers as x.
    """
    with torch.inference_mode(False), torch.enable_grad():
        y = x.detach().clone().requires_grad_()
        z, log_det = bijection.forward(y)
        flat = z.flatten(1)  # (B, D)
        if flat.shape != x.flatten(1).shape or log_det.shape != (len(x),):
            raise ValueError(
                f"{type(bijection).__name__}.forward must give z as large as x {tuple(x.shape)}, and log_det ({len(x)},), "
                f"not {tuple(z.shape)} and {tuple(log_det.shape)}."
            )
        rows = [torch.autograd.grad(flat[:, i].sum(), y, retain_graph=True)[0].flatten(1) for i in range(flat.shape[1])]
    expected = torch.linalg.slogdet(torch.stack(rows, 1)).logabsdet  # (B,)
    log_det = log_det.detach()
    if not _largest(log_det - expected) <= atol:
        at = int((log_det - expected).abs().argmax())
        raise AssertionError(
            f"{type(bijection).__name__}: log_det is {float(log_det[at]):.6g} at example {at}, but the logarithm of the "
            f"Jacobian's determinant is {float(expected[at]):.6g}."
        )


def _largest(difference: Tensor) -> float:
    """The largest absolute value; NaN counts as infinite."""
    values = difference.detach().abs()
    return math.inf if bool(values.isnan().any()) else float(values.max())
