"""Faces drawn by code, with known factors: a world in which "the smile changed and nothing else did" can be measured.

These are drawings, not photographs, of nobody. Each is a function of eight numbers (`Factors`); nothing else varies. The
lecture's arithmetic on photographs of women and men (slides 119-122) is told here with the drawn attribute `hair`: long hair
and painted lips, or short hair and a beard. It stands for the lecture's pair of words and says nothing about people.

A face is painted in layers, back to front. Each layer is a shape given by its signed distance (negative inside), which makes
edges smooth at any size: a pixel is covered by as much as the edge passes through it. The features sit on a cylinder that turns
with the pose, so that they move, narrow, and go out of sight as those of a head do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from gencourse import arguments
from gencourse.arguments import least_integer, positive_integer
from gencourse.data.dataset import Dataset
from gencourse.space import Space, on_cpu

__all__ = ["BINARY", "FACTORS", "FaceDataset", "Factors", "draw_faces", "faces", "sample_factors"]


@dataclass(frozen=True, eq=False)
class Factors:
    """What a face is drawn from, `(N,)` each, float32 on the CPU; a number stands for all faces.

    Attributes:
        smile: 0 neutral to 1 broad.
        pose: -1 turned to the picture's left to 1 to its right.
        glasses: 1 with, 0 without.
        hair: 1 long hair and painted lips, 0 short hair and a beard.
        skin: 0 light to 1 dark.
        hair_tone: 0 light to 1 dark.
        width: 0 narrow to 1 wide, of the face.
        background: 0 dark to 1 light.

    Raises:
        ValueError: if a number is out of its range, or the lengths differ.
    """

    smile: Tensor | float = 0.0
    pose: Tensor | float = 0.0
    glasses: Tensor | float = 0.0
    hair: Tensor | float = 0.0
    skin: Tensor | float = 0.3
    hair_tone: Tensor | float = 0.8
    width: Tensor | float = 0.5
    background: Tensor | float = 0.8

    def __post_init__(self) -> None:
        values = [torch.as_tensor(value, dtype=torch.float32, device="cpu").reshape(-1) for value in astuple(self)]
        n = max(len(value) for value in values)
        for field, value in zip(fields(self), values, strict=True):
            if len(value) not in (1, n):
                raise ValueError(f"Factors: {field.name} has {len(value)} entries, but there are {n} faces.")
            low = -1.0 if field.name == "pose" else 0.0
            if not bool(((value >= low) & (value <= 1)).all()):
                raise ValueError(f"Factors: {field.name} must be in [{low:g}, 1], not {value.min():g} to {value.max():g}.")
            if field.name in BINARY and not bool(((value == 0) | (value == 1)).all()):
                raise ValueError(f"Factors: {field.name} must be 0 or 1.")
            object.__setattr__(self, field.name, value.expand(n).clone())

    def __len__(self) -> int:
        return len(self.smile)  # type: ignore[arg-type]

    def __getitem__(self, index: slice | Tensor) -> Factors:
        """Some of the faces: by a slice, by numbers, or by a mask."""
        return Factors(**{name: value[index] for name, value in self.items()})

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """The factors' names and values, `(N,)` each."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))

    def table(self) -> Tensor:
        """The factors as columns in the order of `FACTORS`, `(N, 8)`."""
        return torch.stack([value for _, value in self.items()], dim=1)


FACTORS = tuple(field.name for field in fields(Factors))
BINARY = ("glasses", "hair")


@dataclass(frozen=True, repr=False)
class FaceDataset(Dataset):
    """A data set of drawn faces, with the factors of each; a label is `hair + 2 * glasses`."""

    train_factors: Factors = Factors()
    valid_factors: Factors = Factors()
    test_factors: Factors = Factors()


def sample_factors(n: int, generator: torch.Generator | None = None) -> Factors:
    """Factors of `n` faces, independent of one another: the binary ones fair coins, the others uniform on their range.

    Raises:
        ValueError: if n is no positive integer.
    """
    n = positive_integer("sample_factors: n", n)
    device = "cpu" if generator is None else generator.device
    u = torch.rand(len(FACTORS), n, generator=generator, device=device, dtype=torch.float32)
    columns = dict(zip(FACTORS, u, strict=True))
    columns["pose"] = 2 * columns["pose"] - 1
    for name in BINARY:
        columns[name] = (columns[name] < 0.5).float()
    return Factors(**columns)


