"""The readers are right about true drawings, and say so of spoiled ones."""

import math

import pytest
import torch

from gencourse.data.captions import captioned_scenes, facts
from gencourse.data.graphs import INVERSE, RELATIONS, edit, scene_graph
from gencourse.data.scenes import (
    BACKGROUND,
    SHAPES,
    Scenes,
    draw_outlines,
    draw_scenes,
    draw_stripes,
    outlines_to_filled,
    sample_scenes,
)
from gencourse.metrics.scenes import (
    facts_right,
    fills,
    locate,
    objects_seen,
    read,
    reader_scores,
    relations_right,
    striped,
)

DARK = round(255 * BACKGROUND)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_the_readers_are_right_about_true_drawings(size):
    scores = reader_scores(size, n=80, shapes=SHAPES if size < 64 else SHAPES[:3])
    assert 0 < scores.pop("residual") < 0.05  # the grid of places is half a pixel of 16 wide
    assert min(scores.pop(name) for name in ("relations", "larger")) >= 0.97  # a thin plus of three pixels may be missed
    assert min(scores.values()) >= 0.99, scores


def test_the_relations_of_plain_shapes_are_read():
    scenes = sample_scenes(500, objects=3, generator=seeded(8))
    assert float(relations_right(draw_scenes(scenes), scene_graph(scenes, sizes=True)).nanmean()) >= 0.995


def test_places_and_sizes_are_read_to_a_step_of_the_grid():
    scenes = sample_scenes(100, generator=seeded(1))
    found = read(draw_scenes(scenes, 32)).scenes
    for name in ("x", "y"):
        assert (getattr(found, name) - getattr(scenes, name)).abs().max() < 0.07
    assert (found.size - scenes.size).abs().max() < 0.06


def test_a_picture_spoiled_is_told_by_the_residual():
    scenes = sample_scenes(60, generator=seeded(2))
    x = draw_scenes(scenes).double()
    noise = torch.randn(x.shape, generator=seeded(3), dtype=torch.float64)
    residuals = [
        read((x + 255 * sd * noise).clamp(0, 255).round().to(torch.uint8)).residual.mean().item() for sd in (0.0, 0.1, 0.3)
    ]
    assert residuals[0] < 0.04 < residuals[1] < 0.1 < residuals[2]
    blurred = torch.nn.functional.avg_pool2d(x, 5, 1, 2).round().to(torch.uint8)
    assert read(blurred).residual.mean() > 2 * residuals[0]


def test_the_residual_is_the_root_mean_square_of_what_is_left():
    """A scene on the grid leaves nothing; one pixel changed by d leaves d / sqrt(3 * 256)."""
    x = draw_scenes(Scenes([[1]], [[0]], [[0.62]], [[0.0]], [[0.0]]))
    assert float(read(x).residual) < 0.003  # rounding to 256 levels leaves 0.0011
    changed = x.clone()
    changed[0, 1, 0, 0] += 100
    assert float(read(changed).residual) == pytest.approx(100 / 255 / math.sqrt(3 * 256), rel=0.03)


def test_facts_are_counted_one_by_one():
    data = captioned_scenes(n=200, seed=1)
    asked = facts(data.test_labels)
    assert bool(facts_right(data.test, asked).all())
    other = asked.clone()
    other[:, 1] = (other[:, 1] + 1) % 4
    assert facts_right(data.test, other).double().mean(0).tolist() == [1, 0, 1, 1]
    shuffled = facts_right(data.test, asked.roll(1, 0)).double().mean(0)
    assert bool((shuffled < 0.85).all())
    assert bool(facts_right(data.test, torch.full_like(asked, -1)).all())


def test_relations_that_are_turned_round_are_not_obeyed():
    scenes = sample_scenes(80, objects=3, generator=seeded(4))
    graph, x = scene_graph(scenes, sizes=True), draw_scenes(scenes)
    right = relations_right(x, graph)
    assert torch.equal(right.isnan(), graph[:, 3:, 1] < 0)
    assert float(right.nanmean()) >= 0.99
    turned = graph.clone()
    turned[:, 3:, 2] = torch.where(graph[:, 3:, 2] >= 0, torch.tensor(INVERSE)[graph[:, 3:, 2]], -1)
    assert float(relations_right(x, turned).nanmean()) <= 0.01
    mirrored = relations_right(x.flip(3), graph)[:, :3]
    across = graph[:, 3:6, 2] < 2
    assert float(mirrored[across].mean()) <= 0.01 and float(mirrored[~across].mean()) >= 0.99
    pair = sample_scenes(20, objects=2, generator=seeded(9))
    for picture, one in zip(draw_scenes(pair), scene_graph(pair), strict=True):
        flipped = edit(one, 0, RELATIONS[INVERSE[int(one[2, 2])]])
        assert relations_right(picture[None], flipped[None]).tolist() == [[0, 0]]


