"""Scene graphs: which objects a scene has, and how they stand to each other; packed as one tensor of integers.

    graph[k]  =  1, shape, colour, left, top, right, bottom     an object; its box in 256ths of the picture, or -1: not known
    graph[K + t]  =  0, subject, relation, object, -1, -1, -1   a triple of the objects' numbers and one of `RELATIONS`

An absent object or triple has -1 in all columns but the first. So one tensor `(N, K + T, 7)` holds N graphs.

"a is left of b" means that b is further to the right of a than it is above or below. In the coordinates u = x + y and v = x - y
that is u_a < u_b and v_a < v_b, and "above" is u_a < u_b and v_a > v_b (y points down). So a graph can hold exactly when neither
the order of u nor that of v goes round in a circle, which is how `contradiction` finds out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from gencourse import arguments
from gencourse.arguments import least_integer
from gencourse.data.scenes import COLOURS, SHAPES, SceneDataset, Scenes, draw_scenes, parts, sample_scenes
from gencourse.space import on_cpu

__all__ = ["INVERSE", "RELATIONS", "UNITS", "Graph", "contradiction", "describe", "edit", "relation_of", "scene_graph"]
__all__ += ["scene_graphs", "unpack", "without_boxes"]

RELATIONS = ("left of", "right of", "above", "below", "inside", "around", "larger than", "smaller than")
INVERSE = (1, 0, 3, 2, 5, 4, 7, 6)  # if a stands to b in a relation, so b stands to a
PLACING = 6  # the first six say where, the others how large
UNITS = 256  # of a box, across the picture
COLUMNS = 7


class Graph(NamedTuple):
    """Packed graphs in parts.

    Attributes:
        shape, colour: `(N, K)`, -1 for an absent object.
        boxes: `(N, K, 4)`, left, top, right, bottom in 256ths, -1 where not known.
        subject, relation, object: `(N, T)`, -1 for an absent triple.
    """

    shape: Tensor
    colour: Tensor
    boxes: Tensor
    subject: Tensor
    relation: Tensor
    object: Tensor


def unpack(graph: Tensor, objects: int | None = None) -> Graph:
    """The parts of graphs `(N, K + T, 7)`.

    Args:
        objects: how many rows of objects there must be; None takes what the first column says.

    Raises:
        ValueError: if they are of another form, or speak of objects, shapes, colours or relations that there are not.
    """
    form = "scene graphs are integers (N, K + T, 7), K rows of objects and then T of triples"
    if not isinstance(graph, Tensor) or graph.dim() != 3 or graph.shape[2] != COLUMNS or graph.is_floating_point():
        given = f"{graph.dtype} {tuple(graph.shape)}" if isinstance(graph, Tensor) else type(graph).__name__
        raise ValueError(f"{form}, as gencourse.data.graphs.scene_graph makes them, not {given}.")
    found_objects = int((graph[0, :, 0] == 1).sum()) if len(graph) else objects or 0
    objects = found_objects if objects is None else objects
    marks = (torch.arange(graph.shape[1], device=graph.device) < objects).to(graph.dtype)
    if found_objects != objects:
        raise ValueError(f"{form}: {objects} objects are expected, and there are {found_objects}.")
    if len(graph) and (objects == 0 or not bool((graph[:, :, 0] == marks).all())):
        raise ValueError(f"{form}: the first column must be 1 for objects and 0 for triples, in every graph alike.")
    nodes, edges = graph[:, :objects], graph[:, objects:]
    found = Graph(nodes[..., 1], nodes[..., 2], nodes[..., 3:], edges[..., 1], edges[..., 2], edges[..., 3])
    limits = {"shape": len(SHAPES), "colour": len(COLOURS), "boxes": UNITS + 1}
    limits |= {"subject": objects, "relation": len(RELATIONS), "object": objects}
    for name, limit in limits.items():
        value = getattr(found, name)
        if value.numel() and not bool(((value >= -1) & (value < limit)).all()):
            raise ValueError(f"scene graphs: {name} must be -1 to {limit - 1}, not {int(value.min())} to {int(value.max())}.")
    there = found.subject >= 0
    ends = (found.subject.clamp(min=0), found.object.clamp(min=0))
    alive = (found.shape >= 0) & (found.colour >= 0)
    same = ((found.object >= 0) == there) & ((found.relation >= 0) == there)
    if there.numel() and not bool((same & (~there | (alive.gather(1, ends[0]) & alive.gather(1, ends[1])))).all()):
        raise ValueError("scene graphs: a triple names its subject, relation and object, all of them there, or none.")
    return found


def without_boxes(graph: Tensor) -> Tensor:
    """The same graphs, the boxes not known."""
    found = graph.clone()
    found[..., 3:] = torch.where(graph[..., :1] == 1, -1, graph[..., 3:])
    return found


def relation_of(scenes: Scenes) -> Tensor:
    """How each object stands to each other in place, numbers of `RELATIONS`, int64 `(N, K, K)`; -1 on the diagonal.

    Inside and around go by the boxes, the others by the larger displacement of the centres.
    """
    boxes = scenes.boxes()
    return stands(scenes.x, scenes.y, boxes)


def stands(x: Tensor, y: Tensor, boxes: Tensor) -> Tensor:
    """The relations in place of centres `(N, K)` and boxes `(N, K, 4)`: `(N, K, K)`."""
    dx, dy = (line.unsqueeze(1) - line.unsqueeze(2) for line in (x, y))  # from the subject to the object, (N, K, K)
    across = torch.where(dx > 0, 0, 1)
    down = torch.where(dy > 0, 2, 3)
    found = torch.where(dx.abs() > dy.abs(), across, down)
    inner, outer = boxes.unsqueeze(2), boxes.unsqueeze(1)
    inside = (inner[..., :2] >= outer[..., :2]).all(-1) & (inner[..., 2:] <= outer[..., 2:]).all(-1)
    found = torch.where(inside, 4, torch.where(inside.transpose(1, 2), 5, found))
    return found.masked_fill(torch.eye(x.shape[1], dtype=torch.bool, device=x.device), -1)


def scene_graph(scenes: Scenes, *, boxes: bool = False, sizes: bool = False) -> Tensor:
    """The graphs of scenes, int64 `(N, K + T, 7)`: how each object stands to the next one, and the last to the first.

    Args:
        boxes: whether the objects' boxes are told.
        sizes: T more triples, of the same pairs: which one is larger. Where the two are alike, the triple is absent.

    Raises:
        ValueError: if the scenes have only one object.
    """
    objects = scenes.shape.shape[1]
    if objects < 2:
        raise ValueError("scene_graph: a scene of one object has no relations; see gencourse.data.captions.")
    subject = torch.arange(objects, device="cpu")
    other = (subject + 1) % objects
    graph = torch.full((len(scenes), objects + objects * (1 + sizes), COLUMNS), -1, dtype=torch.long, device="cpu")
    graph[:, :objects, 0], graph[:, objects:, 0] = 1, 0
    nodes, edges = graph[:, :objects], graph[:, objects:]
    nodes[..., 1] = scenes.shape.masked_fill(~scenes.present, -1)
    nodes[..., 2] = scenes.colour.masked_fill(~scenes.present, -1)
    if boxes:
        there = scenes.present.unsqueeze(-1)
        nodes[..., 3:] = ((scenes.boxes() + 1) * (UNITS / 2)).round().long().clamp(0, UNITS).masked_fill(~there, -1)
    both = scenes.present[:, subject] & scenes.present[:, other]
    relations = [relation_of(scenes)[:, subject, other]]
    stated = [both]
    if sizes:
        more = scenes.size[:, subject] - scenes.size[:, other]
        relations.append(torch.where(more > 0, 6, 7))
        stated.append(both & (more.abs() > 0.05))
    relation, said = torch.cat(relations, dim=1), torch.cat(stated, dim=1)
    for column, value in ((1, subject.repeat(1 + sizes)), (2, relation), (3, other.repeat(1 + sizes))):
        edges[..., column] = torch.where(said, value, -1)
    return graph


@on_cpu
def scene_graphs(
    size: int = 16,
    *,
    objects: int = 3,
    n: int = 5000,
    nested: float = 0.0,
    sizes: bool = False,
    shapes: Iterable[str] = SHAPES[:3],
    seed: int = 0,
) -> SceneDataset:
    """Pictures `(N, 3, size, size)` of several objects, with a scene graph each: labels int64 `(N, K + T, 7)`.

    The graphs know the objects' boxes, but those of the test part do not: a model is judged by where it puts them itself.

    Args:
        objects: in a scene, 2 to 4, each of another colour.
        nested: the share of scenes in which one object stands inside another.
        sizes: whether the graphs say which object is larger.

    Raises:
        ValueError: if n is less than 10, or another argument is out of its range.

    >>> scene_graphs(n=20).train_labels.shape
    torch.Size([16, 6, 7])
    """
    n, objects = least_integer("scene_graphs: n", n, 10), least_integer("scene_graphs: objects", objects, 2)
    generator = torch.Generator().manual_seed(arguments.seed("scene_graphs: seed", seed))
    scenes = sample_scenes(n, objects=objects, nested=nested, shapes=tuple(shapes), generator=generator)
    graph = scene_graph(scenes, boxes=True, sizes=sizes)
    tested = n // 10
    graph[-tested:] = without_boxes(graph[-tested:])
    return parts(f"graphs{size}", draw_scenes(scenes, size), graph, scenes)


# --- reading and changing one graph ---


def describe(graph: Tensor) -> list[str]:
    """The triples of one graph `(K + T, 7)` in words: "the red disc is left of the blue square"; the absent ones left out."""
    parts_ = unpack(graph.unsqueeze(0))
    return [f"the {_name(parts_, a)} is {RELATIONS[r]} the {_name(parts_, b)}" for _, a, r, b in _triples(parts_)]


def edit(graph: Tensor, i: int, relation: str) -> Tensor:
    """One graph `(K + T, 7)` with another relation in triple `i`; the boxes are not known any more.

    Other triples of the same two objects, the inverse one above all, are changed with it: they would contradict it.

    Raises:
        ValueError: if there is no such triple or relation, or no scene has what the graph would say.
    """
    found = unpack(graph.unsqueeze(0))
    triples = {t: (a, r, b) for t, a, r, b in _triples(found)}
    if relation not in RELATIONS:
        raise ValueError(f"edit: there is no relation {relation!r}; there are: {', '.join(RELATIONS)}.")
    if i not in triples:
        raise ValueError(f"edit: the graph has triples {', '.join(map(str, triples))}, and not {i!r}.")
    r, (a, before, b) = RELATIONS.index(relation), triples[i]
    if (r < PLACING) != (before < PLACING):
        raise ValueError(f"edit: triple {i} says {RELATIONS[before]!r}; where and how large are different triples.")
    changed, objects = without_boxes(graph), found.shape.shape[1]
    for t, (c, old, d) in triples.items():
        if {a, b} == {c, d} and (old < PLACING) == (r < PLACING):
            changed[objects + t, 2] = r if c == a else INVERSE[r]
    wrong = contradiction(changed)
    if wrong is not None:
        raise ValueError(f"edit: {wrong}; change another triple first.")
    return changed


def contradiction(graph: Tensor) -> str | None:
    """Why no scene has what one graph `(K + T, 7)` says, in words; None if one may.

    Whoever is inside another has its place in the orders of u and v, and is smaller than it.
    """
    found = unpack(graph.unsqueeze(0))
    triples = [(a, r, b) for _, a, r, b in _triples(found)]
    orders = {"u": ({0, 2}, {1, 3}), "v": ({0, 3}, {1, 2}), "size": ({4, 7}, {5, 6})}  # who comes first: subject, object
    for order, (before, after) in orders.items():
        arrows = [(a, b, (a, r, b)) for a, r, b in triples if r in before] + [
            (b, a, (a, r, b)) for a, r, b in triples if r in after
        ]
        ties = [(a, b, (a, r, b)) for a, r, b in triples if r in (4, 5)] if order != "size" else []
        links = [(a, b, t, True) for a, b, t in arrows]
        links += [link for a, b, t in ties for link in ((a, b, t, False), (b, a, t, False))]
        cycle = _cycle(links)
        if cycle:
            said = [f"the {_name(found, a)} {RELATIONS[r]} the {_name(found, b)}" for a, r, b in dict.fromkeys(cycle)]
            return f"no scene has {', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else f"no scene has {said[0]}"
    return None


def _cycle(links: list[tuple[int, int, tuple, bool]]) -> list[tuple]:
    """The triples of a way round with a strict step in it, or none."""
    for a, b, triple, strict in links:
        if not strict:
            continue
        ways, front = {b: [triple]}, [b]  # the shortest way from a over b to each object
        while front:
            at = front.pop(0)
            if at == a:
                return ways[a]
            for c, d, other, _ in links:
                if c == at and d not in ways:
                    ways[d] = [*ways[at], other]
                    front.append(d)
    return []


def _triples(graph: Graph) -> list[tuple[int, int, int, int]]:
    """The triples of the first graph that are there, with their numbers."""
    rows = zip(*(part[0].tolist() for part in (graph.subject, graph.relation, graph.object)), strict=True)
    return [(t, a, r, b) for t, (a, r, b) in enumerate(rows) if a >= 0]


def _name(graph: Graph, k: int) -> str:
    return f"{COLOURS[int(graph.colour[0, k])]} {SHAPES[int(graph.shape[0, k])]}"
