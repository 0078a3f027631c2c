"""Multi-scale PixelCNN (van den Oord, Kalchbrenner and Kavukcuoglu, 2016, https://arxiv.org/abs/1601.06759, 3.6; slide 30).

    p(x) = p(s) p(x | s),        s: every second row and column of x

A small unconditional model draws s, a quarter of the pixels. A conditional network then draws the others row by row, and
sees two things: with causal convolutions, all pixels before (of s or not), and with ordinary ones, the whole of s, so that
it knows the coarse shape of what is still to come. With more scales, s is itself drawn from coarse to fine.

This is the chain rule in another order: first the pixels of the coarsest grid, then those of the next, ... So `order` says
so, the product is still exact, and every image still has one probability. (The paper's conditional network draws all
pixels again; here those of s stay as they are, so nothing is predicted twice.)
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from gencourse.arguments import positive_integer, probability
from gencourse.autoregressive.base import Autoregressive, Cache
from gencourse.autoregressive.gated_pixelcnn import Cache as RowsAndPixels
from gencourse.autoregressive.gated_pixelcnn import GatedPixelCNN, Stacks, stack_sizes
from gencourse.autoregressive.layers import centred, pixels, require_images
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import cosine


class MultiScale(Autoregressive):
    """From coarse to fine: a gated PixelCNN of the smallest image, then a network for each doubling.

    Args:
        space: images of integers, at least 2 by 2.
        scales: how often the image is halved before it is drawn as a whole.
        blocks, channels, kernel, dropout: of every network, as in `GatedPixelCNN`.
    """

    in_small: Tensor

    def __init__(
        self,
        space: Space,
        *,
        scales: int = 1,
        blocks: int = 4,
        channels: int = 32,
        kernel: int = 5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(space)
        scales, dropout = positive_integer("MultiScale: scales", scales), probability("MultiScale: dropout", dropout)
        blocks, channels, kernel = stack_sizes("MultiScale", blocks, channels, kernel)
        colours, height, width = require_images(space, "MultiScale", channels)
        if min(height, width) <= 2 ** (scales - 1):
            raise ValueError(
                f"MultiScale: images of {height} x {width} pixels cannot be halved {scales} times; use fewer scales."
            )
        small = Space((colours, (height + 1) // 2, (width + 1) // 2), space.levels)
        outputs = colours * (1 if self.levels == 2 else self.levels)
        self.small: Autoregressive = (
            GatedPixelCNN(small, blocks=blocks, channels=channels, kernel=kernel, dropout=dropout)
            if scales == 1
            else MultiScale(small, scales=scales - 1, blocks=blocks, channels=channels, kernel=kernel, dropout=dropout)
        )
        self.whole_small = Surroundings(colours, channels, blocks)
        self.stacks = Stacks(colours, outputs, blocks, channels, kernel, channels, dropout)
        index = torch.arange(space.dim, device=self.stacks.last.weight.device).view(space.shape)
        self.register_buffer("in_small", index[:, ::2, ::2].flatten(), persistent=False)  # where the pixels of s are in x

    @property
    def order(self) -> Tensor:
        """First the pixels of s, in the small model's order, then the others row by row."""
        others = super().order
        in_small = self.in_small.cpu()
        return torch.cat([in_small[self.small.order], others[~torch.isin(others, in_small)]])

    def conditionals(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """Bernoulli pixels on two levels, categorical ones on more, `(B, *space.shape)`: those of s, and the others given s."""
        self._unconditional(context)
        rest = pixels(self.stacks(self.scaled(x), self.surroundings(x)), self.space)
        logits = rest.logits.clone()  # type: ignore[attr-defined]
        logits[:, :, ::2, ::2] = self.small.conditionals(x[:, :, ::2, ::2]).logits  # type: ignore[attr-defined]
        return type(rest)(logits=logits, validate_args=False)  # type: ignore[call-arg]

    def surroundings(self, x: Tensor) -> Tensor:
        """Images `(B, C, H, W)` to what is known of every place from the whole of s, `(B, F, H, W)`."""
        scaled = self.scaled(x)
        in_s = torch.zeros_like(scaled[:, :1])
        in_s[:, :, ::2, ::2] = 1
        return self.whole_small(torch.cat([scaled * in_s, in_s], 1))

    def scaled(self, x: Tensor) -> Tensor:
        """Grey levels on [-1, 1], the shape of `x`."""
        return centred(x, self.space, self.stacks.last.weight)

    def start_cache(self, n: int, context: Tensor | None = None) -> "CoarseToFine":
        """The small model's memory first, then that of the stacks."""
        self._unconditional(context)
        return CoarseToFine(self, n)


class Surroundings(nn.Module):
    """Ordinary residual 3x3 convolutions over the pixels of s at their places in the image, the others zero."""

    def __init__(self, colours: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(colours + 1, channels, 5, padding=2)
        self.blocks = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(blocks))

    def forward(self, s: Tensor) -> Tensor:
        """`(B, C + 1, H, W)`, the last map 1 where a pixel is of s -> `(B, F, H, W)`."""
        h = self.first(s)
        for block in self.blocks:
            h = h + block(F.elu(h))
        return h


class CoarseToFine:
    """The small model draws its pixels; once they are all there, the stacks draw the rest, their surroundings computed once."""

    def __init__(self, model: MultiScale, n: int) -> None:
        self.model, self.n = model, n
        self.coarse = model.small.start_cache(n)
        self.fine: Cache | None = None
        self.place_in_small = {int(i): place for place, i in enumerate(model.in_small)}

    def logits(self, x: Tensor, i: int) -> Tensor:
        """What `inverse_cdf` draws pixel `i` from, `(n, 1)` or `(n, levels)`."""
        if i in self.place_in_small:
            assert self.coarse is not None
            return self.coarse.logits(x[:, :, ::2, ::2], self.place_in_small[i])
        if self.fine is None:
            self.fine = RowsAndPixels(self.model.space, self.n, self.model.stacks, self.model.surroundings(x))
        return self.fine.logits(x, i)


RECIPES = (
    Recipe(
        "binary_digits",
        data="binary_digits",
        options={"blocks": 2, "channels": 24, "kernel": 15, "dropout": 0.5},
        fit={"steps": 700, "batch_size": 64, "lr": 3e-3, "schedule": cosine, "ema": 0.99},
        band=17.6,
        quick=True,
    ),
    Recipe(
        "binarized_mnist",
        data="binarized_mnist",
        options={"scales": 2, "blocks": 10, "channels": 64, "kernel": 7},
        fit={"steps": 10_000, "batch_size": 128, "lr": 1e-3, "schedule": cosine, "ema": 0.999, "precision": "bf16"},
        needs="one GPU, ten minutes",
    ),
)
