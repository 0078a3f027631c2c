"""The latent plane of a decoder, to walk in: drag, and see the image that the decoder draws there (slide 83)."""

import copy
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gencourse.explorers.base import Explorer, pack
from gencourse.space import Space
from gencourse.viz import manifold_grid

# The page's picture may differ from Python's by a hundredth of a grey level; rounding the weights may use a quarter of it.
TOLERANCE = 1e-2
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.Tanh: "tanh", nn.ReLU: "relu", nn.Softplus: "softplus", nn.Sigmoid: "sigmoid"}
_NOTHING = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout)


class Manifold(Explorer):
    """Drag in the (z1, z2) plane and see the decoder's expected image change at once.

    The decoder runs in the page, in JavaScript. Its weights are sent as float16 where that moves no pixel by more than
    `TOLERANCE / 4` of a grey level over the box, and as float32 otherwise.

    Args:
        model: a VAE, or anything with `decoder` and `space`; or a decoder alone, an `nn.Sequential` of `Linear`, `Tanh`,
            `ReLU`, `Softplus` and `Sigmoid` from 2 numbers to the pixels. The outputs of a decoder alone are Bernoulli
            logits on two levels (unless it ends in `Sigmoid`), and on more levels the mean in units of the grey range.
        space: the decoder's images, if `model` is a decoder alone.
        box: the plane shown is `[-box, box]` squared.
        points: codes of test images, `(N, 2)`, to show in the plane.
        labels: their classes, `(N,)`.

    Raises:
        ValueError: if the latent space is not a plane, the images are not grey or RGB, or the shapes do not agree.
        TypeError: if the decoder has a layer that the page cannot run.
    """

    module: ClassVar[Path] = Path(__file__).with_name("manifold.js")

    def __init__(
        self,
        model: Any,
        space: Space | None = None,
        *,
        box: float = 3.0,
        points: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> None:
        space = space or getattr(model, "space", None)
        if not isinstance(space, Space):
            raise ValueError("Manifold: a decoder alone needs the space of its images: Manifold(decoder, space).")
        if space.levels is None or len(space.shape) != 3 or space.shape[0] not in (1, 3):
            raise ValueError(f"Manifold shows grey or RGB images, but the space is {space}.")
        if not box > 0:
            raise ValueError(f"Manifold: box must be positive, not {box!r}.")
        layers = _layers(model, space)
        log_scale = getattr(model, "log_scale", None)
        if space.levels == 2:
            log_scale = None
        network, self.dtype = _smallest(layers, log_scale, space, box)
        state: dict[str, Any] = {"network": network, "box": box, "z": [0.0, 0.0], "points": None, "labels": None}
        if labels is not None and points is None:
            raise ValueError("Manifold: labels need the points that they belong to.")
        if points is not None:
            if points.dim() != 2 or points.shape[1] != 2:
                raise ValueError(f"Manifold: points must be (N, 2), not {tuple(points.shape)}.")
            state["points"] = pack(points, torch.float16)
        if labels is not None and points is not None:
            if tuple(labels.shape) != (len(points),):
                raise ValueError(f"Manifold: {len(points)} points need labels ({len(points)},), not {tuple(labels.shape)}.")
            state["labels"] = labels.tolist()
        figure = manifold_grid(
            lambda z: mean_image(layers, log_scale, space, z), space, n=max(5, min(12, 360 // space.shape[1])), box=box
        )
        super().__init__(
            state,
            still=figure._repr_png_(),
            alt=f"The plane of two latent variables, from -{box:g} to {box:g}, covered with the images that the decoder draws.",
        )


def mean_image(layers: list[nn.Module], log_scale: Tensor | None, space: Space, z: Tensor) -> Tensor:
    """What the page draws, in Python: the expected grey levels at each z, `(N, 2) -> (N, C, H, W)`, float64."""
    with torch.no_grad():
        out = z.detach().cpu().double()
        for layer in layers:
            out = layer(out)
        assert space.levels is not None
        if log_scale is None:
            levels = out.clamp(0, 1) * (space.levels - 1)
        else:
            edges = (torch.arange(1, space.levels) - 0.5) / (space.levels - 1)
            sharpness = torch.exp(-log_scale.detach().cpu().double()).flatten()
            levels = sum(torch.sigmoid((out - edge) * sharpness) for edge in edges.tolist())  # type: ignore[assignment]
        return levels.unflatten(-1, space.shape)


def _layers(model: Any, space: Space) -> list[nn.Module]:
    """The decoder's layers in float64 on the CPU, from 2 numbers to pixel means in [0, 1], checked."""
    decoder = getattr(model, "decoder", model)
    if not isinstance(decoder, nn.Sequential):
        raise TypeError(f"Manifold needs a decoder that is an nn.Sequential, not {type(decoder).__name__}.")
    layers = [copy.deepcopy(layer).cpu().double().eval() for layer in decoder if not isinstance(layer, _NOTHING)]
    for layer in layers:
        odd_softplus = isinstance(layer, nn.Softplus) and layer.beta != 1
        if odd_softplus or type(layer) not in (nn.Linear, *_ACTIVATIONS):
            raise TypeError(f"Manifold: the page can run Linear, Tanh, ReLU, Softplus and Sigmoid, but the decoder has {layer}.")
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if not linear or linear[0].in_features != 2:
        width = linear[0].in_features if linear else None
        raise ValueError(f"Manifold needs a plane to walk in, 2 latent variables, but this decoder takes {width}.")
    if linear[-1].out_features != space.dim:
        raise ValueError(f"Manifold: {space} has {space.dim} pixels, but the decoder has {linear[-1].out_features} outputs.")
    # logits on two levels; on more, a model with a log_scale squashes its location into [0, 1] the same way
    squashed = space.levels == 2 or hasattr(model, "log_scale")
    return [*layers, nn.Sigmoid()] if squashed and not isinstance(layers[-1], nn.Sigmoid) else layers


def _smallest(layers: list[nn.Module], log_scale: Tensor | None, space: Space, box: float) -> tuple[dict[str, Any], str]:
    """The network as JSON, in float16 if its pictures on a grid over the box stay within the tolerance."""
    side = torch.linspace(-box, box, 21)
    z = torch.cartesian_prod(side, side)
    exact = mean_image(layers, log_scale, space, z)
    halves = [copy.deepcopy(layer).half().double() for layer in layers]
    finite = all(bool(torch.isfinite(weight).all()) for layer in halves for weight in layer.parameters())
    error = (mean_image(halves, log_scale, space, z) - exact).abs().max()
    chosen = torch.float16 if finite and bool(error <= TOLERANCE / 4) else torch.float32
    packed: list[dict[str, Any]] = []
    for layer in layers:
        if isinstance(layer, nn.Linear):
            bias = layer.bias if layer.bias is not None else torch.zeros(layer.out_features)
            packed.append({"kind": "linear", "weight": pack(layer.weight, chosen), "bias": pack(bias, chosen)})
        else:
            packed.append({"kind": _ACTIVATIONS[type(layer)]})
    network: dict[str, Any] = {"layers": packed, "shape": list(space.shape), "levels": space.levels}
    if log_scale is not None:
        network["inverse_scale"] = pack(torch.exp(-log_scale.detach().double()).flatten(), torch.float32)
    return network, str(chosen).removeprefix("torch.")