def test_what_is_not_to_be_seen_obeys_nothing():
    scenes = sample_scenes(40, objects=3, generator=seeded(5))
    graph = scene_graph(scenes)
    black = torch.full((40, 3, 16, 16), DARK, dtype=torch.uint8)
    assert float(relations_right(black, graph).sum()) == float(objects_seen(black, graph).sum()) == 0
    two = Scenes(*(getattr(scenes, name)[:, :2] for name in ("shape", "colour", "size", "x", "y")))
    seen = objects_seen(draw_scenes(two), graph)
    assert seen.mean(0).tolist() == [1, 1, 0]
    assert not bool(locate(black).seen.any())


def test_a_blend_of_two_colours_is_no_third():
    """Between blue and yellow a pixel is grey or green: an edge must not be taken for a green object."""
    for inner in range(4):
        for outer in range(4):
            if inner != outer:
                scene = Scenes([[0, 1]], [[inner, outer]], [[0.21, 0.53]], [[0.03, 0.0]], [[-0.02, 0.0]])
                assert locate(draw_scenes(scene)).seen[0].nonzero().flatten().tolist() == sorted((inner, outer))


def test_fills_of_the_truth_and_of_the_median_and_of_the_mean():
    """With two colours as likely as each other the mean picture is neither, inside and as a whole."""
    data = outlines_to_filled(n=600, seed=2)
    scenes = data.test_scenes
    truth = fills(data.test, scenes, colours=("red", "blue"))
    assert bool(truth.whole.all()) and float(truth.inside.min()) == 1 and float(truth.ground.min()) == 1
    assert 1.8 < truth.modes <= 2
    assert torch.equal(truth.choice, scenes.colour[:, 0] // 2)
    red, blue = (
        draw_scenes(Scenes(scenes.shape, torch.full_like(scenes.shape, k), scenes.size, scenes.x, scenes.y)) for k in (0, 2)
    )
    mean = ((red.int() + blue.int()) // 2).to(torch.uint8)
    spoiled = fills(mean, scenes, colours=("red", "blue"))
    assert not bool(spoiled.whole.any()) and float(spoiled.inside.max()) == 0 and spoiled.modes == 0
    assert float(spoiled.ground.min()) == 1
    assert fills(red, scenes).modes == pytest.approx(1)
    assert float(fills(255 - red, scenes).ground.max()) == 0


def test_stripes_of_the_truth_and_of_the_mean():
    scenes = sample_scenes(200, generator=seeded(6))
    phase = torch.randint(4, (200,), generator=seeded(7))
    truth = striped(draw_stripes(scenes, phase), scenes)
    assert torch.equal(truth.choice, phase)
    assert float(truth.inside.min()) == 1 and bool(truth.whole.all())
    assert 3.5 < truth.modes <= 4
    mean = torch.stack([draw_stripes(scenes, torch.full((200,), p)).int() for p in range(4)]).sum(0) // 4
    assert float(striped(mean.to(torch.uint8), scenes).inside.max()) == 0
    assert striped(draw_stripes(scenes, torch.zeros(200, dtype=torch.long)), scenes).modes == pytest.approx(1)
    assert float(striped(draw_outlines(scenes), scenes).inside.mean()) < 0.6


COLOUR, SCENE = draw_scenes(sample_scenes(2)), sample_scenes(2)
TWO = scene_graph(sample_scenes(2, objects=2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: read(COLOUR[:, :1]),
            r"read needs pictures \(N, 3, S, S\), integers of 0 to 255, not torch.uint8 \(2, 1, 16, 16\)",
        ),
        (lambda: locate(COLOUR / 255), r"locate needs pictures .*not torch.float32"),
        (lambda: facts_right(COLOUR, torch.zeros(2, 3)), "the four facts of each of 2 pictures"),
        (lambda: relations_right(COLOUR[:1], TWO), "a graph for each of 1 pictures, not 2"),
        (lambda: fills(COLOUR, SCENE[:1]), "a scene of one object for each of 2 pictures"),
        (lambda: fills(COLOUR, SCENE, colours=("pink",)), "colours must be some of red"),
        (lambda: striped(COLOUR, SCENE), r"pictures \(N, 1, S, S\)"),
        (lambda: reader_scores(n=0), "n must be a positive integer"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_two_objects_of_one_colour_cannot_be_told_apart():
    graph = TWO.clone()
    graph[:, :2, 2] = 1
    with pytest.raises(ValueError, match="two of one colour"):
        relations_right(COLOUR, graph)
