"""A continuous flow of the plane: points follow the field, by a solver that the reader chooses (slide 16)."""

import copy
import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gencourse.explorers.base import Explorer, pack
from gencourse.flows.base import NORMAL
from gencourse.flows.ffjord import FFJORD, TanhField, unit_vectors, value_and_trace
from gencourse.viz.flows import flow_path

#: Explicit solvers in which each look at the field starts from the look before: at which part of the step, and its weight.
SOLVERS: dict[str, tuple[tuple[float, float], ...]] = {
    "Euler": ((0, 1),),
    "midpoint": ((0, 0), (1 / 2, 1)),
    "RK4": ((0, 1 / 6), (1 / 2, 1 / 3), (1 / 2, 1 / 3), (1, 1 / 6)),
}


class FollowTheField(Explorer):
    """Send points along a trained field, from data to noise or back, with Euler's method, the midpoint's or RK4.

    Beside it stands what the steps cost, in evaluations of the field, and what they miss: the distance of the points from those
    of a fine solve (64 steps of RK4), from their own beginnings after the same steps back, and the log-density by each. A point
    can be dragged at any time. All is computed in the page, in double precision; the weights are sent as float32.

    Args:
        model: an FFJORD of points in the plane, whose field is a `TanhField`.
        points: of the data, `(N, 2)`; 500 at most. As many draws from the prior go the other way.
        reach: the picture shows `[-reach, reach]^2`, in the coordinates of the noise.
        seed: of the draws.

    Raises:
        TypeError: if the model is no such flow.
        ValueError: if it is not one of the plane, the points do not fit, or `reach` is not positive.
    """

    module: ClassVar[Path] = Path(__file__).with_name("follow_the_field.js")
    helpers: ClassVar[tuple[Path, ...]] = (Path(__file__).with_name("plane.js"),)

    def __init__(self, model: FFJORD, points: Tensor, *, reach: float = 3.2, seed: int = 0) -> None:
        field = _field(model)
        if not 0 < reach < math.inf:
            raise ValueError(f"FollowTheField: reach must be positive, not {reach!r}.")
        if points.dim() != 2 or points.shape[1] != 2 or not 1 <= len(points) <= 500:
            raise ValueError(f"FollowTheField: points must be (N, 2) with N from 1 to 500, not {tuple(points.shape)}.")
        x = points.detach().cpu().float()
        log_scale, bias = (part.detach().cpu().float() for part in (model.norm.log_scale, model.norm.bias))
        begun = x * torch.exp(log_scale) + bias
        layers = [*field.layers, field.last]
        state = {
            "layers": [{"weight": pack(layer.weight), "bias": pack(layer.bias)} for layer in layers],  # type: ignore[arg-type]
            "log_det": float(log_scale.sum()),  # of the scale that comes before the field
            "points": pack(begun),
            "noise": pack(torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))),
            "reach": float(reach),
            "direction": "to noise",
            "solver": "Euler",
            "steps": 4,
            "t": 0.0,
            "x": [round(v, 2) for v in begun[0].tolist()],
        }
        places = torch.stack([walk(field, begun, 0, t / 40, "RK4", 40)[0] for t in range(41)])
        super().__init__(
            state,
            still=flow_path(places, (0.0, 0.25, 0.5, 0.75, 1.0), box=float(reach))._repr_png_(),
            alt="Points of the data on their way to the noise, at five times; the ways of five of them are drawn.",
        )


@torch.no_grad()
def walk(field: nn.Module, z: Tensor, start: int, t: float, solver: str, steps: int) -> tuple[Tensor, Tensor]:
    """Where points are at time t, in Python: what the page draws.

    Args:
        field: of velocities, in float64.
        z: where they start, `(N, 2)`.
        start: when, 0 or 1.
        t: from 0 to 1. What is left of the way after whole steps is a shorter step.
        solver: a name in `SOLVERS`.
        steps: how many from end to end.

    Returns:
        The points `(N, 2)` and the integral of the trace since `start` `(N,)`, both float64.
    """
    h = (-1 if start else 1) / steps
    whole = int(abs(t - start) * steps + 1e-9)
    z, integral = z.double(), z.new_zeros(len(z), dtype=torch.float64)
    for begun, length in [*((start + k * h, h) for k in range(whole)), (start + whole * h, t - start - whole * h)]:
        velocity, gone, change = torch.zeros_like(z), torch.zeros_like(z), torch.zeros_like(integral)
        for part, share in SOLVERS[solver]:
            velocity, trace = value_and_trace(field, begun + part * length, z + part * length * velocity, unit_vectors(z))
            gone, change = gone + share * velocity, change + share * trace
        z, integral = z + length * gone, integral + length * change
    return z, integral


def _field(model: Any) -> TanhField:
    """The model's field with its float32 weights in float64, on the CPU, checked."""
    if not isinstance(model, FFJORD):
        raise TypeError(f"FollowTheField needs an FFJORD, not {type(model).__name__}.")
    if model.space.shape != (2,):
        raise ValueError(f"FollowTheField shows flows of points in the plane, but this is a model of {model.space}.")
    if model.prior is not NORMAL or not isinstance(model.field, TanhField):
        raise TypeError(f"FollowTheField: the page can run a TanhField, but the model's field is {type(model.field).__name__}.")
    return copy.deepcopy(model.field).cpu().float().double().eval().requires_grad_(False)
