"""PixelCNN (van den Oord, Kalchbrenner and Kavukcuoglu, 2016, https://arxiv.org/abs/1601.06759; slides 27-29).

    p(x) = prod_i p(x_i | x_1 .. x_{i-1})          pixels row by row; in a pixel red, then green, then blue

All conditionals come from one convolutional network whose masks hide from each what it must predict. In training it
predicts every pixel of a given image in one pass; in sampling it takes one pass a pixel, or, with the activations kept,
one column of features a pixel.

The first layer is large and has mask A; then come residual blocks 2h -> h -> h -> 2h with mask B (their Figure 5); then
1x1 convolutions to the logits of all grey levels. Each 3x3 layer reaches one row up and one column to the right, never
further right than up: what lies flatter to the right than that is never seen. This is the blind spot that the gated
PixelCNN removes.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from gencourse.arguments import odd_integer, positive_integer, probability
from gencourse.autoregressive.base import Autoregressive
from gencourse.autoregressive.cache import PixelCache
from gencourse.autoregressive.layers import Convolve, MaskedConv2d, centred, pixels, require_images, whole
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import cosine


class PixelCNN(Autoregressive):
    """A stack of masked convolutions.

    Args:
        space: images of integers.
        blocks: residual blocks; each adds a pixel on every side to what a conditional may see.
        channels: h, the feature maps inside a block; between the blocks there are 2h.
        kernel: the first layer's size, odd.
        dropout: the share of the inner features of each block, and of the last layer's inputs, set to zero in training.
    """

    def __init__(self, space: Space, *, blocks: int = 5, channels: int = 32, kernel: int = 7, dropout: float = 0.0) -> None:
        super().__init__(space)
        blocks, channels = positive_integer("PixelCNN: blocks", blocks), positive_integer("PixelCNN: channels", channels)
        kernel, dropout = odd_integer("PixelCNN: kernel", kernel), probability("PixelCNN: dropout", dropout)
        colours, _, _ = require_images(space, "PixelCNN", channels)
        outputs = colours * (1 if self.levels == 2 else self.levels)
        self.first = MaskedConv2d(colours, 2 * channels, kernel, "A", colours)
        self.blocks = nn.ModuleList(Block(channels, colours, dropout) for _ in range(blocks))
        self.hidden = MaskedConv2d(2 * channels, 2 * channels, 1, "B", colours)
        self.last = MaskedConv2d(2 * channels, outputs, 1, "B", colours)
        self.dropout = nn.Dropout(dropout)

    def conditionals(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """Bernoulli pixels on two levels, categorical ones on more, `(B, *space.shape)`."""
        self._unconditional(context)
        return pixels(self.network(centred(x, self.space, self.last.weight)), self.space)

    def network(self, x: Tensor, convolve: Convolve = whole) -> Tensor:
        """Scaled pixels `(B, C, H, W)` -> logits `(B, C * levels, H, W)`, or `(B, C, H, W)` on two levels."""
        h = convolve(self.first, x)  # (B, 2h, H, W)
        for block in self.blocks:
            h = block(h, convolve)
        h = convolve(self.hidden, F.relu(h))
        return convolve(self.last, self.dropout(F.relu(h)))

    def start_cache(self, n: int, context: Tensor | None = None) -> "Cache":
        """Keep each layer's input; see `gencourse.autoregressive.cache.Memory`."""
        self._unconditional(context)
        return Cache(self, n)


class Block(nn.Module):
    """The residual block: 2h -> h by 1x1, h -> h by 3x3, h -> 2h by 1x1, all with mask B."""

    def __init__(self, channels: int, colours: int, dropout: float) -> None:
        super().__init__()
        self.reduce = MaskedConv2d(2 * channels, channels, 1, "B", colours)
        self.spread = MaskedConv2d(channels, channels, 3, "B", colours)
        self.expand = MaskedConv2d(channels, 2 * channels, 1, "B", colours)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, convolve: Convolve = whole) -> Tensor:
        """`(B, 2h, H, W)` -> the same."""
        h = convolve(self.reduce, F.relu(x))
        h = convolve(self.spread, F.relu(h))
        return x + convolve(self.expand, self.dropout(F.relu(h)))


class Cache(PixelCache):
    """One column of features a pixel."""

    def __init__(self, model: PixelCNN, n: int) -> None:
        super().__init__(model.space, n, model.first)
        self.model = model

    def at(self, x: Tensor, feeds: list[Tensor]) -> Distribution:
        """The network at the newest pixel, `(n, C, 1, 1)`; nothing is fed."""
        return pixels(self.model.network(self.scaled(x), self.memory), self.space)


RECIPES = (
    Recipe(
        "binary_digits",
        data="binary_digits",
        # 15 x 15 reaches over all of an 8 x 8 image: with so few images, being seen at once is worth more than depth.
        options={"blocks": 2, "channels": 24, "kernel": 15, "dropout": 0.5},
        fit={
            "steps": 700,
            "batch_size": 64,
            "lr": 3e-3,
            "schedule": cosine,
            "ema": 0.99,
            "optimizer": partial(torch.optim.AdamW, weight_decay=1.0),
        },
        band=17.6,
        quick=True,
    ),
    Recipe(
        "binarized_mnist",
        data="binarized_mnist",
        options={"blocks": 15, "channels": 128, "kernel": 7},
        fit={"steps": 12_000, "batch_size": 128, "lr": 1e-3, "schedule": cosine, "ema": 0.999, "precision": "bf16"},
        band=82.0,
        needs="one GPU, ten minutes",
    ),
)
