"""Readers of drawn scenes, which need no training: what is in a picture, by least squares and by colour.

They turn "the caption's circle is there" into numbers. None has seen a generated picture: `read` fits every template of a shape,
size and place in every colour and takes the nearest; the root of the mean squared difference that is left says how well the
picture is drawn at all. `locate` finds several objects by their colours, and how they stand to each other. `fills` looks at the
inside of shapes that are known. How often each is right about true drawings is measured, not assumed: `reader_scores`.

What a reader says of a picture is which answer is nearest, no more. A grey fog is read as something too: look at the residual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gencourse import arguments
from gencourse.arguments import positive_integer
from gencourse.data import captions
from gencourse.data.graphs import PLACING, Graph, scene_graph, stands, unpack
from gencourse.data.scenes import (
    BACKGROUND,
    COLOURS,
    PALETTE,
    SHAPES,
    Scenes,
    cover,
    draw_scenes,
    draw_stripes,
    grid,
    sample_scenes,
    signed_distance,
    stripes,
)
from gencourse.space import on_cpu


def _unit(x: Tensor, channels: Sequence[int], what: str) -> Tensor:
    """Pictures on 256 levels as numbers in [0, 1], on the CPU."""
    right = isinstance(x, Tensor) and x.dim() == 4 and x.shape[1] in channels and x.shape[2] == x.shape[3]
    if not right or x.is_floating_point():
        given = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(
            f"{what} needs pictures (N, {' or '.join(map(str, channels))}, S, S), integers of 0 to 255, not {given}."
        )
    return x.cpu().to(torch.float32) / 255


# --- one object: least squares over templates ---


@dataclass(frozen=True)
class Reading:
    """What was read of pictures with one object each.

    Attributes:
        scenes: the nearest of all scenes that were tried, one object each.
        residual: the root mean square of what is left, in parts of the full range, `(N,)`.
    """

    scenes: Scenes
    residual: Tensor

    def facts(self) -> Tensor:
        """Shape, colour, size (1 is large) and place as captions number them, int64 `(N, 4)`."""
        s = self.scenes
        return torch.cat([s.shape, s.colour, s.large().long(), s.place()], dim=1)


@on_cpu
def read(x: Tensor, *, shapes: Sequence[str] = SHAPES[:3]) -> Reading:
    """The object in each picture `(N, 3, S, S)`: of all shapes, sizes, places and colours the nearest in least squares.

    Pictures larger than 32 pixels are averaged down to 32, or less, first.

    Args:
        shapes: those that may be there.

    Raises:
        ValueError: if these are no pictures in colour.
    """
    picture = _unit(x, (3,), "read")
    while picture.shape[-1] > 32 and picture.shape[-1] % 2 == 0:
        picture = F.avg_pool2d(picture, 2)
    numbers, masks = _templates(tuple(SHAPES.index(shape) for shape in shapes), picture.shape[-1])
    paint = torch.tensor(PALETTE, dtype=torch.float32) - BACKGROUND  # (4, 3)
    energy = masks.square().sum(1) * paint.square().sum(1, keepdim=True)  # (4, T)
    best, left = [], []
    for part in (picture - BACKGROUND).flatten(2).split(64):  # (n, 3, P)
        product = torch.einsum("kc,nct->nkt", paint, part @ masks.T)
        least, which = (energy - 2 * product).flatten(1).min(dim=1)
        best.append(which)
        left.append((least + part.square().sum((1, 2))).clamp(min=0) / part[0].numel())
    which = torch.cat(best) if best else torch.zeros(0, dtype=torch.long)
    shape, size, x_, y_ = numbers[which % len(numbers)].unsqueeze(1).unbind(dim=-1)
    scenes = Scenes(shape.long(), (which // len(numbers)).unsqueeze(1), size, x_, y_)
    return Reading(scenes, torch.cat(left).sqrt() if left else torch.zeros(0))


@cache
@on_cpu
def _templates(shapes: tuple[int, ...], side: int) -> tuple[Tensor, Tensor]:
    """Every shape, size and place that is tried `(T, 4)`, and how it covers the pixels `(T, side * side)`."""
    sizes = torch.tensor([0.35, 0.38, 0.41, 0.5, 0.59, 0.62, 0.65], dtype=torch.float32)
    line = torch.linspace(-0.35, 0.35, 11, dtype=torch.float32)
    numbers = torch.cartesian_prod(torch.tensor(shapes, dtype=torch.float32), sizes, line, line)
    shape, half, x, y = (column.view(-1, 1, 1) for column in numbers.unbind(dim=1))
    pixels = grid(side)
    masks = [
        cover(signed_distance(kind, r, pixels - cx, pixels.unsqueeze(1) - cy), side).flatten(1)
        for kind, r, cx, cy in zip(*(column.split(2000) for column in (shape, half, x, y)), strict=True)
    ]
    return numbers, torch.cat(masks)


def facts_right(x: Tensor, facts: Tensor, *, shapes: Sequence[str] = SHAPES[:3]) -> Tensor:
    """Whether each picture `(N, 3, S, S)` shows what its caption asks for, `facts` `(N, 4)`; bool `(N, 4)`.

    Columns are shape, colour, size and place, as `gencourse.data.captions.facts` gives them; what is not said is right.

    Raises:
        ValueError: if pictures and facts do not belong together.
    """
    if facts.shape != (len(x), len(captions.FACTS)):
        raise ValueError(f"facts_right needs the four facts of each of {len(x)} pictures, not {tuple(facts.shape)}.")
    facts = facts.cpu()
    return (read(x, shapes=shapes).facts() == facts) | (facts < 0)


# --- several objects: their colours ---


@dataclass(frozen=True)
class Located:
    """Where each colour is in pictures of several objects, `(N, 4)` in the order of `COLOURS`.

    Attributes:
        seen: whether there is enough of it.
        x, y: its centroid, in [-1, 1].
        boxes: where it begins and ends, left, top, right, bottom, `(N, 4, 4)`.
    """

    seen: Tensor
    x: Tensor
    y: Tensor
    boxes: Tensor


@on_cpu
def locate(x: Tensor) -> Located:
    """Where each colour of the palette is, in pictures `(N, 3, S, S)`.

    A pixel belongs to a colour by how near it is: wholly on it, not at all if it is half way to the dark ground or beyond. So a
    blend of two colours belongs to neither of them, nor to a third.

    Raises:
        ValueError: if these are no pictures in colour.
    """
    picture = _unit(x, (3,), "locate")
    paint = torch.tensor(PALETTE, dtype=torch.float32)
    away = (picture.unsqueeze(1) - paint.view(1, -1, 3, 1, 1)).square().sum(2).sqrt()  # (N, 4, S, S)
    reach = (paint - BACKGROUND).square().sum(1).sqrt().view(1, -1, 1, 1)
    weight = (1 - 2 * away / reach).clamp(min=0)
    line, pixel = grid(picture.shape[-1]), 2 / picture.shape[-1]
    mass = weight.sum((2, 3)).clamp(min=1e-9)
    across, down = weight.amax(2), weight.amax(3)  # (N, 4, S)
    edges = [_ends(profile, line, pixel) for profile in (across, down)]
    boxes = torch.stack([edges[0][0], edges[1][0], edges[0][1], edges[1][1]], dim=-1)
    centroid = ((weight.sum(2) * line).sum(2) / mass, (weight.sum(3) * line).sum(2) / mass)
    return Located(mass * pixel**2 > 0.015, *centroid, boxes)


def _ends(profile: Tensor, line: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
    """The first and the last place where there is something, `(N, 4)` each; the edge pixel counts by how much there is."""
    there = profile > 0.05
    big = torch.full_like(profile, 9.0)
    low = torch.where(there, line + pixel / 2 - pixel * (0.5 + 0.5 * profile), big).amin(2)
    high = torch.where(there, line - pixel / 2 + pixel * (0.5 + 0.5 * profile), -big).amax(2)
    return low, high


@on_cpu
def relations_right(x: Tensor, graph: Tensor) -> Tensor:
    """Which triples of the graphs `(N, K + T, 7)` the pictures `(N, 3, S, S)` obey: 1, 0, or NaN for an absent one, `(N, T)`.

    Objects are found by their colours, which must differ. A triple of an object that is not to be seen is not obeyed.

    Raises:
        ValueError: if two objects of a graph have one colour, or pictures and graphs do not belong together.
    """
    parts, found = unpack(graph.cpu()), locate(x)
    if len(x) != len(graph):
        raise ValueError(f"relations_right needs a graph for each of {len(x)} pictures, not {len(graph)} graphs.")
    _one_of_each(parts)
    place = stands(found.x, found.y, found.boxes)  # (N, 4, 4), by colours
    extent = (found.boxes[..., 2:] - found.boxes[..., :2]).amax(-1)
    rows = torch.arange(len(x)).unsqueeze(1)
    first, second = (parts.colour.gather(1, end.clamp(min=0)) for end in (parts.subject, parts.object))
    larger = torch.where(extent[rows, first] > extent[rows, second], 6, 7)
    obeyed = torch.where(parts.relation < PLACING, place[rows, first, second], larger) == parts.relation
    obeyed = obeyed & found.seen[rows, first] & found.seen[rows, second]
    return torch.where(parts.subject >= 0, obeyed.to(torch.float32), torch.nan)


def objects_seen(x: Tensor, graph: Tensor) -> Tensor:
    """Which objects of the graphs are to be seen in the pictures: 1, 0, or NaN for an absent one, `(N, K)`."""
    parts, found = unpack(graph.cpu()), locate(x)
    seen = found.seen.gather(1, parts.colour.clamp(min=0)).to(torch.float32)
    return torch.where(parts.colour >= 0, seen, torch.nan)


def _one_of_each(parts: Graph) -> None:
    same = (parts.colour.unsqueeze(2) == parts.colour.unsqueeze(1)) & (parts.colour >= 0).unsqueeze(2)
    if bool((same.sum(2) > 1).any()):
        raise ValueError("relations_right tells objects by their colours, but a graph has two of one colour.")


# --- the inside of shapes that are known ---


@dataclass(frozen=True)
class Fills:
    """How well shapes are filled with one of a few right answers, `(N,)` each.

    Attributes:
        inside: the share of the pixels wholly inside that are near the best of the answers.
        whole: whether the inside as a whole is one of the answers.
        ground: the share of the pixels wholly outside that are near the dark ground.
        choice: the number of the nearest answer.
        answers: how many there are.
    """

    inside: Tensor
    whole: Tensor
    ground: Tensor
    choice: Tensor
    answers: int

    @property
    def modes(self) -> float:
        """How many answers are used: the exponential of the entropy of the choices, among pictures that are right as a whole."""
        share = torch.bincount(self.choice[self.whole], minlength=self.answers).double()
        share = share / share.sum().clamp(min=1)
        return float(torch.special.entr(share).sum().exp()) if bool(self.whole.any()) else 0.0


@on_cpu
def fills(x: Tensor, scenes: Scenes, *, colours: Sequence[str] = COLOURS) -> Fills:
    """How pictures `(N, 3, S, S)` fill the shapes of known scenes, one object each, with the colours of the palette.

    A pixel is right within 0.2 of the colour in each channel; a shape as a whole if its mean colour is within 0.15.

    Raises:
        ValueError: if pictures and scenes do not belong together, or a colour is not in the palette.
    """
    picture, mask, outside = _against(x, scenes, (3,), "fills")
    if not colours or any(colour not in COLOURS for colour in colours):
        raise ValueError(f"fills: colours must be some of {', '.join(COLOURS)}, not {colours!r}.")
    paint = torch.tensor([PALETTE[COLOURS.index(colour)] for colour in colours], dtype=torch.float32)
    mean = (picture * mask).sum((2, 3)) / mask.sum((2, 3))  # (N, 3)
    gap, choice = (mean.unsqueeze(1) - paint).abs().amax(2).min(dim=1)
    near = ((picture - paint[choice].view(-1, 3, 1, 1)).abs().amax(1, keepdim=True) < 0.2) & mask
    return Fills(_share(near, mask), gap < 0.15, _dark(picture, outside), choice, len(colours))


@on_cpu
def striped(x: Tensor, scenes: Scenes) -> Fills:
    """How pictures `(N, 1, S, S)` fill the shapes of known scenes, one object each, with stripes in one of the four phases.

    A pixel is right within 0.15 of its tone, half the way to the mean of the two; a shape as a whole if 0.8 of its pixels are.

    Raises:
        ValueError: if pictures and scenes do not belong together.
    """
    picture, mask, outside = _against(x, scenes, (1,), "striped")
    tones = stripes(torch.arange(4), picture.shape[-1]).view(1, 4, 1, -1)
    near = ((picture - tones).abs() < 0.15) & mask  # (N, 4, S, S)
    inside, choice = (near.sum((2, 3)) / mask.sum((2, 3))).max(dim=1)
    return Fills(inside, inside > 0.8, _dark(picture, outside), choice, 4)


def _against(x: Tensor, scenes: Scenes, channels: Sequence[int], what: str) -> tuple[Tensor, Tensor, Tensor]:
    """The pictures in [0, 1], and masks of the pixels that lie wholly inside and wholly outside the shapes."""
    picture = _unit(x, channels, what)
    if len(scenes) != len(x) or scenes.shape.shape[1] != 1:
        raise ValueError(f"{what} needs a scene of one object for each of {len(x)} pictures, not {tuple(scenes.shape.shape)}.")
    side = picture.shape[-1]
    line = grid(side)
    shape, half, cx, cy = (getattr(scenes, name).view(-1, 1, 1, 1) for name in ("shape", "size", "x", "y"))
    covered = cover(signed_distance(shape, half, line - cx, line.unsqueeze(1) - cy), side)
    return picture, covered == 1, covered == 0


def _share(near: Tensor, mask: Tensor) -> Tensor:
    return near.sum((1, 2, 3)) / mask.sum((1, 2, 3))


def _dark(picture: Tensor, outside: Tensor) -> Tensor:
    return _share(((picture - BACKGROUND).abs().amax(1, keepdim=True) < 0.2) & outside, outside)


# --- how good the readers are ---


@on_cpu
def reader_scores(
    size: int = 16, *, n: int = 1000, shapes: Sequence[str] = SHAPES[:3], objects: int = 3, nested: float = 0.3, seed: int = 0
) -> dict[str, float]:
    """How often the readers are right about `n` fresh true drawings of a size, and the residual of a true drawing.

    The facts by `read`; "relations" in place, and which is "larger", by `relations_right` on scenes of several objects; "fill"
    and "stripes" by the share of pixels inside.

    Raises:
        ValueError: if n is no positive integer, or seed no integer.
    """
    n = positive_integer("reader_scores: n", n)
    generator = torch.Generator().manual_seed(arguments.seed("reader_scores: seed", seed))
    scenes = sample_scenes(n, shapes=shapes, generator=generator)
    x, reading = draw_scenes(scenes, size), read(draw_scenes(scenes, size), shapes=shapes)
    truth = Reading(scenes, reading.residual).facts()
    scores = dict(zip(captions.FACTS, (reading.facts() == truth).double().mean(0).tolist(), strict=True))
    scores["residual"] = float(reading.residual.double().mean())
    scores["fill"] = float(fills(x, scenes).inside.double().mean())
    phase = torch.randint(4, (n,), generator=generator)
    scores["stripes"] = float(striped(draw_stripes(scenes, phase, size), scenes).inside.double().mean())
    several = sample_scenes(n, objects=objects, nested=nested, shapes=shapes, generator=generator)
    obeyed = relations_right(draw_scenes(several, size), scene_graph(several, sizes=True))
    scores["relations"], scores["larger"] = (float(part.nanmean()) for part in (obeyed[:, :objects], obeyed[:, objects:]))
    return scores
