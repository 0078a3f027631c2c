"""Causal convolutions: what each may look at, and how to apply one at a single pixel from memory.

A masked convolution (van den Oord, Kalchbrenner and Kavukcuoglu, 2016, https://arxiv.org/abs/1601.06759) sees the rows
above its pixel and what stands to the left. At the pixel itself, mask A lets a colour see the earlier colours only, so
that the first layer knows nothing of what it must predict; mask B lets it see its own features too. For this the feature
maps are dealt to the colours: one group that may know nothing of the pixel (it predicts red), one that may know red, one
that may know red and green.

Such a network can be read in two ways. In training, every layer is applied to whole maps. In sampling, only the newest
pixel is unknown: each layer's value there follows from its window of values computed before (Ramachandran et al., 2017,
https://arxiv.org/abs/1704.06001). So the networks of this folder take an argument `convolve`, "how to apply a layer":
`whole` to maps, or a `Memory` at one place (`gencourse.autoregressive.cache`). They are written once, and the two readings
cannot disagree.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution

from gencourse.arguments import odd_integer
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
        """The weight with the mask multiplied in, `(outputs, inputs, *kernel)`: the parameter itself keeps all its values."""
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
    """Apply a layer to whole maps, `(B, inputs, H, W)` -> `(B, outputs, H, W)`."""
    return layer(x)


def shift_down(x: Tensor) -> Tensor:
    """Maps `(B, F, H, W)` moved down by one row; the first becomes zero. What is at a pixel now was above it."""
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]


def gate(x: Tensor) -> Tensor:
    """The gated activation, `(B, 2p, H, W)` -> `(B, p, H, W)`: `tanh(a) * sigmoid(b)` with a and b the two halves."""
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


def centred(x: Tensor, space: Space, like: Tensor) -> Tensor:
    """Grey levels scaled to [-1, 1], in the dtype of `like`; the shape of `x`."""
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
