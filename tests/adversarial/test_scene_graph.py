"""Scene graph to picture: messages go both ways, a layout has the mass of its masks, and order means nothing."""

import pytest
import torch

from gencourse.adversarial.scene_graph import GraphConvolution, ImageDiscriminator, SceneGraph, cut_out, overlaps, placed
from gencourse.data.graphs import UNITS, scene_graph, scene_graphs, stands, unpack, without_boxes
from gencourse.data.scenes import PALETTE, draw_scenes, sample_scenes
from gencourse.space import Space
from gencourse.train import fit

SPACE = Space((3, 16, 16), levels=256)
SCENES = sample_scenes(12, objects=3, generator=torch.Generator().manual_seed(0))
GRAPHS = scene_graph(SCENES)
TOLD = scene_graph(SCENES, boxes=True)


def model(**options):
    torch.manual_seed(1)
    return SceneGraph(SPACE, **{"width": 12, "channels": 6, "latent": 4, "d_width": 4, **options}).double()


def random_boxes(*shape):
    low = 0.7 * torch.rand(*shape, 2, dtype=torch.float64)
    return torch.cat([low, low + 0.02 + 0.28 * torch.rand(*shape, 2, dtype=torch.float64)], dim=-1)


# --- the layout -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "cells"), [(16, 8), (16, 5), (9, 1), (64, 16)])
def test_a_layout_has_the_mass_of_its_masks(side, cells):
    """Sum over pixels = sum over cells times the area of a cell, wherever the box lies within the picture."""
    torch.manual_seed(0)
    masks, boxes = torch.rand(4, 3, cells, cells, dtype=torch.float64), random_boxes(4, 3)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1) * side**2 / cells**2
    assert torch.allclose(placed(masks, boxes, side).sum((2, 3)), masks.sum((2, 3)) * area, rtol=1e-10, atol=1e-12)


def test_a_full_mask_covers_its_box_and_nothing_else():
    boxes = torch.tensor([[[0.25, 0.5, 0.75, 1.0]]], dtype=torch.float64)
    cover = placed(torch.ones(1, 1, 3, 3, dtype=torch.float64), boxes, 8)[0, 0]
    expected = torch.zeros(8, 8, dtype=torch.float64)
    expected[4:, 2:6] = 1  # rows go down: y is the first index
    assert torch.allclose(cover, expected, atol=1e-12)
    half = placed(torch.ones(1, 1, 3, 3, dtype=torch.float64), boxes + torch.tensor([0.0625, 0, 0.0625, 0]), 8)[0, 0]
    assert torch.allclose(half[4], torch.tensor([0, 0, 0.5, 1, 1, 1, 0.5, 0], dtype=torch.float64), atol=1e-12)


def test_the_corner_of_a_mask_is_the_corner_of_its_box():
    masks = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    masks[0, 0, 0, 1] = 1  # top right
    cover = placed(masks, torch.tensor([[[0.0, 0.0, 1.0, 1.0]]], dtype=torch.float64), 4)[0, 0]
    assert torch.allclose(cover[:2, 2:], torch.ones(2, 2, dtype=torch.float64)) and float(cover.sum()) == pytest.approx(4)


def test_the_gradient_with_respect_to_boxes_is_that_of_finite_differences():
    torch.manual_seed(2)
    masks, boxes = torch.rand(2, 2, 4, 4, dtype=torch.float64), random_boxes(2, 2).requires_grad_()
    weights = torch.rand(2, 2, 7, 7, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda b: (placed(masks, b, 7) * weights).sum(), boxes, eps=1e-7, atol=1e-5)


def test_a_box_is_drawn_towards_where_the_picture_is():
    boxes = torch.tensor([[[0.2, 0.4, 0.5, 0.6]]], dtype=torch.float64, requires_grad=True)
    target = placed(torch.ones(1, 1, 1, 1, dtype=torch.float64), boxes.detach() + torch.tensor([0.1, 0, 0.1, 0]), 16)
    ((placed(torch.ones(1, 1, 1, 1, dtype=torch.float64), boxes, 16) - target) ** 2).sum().backward()
    slope = boxes.grad[0, 0]
    assert slope[0] < 0 and slope[2] < 0  # descent moves both edges to the right
    assert float((slope[1] + slope[3]) / (slope[0] + slope[2])) == pytest.approx(0, abs=1e-9)  # and the box neither up nor down


