"""Scene graphs say what holds in their scenes; what no scene has is found out, by another way than trying."""

from itertools import product

import pytest
import torch

from gencourse.data.graphs import (
    INVERSE,
    RELATIONS,
    UNITS,
    contradiction,
    describe,
    edit,
    relation_of,
    scene_graph,
    scene_graphs,
    unpack,
    without_boxes,
)
from gencourse.data.scenes import SHAPES, Scenes, draw_scenes, sample_scenes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def graph_of(objects, *triples):
    """One graph of discs in the colours' order."""
    rows = [[1, 0, k, -1, -1, -1, -1] for k in range(objects)]
    return torch.tensor(rows + [[0, a, RELATIONS.index(r), b, -1, -1, -1] for a, r, b in triples])


def test_left_and_above_are_where_the_picture_has_them():
    scenes = Scenes([[0, 0, 0]], [[0, 1, 2]], [[0.2] * 3], [[-0.6, 0.5, 0.0]], [[0.0, 0.1, 0.7]])
    said = describe(scene_graph(scenes)[0])
    assert said == [
        "the red disc is left of the green disc",
        "the green disc is above the blue disc",
        "the blue disc is below the red disc",
    ]
    picture = draw_scenes(scenes, 32)[0].double()
    column, row = picture.sum(1), picture.sum(2)  # (3, 32): where red, green and blue are
    assert column[0].argmax() < 16 < column[1].argmax()
    assert row[2].argmax() > row[1].argmax()


def test_relations_are_their_inverses_the_other_way():
    scenes = sample_scenes(200, objects=4, nested=0.5, shapes=SHAPES, generator=seeded())
    relation = relation_of(scenes)
    off = ~torch.eye(4, dtype=torch.bool)
    assert torch.equal(torch.tensor(INVERSE)[relation][:, off], relation.transpose(1, 2)[:, off])
    assert set(relation[:, off].flatten().tolist()) == set(range(6))
    inside = relation == 4
    assert bool((scenes.size.unsqueeze(2) < scenes.size.unsqueeze(1))[inside].all())


def test_a_graph_holds_its_scene():
    scenes = sample_scenes(100, objects=3, nested=0.3, generator=seeded(1))
    found = unpack(scene_graph(scenes, boxes=True, sizes=True))
    assert torch.equal(found.shape, scenes.shape)
    assert torch.equal(found.colour, scenes.colour)
    assert ((found.boxes / (UNITS / 2) - 1) - scenes.boxes()).abs().max() <= 1 / UNITS + 1e-6
    rows = torch.arange(100).unsqueeze(1)
    place = found.relation[:, :3]
    assert torch.equal(place, relation_of(scenes)[rows, found.subject[:, :3], found.object[:, :3]])
    said = found.relation[:, 3:] >= 0
    more = scenes.size - scenes.size.roll(-1, dims=1)
    assert torch.equal(found.relation[:, 3:][said], torch.where(more > 0, 6, 7)[said])
    assert bool((more.abs()[~said] <= 0.05).all())
    assert bool((unpack(without_boxes(scene_graph(scenes, boxes=True))).boxes == -1).all())


def test_absent_objects_have_no_triples():
    scenes = sample_scenes(5, objects=3, generator=seeded(2))
    present = torch.tensor([[True, True, False]] * 5)
    fewer = Scenes(scenes.shape, scenes.colour, scenes.size, scenes.x, scenes.y, present)
    found = unpack(scene_graph(fewer, boxes=True))
    assert bool((found.shape[:, 2] == -1).all()) and bool((found.boxes[:, 2] == -1).all())
    assert (found.subject >= 0).tolist() == [[True, False, False]] * 5


def test_every_true_graph_can_hold():
    for nested in (0.0, 1.0):
        scenes = sample_scenes(150, objects=4, nested=nested, generator=seeded(3))
        assert all(contradiction(graph) is None for graph in scene_graph(scenes, sizes=True))


def test_contradictions_are_those_that_no_places_satisfy():
    """All 64 graphs of three objects in a circle, against all places of three points on a fine grid."""
    line = torch.arange(5.0)
    points = torch.stack(torch.meshgrid(line, line + 0.3, indexing="ij"), dim=-1).view(-1, 2)
    triples = torch.cartesian_prod(*[torch.arange(len(points))] * 3)
    x, y = points[triples].unbind(-1)  # (n, 3)
    dx, dy = x.roll(-1, 1) - x, y.roll(-1, 1) - y
    clear = (dx.abs() != dy.abs()).all(1)
    relation = torch.where(dx.abs() > dy.abs(), torch.where(dx > 0, 0, 1), torch.where(dy > 0, 2, 3))[clear]
    possible = {tuple(row) for row in torch.unique(relation, dim=0).tolist()}
    for said in product(range(4), repeat=3):
        graph = graph_of(3, *((k, RELATIONS[r], (k + 1) % 3) for k, r in enumerate(said)))
        assert (contradiction(graph) is None) is (said in possible), said
    assert 0 < len(possible) < 64