def faces(size: int = 32, *, colour: bool = False, n: int = 5000, seed: int = 0) -> FaceDataset:
    """`n` drawn faces of `size` x `size` pixels on 256 levels: 80 % for training, 10 % for validation, 10 % for test.

    Args:
        size: 16 pixels or more; 32 and 64 are what the course uses.
        colour: red, green and blue; grey otherwise.
        n: 10 or more.
        seed: of the factors; faces of every size and colour have the same.

    Raises:
        ValueError: if size or n is too small, or seed no integer.

    >>> drawn = faces(16, n=20)
    >>> drawn.train.shape, drawn.test_factors.smile.shape
    (torch.Size([16, 1, 16, 16]), torch.Size([2]))
    """
    n = least_integer("faces: n", n, 10)
    factors = sample_factors(n, torch.Generator().manual_seed(arguments.seed("faces: seed", seed)))
    images = draw_faces(factors, size, colour=colour)
    labels = (factors.hair + 2 * factors.glasses).long()  # type: ignore[union-attr]
    name = f"faces{size}" + ("_colour" if colour else "")
    held_out = n // 10
    ends = {"train": slice(n - 2 * held_out), "valid": slice(n - 2 * held_out, n - held_out), "test": slice(n - held_out, n)}
    parts: dict[str, Any] = {part: images[end] for part, end in ends.items()}
    parts |= {f"{part}_labels": labels[end] for part, end in ends.items()}
    parts |= {f"{part}_factors": factors[end] for part, end in ends.items()}
    return FaceDataset(name=name, space=Space((3 if colour else 1, size, size), levels=256), **parts)