def test_cutting_out_is_the_adjoint_of_putting_in():
    """<placed(m), x> = area of a cell * <m, cut_out(x)>: the same matrices, the other way round."""
    torch.manual_seed(3)
    masks, boxes, x = torch.rand(2, 3, 4, 4).double(), random_boxes(2, 3), torch.rand(2, 1, 16, 16).double()
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1) * 16**2 / 16
    left = (placed(masks, boxes, 16) * x).sum((2, 3))
    right = (masks * cut_out(x, boxes, 4)[:, :, 0]).sum((2, 3)) * area
    assert torch.allclose(left, right, rtol=1e-10)
    assert torch.allclose(cut_out(torch.ones_like(x), boxes, 4), torch.ones(2, 3, 1, 4, 4).double())


def test_an_object_cut_out_of_a_drawing_is_its_colour():
    graph = unpack(TOLD)
    x = draw_scenes(SCENES, 64).double() / 255
    found = cut_out(x, graph.boxes.double() / UNITS, 3)[:, :, :, 1, 1]
    squares = graph.shape == 1
    assert torch.allclose(found[squares], torch.tensor(PALETTE).double()[graph.colour[squares]], atol=0.01)


def test_overlaps_of_a_row_of_cells_fill_the_box():
    share = overlaps(torch.tensor(0.1).double(), torch.tensor(0.7).double(), 10, 3)
    assert torch.allclose(share.sum(0), torch.full((3,), 2.0).double())  # a cell is 2 pixels wide
    assert torch.allclose(share.sum(1), torch.tensor([0, 1, 1, 1, 1, 1, 1, 0, 0, 0]).double(), atol=1e-12)


# --- the graph convolution --------------------------------------------------------------------------------------------


def one_hot_ends(triples, objects):
    eye = torch.eye(objects, dtype=torch.float64)
    return eye[[a for a, _ in triples]][None], eye[[b for _, b in triples]][None]


def test_a_convolution_is_the_mean_of_the_messages_of_each_object():
    torch.manual_seed(4)
    layer = GraphConvolution(5).double()
    v, r = torch.randn(1, 4, 5).double(), torch.randn(1, 3, 5).double()
    triples = [(0, 1), (1, 2), (0, 2)]
    new, p = layer(v, r, *one_hot_ends(triples, 4))
    messages = {k: [] for k in range(4)}
    for t, (a, b) in enumerate(triples):
        s, own, o = layer.triple(torch.cat([v[0, a], r[0, t], v[0, b]])).split(5)
        messages[a].append(s)
        messages[b].append(o)
        assert torch.allclose(p[0, t], own)
    for k in range(4):
        mean = torch.stack(messages[k]).mean(0) if messages[k] else torch.zeros(5).double()
        assert torch.allclose(new[0, k], layer.object(mean))


def reach(convolution, triples, objects, layers):
    """Which objects' vectors depend on which: True at (i, j) if what i becomes depends on what j was."""
    v = torch.randn(1, objects, 5).double()

    def vectors(v):
        r = torch.ones(1, len(triples), 5).double()
        for _ in range(layers):
            new, r = convolution(v, r, *one_hot_ends(triples, objects))
            v = v + new
        return v

    jacobian = torch.autograd.functional.jacobian(vectors, v)  # (1, K, 5, 1, K, 5)
    return (jacobian.abs().amax((0, 2, 3, 5)) > 1e-9).tolist()


def test_messages_go_both_ways_and_one_triple_far_in_a_layer():
    torch.manual_seed(5)
    layer = GraphConvolution(5).double()
    assert reach(layer, [(0, 1)], 3, 1) == [[True, True, False], [True, True, False], [False, False, True]]
    chain = [(0, 1), (1, 2)]
    assert reach(layer, chain, 3, 1) == [[True, True, False], [True, True, True], [False, True, True]]
    assert reach(layer, chain, 3, 2) == [[True] * 3] * 3


def test_messages_sent_one_way_only_are_noticed():
    class OneWay(GraphConvolution):
        def forward(self, objects, relations, subject, object):
            s, p, _ = self.triple(torch.cat([subject @ objects, relations, object @ objects], dim=2)).split(self.width, dim=2)
            return self.object(subject.transpose(1, 2) @ s), p

    torch.manual_seed(5)
    assert reach(OneWay(5).double(), [(0, 1)], 2, 3) == [[True, True], [False, True]]


