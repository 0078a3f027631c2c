"""Arithmetic with latent vectors: choose samples for three terms, see the image at A - B + C (slides 119 to 122)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gencourse.explorers.base import Explorer, pack
from gencourse.space import Space
from gencourse.viz import png_grid

# The page's picture may differ from Python's by this part of the grey range, one level in 255; rounding the weights may use all
# but a hundredth of it, because the page computes in double precision.
TOLERANCE = 1 / 255


class LatentArithmetic(Explorer):
    """Put samples into the terms of A - B + C and see what a convolutional generator draws at the sum.

    A term with several samples is their mean; the sum is stretched to the length sqrt(D) of the prior's draws. The generator
    runs in the page, in JavaScript, with its batch norms folded into the convolutions. Its weights are sent as float16 where
    that moves no pixel of the samples by more than `TOLERANCE` of the grey range, and as float32 otherwise.

    Args:
        model: a `DCGAN`, unconditional; its statistics are those of evaluation mode.
        z: the latent vectors of the samples to choose from, `(N, latent)`.
        slots: which samples are in A, B and C to begin with, as places in `z`.
        names: what A, B and C are meant to be, for the labels.

    Raises:
        ValueError: if the shapes do not agree, a place is not in `z`, or the model is conditional or draws no images.
        TypeError: if the generator has a layer that the page cannot run.
    """

    module: ClassVar[Path] = Path(__file__).with_name("latent_arithmetic.js")

    def __init__(
        self,
        model: Any,
        z: Tensor,
        *,
        slots: Sequence[Sequence[int]] = ((0,), (1,), (2,)),
        names: Sequence[str] = ("this", "less this", "and this"),
    ) -> None:
        space = model.space
        if len(space.shape) != 3 or space.shape[0] not in (1, 3) or space.levels is None:
            raise ValueError(f"LatentArithmetic shows grey or RGB images, but the space is {space}.")
        if model.classes is not None:
            raise ValueError("LatentArithmetic needs an unconditional model: the page has no labels to give it.")
        if z.dim() != 2 or z.shape[1] != model.latent or not len(z):
            raise ValueError(f"LatentArithmetic: z must be (N, {model.latent}), not {tuple(z.shape)}.")
        if len(slots) != 3 or len(names) != 3:
            raise ValueError(f"LatentArithmetic has three terms, but {len(slots)} slots and {len(names)} names were given.")
        if any(not 0 <= i < len(z) for slot in slots for i in slot):
            raise ValueError(f"LatentArithmetic: slots hold places in z, 0..{len(z) - 1}, not {slots}.")
        z = z.detach().cpu().float()
        layers = folded(model.generator.net)
        exact = draw(layers, space, z)
        halves = [(weight.half().double(), bias.half().double(), *rest) for weight, bias, *rest in layers]
        error = (draw(halves, space, z) - exact).abs().max() / (space.levels - 1)
        self.dtype = "float16" if bool(error <= 0.99 * TOLERANCE) else "float32"
        packed = _packed(layers, getattr(torch, self.dtype))
        state: dict[str, Any] = {
            "network": {"layers": packed, "shape": list(space.shape), "levels": space.levels},
            "z": pack(z, torch.float32),
            "slots": [[int(i) for i in slot] for slot in slots],
            "names": list(names),
            "strength": 1.0,
        }
        super().__init__(
            state,
            still=png_grid(exact[:32], space, ncols=8),
            alt=f"Samples of a generator to choose from for {names[0]}, minus {names[1]}, plus {names[2]}.",
        )


def folded(network: nn.Sequential) -> list[tuple]:
    """The network as transposed convolutions with the batch norms in them: `(weight, bias, stride, padding, activation)`.

    In evaluation mode a batch norm multiplies each channel by `scale = gamma / sqrt(var + eps)` and adds `beta - scale mean`, so
    it is part of the convolution before it. Weights are float64, `(in, out, kh, kw)`.
    """
    layers: list[tuple] = []
    modules = [module for module in network if not isinstance(module, nn.Identity)]
    while modules:
        up = modules.pop(0)
        if not isinstance(up, nn.ConvTranspose2d) or up.groups > 1 or up.dilation != (1, 1) or up.output_padding != (0, 0):
            raise TypeError(f"LatentArithmetic: the page can run plain ConvTranspose2d, but the generator has {up}.")
        weight = up.weight.detach().cpu().double()
        bias = torch.zeros(weight.shape[1], dtype=torch.float64) if up.bias is None else up.bias.detach().cpu().double()
        if modules and isinstance(modules[0], nn.BatchNorm2d):
            norm: Any = modules.pop(0)
            mean, var, gamma, beta = (
                t.detach().cpu().double() for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            )
            scale = gamma / (var + norm.eps).sqrt()
            weight, bias = weight * scale.view(1, -1, 1, 1), (bias - mean) * scale + beta
        activation = modules.pop(0) if modules else None
        if not isinstance(activation, nn.ReLU | nn.Tanh):
            raise TypeError(f"LatentArithmetic: after a convolution the page can run ReLU and Tanh, not {activation}.")
        kind = "relu" if isinstance(activation, nn.ReLU) else "tanh"
        layers.append((weight, bias, up.stride[0], up.padding[0], kind))
    return layers


@torch.no_grad()
def draw(layers: list[tuple], space: Space, z: Tensor) -> Tensor:
    """What the page draws, in Python: grey levels, not rounded, `(N, D) -> (N, C, H, W)`, float64."""
    x = z.detach().cpu().double()[:, :, None, None]
    for weight, bias, stride, padding, activation in layers:
        x = getattr(torch, activation)(nn.functional.conv_transpose2d(x, weight, bias, stride=stride, padding=padding))
    assert space.levels is not None
    return (x + 1) / 2 * (space.levels - 1)


def _packed(layers: list[tuple], dtype: torch.dtype) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    height = width = 1
    for weight, bias, stride, padding, activation in layers:
        inputs, outputs, kh, kw = weight.shape
        up, across = (height - 1) * stride - 2 * padding + kh, (width - 1) * stride - 2 * padding + kw
        layer = {"weight": pack(weight, dtype), "bias": pack(bias, dtype), "kernel": [kh, kw], "stride": stride}
        sizes = {"from": [inputs, height, width], "to": [outputs, up, across]}
        found.append(layer | sizes | {"padding": padding, "activation": activation})
        height, width = up, across
    return found
