"""Walks and arithmetic in the space of latent vectors, of any model that has one (slides 113-122).

Samples of `N(0, I)` in D dimensions lie near the sphere of radius sqrt(D), and so does next to all of the prior's mass. The
middle of a straight line between two of them is only 0.71 times as long: a vector that the generator has hardly ever been
given. A walk along the sphere stays where it was trained (White, 2016, https://arxiv.org/abs/1609.04468).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gencourse.arguments import least_integer


def lerp(z0: Tensor, z1: Tensor, t: float | Tensor) -> Tensor:
    """The straight line `(1 - t) z0 + t z1`; exactly z0 at t = 0 and z1 at t = 1.

    Args:
        z0, z1: `(..., D)`.
        t: a number, or a tensor that broadcasts against `z0[..., :1]`.
    """
    _same_shape(z0, z1)
    t = torch.as_tensor(t, dtype=z0.dtype, device=z0.device)
    return (1 - t) * z0 + t * z1


def slerp(z0: Tensor, z1: Tensor, t: float | Tensor) -> Tensor:
    """Spherical interpolation: the direction turns at constant speed from z0 to z1, while the length changes linearly.

        z(t) = r(t) [sin((1 - t) w) z0/|z0| + sin(t w) z1/|z1|] / sin w,   r(t) = (1 - t) |z0| + t |z1|

    with w the angle between the two; for vectors of one length this is Shoemake's (1985) formula, which White (2016) uses.
    Exactly z0 at t = 0 and z1 at t = 1. Where the two are so nearly parallel that w^2 is below rounding, the limit
    `sin(t w) / sin w = t` is taken.

    Args:
        z0, z1: `(..., D)`.
        t: a number, or a tensor that broadcasts against `z0[..., :1]`.

    Raises:
        ValueError: if a vector is zero and has no direction, or two are opposite: every great circle through one of them
            then leads to the other, and none is the shortest.

    >>> slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), 0.5).round(decimals=3)
    tensor([1.0610, 1.0610])
    """
    _same_shape(z0, z1)
    t = torch.as_tensor(t, dtype=z0.dtype, device=z0.device)
    r0, r1 = z0.norm(dim=-1, keepdim=True), z1.norm(dim=-1, keepdim=True)  # (..., 1)
    if not bool((r0 > 0).all() and (r1 > 0).all()):
        raise ValueError("slerp: a zero vector has no direction; use lerp.")
    u0, u1 = z0 / r0, z1 / r1
    # an arc cosine would lose half the digits of small angles; this form (Kahan) keeps them
    angle = 2 * torch.atan2((u0 - u1).norm(dim=-1, keepdim=True), (u0 + u1).norm(dim=-1, keepdim=True))
    eps = torch.finfo(z0.dtype).eps
    if bool((torch.pi - angle < eps**0.5).any()):
        raise ValueError("slerp: opposite vectors have no shortest arc between them; move one of them a little, or use lerp.")
    parallel = angle**2 < eps
    sine = torch.where(parallel, 1.0, angle.sin())
    a = torch.where(parallel, 1 - t, ((1 - t) * angle).sin() / sine)
    b = torch.where(parallel, t, (t * angle).sin() / sine)
    r = (1 - t) * r0 + t * r1
    return a * (r / r0) * z0 + b * (r / r1) * z1


def interpolate(z0: Tensor, z1: Tensor, steps: int, path: Callable[[Tensor, Tensor, float], Tensor] = slerp) -> Tensor:
    """`steps` latent vectors on the way from z0 to z1, both ends among them and exact: `(steps, *z0.shape)`.

    Args:
        path: `slerp` or `lerp`.

    Raises:
        ValueError: if `steps` is less than 2, or the path has no way between these two.
    """
    steps = least_integer("interpolate: steps", steps, 2)
    return torch.stack([path(z0, z1, i / (steps - 1)) for i in range(steps)])


def analogy(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """`mean(a) - mean(b) + mean(c)`, `(D,)`: smiling woman - neutral woman + neutral man (Radford et al., 2016, Section 6.3.2).

    The means are over the rows of each, `(n, D)`; a single vector `(D,)` is its own mean. With n = 3, as in the paper, the
    three terms of variance 1/3 add up to a vector as long as the prior's own; with other numbers `to_shell` makes it so.

    Raises:
        ValueError: if there is none of one, or their D differ.
    """
    for name, z in (("a", a), ("b", b), ("c", c)):
        if z.dim() not in (1, 2) or not z.numel() or z.shape[-1] != a.shape[-1]:
            raise ValueError(f"analogy expects latent vectors (n, D) or (D,) of one D, but {name} has shape {tuple(z.shape)}.")
    mean_a, mean_b, mean_c = (torch.atleast_2d(z).mean(0) for z in (a, b, c))
    return mean_a - mean_b + mean_c


def to_shell(z: Tensor) -> Tensor:
    """The vectors `(..., D)` stretched to length sqrt(D), near which samples of `N(0, I)` lie; zero vectors are a ValueError."""
    length = z.norm(dim=-1, keepdim=True)
    if not bool((length > 0).all()):
        raise ValueError("to_shell: a zero vector has no direction.")
    return z * (z.shape[-1] ** 0.5 / length)


def _same_shape(z0: Tensor, z1: Tensor) -> None:
    if z0.shape != z1.shape or not z0.is_floating_point():
        raise ValueError(
            f"interpolation needs two real vectors of one shape (..., D), not {z0.dtype} {tuple(z0.shape)} and {tuple(z1.shape)}."
        )
