"""How large a step is: the optimiser that `fit` takes by default, and schedules of its rate."""

import math
from collections.abc import Iterable

import torch
from torch import nn


def adam(parameters: Iterable[nn.Parameter], *, lr: float) -> torch.optim.Optimizer:
    """Adam in one fused kernel: the same updates, on a CPU four times as fast as a pass over each moment in turn."""
    return torch.optim.Adam(parameters, lr=lr, fused=True)


def sgd(parameters: Iterable[nn.Parameter], *, lr: float, decay: float = 0.0) -> torch.optim.Optimizer:
    """Plain gradient descent; `decay` times itself draws each matrix, but no bias, towards zero."""
    parameters = list(parameters)
    matrices, biases = ([p for p in parameters if (p.dim() > 1) is many] for many in (True, False))
    groups = [{"params": matrices, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
    return torch.optim.SGD([group for group in groups if group["params"]], lr=lr, fused=True)


def constant(progress: float) -> float:
    """A learning rate that stays."""
    return 1.0


def cosine(progress: float) -> float:
    """A learning rate that falls to zero along half a cosine, after a linear warm-up of one step in fifty.

    >>> [round(cosine(progress), 2) for progress in (0.0, 0.02, 0.51, 1.0)]
    [0.05, 1.0, 0.5, 0.0]
    """
    warm_up = 0.02
    if progress < warm_up:
        return (progress + 1e-3) / (warm_up + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def linear(progress: float) -> float:
    """A learning rate that falls to zero along a line.

    >>> [linear(progress) for progress in (0.0, 0.25, 1.0)]
    [1.0, 0.75, 0.0]
    """
    return 1.0 - progress
