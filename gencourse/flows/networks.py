"""The networks inside coupling layers. Nothing of theirs is ever inverted, so they may be any.

Their last layers begin with a hundredth of the usual weights: a new flow is nearly the identity, and yet each of its weights has
a gradient.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class FlatNetwork(nn.Module):
    """Fully connected, whatever the shapes: `(B, *inputs)` -> `(B, *outputs)`.

    Args:
        inputs, outputs: shapes of one example.
        hidden: the widths of the hidden layers.
        dropout: the probability with which a hidden unit is left out in training.
    """

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int], hidden: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.outputs = tuple(outputs)
        layers: list[nn.Module] = []
        for before, after in pairwise((math.prod(inputs), *hidden)):
            layers += [nn.Linear(before, after), nn.ReLU(inplace=True), *([nn.Dropout(dropout)] if dropout else [])]
        self.layers = nn.Sequential(*layers, nearly_zero(nn.Linear(hidden[-1], math.prod(outputs))))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, *inputs)` -> `(B, *outputs)`."""
        h = self.layers(x.flatten(1))
        return h if len(self.outputs) == 1 else h.unflatten(1, self.outputs)


class ConvNetwork(nn.Module):
    """Convolutions of 3x3, 1x1 and 3x3, as in Glow; between the first and the second, residual blocks, as in RealNVP.

    Args:
        inputs, outputs: numbers of channels.
        channels: of the hidden layers.
        blocks: how many residual blocks, of two 3x3 convolutions each.
        dropout: the probability with which a hidden channel is left out in training.
    """

    def __init__(self, inputs: int, outputs: int, channels: int, *, blocks: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, padding=1),
            )
            for _ in range(blocks)
        )
        self.last = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
            nearly_zero(nn.Conv2d(channels, outputs, 3, padding=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` -> `(B, outputs, H, W)`."""
        h = self.first(x)
        for block in self.blocks:
            h = h + block(h)
        for layer in self.last:  # one by one, so that each result is given up as soon as the next is there
            h = layer(h)
        return h


@torch.no_grad()
def nearly_zero(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """The layer, with a hundredth of its weights and no bias."""
    layer.weight.mul_(0.01)
    assert layer.bias is not None
    layer.bias.zero_()
    return layer
