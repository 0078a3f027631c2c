"""PixelRNN: the earlier pixels are remembered by LSTMs that run over the image in two dimensions (slides 23-26).

Van den Oord, Kalchbrenner and Kavukcuoglu, 2016, https://arxiv.org/abs/1601.06759. A masked 7x7 convolution (mask A)
turns the image into 2h maps v, recurrent layers add to them, and two 1x1 convolutions give the logits. In a layer, K_is
is a masked convolution of the maps (mask B) and K_ss one of the states of the step before (their Eq. 3):

    [o, f, i, g] = [sigma, sigma, sigma, tanh](K_ss * h_before + K_is * v)
    c = f c_before + i g        h = o tanh(c)        v <- v + K_up * h        (residual: h maps raised to 2h)

- `RowLSTM`: a step is a row. K_ss is 3 wide over the row above, so that a pixel sees a triangle of which it is the tip.
- `DiagonalBiLSTM`: a step is a diagonal. K_ss reads the left neighbour and the one above. A second LSTM comes from the
  right; its map is moved down one row, to show nothing later. `skew` makes columns of the diagonals.

Gates act map by map, and a map belongs to a colour, so K_is, K_up and the 1x1 convolutions have masks for colours. K_ss
needs none: it reads the states of earlier pixels only, whose colours are all known.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gencourse.autoregressive.cache import PixelCache
from gencourse.autoregressive.pixelrnn_states import DiagonalStates, RowStates, StateCache
from gencourse.autoregressive.recurrent import PixelRNN, lstm, skew, three, unskew
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import cosine

__all__ = ["RECIPES", "DiagonalBiLSTM", "RowLSTM", "skew", "unskew"]


class RowLSTM(PixelRNN):
    """PixelRNN with Row LSTM layers: the states of a row come from those of the row above, 3 places at once.

    With p = (kernel - 1) / 2, the pixel at column c sees the columns from `c - layers - p` on in its own row, from
    `c - d - layers - p` to `c + d - 1 + p` in the row d above, and nothing else: wide images have blind regions on both sides.
    """

    left, neighbours = 1, 3

    def recur(self, layer: int, gates: Tensor) -> Tensor:
        """K_is * v, `(B, 4h, H, W)`, to the states, `(B, h, H, W)`, from the top row to the bottom: H steps."""
        weight = self.layers[layer].state_to_state[0]
        h = cell = weight.new_zeros(gates.shape[0], gates.shape[3], self.hidden)  # (B, W, h)
        rows = []
        for row in gates.permute(2, 0, 3, 1).contiguous():  # (B, W, 4h)
            h, cell = lstm(row + three(h) @ weight, cell)
            rows.append(h)
        return torch.stack(rows, 1).permute(0, 3, 1, 2)

    def start_cache(self, n: int, context: Tensor | None = None) -> PixelCache:
        """Keeps the states of two rows; the work for a pixel does not depend on the size of the image."""
        self._unconditional(context)
        return StateCache(self, RowStates(self, n))


class DiagonalBiLSTM(PixelRNN):
    """PixelRNN with Diagonal BiLSTM layers, which see every earlier pixel.

    Every one, thanks to a column of zeros to the right of the image. The maps v know earlier pixels but not their own
    (mask A), so what comes from the right knows the row above without its last pixel. Without the column, that pixel is
    hidden from all whose first convolution does not reach it, however many layers there are. With it, the row's last
    pixel is a zero. `margin=0` leaves the column out: the published network.
    """

    neighbours, directions = 2, 2

    def __init__(
        self,
        space: Space,
        *,
        hidden: int = 16,
        layers: int = 7,
        kernel: int = 7,
        features: int = 32,
        dropout: float = 0.0,
        margin: int = 1,
    ) -> None:
        super().__init__(space, hidden=hidden, layers=layers, kernel=kernel, features=features, dropout=dropout)
        if margin not in (0, 1):
            raise ValueError(f"DiagonalBiLSTM: margin must be 1, or 0 for the published network, not {margin!r}.")
        self.margin = margin

    def recur(self, layer: int, gates: Tensor) -> Tensor:
        """K_is * v of both directions, `(B, 2 * 4h, H, W)`, to the states, `(B, h, H, W)`, along H + W - 1 diagonals."""
        weight = self.layers[layer].state_to_state
        left, right = gates.chunk(2, 1)
        skewed = skew(torch.stack([left, right.flip(-1)]))  # (2, B, 4h, H, H + W - 1)
        diagonals = skewed.permute(4, 0, 1, 3, 2).contiguous()  # (H + W - 1, 2, B, H, 4h)
        h = cell = weight.new_zeros(*diagonals.shape[1:4], self.hidden)  # (2, B, H, h)
        columns = []
        # Beside the image, `skew` has put 0 for K_is * v and its bias. There g = tanh(0), so c and h stay 0 without a mask.
        for diagonal in diagonals:
            before = torch.cat([h, F.pad(h, (0, 0, 1, -1))], -1).flatten(1, 2)  # left, above: (2, B * H, 2h)
            h, cell = lstm(torch.baddbmm(diagonal.flatten(1, 2), before, weight).view_as(diagonal), cell)
            columns.append(h)
        left, right = unskew(torch.stack(columns, -1).movedim(3, 2))  # (B, h, H, W) each
        return left + F.pad(right.flip(-1), (0, 0, 1, -1))

    def start_cache(self, n: int, context: Tensor | None = None) -> PixelCache:
        """Keeps the states of two rows; the work for a pixel does not depend on the size of the image."""
        self._unconditional(context)
        return StateCache(self, DiagonalStates(self, n))


RECIPES = (  # of both models
    Recipe(
        "binary_digits",
        data="binary_digits",
        options={"hidden": 32, "layers": 2, "kernel": 5, "dropout": 0.5},
        fit={"steps": 1000, "batch_size": 64, "lr": 4e-3, "schedule": cosine, "ema": 0.99},
        band=17.6,
        quick=True,
        needs="two CPU cores, three minutes",
    ),
    Recipe(
        "binarized_mnist",
        data="binarized_mnist",
        options={"hidden": 16, "layers": 7},
        fit={"steps": 5000, "batch_size": 512, "lr": 2e-3, "schedule": cosine, "ema": 0.999, "precision": "bf16"},
        band=81.5,
        needs="one GPU, ten minutes",
    ),
)
