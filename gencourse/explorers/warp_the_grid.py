"""A flow of the plane, walked through layer by layer: the grid, the points and the density follow (slide 16)."""

import copy
import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gencourse.explorers.base import Explorer, pack
from gencourse.flows.base import NORMAL, Flow
from gencourse.flows.bijections import ActNorm, AffineCoupling, Composition, Halves
from gencourse.flows.networks import FlatNetwork
from gencourse.viz.flows import warped_grid


class WarpTheGrid(Explorer):
    """Slide through the layers of a flow from data to noise, and drag a point: see where it is now, and what its density is.

    Between two layers stands a part of one: with the fraction u, z = x * exp(u s) + u t. That is a bijection too, with the
    log-determinant u * sum(s), so the density is exact at every place of the slider.

    The flow runs in the page, in JavaScript and double precision. Its weights are sent as float32: 140 KB for six couplings
    with two hidden layers of 64.

    Args:
        model: a flow of points in the plane made of `ActNorm` and of `AffineCoupling` with `Halves` and a `FlatNetwork`, with a
            standard Gaussian as prior: a RealNVP, say.
        points: of the data, `(N, 2)`; at most 2000.
        box: what the grid covers, `b` for `[-b, b]^2` or `(x0, x1, y0, y1)`; the picture of the data shows it.
        reach: the picture of what became of them shows `[-reach, reach]^2`.

    Raises:
        TypeError: if the model is no such flow.
        ValueError: if it is not one of the plane, the points do not fit, or box or reach have no area.
    """

    module: ClassVar[Path] = Path(__file__).with_name("warp_the_grid.js")

    def __init__(
        self,
        model: Flow,
        points: Tensor,
        *,
        box: float | tuple[float, float, float, float] = 3.0,
        reach: float = 4.0,
    ) -> None:
        layers = _layers(model)
        x0, x1, y0, y1 = (float(v) for v in (box if isinstance(box, tuple) else (-box, box, -box, box)))
        if not (-math.inf < x0 < x1 < math.inf and -math.inf < y0 < y1 < math.inf):
            raise ValueError(
                f"WarpTheGrid: box must be a positive number or (x0, x1, y0, y1) with x0 < x1 and y0 < y1, not {box!r}."
            )
        if not 0 < reach < math.inf:
            raise ValueError(f"WarpTheGrid: reach must be positive, not {reach!r}.")
        if points.dim() != 2 or points.shape[1] != 2 or not 1 <= len(points) <= 2000:
            raise ValueError(f"WarpTheGrid: points must be (N, 2) with N from 1 to 2000, not {tuple(points.shape)}.")
        x = points.detach().cpu().float()
        h, log_det = walk(layers, x, len(layers))
        density = (NORMAL.log_prob(h) + log_det).exp()
        state = {
            "layers": [_packed(layer) for layer in layers],
            "points": pack(x),
            "box": [x0, x1, y0, y1],
            "reach": float(reach),
            "top": float(f"{density.max():.3g}"),  # the density that is drawn darkest
            "depth": 0.0,
            "x": [round(v, 2) for v in x[0].tolist()],
        }
        still = warped_grid(
            lambda x: walk(layers, x, len(layers))[0], x[:200], box=(x0, x1, y0, y1), lines=11, reach=float(reach)
        )
        super().__init__(
            state,
            still=still._repr_png_(),
            alt=f"Points of the data on a grid of straight lines, and where a flow of {len(layers)} layers sends both.",
        )


def walk(layers: Composition, x: Tensor, depth: float) -> tuple[Tensor, Tensor]:
    """Where points are after `depth` layers, in Python: what the page draws.

    Args:
        layers: each an `ActNorm` or an `AffineCoupling` of `Halves`.
        x: `(N, 2)`.
        depth: from 0 to the number of layers. Of the layer that it stops in, its fraction u takes part: z = x * exp(u s) + u t.

    Returns:
        The points `(N, 2)` and the log-determinant so far, `(N,)` nats, both float64.
    """
    whole = int(depth)
    h, log_det = Composition(layers[:whole])(x.double())
    if whole == depth:
        return h, log_det
    layer, part = layers[whole], depth - whole
    if isinstance(layer, ActNorm):
        return h * torch.exp(part * layer.log_scale) + part * layer.bias, log_det + part * layer.log_scale.sum()
    assert isinstance(layer, AffineCoupling)
    kept, changed = layer.parts.apart(h)
    log_scale, shift = layer.scale_and_shift(kept)
    return layer.parts.join(kept, changed * torch.exp(part * log_scale) + part * shift), log_det + part * log_scale.sum(1)


def _layers(model: Flow) -> Composition:
    """The flow's layers with their float32 weights in float64, on the CPU, checked."""
    if not isinstance(model, Flow) or not isinstance(model.bijection, Composition):
        raise TypeError(
            f"WarpTheGrid needs a flow that is a Composition of layers, such as a RealNVP, not {type(model).__name__}."
        )
    if model.space.shape != (2,):
        raise ValueError(f"WarpTheGrid shows flows of points in the plane, but this is a model of {model.space}.")
    if model.prior is not NORMAL:
        raise TypeError(f"WarpTheGrid: the page knows the Gaussian prior, but the model's is {model.prior.name}.")
    for layer in model.bijection:
        coupling = (
            isinstance(layer, AffineCoupling) and isinstance(layer.parts, Halves) and isinstance(layer.network, FlatNetwork)
        )
        if not coupling and not isinstance(layer, ActNorm):
            raise TypeError(
                "WarpTheGrid: the page can run ActNorm and AffineCoupling of Halves with a FlatNetwork, "
                f"but the flow has {type(layer).__name__}."
            )
    return copy.deepcopy(model.bijection).cpu().float().double().eval().requires_grad_(False)


def _packed(layer: nn.Module) -> dict[str, Any]:
    """A layer as JSON."""
    if isinstance(layer, ActNorm):
        return {"kind": "actnorm", "log_scale": layer.log_scale.tolist(), "bias": layer.bias.tolist()}
    assert isinstance(layer, AffineCoupling) and isinstance(layer.parts, Halves) and isinstance(layer.network, FlatNetwork)
    linear = [part for part in layer.network.layers if isinstance(part, nn.Linear)]
    return {
        "kind": "coupling",
        "kept": int(layer.parts.swap),
        "bound": layer.bound,
        "network": [{"weight": pack(part.weight), "bias": pack(part.bias)} for part in linear],
    }
