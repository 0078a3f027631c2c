"""The page's network, its readings and its edits are the library's; what no scene can have is refused."""

import json
import re
from itertools import product

import pytest
import torch
from opening import assert_draws_no_random_number, opening

from gencourse.adversarial.gan import GAN
from gencourse.adversarial.scene_graph import SceneGraph
from gencourse.data.graphs import INVERSE, RELATIONS, contradiction, edit, scene_graph, scene_graphs, stands, unpack
from gencourse.data.scenes import COLOURS, PALETTE, SHAPES, draw_scenes, sample_scenes
from gencourse.explorers import EditTheScene
from gencourse.explorers.edit_the_scene import SHOWN, trained_on_scenes
from gencourse.explorers.rate_and_distortion import normals
from gencourse.metrics.scenes import locate, relations_right
from gencourse.space import Space

SPACE = Space((3, 16, 16), 256)
SCRIPT = """async ([source, network, graphs, z]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  const generate = module.sceneGraph(network);
  return graphs.map(({ objects, triples }) => generate(objects, triples, z).map(
    ({ boxes, picture }) => ({ boxes, picture: [...picture] })));
}"""
READ = """async ([source, pictures, paint]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  return pictures.map((values) => {
    const found = module.locate(values, 16, paint);
    return { found, stands: found.map((a) => found.map((b) => module.stands(a, b))) };
  });
}"""
EDITS = """async ([source, graphs, inverse, names]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  const words = ["left of", "right of", "above", "below"];
  return graphs.map((triples) => [
    module.contradiction(triples, ([a, r, b]) => `the ${names[a]} ${words[r]} the ${names[b]}`),
    triples.map((_, i) => [0, 1, 2, 3].map((r) => module.edited(triples, i, r, inverse))),
  ]);
}"""


