"""Networks of feature maps that run in the page: `networks` with layer norms and leaky ReLUs besides (maps.js runs them)."""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gencourse.explorers import networks
from gencourse.explorers.base import pack

Module = TypeVar("Module", bound=nn.Module)


def as_sent(network: Module) -> Module:
    """A copy as the page runs it, in Python: on the CPU, in double precision, its weights rounded to float16."""
    sent = copy.deepcopy(network).cpu().double().requires_grad_(False).eval()
    for parameter in sent.parameters():
        parameter.copy_(parameter.half())
    return sent


def packed(sent: nn.Sequential, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """The layers of a sequence as JSON, for an input of this shape.

    Raises:
        TypeError: if a layer is none that the page can run.
    """
    found: list[dict[str, Any]] = []
    x = torch.zeros(1, *shape, dtype=torch.float64)
    for layer in sent:
        if isinstance(layer, nn.GroupNorm) and layer.num_groups == 1:
            scale: dict[str, Tensor] = {"weight": layer.weight, "bias": layer.bias}
            found.append({"kind": "norm", "eps": layer.eps} | {name: pack(value, torch.float16) for name, value in scale.items()})
        elif isinstance(layer, nn.LeakyReLU):
            found.append({"kind": "leaky", "slope": layer.negative_slope})
        else:
            found += networks.packed(networks.as_sent(nn.Sequential(layer)), tuple(x.shape[1:]))
        x = layer(x)
    return found
