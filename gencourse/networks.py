"""What the networks of more than one family use."""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Fully connected layers, `(..., inputs)` -> `(..., outputs)`, with an activation after each but the last.

    Args:
        hidden: widths of the hidden layers; with none the network is linear.
        activation: makes the units' nonlinearity, such as `nn.Tanh`.
    """
    widths = (inputs, *hidden)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


def one_hot(labels: Tensor | None, classes: int, n: int, like: Tensor, name: str) -> Tensor:
    """The labels of `n` examples, `(n,)`, as one-hot rows `(n, classes)` on the device and in the type of `like`.

    Args:
        name: of the model, for the message.

    Raises:
        ValueError: if labels are missing, out of range, no integers, or too few or many.
    """
    if labels is None or labels.shape != (n,):
        given = "none were given" if labels is None else f"their shape is {tuple(labels.shape)}"
        raise ValueError(f"{name} with classes={classes} needs labels ({n},) as its context, one for each example; {given}.")
    if labels.is_floating_point() or not bool(((labels >= 0) & (labels < classes)).all()):
        raise ValueError(f"{name}: labels must be integers 0..{classes - 1}, not {labels}.")
    return F.one_hot(labels.long().to(like.device), classes).to(like.dtype)


def full_precision(x: Tensor) -> Tensor:
    """Sixteen-bit floats, as autocast leaves them, as float32: log-probabilities add up over hundreds of pixels."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
