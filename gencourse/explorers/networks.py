"""Small networks that run in the page: linear layers, convolutions, and what stands between them (networks.js runs them)."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gencourse.explorers.base import pack
from gencourse.variational.vae import VAE

SCRIPT = Path(__file__).with_name("networks.js")
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.Tanh: "tanh", nn.ReLU: "relu"}


def as_sent(network: nn.Module, *, dtype: torch.dtype = torch.float16) -> nn.Sequential:
    """The network as the page runs it, in Python: float64, its weights rounded to `dtype`, batch norms inside the convolutions.

    In evaluation mode a batch norm multiplies each channel by `scale = gamma / sqrt(var + eps)` and adds `beta - scale mean`.

    Raises:
        TypeError: if a layer is none that the page can run.
    """
    if not isinstance(network, nn.Sequential):
        raise TypeError(f"the page can run an nn.Sequential, not {type(network).__name__}.")
    layers: list[Any] = []
    for layer in network:
        layer = copy.deepcopy(layer).cpu().double().eval().requires_grad_(False)
        if isinstance(layer, nn.BatchNorm2d) and layers and isinstance(layers[-1], nn.Conv2d):
            before, norm = layers[-1], layer
            mean, var = norm.running_mean, norm.running_var
            assert mean is not None and var is not None, "a batch norm that keeps no statistics cannot be folded in"
            scale = norm.weight / (var + norm.eps).sqrt()
            bias = before.bias if before.bias is not None else torch.zeros_like(scale)
            before.weight = nn.Parameter(before.weight * scale.view(-1, 1, 1, 1), requires_grad=False)
            before.bias = nn.Parameter((bias - mean) * scale + norm.bias, requires_grad=False)
            continue
        plain = isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.dilation == (1, 1)
        if not plain and type(layer) not in (nn.Linear, nn.Flatten, *_ACTIVATIONS):
            raise TypeError(f"the page can run Linear, Conv2d, Flatten, Tanh and ReLU, but the network has {layer}.")
        layers.append(layer)
    sent = nn.Sequential(*layers)
    for parameter in sent.parameters():
        parameter.copy_(parameter.to(dtype))
    return sent


def packed(sent: nn.Sequential, shape: tuple[int, ...], *, dtype: torch.dtype = torch.float16) -> list[dict[str, Any]]:
    """The layers of `as_sent` as JSON, for an input of this shape."""
    found: list[dict[str, Any]] = []
    x = torch.zeros(1, *shape, dtype=torch.float64)
    for layer in sent:
        y: Tensor = layer(x)
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bias = layer.bias if layer.bias is not None else torch.zeros(y.shape[1])
            one: dict[str, Any] = {"kind": "linear", "weight": pack(layer.weight, dtype), "bias": pack(bias, dtype)}
            if isinstance(layer, nn.Conv2d):
                one |= {"kind": "conv", "from": list(x.shape[1:]), "to": list(y.shape[1:]), "stride": layer.stride[0]}
                one |= {"kernel": layer.kernel_size[0], "padding": int(layer.padding[0])}
            found.append(one)
        elif type(layer) in _ACTIVATIONS:
            found.append({"kind": _ACTIVATIONS[type(layer)]})
        x = y
    return found


def packed_pixels(model: VAE, sent: nn.Sequential) -> dict[str, Any]:
    """A decoder as JSON, with what makes grey levels of its outputs; on two levels the mean of a Bernoulli variable."""
    network: dict[str, Any] = {"layers": packed(sent, (model.latent,)), "levels": model.space.levels}
    if model.space.levels != 2:
        network["inverse_scale"] = pack(torch.exp(-model.log_scale.detach().double()).flatten(), torch.float32)
    return network | {"shape": list(model.space.shape)}


def mean_levels(model: VAE, sent: nn.Sequential, z: Tensor) -> Tensor:
    """What the page draws at each z `(N, latent)`, in Python: the expected grey levels, `(N, *space.shape)`, float64."""
    levels = model.space.levels
    assert levels is not None
    mean = torch.sigmoid(sent(z.detach().cpu().double()))
    if levels > 2:  # a discretised logistic: the sum over k of P(level >= k)
        sharpness = torch.exp(-model.log_scale.detach().cpu().double()).flatten()
        edges = (torch.arange(1, levels, dtype=torch.float64) - 0.5) / (levels - 1)
        mean = sum((torch.sigmoid((mean - edge) * sharpness) for edge in edges.tolist()), torch.zeros_like(mean))
    return mean.unflatten(-1, model.space.shape)
