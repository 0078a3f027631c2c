"""Causal convolutions: what each may look at, and how to apply one at a single pixel from memory.

A masked convolution (van den Oord, Kalchbrenner and Kavukcuoglu, 2016, https://arxiv.org/abs/1601.06759) sees the rows
above its pixel and what stands to the left. At the pixel itself, mask A lets a colour see the earlier colours only, so
that the first layer knows nothing of what it must predict; mask B lets it see its own features too. For this the feature
maps are dealt to the colours: one group that may know nothing of the pixel (it predicts red), one that may know red, one
that may know red and green.

Such a network can be read in two ways. In training, every layer is applied to whole maps. In sampling, only the newest
pixel is unknown: each layer's value there follows from its window of values computed before (Ramachandran et al., 2017,
https://arxiv.org/abs/1704.06001). So the networks of this folder take an argument `convolve`, "how to apply a layer":
`whole` to maps, or a `Memory` at one place. They are written once, and the two readings cannot disagree.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution

from gencourse.arguments import odd_integer
from gencourse.autoregressive.base import log_masses_of
from gencourse.networks import full_precision
from gencourse.space import Space


class CausalConv2d(nn.Conv2d):
    """A convolution whose output at a pixel depends on no row below it.

    Args:
        inputs, outputs: numbers of feature maps.
        window: how many rows above, columns to the left and columns to the right of the pixel it sees.
        mask: "A" or "B" hides what comes later in the pixel's own row, and at the pixel itself the later colours; "A" also
            hides the colour's own features. None hides nothing of the window: for inputs that are already shifted.
        colours: into how many groups the maps are dealt.
        parts: of how many pieces, laid one after the other, the outputs consist; each is dealt to all colours.
        stride: 2 gives an output for every second row and column, from the first on.
    """

    mask: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        window: tuple[int, int, int] = (0, 0, 0),
        *,
        mask: Literal["A", "B"] | None = None,
        colours: int = 1,
        parts: int = 1,
        stride: int = 1,
    ) -> None:
        above, left, right = window
        super().__init__(inputs, outputs, (above + 1, left + 1 + right), stride)
        self.window = window
        self.register_buffer("mask", None, persistent=False)
        if mask is not None:
            visible = torch.ones_like(self.weight)
            visible[:, :, above, left] = colour_mask(mask, inputs, outputs, colours, parts)
            visible[:, :, above, left + 1 :] = 0
            self.mask = visible

    def visible_weight(self) -> Tensor:
        """The weight with the mask multiplied in: the parameter itself keeps all its values."""
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """Whole maps, `(B, inputs, H, W)` -> `(B, outputs, H, W)`."""
        above, left, right = self.window
        if any(self.window):
            x = F.pad(x, (left, right, above, 0))
        return F.conv2d(x, self.visible_weight(), self.bias, self.stride)


class MaskedConv2d(CausalConv2d):
    """The masked convolution of PixelCNN, `kernel` by `kernel`, less the rows below its centre, which are all hidden."""

    def __init__(self, inputs: int, outputs: int, kernel: int, mask: Literal["A", "B"], colours: int = 1) -> None:
        half = odd_integer("MaskedConv2d: kernel", kernel) // 2
        super().__init__(inputs, outputs, (half, half, half), mask=mask, colours=colours)


def colour_mask(mask: Literal["A", "B"], inputs: int, outputs: int, colours: int, parts: int = 1) -> Tensor:
    """Which maps may see which at the pixel itself: `(outputs, inputs)` of 0 and 1.

    Maps are dealt to colours in order and as evenly as they go: of n maps, map f belongs to colour `f * colours // n`.
    """

    def colour(maps: int) -> Tensor:
        return torch.arange(maps) * colours // maps

    of_input, of_output = colour(inputs), colour(outputs // parts).repeat(parts)
    visible = of_input < of_output[:, None] if mask == "A" else of_input <= of_output[:, None]
    return visible.to(torch.get_default_dtype())


#: How a network applies a layer: `convolve(layer, maps)`.
Convolve = Callable[[CausalConv2d, Tensor], Tensor]


def whole(layer: CausalConv2d, x: Tensor) -> Tensor:
    """Apply a layer to whole maps."""
    return layer(x)


def shift_down(x: Tensor) -> Tensor:
    """Move maps down by one row; the first row becomes zero. What is at a pixel now was above it."""
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]


def gate(x: Tensor) -> Tensor:
    """The gated activation, `tanh(a) * sigmoid(b)` with a and b the two halves of the maps."""
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


def centred(x: Tensor, space: Space, like: Tensor) -> Tensor:
    """Grey levels scaled to [-1, 1], in the dtype of `like`."""
    return space.to_signed(x, like.dtype)


def require_images(space: Space, name: str, channels: int | None = None) -> tuple[int, int, int]:
    """The shape `(C, H, W)` of the space.

    Args:
        name: of the model, for the message.
        channels: the feature maps that are dealt to the colours, if they are.

    Raises:
        ValueError: if it is not a space of images, or there are fewer maps than colours.
    """
    if len(space.shape) != 3:
        raise ValueError(f"{name} needs images, a Space of shape (C, H, W), but it was given {space}.")
    colours, height, width = space.shape
    if channels is not None and channels < colours:
        raise ValueError(f"{name}: channels must be at least {colours}, a feature map for each colour.")
    return colours, height, width


def pixels(logits: Tensor, space: Space) -> Distribution:
    """Bernoulli pixels from `(B, C, H, W)` logits on two levels, categorical ones from `(B, C * levels, H, W)` on more."""
    logits = full_precision(logits)
    if space.levels == 2:
        return Bernoulli(logits=logits, validate_args=False)
    return Categorical(logits=logits.unflatten(1, (space.shape[0], -1)).movedim(2, -1), validate_args=False)


class Memory:
    """Convolutions at one place of `n` images at a time, from what the layers were given at the places before.

    Of each layer's input only the rows that its window reaches are kept, so neither the memory nor the work depends on
    the height of the image. Move it with `column`, the first of the columns at hand, and `next_row`.
    """

    def __init__(self, n: int, width: int) -> None:
        self.n, self.width = n, width
        self.column = 0
        self.kept: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def next_row(self) -> None:
        """Go to the start of the next row: each layer forgets its oldest."""
        self.column = 0
        for rows, _ in self.kept.values():
            rows[:, :-1] = rows[:, 1:].clone()
            rows[:, -1] = 0

    def store(self, layer: CausalConv2d, x: Tensor, column: int) -> None:
        """Remember what a layer is given at the columns from `column` on of this row, `(n, inputs, 1, columns)`."""
        rows, _ = self._of(layer, x)
        left = layer.window[1]
        rows[:, -1, left + column : left + column + x.shape[3]] = x[:, :, 0].transpose(1, 2)

    def __call__(self, layer: CausalConv2d, x: Tensor) -> Tensor:
        """The layer at the places at hand: `(n, inputs, 1, columns)` -> `(n, outputs, 1, columns)`."""
        rows, weight = self._of(layer, x)
        _, left, right = layer.window
        columns = x.shape[3]
        if not any(layer.window):
            window = x[:, :, 0].transpose(1, 2)  # (n, columns, inputs)
        else:
            self.store(layer, x, self.column)
            window = rows[:, :, self.column : self.column + left + columns + right]  # (n, above + 1, ..., inputs)
            if columns > 1:
                window = window.unfold(2, left + 1 + right, 1).permute(0, 2, 1, 4, 3)  # (n, columns, above + 1, ..., inputs)
            window = window.reshape(self.n, columns, -1)  # (n, columns, taps * inputs)
        return F.linear(window, weight, layer.bias).transpose(1, 2).unsqueeze(2)

    def _of(self, layer: CausalConv2d, x: Tensor) -> tuple[Tensor, Tensor]:
        """The kept rows of the layer's input, `(n, above + 1, left + W + right, inputs)`, and its weight as a matrix."""
        if layer not in self.kept:
            above, left, right = layer.window
            width = left + self.width + right if any(layer.window) else 0  # a 1x1 layer has nothing to remember
            rows = x.new_zeros(self.n, above + 1, width, layer.in_channels)
            weight = layer.visible_weight().permute(0, 2, 3, 1).flatten(1)  # (outputs, taps * inputs)
            self.kept[layer] = rows, weight.contiguous()
        return self.kept[layer]


