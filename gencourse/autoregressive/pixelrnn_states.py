"""PixelRNN one pixel at a time: sampling keeps the LSTMs' states, so the work for a pixel does not depend on the image's size.

A pixel needs the states of its neighbours only: of those above in a Row LSTM, and of those to the left and above in a
Diagonal BiLSTM. So two rows of states are kept, this one and the one above.
"""

import torch
from torch import Tensor
from torch.distributions import Distribution

from gencourse.autoregressive.cache import Memory, PixelCache
from gencourse.autoregressive.layers import pixels
from gencourse.autoregressive.recurrent import PixelRNN, lstm, three


class States(Memory):
    """Beside what the convolutions keep, each layer's states in this row and the one above, `(L, n, W, h)`."""

    def __init__(self, model: PixelRNN, n: int) -> None:
        super().__init__(n, model.space.shape[2] + model.margin)
        self.model = model
        self.weight = torch.stack([layer.state_to_state for layer in model.layers], 1)  # (directions, L, neighbours * h, 4h)
        self.h, self.cell, self.h_above, self.cell_above = self.weight.new_zeros(
            4, len(model.layers), n, self.width, model.hidden
        )

    def next_row(self) -> None:
        """Go to the start of the next row."""
        super().next_row()
        self.h, self.h_above = self.h_above, self.h
        self.cell, self.cell_above = self.cell_above, self.cell

    def recur(self, layer: int, gates: Tensor) -> Tensor:
        """The state of the pixel, `(n, h, 1, 1)`, from K_is * v, `(n, directions * 4h, 1, 1)`."""
        raise TypeError(f"{type(self).__name__} must implement recur.")


class RowStates(States):
    """A pixel takes one step of each layer's LSTM; K_ss is applied to the row above as a whole, when that is complete."""

    def __init__(self, model: PixelRNN, n: int) -> None:
        super().__init__(model, n)
        self.from_above = self.weight.new_zeros(len(model.layers), n, self.width, 4 * model.hidden)

    def next_row(self) -> None:
        """Go to the start of the next row."""
        super().next_row()
        self.from_above = three(self.h_above) @ self.weight[0].unsqueeze(1)

    def recur(self, layer: int, gates: Tensor) -> Tensor:
        """The state of the pixel, `(n, h, 1, 1)`, from K_is * v, `(n, 4h, 1, 1)`."""
        at = layer, slice(None), self.column
        self.h[at], self.cell[at] = lstm(gates.flatten(1) + self.from_above[at], self.cell_above[at])
        return self.h[at][:, :, None, None]


class DiagonalStates(States):
    """A pixel takes one step of each layer's LSTM from the left; the one from the right waits until the row is complete.

    It can wait, as it shows what it knew of the row above. Then it takes W steps, in all layers at once: one step a pixel.
    """

    def __init__(self, model: PixelRNN, n: int) -> None:
        super().__init__(model, n)
        self.right = torch.zeros_like(self.h)  # from the right, in the row above
        self.gates = self.weight.new_zeros(len(model.layers), n, self.width, 4 * model.hidden)  # K_is * v for it, in this row

    def next_row(self) -> None:
        """Go to the start of the next row."""
        if self.kept:  # there is a row behind us
            self._finish_row()
        super().next_row()

    def recur(self, layer: int, gates: Tensor) -> Tensor:
        """The state of the pixel, `(n, h, 1, 1)`, from K_is * v, `(n, 2 * 4h, 1, 1)`."""
        at, left = (layer, slice(None), self.column), (layer, slice(None), self.column - 1)
        from_left, self.gates[at] = gates.flatten(1).chunk(2, 1)
        h, cell = (self.h[left], self.cell[left]) if self.column else (torch.zeros_like(self.h[at]),) * 2
        before = torch.cat([h, self.h_above[at]], 1)
        self.h[at], self.cell[at] = lstm(torch.addmm(from_left, before, self.weight[0, layer]), cell)
        return (self.h[at] + self.right[at])[:, :, None, None]

    def _finish_row(self) -> None:
        """Visit the column beside the image, then come back from the right."""
        if self.model.margin:
            self.column = self.width - 1
            self.model.network(self.weight.new_zeros(self.n, self.model.space.shape[0], 1, 1), self, self.recur)
        h = cell = torch.zeros_like(self.right[:, :, 0])  # (L, n, h)
        for column in reversed(range(self.width)):
            before = torch.cat([h, self.right[:, :, column]], -1)
            h, cell = lstm(torch.baddbmm(self.gates[:, :, column], before, self.weight[1]), cell)
            self.right[:, :, column] = h


class StateCache(PixelCache):
    """The network at one pixel after the other; see `PixelCache`."""

    def __init__(self, model: PixelRNN, states: States) -> None:
        super().__init__(model.space, states.n, model.first)
        self.model, self.memory, self.recur = model, states, states.recur

    def at(self, x: Tensor, feeds: list[Tensor]) -> Distribution:
        """The conditionals at one pixel, batch `(n, C, 1, 1)`, from the grey levels of its known colours."""
        return pixels(self.model.network(self.scaled(x), self.memory, self.recur), self.space)
