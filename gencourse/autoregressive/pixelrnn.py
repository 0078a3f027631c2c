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

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from gencourse.arguments import odd_integer, positive_integer, probability
from gencourse.autoregressive.base import Autoregressive
from gencourse.autoregressive.layers import (
    CausalConv2d,
    Convolve,
    MaskedConv2d,
    PixelCache,
    centred,
    pixels,
    require_images,
    whole,
)
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import cosine


def skew(maps: Tensor) -> Tensor:
    """Move row r to the right by r places, filling with zeros: `(..., H, W)` -> `(..., H, H + W - 1)`.

    The diagonal r + c = t becomes column t.
    """
    height, width = maps.shape[-2:]
    steps = height + width - 1
    flat = F.pad(maps, (0, height)).flatten(-2)[..., : height * steps]
    return flat.unflatten(-1, (height, steps))  # each row is read one number short, so the next begins one later


def unskew(maps: Tensor) -> Tensor:
    """Undo `skew`: `(..., H, H + W - 1)` -> `(..., H, W)`."""
    height, steps = maps.shape[-2:]
    flat = F.pad(maps.flatten(-2), (0, height))
    return flat.unflatten(-1, (height, steps + 1))[..., : steps + 1 - height]


def lstm(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """A step of an LSTM: o, f, i, g before their sigmoids and tanh, `(..., 4h)`, and c_before, `(..., h)` -> h and c."""
    o, f, i, g = gates.chunk(4, -1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


class Recurrent(nn.Module):
    """The parameters of a recurrent layer; the models below say on which path the states take over the image.

    Args:
        hidden: h. The layer takes and gives 2h maps.
        colours: to which the maps are dealt.
        left: how many pixels to the left K_is sees, beside the pixel itself.
        neighbours: how many states K_ss reads.
        directions: how many LSTMs there are.
    """

    def __init__(self, hidden: int, colours: int, *, left: int, neighbours: int, directions: int) -> None:
        super().__init__()
        parts = 4 * directions
        self.input_to_state = CausalConv2d(2 * hidden, parts * hidden, (0, left, 0), mask="B", colours=colours, parts=parts)
        self.state_to_state = nn.Parameter(torch.empty(directions, neighbours * hidden, 4 * hidden))  # as matrices
        self.up = MaskedConv2d(hidden, 2 * hidden, 1, "B", colours)
        bound = 1 / math.sqrt(neighbours * hidden)
        nn.init.uniform_(self.state_to_state, -bound, bound)
        with torch.no_grad():  # else f is 1/2, and after ten steps nothing is left of a memory or its gradient
            self.input_to_state.bias.view(directions, 4, hidden)[:, 1] += 1  # type: ignore[union-attr]


class PixelRNN(Autoregressive):
    """What both PixelRNNs share: everything but the path of the states.

    Args:
        space: images of integers.
        hidden: h, the number of units of an LSTM; between the layers there are 2h maps.
        layers: how many recurrent layers.
        kernel: the size of the first convolution, odd.
        features: maps before the last 1x1 convolution.
        dropout: the share of the states that is hidden from K_up in training.
    """

    left, neighbours, directions = 0, 1, 1  # of each layer, see `Recurrent`
    margin = 0  # columns added to the right of the image

    def __init__(
        self, space: Space, *, hidden: int = 16, layers: int = 7, kernel: int = 7, features: int = 32, dropout: float = 0.0
    ) -> None:
        super().__init__(space)
        name = type(self).__name__
        colours, _, _ = require_images(space, name)
        hidden, layers = positive_integer(f"{name}: hidden", hidden), positive_integer(f"{name}: layers", layers)
        kernel, features = odd_integer(f"{name}: kernel", kernel), positive_integer(f"{name}: features", features)
        dropout = probability(f"{name}: dropout", dropout)
        paths = {"left": self.left, "neighbours": self.neighbours, "directions": self.directions}
        outputs = colours * (1 if self.levels == 2 else self.levels)
        self.hidden = hidden
        self.first = MaskedConv2d(colours, 2 * hidden, kernel, "A", colours)
        recurrent = nn.ModuleList(Recurrent(hidden, colours, **paths) for _ in range(layers))
        self.layers: Sequence[Recurrent] = recurrent  # type: ignore[assignment]
        self.dropout = nn.Dropout(dropout)
        self.features = MaskedConv2d(2 * hidden, features, 1, "B", colours)
        self.last = MaskedConv2d(features, outputs, 1, "B", colours)

    def conditionals(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """Bernoulli pixels on two levels, categorical ones on more, `(B, *space.shape)`."""
        self._unconditional(context)
        x = F.pad(centred(x, self.space, self.last.weight), (0, self.margin))
        return pixels(self.network(x)[..., : self.space.shape[2]], self.space)

    def network(self, x: Tensor, convolve: Convolve = whole, recur: Callable[[int, Tensor], Tensor] | None = None) -> Tensor:
        """Scaled pixels `(B, C, H, W)` -> logits `(B, C * levels, H, W)`, or `(B, C, H, W)` on two levels.

        `convolve(layer, maps)` and `recur(i, gates)`, by default of whole maps, say how to apply layers.
        """
        recur = recur or self.recur
        v = convolve(self.first, x)  # (B, 2h, H, W)
        for i, layer in enumerate(self.layers):
            v = v + convolve(layer.up, self.dropout(recur(i, convolve(layer.input_to_state, v))))
        return convolve(self.last, F.relu(convolve(self.features, F.relu(v))))

    def recur(self, layer: int, gates: Tensor) -> Tensor:
        """The states of all pixels, `(B, h, H, W)`, from K_is * v, `(B, directions * 4h, H, W)`."""
        raise TypeError(f"{type(self).__name__} must implement recur.")


class RowLSTM(PixelRNN):
    """PixelRNN with Row LSTM layers: the states of a row come from those of the row above, 3 places at once.

    With p = (kernel - 1) / 2, the pixel at column c sees the columns from `c - layers - p` on in its own row, from
    `c - d - layers - p` to `c + d - 1 + p` in the row d above, and nothing else: wide images have blind regions on both sides.
    """

    left, neighbours = 1, 3

    def recur(self, layer: int, gates: Tensor) -> Tensor:
        """From the top row to the bottom: H steps."""
        weight = self.layers[layer].state_to_state[0]
        h = cell = weight.new_zeros(gates.shape[0], gates.shape[3], self.hidden)  # (B, W, h)
        rows = []
        for row in gates.permute(2, 0, 3, 1).contiguous():  # (B, W, 4h)
            h, cell = lstm(row + three(h) @ weight, cell)
            rows.append(h)
        return torch.stack(rows, 1).permute(0, 3, 1, 2)

    def start_cache(self, n: int, context: Tensor | None = None) -> PixelCache:
        """Keeps the states of two rows; the work for a pixel does not depend on the size of the image."""
        from gencourse.autoregressive.pixelrnn_states import RowStates, StateCache  # they are built on this file

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
        """From corner to corner, both directions at once: H + W - 1 steps."""
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
        from gencourse.autoregressive.pixelrnn_states import DiagonalStates, StateCache  # they are built on this file

        self._unconditional(context)
        return StateCache(self, DiagonalStates(self, n))


def three(h: Tensor) -> Tensor:
    """Each place of a row beside its neighbours: `(..., W, h)` -> `(..., W, 3h)`."""
    return torch.cat([F.pad(h, (0, 0, 1, -1)), h, F.pad(h, (0, 0, -1, 1))], -1)


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