def test_the_order_of_triples_means_nothing():
    m, z = model(), torch.randn(12, 4).double()
    turned = torch.cat([GRAPHS[:, :3], GRAPHS[:, 3:].flip(1)], dim=1)
    assert torch.allclose(m.generator(z, GRAPHS), m.generator(z, turned), atol=1e-12)
    absent = torch.tensor([0, -1, -1, -1, -1, -1, -1]).expand(12, 2, 7)
    assert torch.allclose(m.generator(z, GRAPHS), m.generator(z, torch.cat([GRAPHS, absent], dim=1)), atol=1e-12)


def test_objects_may_be_numbered_in_any_order():
    m, z = model(), torch.randn(12, 4).double()
    order = torch.tensor([2, 0, 1])  # new object k is the old one order[k]
    number = order.argsort()
    graph = GRAPHS.clone()
    graph[:, :3] = GRAPHS[:, order]
    for column in (1, 3):
        graph[:, 3:, column] = number[GRAPHS[:, 3:, column]]
    assert torch.allclose(m.boxes(z, graph), m.boxes(z, GRAPHS)[:, order], atol=1e-12)
    assert torch.allclose(m.generator(z, graph), m.generator(z, GRAPHS), atol=1e-12)


def test_without_convolutions_relations_are_not_looked_at():
    z = torch.randn(12, 4).double()
    other = GRAPHS.clone()
    other[:, 3:, 2] = (GRAPHS[:, 3:, 2] + 1) % 4
    blind, seeing = model(layers=0), model(layers=1)
    assert torch.equal(blind.generator(z, GRAPHS), blind.generator(z, other))
    assert not torch.allclose(seeing.generator(z, GRAPHS), seeing.generator(z, other), atol=1e-6)


def test_an_absent_object_is_not_drawn():
    m, z = model(), torch.randn(12, 4).double()
    graph = GRAPHS.clone()
    graph[:, 2, 1:] = -1
    graph[:, 4:, 1:] = -1  # the triples of the third object
    parts = unpack(graph)
    vectors = m.generator.vectors(parts)
    boxes = m.generator.boxes(vectors, z, parts)
    whole = m.generator.layout(vectors, boxes, parts)
    two = type(parts)(*(value[:, :2] for value in parts[:3]), *parts[3:])
    assert torch.allclose(whole, m.generator.layout(vectors[:, :2], boxes[:, :2], two), atol=1e-12)


# --- boxes and losses -------------------------------------------------------------------------------------------------


def test_given_boxes_are_used_and_others_are_predicted_within_the_picture():
    m, z = model(), torch.randn(12, 4).double()
    assert torch.allclose(m.boxes(z, TOLD), 2 * unpack(TOLD).boxes.double() / UNITS - 1, atol=1e-12)
    predicted = m.boxes(z, GRAPHS)
    assert bool((predicted.abs() <= 1).all()) and bool((predicted[..., 2:] > predicted[..., :2]).all())
    assert not torch.allclose(predicted, m.boxes(torch.randn(12, 4).double(), GRAPHS), atol=1e-4)  # noise moves them
    one = TOLD.clone()
    one[:, 1:3, 3:] = -1
    assert torch.allclose(m.boxes(z, one)[:, 0], m.boxes(z, TOLD)[:, 0])
    assert torch.allclose(m.boxes(z, one)[:, 1:], predicted[:, 1:])


def test_of_several_layouts_the_best_one_learns():
    x = draw_scenes(SCENES)
    several, single = model(draws=5, l1=0.0), model(draws=1, l1=0.0)
    torch.manual_seed(7)
    best = several.g_loss(x, TOLD)
    torch.manual_seed(7)
    each = torch.stack([single.g_loss(x, TOLD) for _ in range(5)])
    assert torch.allclose(best, each.amin(0), rtol=1e-9)
    assert bool((each.amax(0) > best).all())


def test_the_mean_of_two_layouts_of_a_graph_obeys_it_too():
    """Left of, right of, above and below are linear inequalities in the centres, so the best guess in mean square is right."""
    scenes = sample_scenes(4000, objects=3, generator=torch.Generator().manual_seed(8))
    graph = unpack(scene_graph(scenes))
    key = graph.relation @ torch.tensor([16, 4, 1])
    order = key.argsort(stable=True)
    same = key[order][1:] == key[order][:-1]
    a, b = order[:-1][same], order[1:][same]
    x, y = ((line[a] + line[b]).double() / 2 for line in (scenes.x, scenes.y))
    apart = torch.stack([x, y, x, y], dim=2)  # boxes without extent: none is in another
    relation = stands(x, y, apart)
    rows = torch.arange(len(a)).unsqueeze(1)
    assert len(a) > 3000
    assert torch.equal(relation[rows, graph.subject[a], graph.object[a]], graph.relation[a])


