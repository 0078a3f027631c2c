"""Gated PixelCNN (van den Oord et al., 2016, Conditional image generation, https://arxiv.org/abs/1606.05328; slide 30).

Two stacks instead of one. The vertical stack sees all rows above the pixel, and nothing of its own row, so it needs no
mask and can reach far to the right; the horizontal stack sees what stands to the left in the pixel's row. Each layer of
the horizontal stack is fed by the vertical one, never the reverse. Together they see every earlier pixel within reach:
the blind spot of PixelCNN is gone.

Each layer ends in a gate (their Eq. 2; with a condition s, their Eqs. 3 and 4):

    y = tanh(W_f * x + V_f s) . sigmoid(W_g * x + V_g s)

Their Figure 2 is one layer: v = k-row convolution; feed = 1x1 of v, before its gate; h = row convolution + feed, gated,
1x1, plus the layer's input. A condition s is a class, the same everywhere, or a map with a value at each pixel.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from gencourse.arguments import non_negative_integer, odd_integer, positive_integer, probability
from gencourse.autoregressive.base import Autoregressive
from gencourse.autoregressive.cache import PixelCache
from gencourse.autoregressive.layers import (
    CausalConv2d,
    Convolve,
    centred,
    gate,
    pixels,
    require_images,
    shift_down,
    whole,
)
from gencourse.networks import one_hot
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import cosine


class GatedPixelCNN(Autoregressive):
    """Vertical and horizontal stacks of gated convolutions.

    Args:
        space: images of integers.
        blocks: layers after the first; each adds a pixel on every side to what a conditional may see.
        channels: p, the feature maps of each stack.
        kernel: the first layer's size, odd and at least 3.
        classes: how many classes `context` distinguishes, labels `(B,)`; None for an unconditional model.
        dropout: the share of the horizontal stack's gated maps set to zero in training.
    """

    def __init__(
        self,
        space: Space,
        *,
        blocks: int = 5,
        channels: int = 32,
        kernel: int = 7,
        classes: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(space)
        self.classes = None if classes is None else positive_integer("GatedPixelCNN: classes", classes)
        sizes = stack_sizes("GatedPixelCNN", blocks, channels, kernel)
        colours, _, _ = require_images(space, "GatedPixelCNN", sizes[1])
        outputs = colours * (1 if self.levels == 2 else self.levels)
        self.stacks = Stacks(colours, outputs, *sizes, self.classes or 0, probability("GatedPixelCNN: dropout", dropout))

    def conditionals(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """Bernoulli pixels on two levels, categorical ones on more, `(B, *space.shape)`; `context` is labels `(B,)` or None."""
        return pixels(self.stacks(centred(x, self.space, self.stacks.last.weight), self.condition(context, len(x))), self.space)

    def condition(self, context: Tensor | None, n: int) -> Tensor | None:
        """The labels of `n` images, `(n,)`, as one-hot maps `(n, classes, 1, 1)`.

        Raises:
            ValueError: if labels are missing, or given to an unconditional model, or out of range, or too few or many.
        """
        if self.classes is None:
            self._unconditional(context)
            return None
        return one_hot(context, self.classes, n, self.stacks.last.weight, "GatedPixelCNN")[:, :, None, None]

    def start_cache(self, n: int, context: Tensor | None = None) -> "Cache":
        """Keep both stacks' inputs: the vertical stack is computed a row at a time, the horizontal one a pixel at a time."""
        return Cache(self.space, n, self.stacks, self.condition(context, n))


def stack_sizes(name: str, blocks: int, channels: int, kernel: int) -> tuple[int, int, int]:
    """Blocks, channels and kernel of the stacks of the model `name`; a `ValueError` says which of them will not do."""
    return (
        non_negative_integer(f"{name}: blocks", blocks),
        positive_integer(f"{name}: channels", channels),
        odd_integer(f"{name}: kernel", kernel, least=3),
    )


