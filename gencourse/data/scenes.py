"""Scenes drawn by code: a few plain shapes on a dark ground, of which everything is known.

A picture made from a drawing, a caption or a scene graph is right or wrong here, and not a matter of taste: the truth that it
was asked for is a `Scenes`, and `gencourse.metrics.scenes` reads it off the picture. Captions are in `gencourse.data.captions`,
scene graphs in `gencourse.data.graphs`.

The picture spans [-1, 1] both ways, x to the right and y down, whatever its size in pixels. Each shape fills the square of half
width `size` about its centre: the box is the same for all of them, so that a shape is told by how it fills the box. A shape is
given by its signed distance, negative inside, and a pixel is covered by as much as the edge passes through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from gencourse import arguments
from gencourse.arguments import least_integer, positive_integer
from gencourse.data.dataset import Dataset
from gencourse.space import Space, on_cpu

__all__ = ["COLOURS", "PALETTE", "PLACES", "SHAPES", "SceneDataset", "Scenes", "sample_scenes"]
__all__ += ["draw_outlines", "draw_scenes", "draw_stripes", "outlines_to_filled", "unpaired_styles"]

SHAPES = ("disc", "square", "triangle", "plus", "ring")
COLOURS = ("red", "green", "blue", "yellow")
PALETTE = ((0.90, 0.15, 0.15), (0.15, 0.75, 0.25), (0.20, 0.35, 0.95), (0.95, 0.85, 0.15))  # red, green and blue of each
BACKGROUND, GREY = 0.08, 0.75
STRIPES = (0.30, 0.90)  # dark and light
SIZES = (0.38, 0.62)  # of an object alone: small and large; the book's words change over at the mean
PLACES = ("middle", "top left", "top right", "bottom left", "bottom right")
CENTRES = ((0.0, 0.0), (-0.3, -0.3), (0.3, -0.3), (-0.3, 0.3), (0.3, 0.3))  # x and y of each place
LINE = 0.06  # half the width of an outline: one pixel of 16


@dataclass(frozen=True, eq=False)
class Scenes:
    """`N` scenes of up to `K` objects each, tensors `(N, K)` on the CPU.

    Attributes:
        shape: int64, which of `SHAPES`.
        colour: int64, which of `COLOURS`.
        size: float32, half the width of the object's box, the picture being 2 wide.
        x, y: float32, its centre, x to the right and y down, the picture being [-1, 1] both ways.
        present: bool, which objects there are; None means all of them.

    Raises:
        ValueError: if a number is out of its range, or the shapes of the tensors differ.
    """

    shape: Tensor
    colour: Tensor
    size: Tensor
    x: Tensor
    y: Tensor
    present: Tensor = None  # type: ignore[assignment]  # a tensor once it is made

    def __post_init__(self) -> None:
        like = torch.as_tensor(self.shape, device="cpu")
        if like.dim() != 2:
            raise ValueError(f"Scenes: shape must be a tensor (N, K), one row a scene, not {tuple(like.shape)}.")
        present = torch.ones(like.shape, dtype=torch.bool, device="cpu") if self.present is None else self.present
        kinds = {"shape": torch.long, "colour": torch.long, "present": torch.bool}
        for name in ("shape", "colour", "size", "x", "y", "present"):
            given = present if name == "present" else getattr(self, name)
            value = torch.as_tensor(given, device="cpu").to(kinds.get(name, torch.float32))
            if value.shape != like.shape:
                raise ValueError(f"Scenes: {name} must be {tuple(like.shape)}, as shape is, not {tuple(value.shape)}.")
            object.__setattr__(self, name, value)
        for name, names in (("shape", SHAPES), ("colour", COLOURS)):
            value = getattr(self, name)
            if not bool(((value >= 0) & (value < len(names))).all()):
                raise ValueError(f"Scenes: {name} must be 0..{len(names) - 1}, one of {', '.join(names)}.")
        if not bool(((self.size > 0) & (self.size <= 1) & (self.x.abs() <= 1) & (self.y.abs() <= 1)).all()):
            raise ValueError("Scenes: sizes must be in (0, 1], and centres in [-1, 1].")

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: slice | Tensor) -> Scenes:
        """Some of the scenes: by a slice, by numbers, or by a mask."""
        return Scenes(*(getattr(self, name)[index] for name in ("shape", "colour", "size", "x", "y", "present")))

    def boxes(self) -> Tensor:
        """Where the box of each object begins and ends: left, top, right, bottom, `(N, K, 4)` in [-1, 1]."""
        return torch.stack([self.x - self.size, self.y - self.size, self.x + self.size, self.y + self.size], dim=-1)

    def large(self) -> Tensor:
        """Which objects are called large where there is one alone, bool `(N, K)`."""
        return self.size > sum(SIZES) / 2

    def place(self) -> Tensor:
        """The nearest of `PLACES` to each centre, int64 `(N, K)`."""
        centres = _tensor(CENTRES)
        return torch.cdist(torch.stack([self.x, self.y], dim=-1).flatten(0, 1), centres).argmin(dim=-1).view(self.x.shape)


_NONE = Scenes(*(torch.zeros(0, 1, device="cpu") for _ in range(5)))


@dataclass(frozen=True, repr=False)
class SceneDataset(Dataset):
    """Drawn pictures with the scene of each. The labels are what a model is conditioned on, and say more where they are made."""

    train_scenes: Scenes = _NONE
    valid_scenes: Scenes = _NONE
    test_scenes: Scenes = _NONE


@on_cpu
def sample_scenes(
    n: int,
    *,
    objects: int = 1,
    shapes: Sequence[str] = SHAPES[:3],
    pairs: Sequence[tuple[str, str]] | None = None,
    nested: float = 0.0,
    generator: torch.Generator | None = None,
) -> Scenes:
    """Draw `n` scenes at random.

    One object alone is small or large, at one of five places, and moved a little (`SIZES`, `PLACES`). Several are smaller, all
    of different colours, do not touch, and of any two the displacement is clearly larger one way than the other, so that "left
    of", "above" and their like are never in doubt.

    Args:
        objects: 1 to 4, the number of colours.
        shapes: which of `SHAPES` there may be. At 16 pixels disc, square and triangle are the hardest to tell apart.
        pairs: the pairs (colour, shape) that there may be, instead of all; so some can be held out.
        nested: the share of scenes in which one object, of several, stands inside a larger one.

    Raises:
        ValueError: if a number or a name is none of these.
    """
    n, objects = positive_integer("sample_scenes: n", n), positive_integer("sample_scenes: objects", objects)
    if objects > len(COLOURS):
        raise ValueError(f"sample_scenes: objects must be 1 to {len(COLOURS)}, one of each colour, not {objects}.")
    if not 0 <= nested <= 1 or (nested and objects == 1):
        raise ValueError(f"sample_scenes: nested must be in [0, 1], and 0 for an object alone, not {nested!r}.")
    pairs = list(product(COLOURS, shapes)) if pairs is None else list(pairs)
    wrong = [pair for pair in pairs if len(pair) != 2 or pair[0] not in COLOURS or pair[1] not in SHAPES]
    if wrong or not pairs:
        raise ValueError(f"sample_scenes: pairs are (colour, shape) of {COLOURS} and {SHAPES}, not {wrong or pairs}.")
    allowed = torch.zeros(len(COLOURS), len(SHAPES), dtype=torch.float32)
    for colour, shape in pairs:
        allowed[COLOURS.index(colour), SHAPES.index(shape)] = 1
    if int((allowed.sum(1) > 0).sum()) < objects:
        raise ValueError(f"sample_scenes: {objects} objects need as many colours, which the pairs have not.")
    colours = torch.multinomial(allowed.sum(1).expand(n, -1), objects, generator=generator)  # (n, K)
    kinds = torch.multinomial(allowed[colours].flatten(0, 1), 1, generator=generator).view(n, objects)
    place = _alone if objects == 1 else _together
    return Scenes(kinds, colours, *place(n, objects, nested, generator))


def _tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device="cpu")


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator | None) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float32)


def _alone(n: int, objects: int, nested: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
    size = _tensor(SIZES)[torch.randint(2, (n, 1), generator=generator)] + _uniform((n, 1), -0.03, 0.03, generator)
    centre = _tensor(CENTRES)[torch.randint(len(PLACES), (n,), generator=generator)]  # (n, 2)
    centre = centre + _uniform((n, 2), -0.05, 0.05, generator)
    return size, centre[:, :1], centre[:, 1:]


def _together(n: int, objects: int, nested: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
    """Sizes and centres by rejection: what breaks a rule is drawn again."""
    found, nests = torch.empty(n, objects, 3, dtype=torch.float32), _uniform((n,), 0, 1, generator) < nested
    small, large = (0.21, 0.33) if objects < 4 else (0.17, 0.27)
    left = torch.arange(n)
    while len(left):
        m, nest = len(left), nests[left]
        size = _tensor((small, large))[torch.randint(2, (m, objects), generator=generator)]
        size = size + _uniform((m, objects), -0.02, 0.02, generator)
        room = 1 - size
        x, y = (_uniform((m, objects), -1, 1, generator) * room for _ in range(2))
        inner = _uniform((m, objects), 0, 1, generator).argsort(dim=1)[:, :2]  # who would stand in whom
        size[nest, inner[nest, 1]] = 0.5 + _uniform((m,), 0, 0.05, generator)[nest]
        size[nest, inner[nest, 0]] = 0.2 + _uniform((m,), -0.02, 0.02, generator)[nest]
        for line in (x, y):
            line[nest, inner[nest, 1]] *= 0.52  # at most 0.45: no object is smaller than 0.15
            line[nest, inner[nest, 0]] = line[nest, inner[nest, 1]] + _uniform((m,), -0.04, 0.04, generator)[nest]
        dx, dy = (line.unsqueeze(2) - line.unsqueeze(1) for line in (x, y))  # (m, K, K)
        apart = torch.maximum(dx.abs(), dy.abs()) > size.unsqueeze(2) + size.unsqueeze(1) + 0.06
        good = apart & ((dx.abs() - dy.abs()).abs() > 0.12) | torch.eye(objects, dtype=torch.bool)
        good[nest, inner[nest, 0], inner[nest, 1]] = good[nest, inner[nest, 1], inner[nest, 0]] = True
        good = good.all(dim=2).all(dim=1)
        found[left[good]] = torch.stack([size, x, y], dim=-1)[good]
        left = left[~good]
    size, x, y = found.unbind(dim=-1)
    return size, x, y


# --- drawing ---


@on_cpu
def draw_scenes(scenes: Scenes, size: int = 16, *, grey: bool = False) -> Tensor:
    """The scenes in their colours, uint8 `(N, 3, size, size)`, or all objects in one grey, `(N, 1, size, size)`.

    The largest object is painted first, so that one inside another is seen.

    Raises:
        ValueError: if size is less than 8.
    """
    size = least_integer("draw_scenes: size", size, 8)
    paint = _tensor([[GREY]] * len(COLOURS)) if grey else _tensor(PALETTE)
    return _levels(_painted(scenes, paint[scenes.colour].unsqueeze(-1).unsqueeze(-1), size))


@on_cpu
def draw_outlines(scenes: Scenes, size: int = 16) -> Tensor:
    """The shapes' outlines in white, without their colours, uint8 `(N, 1, size, size)`.

    Raises:
        ValueError: if size is less than 8.
    """
    size = least_integer("draw_outlines: size", size, 8)
    picture = torch.full((len(scenes), 1, size, size), BACKGROUND, dtype=torch.float32)
    for k in scenes.size.argsort(dim=1, descending=True).unbind(dim=1):
        distance, there = _distances(scenes, k, size)
        inside, line = cover(distance, size) * there, cover((distance + LINE).abs() - LINE, size) * there
        picture = picture + inside * (BACKGROUND - picture)
        picture = picture + line * (1 - picture)
    return _levels(picture)


@on_cpu
def draw_stripes(scenes: Scenes, phase: Tensor, size: int = 16) -> Tensor:
    """The shapes filled with upright stripes of two greys, uint8 `(N, 1, size, size)`; all objects of a scene alike.

    A period is four sixteenths of the picture; `phase` `(N,)` of 0 to 3 says by how many sixteenths to the left it is moved.

    Raises:
        ValueError: if size is no multiple of 16, or the phases are not 0 to 3, one a scene.
    """
    size = positive_integer("draw_stripes: size", size)
    if size % 16 or phase.shape != (len(scenes),) or not bool(((phase >= 0) & (phase < 4)).all()):
        raise ValueError(f"draw_stripes needs a size of 16, 32, ..., and phases ({len(scenes)},) of 0 to 3, not {size} and such.")
    return _levels(_painted(scenes, stripes(phase, size).unsqueeze(1), size))


def stripes(phase: Tensor, size: int = 16) -> Tensor:
    """The stripes alone, in [0, 1], for phases `(N,)`: `(N, 1, 1, size)`, each row of the picture being the same."""
    column = torch.arange(size, device="cpu") * 16 // size
    light = (column + phase.cpu().view(-1, 1, 1, 1)) // 2 % 2
    return _tensor(STRIPES)[light]


def cover(distance: Tensor, size: int) -> Tensor:
    """How much of each pixel a shape covers, from its signed distance."""
    return (0.5 - distance * (size / 2)).clamp(0, 1)


def signed_distance(shape: Tensor, half: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """How far a point is outside a shape, negative inside; near the edge, where it matters.

    Args:
        shape: which of `SHAPES`; it, `half`, the half width of the box, and the point, seen from the centre, broadcast.
    """
    r, across, down = (dx**2 + dy**2).sqrt(), dx.abs(), dy.abs()
    plus = torch.minimum(torch.maximum(across - half, down - 0.36 * half), torch.maximum(across - 0.36 * half, down - half))
    found = [
        r - half,
        torch.maximum(across, down) - half,
        torch.maximum(dy - half, (2 * across - dy - half) / 5**0.5),  # base below, apex above
        plus,
        torch.maximum(r - half, 0.5 * half - r),
    ]
    distance = found[0]
    for kind, other in enumerate(found[1:], start=1):
        distance = torch.where(shape == kind, other, distance)
    return distance


def grid(size: int) -> Tensor:
    """The centres of `size` pixels from -1 to 1, `(size,)`."""
    return (torch.arange(size, dtype=torch.float32, device="cpu") + 0.5) * (2 / size) - 1


def _distances(scenes: Scenes, k: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """From object `k` `(N,)` of each scene, at each pixel `(N, 1, size, size)`; and whether it is there."""
    shape, half, x, y, there = (
        getattr(scenes, name).gather(1, k.unsqueeze(1)).view(-1, 1, 1, 1) for name in ("shape", "size", "x", "y", "present")
    )
    line = grid(size)
    return signed_distance(shape, half, line - x, line.unsqueeze(1) - y), there


def _painted(scenes: Scenes, paint: Tensor, size: int) -> Tensor:
    """The objects in their paint `(N, K or 1, C, ...)`, largest first, on the dark ground: `(N, C, size, size)` in [0, 1]."""
    picture = torch.full((len(scenes), paint.shape[2], size, size), BACKGROUND, dtype=torch.float32)
    rows = torch.arange(len(scenes))
    for k in scenes.size.argsort(dim=1, descending=True).unbind(dim=1):
        distance, there = _distances(scenes, k, size)
        colour = paint[rows, k] if paint.shape[1] > 1 else paint[:, 0]
        picture = picture + cover(distance, size) * there * (colour - picture)
    return picture


def _levels(picture: Tensor) -> Tensor:
    return (picture * 255).round().to(torch.uint8)


# --- data sets ---


def parts(name: str, images: Tensor, conditions: Tensor | None, scenes: Scenes) -> SceneDataset:
    """The pictures as a data set: the first eight tenths for training, a tenth for validation, a tenth for test."""
    held_out, n = len(images) // 10, len(images)
    ends = {"train": slice(n - 2 * held_out), "valid": slice(n - 2 * held_out, n - held_out), "test": slice(n - held_out, n)}
    found: dict[str, Any] = {part: images[end] for part, end in ends.items()}
    found |= {f"{part}_scenes": scenes[end] for part, end in ends.items()}
    if conditions is not None:
        found |= {f"{part}_labels": conditions[end] for part, end in ends.items()}
    return SceneDataset(name=name, space=Space(tuple(images.shape[1:]), levels=256), **found)


def outlines_to_filled(
    size: int = 16, *, fill: str = "two colours", n: int = 8000, seed: int = 0, shapes: Sequence[str] = SHAPES[:3]
) -> SceneDataset:
    """Outlines, and the same objects filled at random: a picture has several right answers.

    The images are the filled objects, the labels the outlines, uint8 `(N, 1, size, size)`. `fill` says what is random:

    - "two colours": red or blue, as a fair coin falls. `(N, 3, size, size)`.
    - "four colours": any of `COLOURS`.
    - "stripes": the phase of the stripes, one of four, kept nowhere. `(N, 1, size, size)`.

    Eight tenths of `n` are for training. 1000 pairs are few enough to be learnt by heart; 6000 are not.

    Raises:
        ValueError: if the fill is unknown, n less than 10, or seed no integer.

    >>> pairs = outlines_to_filled(n=20)
    >>> pairs.train.shape, pairs.train_labels.shape
    (torch.Size([16, 3, 16, 16]), torch.Size([16, 1, 16, 16]))
    """
    n = least_integer("outlines_to_filled: n", n, 10)
    generator = torch.Generator().manual_seed(arguments.seed("outlines_to_filled: seed", seed))
    colours = {"two colours": ("red", "blue"), "four colours": COLOURS, "stripes": COLOURS}.get(fill)
    if colours is None:
        raise ValueError(f"outlines_to_filled: fill must be 'two colours', 'four colours' or 'stripes', not {fill!r}.")
    scenes = sample_scenes(n, pairs=list(product(colours, shapes)), generator=generator)
    if fill == "stripes":
        filled = draw_stripes(scenes, torch.randint(4, (n,), generator=generator, device="cpu"), size)
    else:
        filled = draw_scenes(scenes, size)
    return parts(f"outlines{size} to {fill}", filled, draw_outlines(scenes, size), scenes)


def unpaired_styles(size: int = 16, *, n: int = 1250, seed: int = 0, shapes: Sequence[str] = SHAPES[:3]) -> SceneDataset:
    """Objects filled in grey, and outlines of *other* objects, uint8 `(N, 1, size, size)` each, for learning without pairs.

    The images are the filled ones, the labels the outlines. For training they show different scenes, `train_scenes` being those
    of the images. For validation and test they show the same ones: the pairing is known, and how far a translation is from the
    truth can be measured.

    Raises:
        ValueError: if n is less than 10, or seed no integer.

    >>> styles = unpaired_styles(n=20)
    >>> styles.train.shape, styles.test_labels.shape
    (torch.Size([16, 1, 16, 16]), torch.Size([2, 1, 16, 16]))
    """
    n = least_integer("unpaired_styles: n", n, 10)
    generator = torch.Generator().manual_seed(arguments.seed("unpaired_styles: seed", seed))
    scenes, others = (sample_scenes(n, shapes=shapes, generator=generator) for _ in range(2))
    outlines = draw_outlines(scenes, size)
    trained = n - 2 * (n // 10)
    outlines[:trained] = draw_outlines(others[:trained], size)
    return parts(f"styles{size}", draw_scenes(scenes, size, grey=True), outlines, scenes)
