"""Causal convolutions one pixel at a time: what sampling keeps, so that each pixel costs a column of features and no more.

A network of `gencourse.autoregressive.layers` takes an argument `convolve`, "how to apply a layer". In sampling it is a
`Memory`, which applies a layer at one place from what it was given at the places before; a `PixelCache` leads it over the image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from gencourse.autoregressive.base import logits_of
from gencourse.autoregressive.layers import CausalConv2d, centred
from gencourse.space import Space


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

    def logits(self, x: Tensor, i: int) -> Tensor:
        """What `inverse_cdf` draws pixel `i` from, `(n, 1)` or `(n, levels)`."""
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
        return logits_of(self._here(x), colour)

    def scaled(self, x: Tensor) -> Tensor:
        """Grey levels on [-1, 1], as the first layer is given them; the shape of `x`."""
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