class Stacks(nn.Module):
    """The network: scaled pixels and a condition to logits.

    Args:
        colours: channels of the image.
        outputs: maps of logits.
        blocks, channels, kernel, dropout: as in `GatedPixelCNN`.
        conditions: maps of the condition; 0 for none.
    """

    def __init__(
        self, colours: int, outputs: int, blocks: int, channels: int, kernel: int, conditions: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        half = kernel // 2
        window = (half - 1, half, half)  # less a row: the image is shifted down by one
        self.v = nn.ModuleList([Vertical(colours, channels, window, conditions, last=blocks == 0)])
        self.h = nn.ModuleList([Horizontal(colours, channels, half, "A", colours, dropout)])
        for block in range(1, blocks + 1):
            self.v.append(Vertical(channels, channels, (1, 1, 1), conditions, last=block == blocks))
            self.h.append(Horizontal(channels, channels, 1, "B", colours, dropout))
        self.hidden = CausalConv2d(channels, 2 * channels, mask="B", colours=colours)
        self.last = CausalConv2d(2 * channels, outputs, mask="B", colours=colours)

    @property
    def first(self) -> CausalConv2d:
        """The layer that is given the pixels of the row at hand."""
        return self.h[0].row  # type: ignore[return-value]

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Scaled pixels `(B, C, H, W)`, condition `(B, K, H, W)` or `(B, K, 1, 1)` -> logits `(B, outputs, H, W)`."""
        return self.horizontal(x, self.vertical(shift_down(x), condition, whole), whole)

    def vertical(self, above: Tensor, condition: Tensor | None, convolve: Convolve) -> list[Tensor]:
        """The image moved down by a row, `(B, C, H, W)`, to what each horizontal layer is fed, `(B, 2p, H, W)`."""
        v, feeds = above, []
        for layer in self.v:
            v, feed = layer(v, condition, convolve)
            feeds.append(feed)
        return feeds

    def horizontal(self, x: Tensor, feeds: list[Tensor], convolve: Convolve) -> Tensor:
        """Scaled pixels `(B, C, H, W)` and what each layer is fed, `(B, 2p, H, W)`, to logits `(B, outputs, H, W)`."""
        h = self.h[0](x, feeds[0], convolve)
        for layer, feed in zip(self.h[1:], feeds[1:], strict=True):
            h = h + layer(h, feed, convolve)
        h = convolve(self.hidden, F.elu(h))  # the paper has ReLU here; with few maps, all of a colour's can be dead
        return convolve(self.last, F.elu(h))


class Vertical(nn.Module):
    """The left half of the paper's Figure 2. After the `last`, nothing needs its gate."""

    def __init__(self, inputs: int, channels: int, window: tuple[int, int, int], conditions: int, *, last: bool = False) -> None:
        super().__init__()
        self.rows = CausalConv2d(inputs, 2 * channels, window)
        self.feed = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.last = last
        if conditions:
            self.s_to_feed = nn.Conv2d(conditions, 2 * channels, 1, bias=False)
            if not last:
                self.s_to_rows = nn.Conv2d(conditions, 2 * channels, 1, bias=False)

    def forward(self, v: Tensor, condition: Tensor | None, convolve: Convolve) -> tuple[Tensor, Tensor]:
        """`(B, inputs, H, W)` to the stack's features, gated `(B, p, H, W)`, and the horizontal one's feed, `(B, 2p, H, W)`."""
        v = convolve(self.rows, v)  # (B, 2p, H, W)
        feed = self.feed(v)
        if condition is not None:
            feed = feed + self.s_to_feed(condition)
            v = v if self.last else v + self.s_to_rows(condition)
        return (v if self.last else gate(v)), feed


class Horizontal(nn.Module):
    """The right half of the paper's Figure 2, without its residual connection."""

    def __init__(self, inputs: int, channels: int, left: int, mask: Literal["A", "B"], colours: int, dropout: float) -> None:
        super().__init__()
        self.row = CausalConv2d(inputs, 2 * channels, (0, left, 0), mask=mask, colours=colours, parts=2)
        self.out = CausalConv2d(channels, channels, mask="B", colours=colours)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, feed: Tensor, convolve: Convolve) -> Tensor:
        """`(B, inputs, H, W)`, and what it is fed, `(B, 2p, H, W)`, to the stack's features, `(B, p, H, W)`."""
        return convolve(self.out, self.dropout(gate(convolve(self.row, h) + feed)))


class Cache(PixelCache):
    """The vertical stack once a row, the horizontal stack once a pixel."""

    def __init__(self, space: Space, n: int, stacks: Stacks, condition: Tensor | None) -> None:
        super().__init__(space, n, stacks.first)
        self.stacks, self.condition = stacks, condition

    def above(self, x: Tensor, row: int) -> list[Tensor]:
        """The vertical stack at the row: of the scaled row above, `(n, C, 1, W)`, feeds `(n, 2p, 1, W)`."""
        condition = self.condition
        if condition is not None and condition.shape[2] > 1:
            condition = condition[:, :, row : row + 1]
        return self.stacks.vertical(x, condition, self.memory)

    def at(self, x: Tensor, feeds: list[Tensor]) -> Distribution:
        """The horizontal stack at the newest pixel, batch `(n, C, 1, 1)`; feeds `(n, 2p, 1, 1)`."""
        return pixels(self.stacks.horizontal(self.scaled(x), feeds, self.memory), self.space)


RECIPES = (
    Recipe(
        "binary_digits",
        data="binary_digits",
        options={"blocks": 2, "channels": 24, "kernel": 15, "dropout": 0.5},  # the first layer reaches over the whole image
        fit={"steps": 800, "batch_size": 64, "lr": 3e-3, "schedule": cosine, "ema": 0.99},
        band=17.6,
        quick=True,
    ),
    Recipe(
        "binarized_mnist",
        data="binarized_mnist",
        options={"blocks": 12, "channels": 96, "kernel": 7},
        fit={"steps": 12_000, "batch_size": 128, "lr": 1e-3, "schedule": cosine, "ema": 0.999, "precision": "bf16"},
        band=82.0,
        needs="one GPU, ten minutes",
    ),
)
