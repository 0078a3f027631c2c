"""Networks that look at noisy examples and know how noisy they are: `network(y, u, condition)`, the shape of `y`.

y `(B, *shape)` are examples as networks see them, u `(B,)` in [0, 1] the times, and condition `(B, classes)` one-hot rows, a row
of zeros where there is no label, or None. What a network says, noise or velocity, is its model's business.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.arguments import non_negative_integer, positive, positive_integer
from gencourse.space import Space


def nearly_zero(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """The layer, with a hundredth of its weights and no bias: a network that begins by saying next to nothing."""
    with torch.no_grad():
        layer.weight.mul_(0.01)
        assert layer.bias is not None
        layer.bias.zero_()
    return layer


def made(network: nn.Module | Callable[..., nn.Module] | None, space: Space, classes: int | None, **settings: int) -> nn.Module:
    """The network that was given, or what the function that was given makes of `(space, classes=classes)`, or a `ResidualMLP`."""
    if isinstance(network, nn.Module):
        return network
    return network(space, classes=classes) if network else ResidualMLP(space, classes=classes, **settings)


class Level(nn.Module):
    """How noisy an example is and of which class, as a vector: sines and cosines of the time, and a vector for each class.

    A bare integer t would leave it to the first layer to tell 1 from 2 and 999 from 1000 alike.

    Args:
        width: of the vector.
        classes: how many classes there are, if any.
        features: of the time, an even number; their periods lie between 2 pi / 1000 and 20 pi.
    """

    def __init__(self, width: int, classes: int | None, features: int = 32) -> None:
        super().__init__()
        self.features = features
        self.time = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))
        self.label = None if classes is None else nn.Linear(classes, width, bias=False)

    def forward(self, u: Tensor, condition: Tensor | None) -> Tensor:
        """`(B,)` and `(B, classes)` -> `(B, width)`."""
        exponents = torch.linspace(math.log(1000), math.log(0.1), self.features // 2, device=u.device, dtype=u.dtype)
        angles = u.unsqueeze(1) * exponents.exp()  # (B, features / 2)
        level = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        return level if self.label is None or condition is None else level + self.label(condition)


class ResidualMLP(nn.Module):
    """Fully connected residual blocks, each told the noise level; images are taken as vectors.

    Args:
        space: points, or images.
        hidden: the width of all layers.
        blocks: how many.
        classes: how many classes the condition tells apart; None for a network without.
        frequencies: how many random directions the sines and cosines of the input have (Tancik et al., 2020); 0 leaves them
            out. A network of few numbers is smooth, and draws sharp edges only if it is given waves to draw them with.
        bandwidth: the standard deviation of these frequencies, in radians per unit.
    """

    waves: Tensor

    def __init__(
        self,
        space: Space,
        *,
        hidden: int = 128,
        blocks: int = 3,
        classes: int | None = None,
        frequencies: int = 0,
        bandwidth: float = 4.0,
    ) -> None:
        super().__init__()
        hidden, blocks = positive_integer("ResidualMLP: hidden", hidden), positive_integer("ResidualMLP: blocks", blocks)
        frequencies = non_negative_integer("ResidualMLP: frequencies", frequencies)
        self.register_buffer("waves", positive("ResidualMLP: bandwidth", bandwidth) * torch.randn(space.dim, frequencies))
        width = max(16, hidden // 4)  # the noise level and the class say little beside the example
        self.level = Level(width, classes)
        self.first = nn.Linear(space.dim + 2 * frequencies, hidden)
        self.blocks = nn.ModuleList(Block(hidden, width) for _ in range(blocks))
        self.last = nn.Sequential(nn.LayerNorm(hidden), nn.SiLU(), nearly_zero(nn.Linear(hidden, space.dim)))

    def forward(self, y: Tensor, u: Tensor, condition: Tensor | None = None) -> Tensor:
        """The shape of `y`."""
        x = y.flatten(1)
        if self.waves.shape[1]:
            angles = x @ self.waves.to(x.dtype)
            x = torch.cat([x, angles.sin(), angles.cos()], dim=1)  # (B, D + 2 frequencies)
        level, h = self.level(u, condition), self.first(x)
        for block in self.blocks:
            h = block(h, level)
        return self.last(h).view_as(y)


class Block(nn.Module):
    """h + W SiLU(V SiLU(norm(h)) + U level)."""

    def __init__(self, width: int, level: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.level = nn.Linear(level, width)
        self.into, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, h: Tensor, level: Tensor) -> Tensor:
        """`(B, width)` and `(B, level)` -> `(B, width)`."""
        return h + self.out(F.silu(self.into(F.silu(self.norm(h))) + self.level(level)))


class UNet(nn.Module):
    """Convolutions at several sizes, from fine to coarse and back, each fine map handed across to the way back.

    The shape of Ho et al.'s network (2020, Appendix B) without its attention: at the coarsest of two or three sizes a
    convolution sees the whole of a small image.

    Args:
        space: images; their sides must be divisible by 2 at every size but the last.
        channels: of the finest map; the coarser ones have twice as many.
        sizes: how many.
        classes: how many classes the condition tells apart; None for a network without.

    Raises:
        ValueError: if the space is no image of such sides, or a number is not positive.
    """

    def __init__(self, space: Space, *, channels: int = 32, sizes: int = 2, classes: int | None = None) -> None:
        super().__init__()
        channels, sizes = positive_integer("UNet: channels", channels), positive_integer("UNet: sizes", sizes)
        if len(space.shape) != 3 or any(side % 2 ** (sizes - 1) for side in space.shape[1:]):
            raise ValueError(f"UNet with sizes={sizes} needs images with sides divisible by {2 ** (sizes - 1)}, not {space}.")
        widths = [channels, *[2 * channels] * (sizes - 1)]
        self.level = Level(2 * channels, classes)
        self.first = nn.Conv2d(space.shape[0], channels, 3, padding=1)
        self.down, self.middle, self.up = nn.ModuleList(), ConvBlock(widths[-1], widths[-1], 2 * channels), nn.ModuleList()
        for before, after in zip([channels, *widths], widths, strict=False):
            self.down.append(ConvBlock(before, after, 2 * channels))
        for coarse, fine in zip([widths[-1], *reversed(widths)], reversed(widths), strict=False):
            self.up.append(ConvBlock(coarse + fine, fine, 2 * channels))
        self.last = nn.Sequential(_norm(channels), nn.SiLU(), nearly_zero(nn.Conv2d(channels, space.shape[0], 3, padding=1)))

    def forward(self, y: Tensor, u: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(B, C, H, W)`."""
        level, h, across = self.level(u, condition), self.first(y), []
        for i, block in enumerate(self.down):
            h = block(h if i == 0 else F.avg_pool2d(h, 2), level)
            across.append(h)
        h = self.middle(h, level)
        for i, block in enumerate(self.up):
            h = block(torch.cat([h if i == 0 else F.interpolate(h, scale_factor=2.0), across.pop()], dim=1), level)
        return self.last(h)


class ConvBlock(nn.Module):
    """Two convolutions with the noise level between them, and a way past both."""

    def __init__(self, before: int, after: int, level: int) -> None:
        super().__init__()
        self.into = nn.Sequential(_norm(before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.level = nn.Linear(level, after)
        self.out = nn.Sequential(_norm(after), nn.SiLU(), nn.Conv2d(after, after, 3, padding=1))
        self.past = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, h: Tensor, level: Tensor) -> Tensor:
        """`(B, before, H, W)` -> `(B, after, H, W)`."""
        return self.past(h) + self.out(self.into(h) + self.level(F.silu(level))[:, :, None, None])


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)
