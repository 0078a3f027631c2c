"""Drawn scenes: each object is where, as large, and of the form and colour that its scene says."""

import math

import pytest
import torch

from gencourse.data.scenes import (
    BACKGROUND,
    COLOURS,
    GREY,
    LINE,
    PALETTE,
    PLACES,
    SHAPES,
    STRIPES,
    SceneDataset,
    Scenes,
    draw_outlines,
    draw_scenes,
    draw_stripes,
    outlines_to_filled,
    sample_scenes,
    signed_distance,
    stripes,
    unpaired_styles,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def one(shape="square", colour="red", size=0.5, x=0.0, y=0.0):
    return Scenes(torch.tensor([[SHAPES.index(shape)]]), torch.tensor([[COLOURS.index(colour)]]), *([[v]] for v in (size, x, y)))


AREAS = {  # of the half width 1
    "disc": math.pi,
    "square": 4.0,
    "triangle": 2.0,
    "plus": 2 * 2 * 0.72 - 0.72**2,
    "ring": math.pi * (1 - 0.5**2),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_covers_its_area_about_its_box(shape):
    size = 0.5
    share = (draw_scenes(one(shape, size=size), 64, grey=True).double() / 255 - BACKGROUND) / (GREY - BACKGROUND)
    area = float(share.sum()) * (2 / 64) ** 2
    assert area == pytest.approx(AREAS[shape] * size**2, rel=0.03)  # corners are cut, by less than a pixel each
    inside = share[0, 0] > 0.5
    across, down = inside.any(0).nonzero().flatten(), inside.any(1).nonzero().flatten()
    assert (across[0], across[-1], down[-1]) == (16, 47, 47)  # the box is [-0.5, 0.5]: pixels 16 to 47
    assert down[0] <= 17  # an apex covers less than half of its pixel


@pytest.mark.parametrize("size", [16, 32, 64])
def test_colours_are_the_palettes_and_the_ground_is_dark(size):
    scenes = sample_scenes(200, shapes=("square",), generator=seeded())
    x = draw_scenes(scenes, size)
    assert (x.dtype, x.shape) == (torch.uint8, (200, 3, size, size))
    column = ((scenes.x + 1) * size / 2).long().flatten(), ((scenes.y + 1) * size / 2).long().flatten()
    rows = torch.arange(200)
    expected = (torch.tensor(PALETTE) * 255).round().to(torch.uint8)[scenes.colour[:, 0]]
    assert torch.equal(x[rows, :, column[1], column[0]], expected)
    edge = torch.cat([x[:, :, 0].flatten(), x[:, :, -1].flatten()])
    assert float((edge == round(255 * BACKGROUND)).double().mean()) > 0.5


def test_a_place_and_a_size_are_read_off_the_mass():
    """The centroid of a disc is its centre, and its mass its area, at any size of picture."""
    scenes = sample_scenes(100, shapes=("disc",), generator=seeded(1))
    for size in (16, 64):
        share = (draw_scenes(scenes, size, grey=True).double() / 255 - BACKGROUND).clamp(min=0)[:, 0] / (GREY - BACKGROUND)
        line = (torch.arange(size).double() + 0.5) * 2 / size - 1
        mass = share.sum((1, 2))
        x, y = (share.sum(1) * line).sum(1) / mass, (share.sum(2) * line).sum(1) / mass
        assert (x - scenes.x[:, 0]).abs().max() < 0.02
        assert (y - scenes.y[:, 0]).abs().max() < 0.02
        radius = (mass / math.pi).sqrt() * 2 / size
        assert (radius - scenes.size[:, 0]).abs().max() < 0.015


def test_no_scene_depends_on_its_neighbours():
    scenes = sample_scenes(20, objects=3, nested=0.5, shapes=SHAPES, generator=seeded(2))
    for draw in (draw_scenes, draw_outlines):
        assert (draw(scenes)[7:8].int() - draw(scenes[7:8]).int()).abs().max() <= 1


def test_torch_s_defaults_change_neither_scenes_nor_pictures():
    def drawn():
        scenes = sample_scenes(30, objects=3, nested=0.5, shapes=SHAPES, generator=seeded(9))
        alone = sample_scenes(30, generator=seeded(9))
        return draw_scenes(scenes), draw_outlines(scenes, 32), draw_stripes(alone, torch.arange(30) % 4), alone.place()

    usual = drawn()
    torch.set_default_dtype(torch.float64)
    try:
        other = drawn()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(usual, other, strict=True))


def test_an_object_inside_another_is_painted_over_it():
    scenes = Scenes([[0, 1]], [[0, 2]], [[0.2, 0.6]], [[0.0, 0.0]], [[0.0, 0.0]])
    x = draw_scenes(scenes, 32).double() / 255
    assert torch.allclose(x[0, :, 16, 16], torch.tensor(PALETTE[0]).double(), atol=0.005)
    assert torch.allclose(x[0, :, 16, 24], torch.tensor(PALETTE[2]).double(), atol=0.005)


def test_an_absent_object_leaves_no_trace():
    scenes = sample_scenes(10, objects=2, generator=seeded(3))
    gone = Scenes(scenes.shape, scenes.colour, scenes.size, scenes.x, scenes.y, torch.tensor([[True, False]] * 10))
    for draw in (draw_scenes, draw_outlines):
        first = Scenes(*(getattr(scenes, name)[:, :1] for name in ("shape", "colour", "size", "x", "y")))
        assert torch.equal(draw(gone), draw(first))


def test_the_signed_distance_is_zero_on_the_edge_and_has_slope_one():
    """Along a ray from inside to outside: the gradient's length is 1 where there is no corner, for every shape."""
    angle = torch.linspace(0.05, 6.2, 200, dtype=torch.float64)
    for kind, shape in enumerate(SHAPES):
        if shape == "plus":
            continue  # its corners turn inwards
        r = torch.linspace(0.76, 1.4, 50, dtype=torch.float64).unsqueeze(1)
        dx, dy = (r * angle.cos()).requires_grad_(), (r * angle.sin()).requires_grad_()
        distance = signed_distance(torch.tensor(kind), torch.tensor(1.0).double(), dx, dy)
        a, b = torch.autograd.grad(distance.sum(), (dx, dy))
        assert torch.allclose(a**2 + b**2, torch.ones_like(a), atol=1e-9), shape


def test_an_outline_is_where_the_fill_ends():
    """The outline has the length of the edge times its width, lies within the filled shape, and knows no colour."""
    scene = one("square", size=0.6)
    line = (draw_outlines(scene, 64).double() / 255 - BACKGROUND) / (1 - BACKGROUND)
    assert float(line.sum()) * (2 / 64) ** 2 == pytest.approx(1.2**2 - (1.2 - 4 * LINE) ** 2, rel=0.02)
    scenes = sample_scenes(50, shapes=SHAPES, generator=seeded(4))
    fill, outline = draw_scenes(scenes, 32, grey=True), draw_outlines(scenes, 32)
    dark = round(255 * BACKGROUND)
    assert bool((outline[fill == dark] == dark).all())
    recoloured = Scenes(scenes.shape, 3 - scenes.colour, scenes.size, scenes.x, scenes.y)
    assert torch.equal(draw_outlines(recoloured, 32), outline)


def test_stripes_have_period_four_and_every_phase_is_another():
    rows = stripes(torch.arange(4), 16).squeeze()
    assert torch.equal(rows, torch.stack([rows[0].roll(-p) for p in range(4)]))
    assert torch.equal(rows[0], rows[0].roll(4))
    assert torch.allclose(rows.mean(0), torch.full((16,), sum(STRIPES) / 2))  # what the mean picture shows
    assert torch.equal(stripes(torch.arange(4), 64)[..., ::4].squeeze(), rows)
    scenes = sample_scenes(4, shapes=("square",), generator=seeded(5))
    drawn = draw_stripes(scenes, torch.arange(4)).double() / 255
    full = draw_scenes(scenes, grey=True) == round(255 * GREY)
    assert torch.allclose(drawn[full], stripes(torch.arange(4)).double().expand(4, 1, 16, 16)[full], atol=0.002)


@pytest.mark.parametrize(("objects", "nested"), [(2, 0.0), (3, 0.0), (3, 1.0), (4, 0.5)])
def test_several_objects_keep_the_rules(objects, nested):
    scenes = sample_scenes(400, objects=objects, nested=nested, shapes=SHAPES, generator=seeded(6))
    assert bool((scenes.boxes().abs() <= 1 + 1e-5).all())
    assert all(len(set(row)) == objects for row in scenes.colour.tolist())
    dx = scenes.x.unsqueeze(2) - scenes.x.unsqueeze(1)
    dy = scenes.y.unsqueeze(2) - scenes.y.unsqueeze(1)
    reach = scenes.size.unsqueeze(2) + scenes.size.unsqueeze(1)
    far = torch.maximum(dx.abs(), dy.abs()) > reach
    within = torch.maximum(dx.abs(), dy.abs()) + scenes.size.unsqueeze(2) < scenes.size.unsqueeze(1)  # the first in the second
    other = ~torch.eye(objects, dtype=torch.bool)
    assert bool((far | within | within.transpose(1, 2))[:, other].all())
    assert float(within.any(2).any(1).double().mean()) == pytest.approx(nested, abs=0.1)
    assert bool(((dx.abs() - dy.abs()).abs() > 0.1)[far & other].all())


def test_one_object_is_drawn_fairly():
    scenes = sample_scenes(6000, generator=seeded(7))
    for value, kinds in ((scenes.shape, 3), (scenes.colour, 4), (scenes.place(), len(PLACES)), (scenes.large().long(), 2)):
        share = torch.bincount(value.flatten()).double() / 6000
        assert len(share) == kinds
        assert (share - 1 / kinds).abs().max() < 0.03  # 5 standard errors
    assert scenes.boxes().abs().max() <= 1


def test_pairs_that_are_held_out_do_not_occur():
    pairs = [(c, s) for c in COLOURS for s in SHAPES[:3] if (c, s) not in (("red", "disc"), ("blue", "square"))]
    scenes = sample_scenes(3000, pairs=pairs, generator=seeded(8))
    seen = {(COLOURS[c], SHAPES[s]) for c, s in zip(scenes.colour[:, 0].tolist(), scenes.shape[:, 0].tolist(), strict=True)}
    assert seen == set(pairs)
    counts = torch.bincount(scenes.colour[:, 0] * 3 + scenes.shape[:, 0], minlength=12).double() / 3000
    assert (counts[counts > 0] - 0.1).abs().max() < 0.03  # all pairs alike


@pytest.mark.parametrize(("fill", "colours"), [("two colours", {0, 2}), ("four colours", {0, 1, 2, 3}), ("stripes", None)])
def test_outlines_do_not_say_how_they_are_filled(fill, colours):
    data = outlines_to_filled(fill=fill, n=2000, seed=3)
    assert isinstance(data, SceneDataset)
    assert (len(data.train), len(data.valid), len(data.test)) == (1600, 200, 200)
    assert torch.equal(data.train_labels, draw_outlines(data.train_scenes))
    data.space.validate(data.train)
    if colours is None:
        best = torch.stack(
            [(draw_stripes(data.test_scenes, torch.full((200,), p)) == data.test).all(3).all(2)[:, 0] for p in range(4)]
        )
        assert bool(best.any(0).all())
        assert torch.bincount(best.long().argmax(0)).min() > 25  # of 50 expected
    else:
        assert torch.equal(data.test, draw_scenes(data.test_scenes))
        assert set(data.train_scenes.colour.flatten().tolist()) == colours
        by_shape = [data.train_scenes.colour[data.train_scenes.shape == k].double().mean() for k in range(3)]
        assert max(by_shape) - min(by_shape) < 0.3  # five standard errors of a mean over 530


def test_unpaired_styles_are_pairs_only_where_they_are_judged():
    data = unpaired_styles(n=100, seed=1)
    assert torch.equal(data.test, draw_scenes(data.test_scenes, grey=True))
    assert torch.equal(data.test_labels, draw_outlines(data.test_scenes))
    assert torch.equal(data.valid_labels, draw_outlines(data.valid_scenes))
    same = (data.train_labels == draw_outlines(data.train_scenes)).flatten(1).all(1)
    assert not bool(same.any())
    assert torch.equal(data.train, unpaired_styles(n=100, seed=1).train)
    assert not torch.equal(data.train, unpaired_styles(n=100, seed=2).train)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Scenes([0], [0], [0.1], [0], [0]), r"shape must be a tensor \(N, K\)"),
        (lambda: Scenes([[0]], [[0, 1]], [[0.1]], [[0]], [[0]]), r"colour must be \(1, 1\), as shape is, not \(1, 2\)"),
        (lambda: Scenes([[7]], [[0]], [[0.1]], [[0]], [[0]]), "shape must be 0..4, one of disc"),
        (lambda: Scenes([[0]], [[0]], [[0.0]], [[0]], [[0]]), r"sizes must be in \(0, 1\]"),
        (lambda: sample_scenes(0), "n must be a positive integer"),
        (lambda: sample_scenes(1, objects=5), "objects must be 1 to 4"),
        (lambda: sample_scenes(1, nested=0.5), "0 for an object alone"),
        (lambda: sample_scenes(1, pairs=[("pink", "disc")]), "not .*pink"),
        (lambda: sample_scenes(1, objects=2, pairs=[("red", "disc")]), "2 objects need as many colours"),
        (lambda: draw_scenes(one(), 4), "size must be an integer of 8 or more"),
        (lambda: draw_stripes(one(), torch.tensor([4])), r"phases \(1,\) of 0 to 3"),
        (lambda: outlines_to_filled(fill="pink"), "fill must be 'two colours'"),
        (lambda: unpaired_styles(n=5), "n must be an integer of 10 or more"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
