"""What both PixelRNNs are made of: the step of an LSTM, a recurrent layer's parameters, and the network but for its path.

The models say on which path the states take over the image (`gencourse.autoregressive.pixelrnn`), in training all of it at
once and in sampling a pixel at a time (`gencourse.autoregressive.pixelrnn_states`).
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from gencourse.arguments import odd_integer, positive_integer, probability
from gencourse.autoregressive.base import Autoregressive
from gencourse.autoregressive.layers import CausalConv2d, Convolve, MaskedConv2d, centred, pixels, require_images, whole
from gencourse.space import Space


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


def three(h: Tensor) -> Tensor:
    """Each place of a row beside its neighbours: `(..., W, h)` -> `(..., W, 3h)`."""
    return torch.cat([F.pad(h, (0, 0, 1, -1)), h, F.pad(h, (0, 0, -1, 1))], -1)


class Recurrent(nn.Module):
    """The parameters of a recurrent layer; the models say on which path the states take over the image.

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