@pytest.mark.parametrize(
    ("options", "names", "validates"),
    [
        ({}, ["g"], True),
        ({"image_weight": 0.1}, ["d_image", "g"], False),
        ({"image_weight": 0.1, "object_weight": 0.1}, ["d_image", "d_object", "g"], False),
    ],
)
def test_the_players_are_those_whose_verdict_counts(options, names, validates):
    moves = model(**options).moves()
    assert [move.name for move in moves] == names
    assert moves[-1].validate is validates and not any(move.validate for move in moves[:-1])


def test_no_player_s_loss_moves_another_s_weights():
    m, x = model(image_weight=0.1, object_weight=0.1), draw_scenes(SCENES)
    for move in m.moves():
        m.zero_grad()
        loss = move.loss(x, TOLD)
        assert loss.shape == (12,)
        loss.mean().backward()
        if move.name != "g":  # the generator's loss passes through the judges, which its move leaves alone
            touched = {id(p) for p in m.parameters() if p.grad is not None and bool(p.grad.any())}
            assert touched == {id(p) for p in move.learns}


def test_the_object_judge_learns_what_the_real_objects_are_and_the_generator_hears_of_it():
    m, x = model(object_weight=1.0, l1=0.0, box=0.0), draw_scenes(SCENES)
    m.g_loss(x, TOLD).mean().backward()
    assert bool(m.generator.mask_head[0].weight.grad.any()) and bool(m.generator.last.weight.grad.any())


def test_a_patch_has_a_logit_of_its_own():
    torch.manual_seed(9)
    judge, x = ImageDiscriminator(3, 4).double(), torch.rand(1, 3, 32, 32).double()
    changed = x.clone()
    changed[:, :, 31, 31] += 1
    moved = (judge(changed) - judge(x))[0] != 0
    assert judge(x).shape == (1, 8, 8)
    assert bool(moved[-1, -1]) and not bool(moved[:5, :5].any())


def test_a_little_training_on_boxes_tells_left_from_right_with_messages_and_not_without():
    data = scene_graphs(n=1500, seed=3)
    graph = data.test_labels
    parts, rows = unpack(graph), torch.arange(len(graph)).unsqueeze(1)
    share = {}
    for layers in (0, 2):
        torch.manual_seed(0)
        m = SceneGraph(data.space, layers=layers, draws=1, l1=0.0)
        fit(m, data, steps=150, batch_size=64, lr=3e-3, conditional=True, device="cpu", progress=False, validate_every=150)
        boxes = m.boxes(m.draw_latent(len(graph)), graph)
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        points = torch.cat([centre, centre], dim=2)
        found = stands(centre[..., 0], centre[..., 1], points)[rows, parts.subject, parts.object]
        share[layers] = float((found == parts.relation).double().mean())
    assert share[0] < 0.45  # a quarter, by chance
    assert share[2] > 0.9


# --- what it is given -------------------------------------------------------------------------------------------------


def test_example_graphs_are_graphs_and_follow_the_generator():
    m = model()
    a, b, c = (m.example_context(5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(a, without_boxes(a)) and unpack(a, 3).shape.shape == (5, 3)
    assert m.example_context(0).shape == (0, 6, 7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model().sample(2), "SceneGraph needs scene graphs as its context, one for each of 2 examples; none were given"),
        (lambda: model().sample(2, GRAPHS), "there are 12"),
        (lambda: model().sample(12, torch.zeros(12)), r"scene graphs are integers \(N, K \+ T, 7\)"),
        (lambda: model(objects=2).sample(12, GRAPHS), "2 objects are expected, and there are 3"),
        (lambda: SceneGraph(Space((2,))), "draws square images"),
        (lambda: SceneGraph(Space((3, 10, 10), 256)), "a side of 8, 12, 16"),
        (lambda: SceneGraph(SPACE, objects=1), "objects must be an integer of 2 or more"),
        (lambda: SceneGraph(SPACE, draws=0), "draws must be a positive integer"),
        (lambda: SceneGraph(SPACE, image_weight=-1), "image_weight must be a number of 0 or more"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
