"""PixelCNN++ (Salimans, Karpathy, Chen and Kingma, 2017, https://arxiv.org/abs/1701.05517; slide 30).

What it changes, with the sections of the paper:

- A mixture of discretised logistics in place of a softmax over levels (2.1): neighbouring levels are no longer strangers.
- Pixels as wholes (2.2): the network gives one mixture for all colours of a pixel. Its component is shared by them, and
  within a component the mean of green moves linearly with red, that of blue with red and green:

      p(r, g, b | k) = L(r; m_r, s_r) L(g; m_g + a r, s_g) L(b; m_b + b r + c g, s_b),        pixels scaled to [-1, 1]

  The joint is a mixture, so each colour's conditional is one too; its weights are what the earlier colours leave of them:

      p(g | r) = sum_k w_k(r) L(g | k, r),      w_k(r) = pi_k L(r | k) / sum_j pi_j L(r | j)

- A downward pass to lower resolutions by strides, an upward pass back (2.3), and short-cuts between the two (2.4).
- Dropout (2.5), without which it overfits.

Causality needs no masks: the vertical stack sees the image shifted down by a row, the horizontal one also what is to the
left. The paper's weight normalisation and its initialisation from data are left out, and so is its 2 x 3 up-sampling of the
vertical stack, which is 2 x 2 here for both.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.arguments import positive_integer, probability
from gencourse.autoregressive.base import Autoregressive
from gencourse.autoregressive.cache import PixelCache
from gencourse.autoregressive.layers import (
    CausalConv2d,
    Convolve,
    centred,
    require_images,
    shift_down,
    whole,
)
from gencourse.distributions import DiscretizedLogistic, DiscretizedLogisticMixture
from gencourse.networks import full_precision
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import cosine

MIN_LOG_SCALE = -7.0  # narrower than a grey level of 256 by far, and its gradient is still a number


class PixelCNNPP(Autoregressive):
    """Discretised logistic mixtures from two stacks with short-cuts.

    Args:
        space: images of integers.
        blocks: residual blocks of a pass at each resolution.
        channels: feature maps of each stack.
        mixtures: components of a pixel's mixture.
        scales: how many resolutions there are; 1 means no strides, and only then can activations be kept in sampling.
        dropout: the share of a block's maps set to zero in training.
    """

    def __init__(
        self,
        space: Space,
        *,
        blocks: int = 2,
        channels: int = 32,
        mixtures: int = 5,
        scales: int = 1,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(space)
        sizes = {"blocks": blocks, "channels": channels, "mixtures": mixtures, "scales": scales}
        blocks, channels, mixtures, scales = (positive_integer(f"PixelCNNPP: {name}", size) for name, size in sizes.items())
        dropout = probability("PixelCNNPP: dropout", dropout)
        colours, _, _ = require_images(space, "PixelCNNPP", channels)
        self.mixtures = mixtures
        self.above = CausalConv2d(colours, channels, (1, 1, 1))
        self.left = CausalConv2d(colours, channels, (1, 1, 0), mask="A")  # of its own row, what is to the left
        self.passes = Passes(blocks, channels, scales, dropout)
        self.last = CausalConv2d(channels, mixtures * (1 + 2 * colours + colours * (colours - 1) // 2))

    def conditionals(self, x: Tensor, context: Tensor | None = None) -> DiscretizedLogisticMixture:
        """A discretised logistic mixture for each pixel and colour, `(B, *space.shape)`, given the earlier ones."""
        self._unconditional(context)
        scaled = centred(x, self.space, self.last.weight)
        feeds = self.vertical(shift_down(scaled), whole)
        return self.mixture(self.horizontal(scaled, feeds, whole), x)

    def vertical(self, above: Tensor, convolve: Convolve) -> list[Tensor]:
        """The image moved down by a row, `(B, C, H, W)`, to the vertical stack's maps, `(B, F, ...)`, in the order of use."""
        _, feeds = self.passes.vertical(convolve(self.above, above), convolve)
        return feeds

    def horizontal(self, x: Tensor, feeds: list[Tensor], convolve: Convolve) -> Tensor:
        """Scaled pixels `(B, C, H, W)` and feeds to the mixtures' parameters, `(B, K (1 + 2C + C(C-1)/2), H, W)`."""
        h = self.passes.horizontal(convolve(self.left, x), list(feeds), convolve)
        return convolve(self.last, F.elu(h))

    def mixture(self, parameters: Tensor, x: Tensor) -> DiscretizedLogisticMixture:
        """The conditionals, `(B, C, H, W)`, from the parameters, `(B, ..., H, W)`, and the pixels' own earlier colours."""
        parameters = full_precision(parameters)
        value = x.to(parameters.dtype).unsqueeze(-1)  # (B, C, H, W, 1)
        scaled = centred(value, self.space, parameters)
        parameters = parameters.unflatten(1, (-1, self.mixtures)).movedim(2, -1)  # (B, 1 + 2C + ..., H, W, K)
        colours = value.shape[1]
        logits, mean, log_scale, coupling = parameters.split([1, colours, colours, parameters.shape[1] - 1 - 2 * colours], 1)
        coefficients = torch.tanh(coupling).unbind(1)  # red -> green, red -> blue, green -> blue
        means = [mean[:, c] + sum(coefficients[c * (c - 1) // 2 + j] * scaled[:, j] for j in range(c)) for c in range(colours)]
        loc = (torch.stack(means, 1) + 1) / 2  # from [-1, 1] to the [0, 1] of DiscretizedLogistic
        log_scale = log_scale.clamp(min=MIN_LOG_SCALE) - math.log(2)
        if colours > 1:
            of_earlier = DiscretizedLogistic(loc[:, :-1], log_scale[:, :-1], self.levels, validate_args=False)
            evidence = F.pad(of_earlier.log_prob(value[:, :-1]).cumsum(1), (0, 0, 0, 0, 0, 0, 1, 0))  # red has none before it
            logits = torch.log_softmax(logits, -1) + evidence
        return DiscretizedLogisticMixture(logits, loc, log_scale, self.levels, validate_args=False)

    def start_cache(self, n: int, context: Tensor | None = None) -> "Cache | None":
        """Keep both stacks' inputs, if there are no strides.

        With strides, the features of a lower resolution are made at every second pixel of every second row and serve
        four pixels. They could be kept too (Ramachandran et al., 2017), at the price of a schedule for every resolution.
        """
        self._unconditional(context)
        return Cache(self, n) if self.passes.deeper is None else None


class Passes(nn.Module):
    """The downward and the upward pass at one resolution, and between them those at half of it."""

    def __init__(self, blocks: int, channels: int, scales: int, dropout: float) -> None:
        super().__init__()
        self.deeper = Passes(blocks, channels, scales - 1, dropout) if scales > 1 else None
        ups = blocks + 1 if scales > 1 else blocks  # one for each short-cut; the turning point needs none to itself

        def stack(n: int, window: tuple[int, int, int], extra: int) -> nn.ModuleList:
            return nn.ModuleList(Block(channels, window, extra, dropout) for _ in range(n))

        self.down_v, self.down_h = stack(blocks, (1, 1, 1), 0), stack(blocks, (1, 1, 0), channels)
        self.up_v, self.up_h = stack(ups, (1, 1, 1), channels), stack(ups, (1, 1, 0), 2 * channels)
        if self.deeper is not None:
            self.shrink_v = CausalConv2d(channels, channels, (1, 1, 1), stride=2)
            self.shrink_h = CausalConv2d(channels, channels, (1, 1, 0), stride=2)
            self.expand_v = nn.ConvTranspose2d(channels, channels, 2, stride=2)
            self.expand_h = nn.ConvTranspose2d(channels, channels, 2, stride=2)

    def vertical(self, v: Tensor, convolve: Convolve) -> tuple[Tensor, list[Tensor]]:
        """`(B, F, H, W)` to the vertical stack's last maps, the same, and all that the horizontal one takes, in order."""
        maps = [v]
        for block in self.down_v:
            maps.append(block(maps[-1], None, convolve))
        feeds = maps[1:]
        v = maps.pop()
        if self.deeper is not None:
            maps.append(v)
            deep, more = self.deeper.vertical(convolve(self.shrink_v, v), convolve)
            feeds = feeds + more
            v = crop(self.expand_v(deep), v)
        for block in self.up_v:
            v = block(v, maps.pop(), convolve)
            feeds.append(v)
        return v, feeds

    def horizontal(self, h: Tensor, feeds: list[Tensor], convolve: Convolve) -> Tensor:
        """`(B, F, H, W)` to the horizontal stack's last maps, the same; takes its feeds from the front of the list."""
        maps = [h]
        for block in self.down_h:
            maps.append(block(maps[-1], feeds.pop(0), convolve))
        h = maps.pop()
        if self.deeper is not None:
            maps.append(h)
            h = crop(self.expand_h(self.deeper.horizontal(convolve(self.shrink_h, h), feeds, convolve)), h)
        for block in self.up_h:
            h = block(h, torch.cat([feeds.pop(0), maps.pop()], 1), convolve)
        return h


class Block(nn.Module):
    """A gated residual block: `x + a * sigmoid(b)`, with a and b two convolutions deep; `extra` joins after the first."""

    def __init__(self, channels: int, window: tuple[int, int, int], extra: int, dropout: float) -> None:
        super().__init__()
        self.enter = CausalConv2d(2 * channels, channels, window)
        self.leave = CausalConv2d(2 * channels, 2 * channels, window)
        self.join = CausalConv2d(2 * extra, channels) if extra else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, extra: Tensor | None, convolve: Convolve) -> Tensor:
        """`(B, F, H, W)` -> the same; `extra` is `(B, F, H, W)` or twice the maps."""
        h = convolve(self.enter, concat_elu(x))
        if self.join is not None and extra is not None:
            h = h + convolve(self.join, concat_elu(extra))
        a, b = convolve(self.leave, self.dropout(concat_elu(h))).chunk(2, 1)
        return x + a * torch.sigmoid(b)


class Cache(PixelCache):
    """The vertical stack once a row, the horizontal stack once a pixel, for all its colours."""

    def __init__(self, model: PixelCNNPP, n: int) -> None:
        super().__init__(model.space, n, model.left)
        self.model = model
        self.drawn, self.parameters = -1, torch.empty(0)

    def above(self, x: Tensor, row: int) -> list[Tensor]:
        """The vertical stack at the row: of the scaled row above, `(n, C, 1, W)`, maps `(n, F, 1, W)`."""
        return self.model.vertical(x, self.memory)

    def at(self, x: Tensor, feeds: list[Tensor]) -> DiscretizedLogisticMixture:
        """The newest pixel, batch `(n, C, 1, 1)`; the network looks at none of its colours, only the mixture does."""
        if self.place != self.drawn:
            self.drawn = self.place
            self.parameters = self.model.horizontal(self.scaled(x), feeds, self.memory)
        return self.model.mixture(self.parameters, x)


def concat_elu(x: Tensor) -> Tensor:
    """ELU of x and of -x, `(B, F, ...)` -> `(B, 2F, ...)`: nothing is cut off for good."""
    return F.elu(torch.cat([x, -x], 1))


def crop(maps: Tensor, like: Tensor) -> Tensor:
    """The upper left corner, `(B, F, *like.shape[2:])`: sides that are odd grow by one when halved and doubled."""
    return maps[:, :, : like.shape[2], : like.shape[3]]


RECIPES = (
    Recipe(
        "digits",
        data="digits",
        options={"blocks": 2, "channels": 24, "mixtures": 5, "dropout": 0.3},
        fit={"steps": 600, "batch_size": 64, "lr": 2e-3, "schedule": cosine, "ema": 0.99},
        metric="bits_per_dim",
        band=1.85,
    ),
    Recipe(
        "binary_digits",
        data="binary_digits",
        options={"blocks": 2, "channels": 24, "mixtures": 2, "dropout": 0.5},
        fit={"steps": 600, "batch_size": 64, "lr": 2e-3, "schedule": cosine, "ema": 0.99},
        band=17.0,
    ),
    Recipe(
        "cifar10",
        data="cifar10",
        options={"blocks": 3, "channels": 96, "mixtures": 10, "scales": 3, "dropout": 0.2},
        fit={"steps": 20_000, "batch_size": 128, "lr": 1e-3, "schedule": cosine, "ema": 0.999, "precision": "bf16"},
        metric="bits_per_dim",
        band=3.30,
        needs="one GPU, ten minutes",
    ),
)