@on_cpu
def draw_faces(factors: Factors, size: int = 32, *, colour: bool = False) -> Tensor:
    """Draw a face for each row of the factors: uint8 `(N, C, size, size)`, C = 3 in colour, else 1; the same each time.

    Raises:
        ValueError: if size is less than 16.
    """
    size = least_integer("draw_faces: size", size, 16)
    chunk = max(1, 400_000 // size**2)  # so that the layers of a chunk stay in the processor's cache
    parts = [factors[start : start + chunk] for start in range(0, len(factors), chunk)]
    return torch.cat([_Painter(part, size, colour).face() for part in parts])


# Colours, (red, green, blue): the two ends of each scale.
SKIN = ((1.00, 0.87, 0.77), (0.55, 0.36, 0.26))
HAIR = ((0.66, 0.46, 0.24), (0.09, 0.06, 0.05))
BACKGROUND = ((0.30, 0.36, 0.46), (0.88, 0.93, 0.98))
SHIRT, LIPS, MOUTH, TEETH = (0.25, 0.42, 0.55), (0.72, 0.12, 0.18), (0.30, 0.05, 0.06), (0.98, 0.97, 0.95)
WHITE, IRIS, FRAME = (0.97, 0.97, 0.97), (0.10, 0.08, 0.08), (0.06, 0.06, 0.08)
LUMA = (0.299, 0.587, 0.114)
TURN = 0.5  # radians that the head turns at pose 1


class _Painter:
    """A canvas for some faces: x to the right, y down, both in [-1, 1]; `(N, 1, S, S)` a layer, `(N, C, S, S)` the picture."""

    def __init__(self, factors: Factors, size: int, colour: bool) -> None:
        self.f = {name: value.view(-1, 1, 1, 1) for name, value in factors.items()}
        self.colour, self.pixel = colour, 2 / size
        line = (torch.arange(size, dtype=torch.float32) + 0.5) * self.pixel - 1
        self.x, self.y = line.view(1, 1, 1, -1), line.view(1, 1, -1, 1)
        self.picture = self.tone(BACKGROUND, self.f["background"]).expand(-1, -1, size, size)
        self.half_width = 0.47 + 0.13 * self.f["width"]

    # --- paint ---

    def rgb(self, values: tuple[float, ...]) -> Tensor:
        """A colour, or its grey, `(1, C, 1, 1)`."""
        values = values if self.colour else (sum(a * b for a, b in zip(LUMA, values, strict=True)),)
        return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)

    def tone(self, ends: tuple[tuple[float, ...], tuple[float, ...]], t: Tensor) -> Tensor:
        return self.rgb(ends[0]) * (1 - t) + self.rgb(ends[1]) * t

    def paint(self, distance: Tensor, colour: Tensor, opacity: Tensor | float = 1.0) -> None:
        cover = self.inside(distance) * opacity
        self.picture = self.picture + cover * (colour - self.picture)

    def inside(self, distance: Tensor) -> Tensor:
        """How much of each pixel a shape covers."""
        return (0.5 - distance / self.pixel).clamp(0, 1)

    # --- shapes ---

    def ellipse(self, x: Tensor | float, y: Tensor | float, a: Tensor | float, b: Tensor | float) -> Tensor:
        """The signed distance from an ellipse, to first order (exact on the edge)."""
        u, v = (self.x - x) / a, (self.y - y) / b
        k = (u**2 + v**2).sqrt()
        return k * (k - 1) / ((u / a) ** 2 + (v / b) ** 2).sqrt().clamp(min=1e-6)

    def stroke(self, x0: Tensor, y0: Tensor | float, x1: Tensor, y1: Tensor | float, radius: float) -> Tensor:
        """The signed distance from a straight stroke with round ends."""
        dx, dy = x1 - x0, torch.as_tensor(y1 - y0, dtype=torch.float32)
        t = ((self.x - x0) * dx + (self.y - y0) * dy) / (dx**2 + dy**2).clamp(min=1e-9)
        t = t.clamp(0, 1)
        return ((self.x - x0 - t * dx) ** 2 + (self.y - y0 - t * dy) ** 2).sqrt() - radius

    def turned(self, u: float, out: float = 1.0) -> tuple[Tensor, Tensor]:
        """Where the point `u` of the face (-1 to 1 across it, `out` head radii from the axis) is seen, and how narrowed."""
        angle = torch.asin(torch.tensor(u, dtype=torch.float32)) + TURN * self.f["pose"]
        return out * self.half_width * torch.sin(angle), torch.cos(angle).clamp(min=0.25)

    # --- the layers ---

    def face(self) -> Tensor:
        f, a = self.f, self.half_width
        long, short = f["hair"], 1 - f["hair"]
        skin, hair = self.tone(SKIN, f["skin"]), self.tone(HAIR, f["hair_tone"])
        shift = 0.10 * f["pose"]  # the back of the head goes the other way
        self.paint(self.ellipse(-shift, 0.10, a + 0.24, 0.98), hair * 0.85, long)
        self.paint(self.ellipse(0, 1.28, 0.85, 0.48), self.rgb(SHIRT))
        self.paint(torch.maximum(abs(self.x) - 0.20, abs(self.y - 0.75) - 0.25), skin * 0.78)
        for side in (-1, 1):  # the ear on the side to which the head turns goes out of sight
            hidden = (side * f["pose"]).clamp(min=0)
            self.paint(self.ellipse(side * (a + 0.03 - 0.22 * hidden), 0.05, 0.09, 0.15), skin * 0.88, short)
        head = torch.maximum(self.ellipse(0, 0.05, a, 0.72), -0.9 - self.y)
        light = 1.03 - 0.10 * (self.x + 0.6 * f["pose"]) / a  # from the left
        self.paint(head, skin * light.clamp(0.8, 1.15))
        self.beard(head, skin, hair, short)
        self.eyes(hair)
        x, _ = self.turned(0, out=1.12)
        bridge, _ = self.turned(0)
        self.paint(self.stroke(bridge, -0.02, x, 0.20, 0.028), skin * 0.66)
        self.paint(self.ellipse(x, 0.21, 0.075, 0.045), skin * 0.66)
        self.mouth()
        self.crown(hair, long)
        self.glasses()
        return (self.picture.clamp(0, 1) * 255).round().to(torch.uint8)

    def beard(self, head: Tensor, skin: Tensor, hair: Tensor, short: Tensor) -> None:
        x, _ = self.turned(0)
        edge = 0.28 - 0.34 * ((self.x - x) / self.half_width) ** 2  # higher towards the ears
        around_mouth = self.ellipse(x, 0.42, 0.27, 0.13)
        area = torch.maximum(torch.maximum(head, edge - self.y), -around_mouth)
        self.paint(area, 0.25 * skin + 0.75 * hair, short * 0.9)

    def crown(self, hair: Tensor, long: Tensor) -> None:
        x, _ = self.turned(0)
        scalp = self.ellipse(-0.06 * self.f["pose"], 0.0, self.half_width + 0.06 + 0.04 * long, 0.80 + 0.06 * long)
        off = (self.x - x) / self.half_width
        short_line = (self.y + 0.40 - (0.24 * off**4).clamp(max=0.5)) / 1.2  # a hairline that comes down in front of the ears
        parting = off + 0.08
        long_line = (self.y + 0.50 - 0.5 * parting**2 - 0.8 * parting**6) / 1.8  # falls on both sides
        line = torch.where(long > 0.5, long_line, short_line)
        self.paint(torch.maximum(scalp, line), hair)

    def eyes(self, hair: Tensor) -> None:
        for side in (-1, 1):
            x, narrow = self.turned(0.42 * side)
            white = self.ellipse(x, -0.08, 0.135 * narrow, 0.085 - 0.02 * self.f["smile"])
            self.paint(white, self.rgb(WHITE))
            iris = self.ellipse(x + 0.02 * self.f["pose"], -0.08, 0.062 * narrow.sqrt(), 0.07)
            self.paint(torch.maximum(iris, white), self.rgb(IRIS))
            inner, _ = self.turned(0.20 * side)
            outer, _ = self.turned(0.64 * side)
            self.paint(self.stroke(inner, -0.245, outer, -0.225, 0.032), hair * 0.7)

    def mouth(self) -> None:
        s = self.f["smile"]
        x, narrow = self.turned(0)
        half = (0.17 + 0.10 * s) * narrow
        off = ((self.x - x) / half).clamp(-1.5, 1.5)
        bow = 1 - off**2  # 1 in the middle, 0 at the corners
        corner = 0.455 - 0.085 * s
        top, bottom = corner + 0.07 * s * bow, corner + (0.015 + 0.25 * s) * bow
        steep = (1 + (0.5 * s * off / half) ** 2).sqrt()  # a vertical distance is longer than the true one on a slope
        opening = torch.maximum(top - self.y, self.y - bottom) / steep
        thickness = 0.034 + 0.03 * self.f["hair"]
        lips = torch.maximum(opening - thickness * (0.35 + 0.65 * bow.clamp(min=0)), (self.x - x).abs() - half - 0.02)
        painted = self.f["hair"]
        colour = self.rgb(LIPS) * painted + self.rgb(MOUTH) * (1 - painted)
        self.paint(lips, colour)
        teeth = torch.maximum(opening + 0.012, self.y - bottom + 0.03)
        self.paint(teeth, self.rgb(TEETH), (3 * s).clamp(max=1))

    def glasses(self) -> None:
        worn, frame = self.f["glasses"], self.rgb(FRAME)
        edges = []
        for side in (-1, 1):
            x, narrow = self.turned(0.42 * side, out=1.06)
            a = 0.205 * narrow
            lens = self.ellipse(x, -0.07, a, 0.175)
            self.paint(lens, self.rgb(WHITE), 0.16 * worn)
            self.paint(lens.abs() - 0.030, frame, worn)
            edges.append((x, a))
            temple, _ = self.turned(0.999 * side)
            reach = torch.maximum(side * temple, side * x + a)  # a temple that points backwards is hidden
            self.paint(self.stroke(x + side * a, -0.09, side * reach, -0.12, 0.024), frame, worn)
        (left, a0), (right, a1) = edges
        self.paint(self.stroke(left + a0, -0.09, right - a1, -0.09, 0.026), frame, worn)
