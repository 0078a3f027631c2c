"""The convolutional encoder and decoder of slide 38, of autoencoders and variational ones.

A layer with kernel 4, stride 2 and padding 1 halves the sides of its map, and its transpose doubles them. As many of the four
layers do so as the image allows, the last ones of the encoder and the first of the decoder; the others keep the sides (kernel 3,
stride 1). So 32 and 64 are halved four times, 28 twice (28, 14, 7), and 8 twice (8, 4, 2).
"""

from collections.abc import Callable
from itertools import pairwise

from torch import nn

from gencourse.arguments import positive_integer
from gencourse.space import Space


def conv_encoder(space: Space, *, outputs: int, width: int = 16, norm: Callable[[int], nn.Module] = nn.Identity) -> nn.Sequential:
    """Four convolutions and a linear layer, `(B, C, H, W)` -> `(B, outputs)`."""
    plan, side = _layers(space, width)
    layers: list[nn.Module] = []
    for before, after, halves in plan:
        kernel, stride = (4, 2) if halves else (3, 1)
        layers += [nn.Conv2d(before, after, kernel, stride=stride, padding=1), norm(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(plan[-1][1] * side[0] * side[1], outputs))


def conv_decoder(space: Space, *, inputs: int, width: int = 16, norm: Callable[[int], nn.Module] = nn.Identity) -> nn.Sequential:
    """A linear layer and four fractionally strided convolutions, `(B, inputs)` -> `(B, C, H, W)`; the encoder's mirror image."""
    plan, side = _layers(space, width)
    smallest = (plan[-1][1], *side)
    layers: list[nn.Module] = [nn.Linear(inputs, smallest[0] * side[0] * side[1]), nn.ReLU(), nn.Unflatten(1, smallest)]
    for after, before, doubles in reversed(plan):
        kernel, stride = (4, 2) if doubles else (3, 1)
        layers += [nn.ConvTranspose2d(before, after, kernel, stride=stride, padding=1), norm(after), nn.ReLU()]
    return nn.Sequential(*layers[:-2])  # neither norm nor ReLU after the last


def _layers(space: Space, width: int) -> tuple[list[tuple[int, int, bool]], tuple[int, int]]:
    """The encoder's layers (channels before, channels after, whether it halves the sides), and the sides of the last map."""
    if len(space.shape) != 3 or space.levels is None:
        raise ValueError(f"a convolutional autoencoder needs images of integers (C, H, W), not {space}.")
    width = positive_integer("a convolutional autoencoder: width", width)
    channels, height, side = space.shape
    halvings = 0
    while halvings < 4 and height % 2 == side % 2 == 0 and min(height, side) >= 4:
        halvings, height, side = halvings + 1, height // 2, side // 2
    widths = [channels, *[width] * (4 - halvings), *[width * 2**i for i in range(halvings)]]
    return [(*pair, i >= 4 - halvings) for i, pair in enumerate(pairwise(widths))], (height, side)
