"""What translators of pictures share: the U-Net, the patch discriminator, and how pictures of two spaces are given.

A U-Net (Ronneberger, Fischer and Brox, 2015, https://arxiv.org/abs/1505.04597) halves a picture on the way down and doubles it
on the way up; what goes down is handed across, so that edges need not pass through the bottleneck. A patch discriminator (Isola
et al., 2017, https://arxiv.org/abs/1611.07004, section 3.2.2) is convolutions without an end: a map of logits, one a patch.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.adversarial.dcgan import layer_norm
from gencourse.arguments import integer, positive_integer, widths
from gencourse.space import Space

#: The convolutions of a patch discriminator, (kernel, stride) each, from the picture to the logits.
Layers = tuple[tuple[int, int], ...]


def l1_error(y: Tensor, x: Tensor) -> Tensor:
    """The mean over pixels and channels of `|x - y|`, `(B,)`: a mean, so that its weight means the same at every size."""
    return (x - y).abs().flatten(1).mean(1)


def receptive_field(layers: Layers) -> int:
    """The side of what one output of these convolutions sees, in pixels: from the top down, `r <- (r - 1) stride + kernel`.

    Raises:
        ValueError: if they are no pairs of positive integers.

    >>> receptive_field(((4, 2), (4, 2), (4, 2), (4, 1), (4, 1)))  # the paper's
    70
    """
    side = 1
    for kernel, stride in reversed(_layers("receptive_field", layers)):
        side = (side - 1) * stride + kernel
    return side


class Layer(NamedTuple):
    """A layer of the U-Net: channels that go in, channels that come out, and the sides of the map that it makes."""

    name: str
    inputs: int
    outputs: int
    sides: tuple[int, ...]


def bookkeeping(
    inputs: int, outputs: int, *, sides: tuple[int, ...] = (16, 16), widths: tuple[int, ...] = (24, 48, 48), latent: int = 0
) -> list[Layer]:
    """The layers of a U-Net in the order in which they are computed.

    Going down, each map has half the sides of the one before. Going up, a map is enlarged to twice the sides and put beside the
    one of those sides from the way down, so that a layer has the channels of both as its inputs.

    Raises:
        ValueError: if the sides cannot be halved as often.

    >>> for layer in bookkeeping(1, 3, widths=(24, 48), latent=4):
    ...     print(*layer)
    in 1 24 (16, 16)
    down 1 24 48 (8, 8)
    bottom 52 48 (8, 8)
    up 1 72 24 (16, 16)
    out 24 3 (16, 16)
    """
    depth = len(widths) - 1
    if any(side % 2**depth or side < 2 * 2**depth for side in sides):
        raise ValueError(
            f"a U-Net of {depth + 1} widths halves its pictures {depth} times, down to 2 or more pixels a side, "
            f"but these are {sides[0]}x{sides[1]}; give fewer widths."
        )
    at = [(sides[0] // 2**i, sides[1] // 2**i) for i in range(depth + 1)]
    down = [Layer(f"down {i + 1}", *pair, at[i + 1]) for i, pair in enumerate(pairwise(widths))]
    up = [Layer(f"up {i + 1}", widths[i + 1] + widths[i], widths[i], at[i]) for i in reversed(range(depth))]
    return [
        Layer("in", inputs, widths[0], at[0]),
        *down,
        Layer("bottom", widths[-1] + latent, widths[-1], at[-1]),
        *up,
        Layer("out", widths[0], outputs, at[0]),
    ]


class UNet(nn.Module):
    """A picture to a picture of the same sides; what goes down the U is handed across to what comes up.

    Args:
        inputs, outputs: channels.
        sides: height and width, which are halved once less than there are widths.
        widths: channels of the maps, from the full side down.
        latent: the dimension of z, constant maps beside the smallest one; 0 for none.
    """

    def __init__(
        self, inputs: int, outputs: int, *, sides: tuple[int, ...], widths: tuple[int, ...] = (24, 48, 48), latent: int = 0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        for name, before, after, _ in bookkeeping(inputs, outputs, sides=sides, widths=_widths(widths), latent=latent):
            halves = name.startswith("down")
            layer = nn.Conv2d(before, after, 4, stride=2, padding=1) if halves else nn.Conv2d(before, after, 3, padding=1)
            last = [nn.Tanh()] if name == "out" else [layer_norm(after), nn.LeakyReLU(0.2)]
            self.layers[name] = nn.Sequential(layer, *last)

    def forward(self, z: Tensor | None, source: Tensor) -> Tensor:
        """z `(B, latent)` and pictures `(B, inputs, H, W)` to `(B, outputs, H, W)`, in [-1, 1]."""
        skips: list[Tensor] = []
        h = source
        for name, layer in self.layers.items():
            if name.startswith("down"):
                skips.append(h)
            elif name == "bottom" and z is not None:
                h = torch.cat([h, z[:, :, None, None].expand(-1, -1, *h.shape[2:])], dim=1)
            elif name.startswith("up"):
                h = torch.cat([F.interpolate(h, scale_factor=2, mode="nearest"), skips.pop()], dim=1)
            h = layer(h)
        return h


class PatchDiscriminator(nn.Module):
    """A picture, beside its source where there is one, to a map of logits: one a patch.

    No norm: its statistics are those of the whole map, through which a logit would see more than its patch.

    Args:
        inputs: channels of the picture and its source together.
        sides: height and width.
        width: channels of the first map; each next one has twice as many.
        layers: the convolutions, (kernel, stride) each.
    """

    def __init__(self, inputs: int, *, sides: tuple[int, ...], width: int, layers: Layers) -> None:
        super().__init__()
        width, layers = positive_integer("the discriminator's width", width), _layers("patch", layers)
        channels = [inputs, *(width * 2**i for i in range(len(layers) - 1)), 1]
        blocks: list[nn.Module] = []
        for (before, after), (kernel, stride) in zip(pairwise(channels), layers, strict=True):
            padding = (kernel - 1) // 2
            sides = tuple((side + 2 * padding - kernel) // stride + 1 for side in sides)
            blocks += [nn.Conv2d(before, after, kernel, stride=stride, padding=padding), nn.LeakyReLU(0.2)]
        if min(sides) < 1:
            raise ValueError(f"patch: the picture is too small for the convolutions {layers}.")
        self.net = nn.Sequential(*blocks[:-1])

    def forward(self, y: Tensor, source: Tensor | None = None) -> Tensor:
        """`(B, C, H, W)` and sources of the same sides to logits `(B, h, w)`."""
        return self.net(y if source is None else torch.cat([source, y], dim=1)).squeeze(1)


# --- what is given, checked -------------------------------------------------------------------------------------------


def pair_of_spaces(name: str, space: Space, other: Space | None) -> tuple[Space, int]:
    """The other space, by default the same, and how often its sides go into those of `space`.

    Raises:
        TypeError, ValueError: if one of them is no space of images, or the sides do not fit.
    """
    other = space if other is None else other
    if not isinstance(other, Space):
        raise TypeError(f"{name} expects a gencourse.space.Space of the pictures to translate, not {type(other).__name__}.")
    for one in (space, other):
        if len(one.shape) != 3 or one.levels is None:
            raise ValueError(f"{name} translates images of integers (C, H, W), but a space is {one}.")
    (height, width), (h, w) = space.shape[1:], other.shape[1:]
    if height % h or width % w or height // h != width // w:
        raise ValueError(
            f"{name}: pictures of {h}x{w} cannot be enlarged to {height}x{width}: the sides must be equal or divide."
        )
    return other, height // h


def pictures(name: str, space: Space, context: Tensor | None, n: int, like: Tensor) -> Tensor:
    """`n` pictures of a space as networks see them, `(n, *space.shape)` on [-1, 1], in the type of `like`.

    Raises:
        ValueError: if they are missing, of another form, or too few or many.
    """
    if context is None:
        raise ValueError(f"{name} needs a picture for each example as its context, integers {(n, *space.shape)}; none was given.")
    if not isinstance(context, Tensor) or context.is_floating_point() or tuple(context.shape) != (n, *space.shape):
        given = f"{context.dtype} {tuple(context.shape)}" if isinstance(context, Tensor) else type(context).__name__
        raise ValueError(f"{name}'s context must be {n} pictures of {space}, integers {(n, *space.shape)}, not {given}.")
    return space.to_signed(context.to(like.device), like.dtype)


def _layers(what: str, layers: Iterable[Iterable[int]]) -> Layers:
    try:
        pairs = tuple(tuple(map(integer, pair)) for pair in layers)
    except TypeError:
        pairs = ()
    if not pairs or any(len(pair) != 2 or any(number is None or number < 1 for number in pair) for pair in pairs):
        raise ValueError(f"{what} takes convolutions as pairs (kernel, stride) such as ((4, 2), (3, 1)), not {layers!r}.")
    return pairs  # type: ignore[return-value]


def _widths(value: tuple[int, ...]) -> tuple[int, ...]:
    return widths("a U-Net's widths", value)