class PixelCache:
    """Draws images pixel by pixel: a column of features for each, computed from the features before it.

    A model says what a row takes from the rows above it (`above`; nothing, unless it has a vertical stack), what its
    network says `at` one pixel, and which of its layers is the `first`, the one that is given the pixels themselves.

    The pixels are visited row by row. If some are skipped, they are known, and only their features are computed.
    """

    def __init__(self, space: Space, n: int, first: CausalConv2d) -> None:
        self.space, self.first = space, first
        self.memory = Memory(n, space.shape[2])
        self.place = -1  # of the newest pixel, row by row
        self.feeds: list[Tensor] = []

    def above(self, x: Tensor, row: int) -> list[Tensor]:
        """What this row takes from the rows above, maps `(n, ..., 1, W)`; `x` is the scaled row above, `(n, C, 1, W)`."""
        return []

    def at(self, x: Tensor, feeds: list[Tensor]) -> Distribution:
        """The conditionals at one pixel, batch `(n, C, 1, 1)`, from the grey levels of its known colours and its feeds."""
        raise TypeError(f"{type(self).__name__} must implement at.")

    def log_masses(self, x: Tensor, i: int) -> Tensor:
        """Log-probabilities of each level of pixel `i`, `(n, levels)`."""
        _, height, width = self.space.shape
        colour, place = divmod(i, height * width)
        while self.place < place:
            if self.place >= 0:  # all colours of the last pixel are known now
                self.memory.store(self.first, self.scaled(self._pixel(x)), self.memory.column)
            self.place += 1
            row, column = divmod(self.place, width)
            if column == 0:
                self.memory.next_row()
                self.feeds = self.above(self._row_above(x, row), row)
            self.memory.column = column
            if self.place < place:
                self._here(x)
        return log_masses_of(self._here(x), colour)

    def scaled(self, x: Tensor) -> Tensor:
        """Grey levels on [-1, 1], as the first layer is given them."""
        return centred(x, self.space, self.first.weight)

    def _here(self, x: Tensor) -> Distribution:
        column = self.memory.column
        return self.at(self._pixel(x), [feed[:, :, :, column : column + 1] for feed in self.feeds])

    def _pixel(self, x: Tensor) -> Tensor:
        row, column = divmod(self.place, self.space.shape[2])
        return x[:, :, row : row + 1, column : column + 1]  # (n, C, 1, 1)

    def _row_above(self, x: Tensor, row: int) -> Tensor:
        above = self.scaled(x[:, :, max(row - 1, 0)].unsqueeze(2))  # (n, C, 1, W)
        return above if row else torch.zeros_like(above)  # as `shift_down` has it
