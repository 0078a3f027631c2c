"""What makes a flow right: each of its maps is a bijection whose log-determinant is that of its Jacobian, and none of it idles.

A bijection is any object with `forward(x) -> (z, log_det)` and `inverse(z) -> (x, log_det)`; a whole `Flow` is one too, by its
`encode` and `decode`.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from gencourse.checks.densities import Bijection, assert_invertible, assert_log_det
from gencourse.checks.invariants import assert_sampler_matches
from gencourse.flows.base import Flow
from gencourse.kinds import Tractable
from gencourse.space import Space


def assert_bijection(bijection: Bijection | Flow, x: Tensor, *, atol: float = 1e-9, seed: int = 0) -> None:
    """Assert, in float64, all that a bijection promises, at each `x` and at as many z that are drawn from N(0, I).

    In both directions: what one map does the other undoes; the log-determinant is that of the map's Jacobian by autograd, for
    each example; and the two have opposite signs.

    Args:
        bijection: it is copied, not changed, and put into evaluation mode.
        x: `(B, ...)`; for a `Flow` of images, dequantised ones.
        atol: the largest error of a coordinate, and of a log-determinant in nats.

    Raises:
        AssertionError: if something of it is not so.
    """
    double = _in_double(bijection)
    x = x.double()
    assert_invertible(double, x, atol=atol)
    assert_log_det(double, x, atol=atol)
    with torch.no_grad():
        z, _ = double.forward(x)
    generator = torch.Generator("cpu").manual_seed(seed)
    z = torch.randn(z.shape, generator=generator, dtype=torch.float64, device="cpu").to(z.device)
    backwards = _named(f"the inverse of {type(bijection).__name__}", double.inverse, double.forward)
    assert_invertible(backwards, z, atol=atol)
    assert_log_det(backwards, z, atol=atol)


def assert_every_coordinate_bends(bijection: Bijection | Flow, x: Tensor, *, least: float = 1e-6) -> None:
    """Assert that no coordinate of z is an affine function of x: its gradient differs between the examples `x` `(B, ...)`.

    A coupling keeps half of its coordinates. Where the halves never take turns, that half reaches z as it came, up to a scale,
    and stays as Gaussian as the prior.

    Args:
        bijection: with weights that do something; a flow that has just been made is nearly the identity.
        least: the smallest difference of a derivative that counts.

    Raises:
        AssertionError: if one is, with the numbers of all that are.
    """
    double = _in_double(bijection)
    with torch.enable_grad():
        y = x.detach().double().requires_grad_()
        z = double.forward(y)[0].flatten(1)  # (B, D)
        rows = [torch.autograd.grad(z[:, i].sum(), y, retain_graph=True)[0].flatten(1) for i in range(z.shape[1])]
    jacobian = torch.stack(rows, 1)  # (B, D, D)
    spread = (jacobian.amax(0) - jacobian.amin(0)).amax(1)  # (D,)
    straight = [i for i, value in enumerate(spread.tolist()) if not value > least]
    if straight:
        raise AssertionError(f"{type(bijection).__name__}: z is an affine function of x in coordinates {straight}.")


@torch.no_grad()
def assert_points_match_density(
    model: Tractable, samples: Tensor, *, reach: float = 8.0, cells: int = 40, fine: int = 8, significance: float = 1e-4
) -> float:
    """Assert that points in the plane follow the model's density, by Pearson's chi-squared test.

    The square between `-reach` and `reach` is cut into `cells` x `cells`; the density is integrated over each by the midpoint
    rule on `fine` x `fine` places, in float64. The square must hold all but a ten-thousandth of the mass.

    Args:
        model: a tractable model of a space of two real numbers; it is copied, not changed.
        samples: `(n, 2)`, the model's.
        significance: the share of right samplers that fail.

    Returns:
        The p-value.

    Raises:
        AssertionError: if they do not.
        ValueError: if these are no points of the plane, or the samples are too few to tell.
    """
    if model.space.is_discrete or model.space.dim != 2:
        raise ValueError(f"assert_points_match_density is for points in the plane, not for {model.space}.")
    double = copy.deepcopy(model).double().eval()
    side = 2 * reach / (cells * fine)
    axis = torch.linspace(-reach + side / 2, reach - side / 2, cells * fine, dtype=torch.float64, device="cpu")
    grid = torch.cartesian_prod(axis, axis).view(-1, *model.space.shape).to(model.device)
    density = torch.cat([double.log_prob(part).exp().cpu() for part in grid.split(20_000)])
    masses = density.view(cells, fine, cells, fine).sum((1, 3)).flatten() * side**2  # (cells * cells,)
    index = ((samples.cpu().double() + reach) / (2 * reach) * cells).floor().long()
    inside = ((index >= 0) & (index < cells)).all(1)
    if float((~inside).double().mean()) > 0.01:
        raise AssertionError(f"the samples do not follow the density: {int((~inside).sum())} of them lie outside of {reach}.")
    log_masses = torch.log(masses.clamp(min=1e-300))
    return assert_sampler_matches(index[inside], log_masses, Space((2,), levels=cells), significance=significance)


def gaussian_nll(x: Tensor) -> float:
    """The mean negative log-likelihood, in nats, of the points `x` `(n, D)` under the Gaussian that fits them best.

    With the sample mean and covariance S in place, it is `D / 2 (1 + log 2 pi) + 1/2 log det S`: no flow that is affine, such
    as an ActNorm and a matrix, can be better on these points.
    """
    x = x.double().flatten(1)
    covariance = torch.cov(x.T, correction=0).view(x.shape[1], x.shape[1])
    return float(0.5 * x.shape[1] * (1 + math.log(2 * math.pi)) + 0.5 * torch.logdet(covariance))


def _named(name: str, forward: Any, inverse: Any) -> Bijection:
    """A bijection from two functions, under a name for messages."""
    return type(name, (), {"forward": staticmethod(forward), "inverse": staticmethod(inverse)})()


def _in_double(bijection: Bijection | Flow) -> Bijection:
    double: Any = copy.deepcopy(bijection)
    if isinstance(double, nn.Module):
        double = double.double().eval()
    return _named(type(bijection).__name__, double.encode, double.decode) if isinstance(double, Flow) else double