@pytest.mark.parametrize(
    "triples",
    [
        [(0, "inside", 1), (0, "left of", 1)],
        [(0, "inside", 1), (1, "left of", 2), (0, "right of", 2)],
        [(0, "inside", 1), (1, "smaller than", 0)],
        [(0, "inside", 1), (1, "inside", 2), (2, "inside", 0)],
        [(0, "around", 1), (1, "larger than", 0)],
        [(0, "larger than", 1), (1, "larger than", 2), (2, "larger than", 0)],
        [(0, "above", 1), (0, "below", 1)],
    ],
)
def test_what_cannot_hold_is_named(triples):
    said = contradiction(graph_of(3, *triples))
    assert said is not None and said.startswith("no scene has the ") and "red disc" in said


def test_an_edit_flips_the_inverse_and_keeps_the_rest():
    two = scene_graph(sample_scenes(20, objects=2, generator=seeded(4)), boxes=True)
    for graph in two:
        before = unpack(graph.unsqueeze(0))
        opposite = RELATIONS[INVERSE[int(before.relation[0, 0])]]
        after = unpack(edit(graph, 0, opposite).unsqueeze(0))
        assert after.relation[0].tolist() == before.relation[0].flip(0).tolist()
        assert torch.equal(after.colour, before.colour) and bool((after.boxes == -1).all())
    graph = graph_of(3, (0, "left of", 1), (1, "left of", 2), (0, "smaller than", 1))
    changed = edit(graph, 0, "above")
    assert describe(changed) == [
        "the red disc is above the green disc",
        "the green disc is left of the blue disc",
        "the red disc is smaller than the green disc",
    ]
    assert describe(graph)[0] == "the red disc is left of the green disc"  # the given one is left as it was


def test_an_edit_that_cannot_hold_is_refused_in_one_sentence():
    graph = graph_of(3, (0, "left of", 1), (1, "left of", 2), (2, "right of", 0))
    with pytest.raises(ValueError, match=r"edit: no scene has .*; change another triple first") as caught:
        edit(graph, 2, "left of")
    assert "the blue disc left of the red disc" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_data_set_tells_the_boxes_but_of_the_test_part():
    data = scene_graphs(n=50, nested=0.2, sizes=True, seed=1)
    assert data.train_labels.shape == (40, 3 + 6, 7)
    assert torch.equal(data.train_labels, scene_graph(data.train_scenes, boxes=True, sizes=True))
    assert torch.equal(data.test_labels, scene_graph(data.test_scenes, sizes=True))
    assert torch.equal(data.test, draw_scenes(data.test_scenes))


GOOD = graph_of(3, (0, "left of", 1), (1, "above", 2)).unsqueeze(0)


def changed(row, column, value):
    graph = GOOD.clone()
    graph[0, row, column] = value
    return graph


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: unpack(torch.zeros(2, 3)), r"scene graphs are integers \(N, K \+ T, 7\).*not torch.float32 \(2, 3\)"),
        (lambda: unpack(None), "not NoneType"),
        (lambda: unpack(changed(0, 0, 0)), "the first column must be 1 for objects and 0 for triples"),
        (lambda: unpack(GOOD, 2), "2 objects are expected, and there are 3"),
        (lambda: unpack(changed(1, 1, 9)), "shape must be -1 to 4, not 0 to 9"),
        (lambda: unpack(changed(3, 2, 8)), "relation must be -1 to 7"),
        (lambda: unpack(changed(3, 3, 3)), "object must be -1 to 2"),
        (lambda: unpack(changed(3, 1, -1)), "a triple names its subject, relation and object"),
        (lambda: unpack(changed(0, 1, -1)), "a triple names its subject, relation and object"),
        (lambda: edit(GOOD[0], 5, "above"), "the graph has triples 0, 1, and not 5"),
        (lambda: edit(GOOD[0], 0, "beside"), "there is no relation 'beside'; there are: left of"),
        (lambda: edit(GOOD[0], 0, "larger than"), "where and how large are different triples"),
        (lambda: scene_graph(sample_scenes(2)), "one object has no relations"),
        (lambda: scene_graphs(n=20, objects=1), "objects must be an integer of 2 or more"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