def made(space=SPACE, seed=0, **options):
    """A model with weights as large as trained ones."""
    torch.manual_seed(seed)
    model = SceneGraph(space, **{"width": 10, "channels": 6, "cells": 5, "latent": 3} | options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model


def graphs(n, objects=3):
    return scene_graph(sample_scenes(n, objects=objects, generator=torch.Generator().manual_seed(0)))


def in_parts(graph):
    """One graph as the page has it."""
    found = unpack(graph[None])
    objects = torch.stack([found.shape[0], found.colour[0]], 1).tolist()
    return {"objects": objects, "triples": torch.stack([found.subject[0], found.relation[0], found.object[0]], 1).tolist()}


def packed(parts):
    """What the page has, as one graph."""
    rows = [[1, *pair, -1, -1, -1, -1] for pair in parts["objects"]] + [[0, *triple, -1, -1, -1] for triple in parts["triples"]]
    return torch.tensor(rows)


@pytest.fixture(scope="module")
def explorer():
    return EditTheScene(made(), graphs(1)[0])


@pytest.mark.browser
@pytest.mark.parametrize(("objects", "options"), [(3, {}), (2, {"layers": 1, "cells": 8, "latent": 5})])
def test_the_page_draws_as_python_does(visit, objects, options):
    model, some = made(objects=objects, **options), graphs(4, objects)
    explorer = EditTheScene(model, some[0])
    z = normals(5, 3 * model.latent).view(3, model.latent)
    got = visit().page.evaluate(
        SCRIPT, [explorer.source(), explorer.state["network"], [in_parts(one) for one in some], z.tolist()]
    )
    for one, found in zip(some, got, strict=True):
        pictures = torch.tensor([each["picture"] for each in found], dtype=torch.float64).view(3, 3, 16, 16)
        boxes = torch.tensor([each["boxes"] for each in found], dtype=torch.float64)
        expected = explorer.drawn(one, z)
        assert (pictures - expected).abs().max() < 1e-9
        assert (2 * boxes - 1 - explorer.boxes(one, z)).abs().max() < 1e-9
        with torch.no_grad():  # but for rounding to float16 it is the library's
            library = model.generator(z.float(), one.expand(3, *one.shape))
        assert (library - expected).abs().mean() < 0.02 and expected.std() > 0.1
        assert boxes.std(0).mean() > 0.001  # the noise is felt


@pytest.mark.browser
def test_the_page_finds_colours_and_relations_as_the_library_does(visit):
    scenes = sample_scenes(60, objects=3, nested=0.3, generator=torch.Generator().manual_seed(1))
    noise = 40 * torch.randn(60, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    x = (draw_scenes(scenes) + noise).clamp(0, 255).round().long()
    explorer = EditTheScene(made(), graphs(1)[0])
    got = visit().page.evaluate(READ, [explorer.source(), (x.flatten(1).double() / 255).tolist(), explorer.state["paint"]])
    found = locate(x)
    for name, mine in (("x", found.x), ("y", found.y), ("box", found.boxes)):
        theirs = torch.tensor([[one[name] for one in each["found"]] for each in got], dtype=torch.float64)
        assert (theirs - mine).abs().max() < 1e-5, name
    assert [[one["seen"] for one in each["found"]] for each in got] == found.seen.tolist()
    related = torch.tensor([each["stands"] for each in got])
    expected, apart = stands(found.x, found.y, found.boxes), ~torch.eye(4, dtype=torch.bool)
    both = (found.seen.unsqueeze(1) & found.seen.unsqueeze(2))[:, apart.nonzero()[:, 0], apart.nonzero()[:, 1]]
    assert torch.equal(related[:, apart][both], expected[:, apart][both])
    assert set(expected[:, apart][both].tolist()) == {0, 1, 2, 3, 4, 5}


@pytest.mark.browser
def test_contradictions_and_edits_are_those_of_the_library(visit):
    """Of all sixty-four graphs of three objects."""
    first = graphs(1)[0]
    every = []
    for relations in product(range(4), repeat=3):
        one = first.clone()
        one[3:, 2] = torch.tensor(relations)
        every.append(one)
    triples = [in_parts(one)["triples"] for one in every]
    names = [f"{COLOURS[int(c)]} {SHAPES[int(s)]}" for s, c in first[:3, 1:3]]
    got = visit().page.evaluate(EDITS, [EditTheScene.source(), triples, INVERSE[:4], names])
    assert [text for text, _ in got] == [contradiction(one) for one in every]
    assert 0 < sum(text is None for text, _ in got) < 64
    for one, (_, changes) in zip(every, got, strict=True):
        for i, each in enumerate(changes):
            for r, after in enumerate(each):
                graph = packed({"objects": in_parts(one)["objects"], "triples": after})
                if contradiction(graph) is None:
                    assert torch.equal(graph, edit(one, i, RELATIONS[r]))


@pytest.mark.browser
def test_triples_of_the_same_two_objects_are_changed_together(visit):
    triples = [[0, 0, 1], [1, 1, 0], [1, 2, 2]]
    got = visit().page.evaluate(EDITS, [EditTheScene.source(), [triples], INVERSE[:4], ["a", "b", "c"]])
    _, changes = got[0]
    assert changes[0][3] == [[0, 3, 1], [1, 2, 0], [1, 2, 2]] and changes[1][2] == [[0, 3, 1], [1, 2, 0], [1, 2, 2]]


def test_the_network_that_comes_with_the_package_obeys_the_relations_and_knows_many_layouts():
    model, run = trained_on_scenes()
    graph = scene_graphs().test_labels
    x = model.sample(len(graph), graph, generator=torch.Generator().manual_seed(1))
    right = float(relations_right(x, graph).nanmean())
    assert right == pytest.approx(run["relations right"], abs=0.02) and right > 0.95
    z = torch.randn(40, model.latent, generator=torch.Generator().manual_seed(2))
    boxes = model.boxes(z, graph[:1].expand(40, *graph.shape[1:]))
    assert boxes.std(0).mean() > 0.05  # one graph, many layouts


def test_loading_the_weights_draws_no_random_number():
    assert_draws_no_random_number(trained_on_scenes)


@pytest.fixture
def opened(visit, explorer, tmp_path):
    with opening(visit, explorer, tmp_path, ".told") as open_page:
        yield open_page


def picture(page, which=0):
    """The pixels of a picture, `(3, 16, 16)`."""
    values = page.evaluate(
        """(which) => {
          const c = document.querySelector(".gencourse-explorer").shadowRoot.querySelectorAll("canvas")[which];
          return [...c.getContext("2d").getImageData(0, 0, 16, 16).data];
        }""",
        which,
    )
    return torch.tensor(values).view(16, 16, 4)[..., :3].permute(2, 0, 1)


def shows(page, explorer, graph, seed=0):
    """The pictures, the menus and what is told are those of the graph with the noise of the seed."""
    z = torch.stack([normals(seed + k, 3) for k in range(SHOWN)])
    x = SPACE.from_signed(explorer.drawn(graph, z))
    for k in range(SHOWN):
        assert (picture(page, k) - x[k]).abs().max() <= 1  # a level that lies between two
    parts = in_parts(graph)
    right = relations_right(x, graph.expand(SHOWN, *graph.shape))
    centres = explorer.boxes(graph, z[:1])
    by_boxes = stands(centres[..., [0, 2]].mean(-1), centres[..., [1, 3]].mean(-1), centres)[0]
    for i, (a, r, b) in enumerate(parts["triples"]):
        ends = ["ABC"[a], "ABC"[b]]
        for one, other, relation in ((*ends, r), (*ends[::-1], INVERSE[r])):
            select = page.get_by_role("combobox", name=f"{one} stands to {other}")
            assert select.locator("option:checked").text_content() == RELATIONS[relation]
        word = {True: "obeyed", False: "not obeyed"}
        told = page.locator(".read").nth(i).text_content()
        assert told == f"{word[bool(right[0, i])]} in the picture, {word[bool(by_boxes[a, b] == r)]} by the boxes"
    for k, (shape, colour) in enumerate(parts["objects"]):
        chosen = [page.get_by_role("combobox", name=f"{what} of {'ABC'[k]}") for what in ("Shape", "Colour")]
        assert [c.locator("option:checked").text_content() for c in chosen] == [SHAPES[shape], COLOURS[colour]]
    text = page.locator(".told").text_content()
    assert f"{int(right[0].sum())} of 3 relations are obeyed in the picture." in text
    assert f"In all {SHOWN} pictures: {int(right.sum())} of {3 * SHOWN}." in text
    return True


def choose(page, name, option):
    page.get_by_role("combobox", name=name, exact=True).select_option(option)


@pytest.mark.browser
def test_relations_change_with_their_inverses_and_what_cannot_be_is_refused(opened, explorer):
    seen = opened()
    page, graph = seen.page, graphs(1)[0]
    assert shows(page, explorer, graph)
    done = {"changed": 0, "refused": 0}
    for i, (a, b) in enumerate(("AB", "BC", "CA")):
        for relation in RELATIONS[:4]:
            back = RELATIONS[INVERSE[RELATIONS.index(relation)]]
            choose(page, f"{b} stands to {a}", back)
            try:
                graph = edit(graph, i, relation)
                done["changed"] += 1
                assert "Refused" not in page.locator(".told").text_content()
            except ValueError as wrong:
                done["refused"] += 1
                sentence = str(wrong).removeprefix("edit: ").replace("another triple", "another relation")
                assert page.locator(".told div").first.text_content() == f"Refused: {sentence}"
            assert shows(page, explorer, graph)
    assert min(done.values()) > 1, done
    assert not seen.errors and not seen.elsewhere


@pytest.mark.browser
def test_shapes_colours_swaps_and_noise(opened, explorer):
    page, graph = opened().page, graphs(1)[0]
    first = graph.clone()
    choose(page, "Shape of B", "disc" if int(graph[1, 1]) else "square")
    graph[1, 1] = 0 if int(graph[1, 1]) else 1
    assert shows(page, explorer, graph)
    free = ({0, 1, 2, 3} - set(graph[:3, 2].tolist())).pop()
    choose(page, "Colour of A", COLOURS[free])
    graph[0, 2] = free
    assert shows(page, explorer, graph)
    choose(page, "Colour of A", COLOURS[int(graph[2, 2])])  # which C has: it gets A's
    graph[[0, 2], 2] = graph[[2, 0], 2]
    assert shows(page, explorer, graph)
    page.get_by_role("button", name="swap B and C").click()
    graph[[1, 2]] = graph[[2, 1]]
    assert shows(page, explorer, graph)
    page.get_by_role("button", name="new noise").click()
    assert shows(page, explorer, graph, seed=1)
    page.get_by_role("button", name="the first graph").click()
    assert shows(page, explorer, first, seed=1)


@pytest.mark.browser
def test_boxes_are_where_the_network_puts_them_and_can_be_hidden(opened, explorer):
    page, graph = opened().page, graphs(1)[0]
    sides = torch.tensor(
        [[float(box.get_attribute(name)) for name in ("x", "y", "width", "height")] for box in page.locator("rect.box").all()]
    )
    boxes = 50 * (explorer.boxes(graph, normals(0, 3)[None])[0] + 1)
    assert torch.allclose(sides[:, :2], boxes[:, :2].float(), atol=1e-3)
    assert torch.allclose(sides[:, 2:], (boxes[:, 2:] - boxes[:, :2]).float(), atol=1e-3)
    page.get_by_role("checkbox", name="boxes").uncheck()
    assert page.locator("rect").count() == 0


@pytest.mark.browser
def test_on_a_phone_in_the_dark_all_is_there_and_the_keyboard_suffices(opened, explorer):
    page = opened(width=390, height=844, dark=True, touch=True).page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for control in page.locator("button, select, label.boxes").all():
        box = control.bounding_box()
        assert box["height"] >= 24 and box["width"] >= 24 and box["x"] + box["width"] <= 390
    graph = graphs(1)[0]
    select = page.get_by_role("combobox", name="Shape of A")
    select.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    graph[0, 1] = 1
    assert shows(page, explorer, graph)


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="2000"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.get_by_role("checkbox", name="boxes").nth(1).uncheck()
    assert frame.locator("rect.box").count() == 3
    assert not seen.errors


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle == EditTheScene(made(), graphs(1)[0])._repr_mimebundle_()
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    assert bundle["text/html"].count("</script>") == 1
    assert json.loads(json.dumps(explorer.state)) == json.loads(bundle["text/html"].split("const state = ")[1].split(";\nfor")[0])


def test_the_explorer_of_the_book_fits_a_page():
    explorer = EditTheScene()
    assert len(explorer.to_html()) < 250_000 and len(explorer.state["objects"]) == 3
    assert [list(paint) for paint in explorer.state["paint"]["palette"]] == [list(paint) for paint in PALETTE]


def test_the_widget_starts_from_the_same_state_and_python_sees_what_is_changed(explorer):
    widget = explorer.widget()
    assert (widget.seed, widget.boxes, widget.triples) == (0, True, in_parts(graphs(1)[0])["triples"])
    widget.set_state({"boxes": False})  # what the browser sends
    assert widget.boxes is False


def test_the_model_stays_as_it_was():
    model = made()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    EditTheScene(model, graphs(1)[0])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in model.parameters())


def changed(row, column, value):
    graph = graphs(1)[0]
    graph[row, column] = value
    return graph


def round_and_round():
    graph = graphs(1)[0]
    graph[3:, 2] = 0
    return graph


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: EditTheScene(GAN(SPACE, latent=2)), TypeError, "models? of the class SceneGraph, not GAN"),
        (lambda: EditTheScene(made(Space((1, 16, 16), 256))), ValueError, "of colours with graph convolutions"),
        (lambda: EditTheScene(made(layers=0)), ValueError, "with graph convolutions, not one of"),
        (lambda: EditTheScene(made(), changed(1, 2, int(graphs(1)[0][0, 2]))), ValueError, "objects of different colours"),
        (lambda: EditTheScene(made(), changed(0, 1, 4)), ValueError, "of 3 shapes"),
        (lambda: EditTheScene(made(), changed(3, 2, 4)), ValueError, "shows the relations left of, right of, above, below"),
        (lambda: EditTheScene(made(), round_and_round()), ValueError, "no scene has"),
        (lambda: EditTheScene(made(), shapes=9), ValueError, "shapes must be in 1..5, not 9"),
        (lambda: EditTheScene(made(), graphs(1, 2)[0]), ValueError, "3 objects are expected"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
