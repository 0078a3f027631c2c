"""The page's flow is the library's, at every place of the slider; what is drawn is where it sends things."""

import json
import re

import pytest
import torch
from opening import opening

from gencourse.data.toys import TwoMoons
from gencourse.explorers import WarpTheGrid
from gencourse.explorers.warp_the_grid import _layers, walk
from gencourse.flows.base import LOGISTIC, NORMAL
from gencourse.flows.bijections import AffineCoupling, Halves
from gencourse.flows.glow import Glow
from gencourse.flows.networks import FlatNetwork
from gencourse.flows.nice import NICE
from gencourse.flows.realnvp import RealNVP
from gencourse.space import Space

PLANE = Space((2,))
BOX = (-2.0, 2.0, -1.5, 1.5)
PIXELS = "[...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 3)"
DEPTHS = [0.0, 0.25, 1.0, 1.5, 2.0, 3.7, 6.0, 6.55, 7.0]
SCRIPT = """async ([source, layers, xs, depths]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  const { depth, trace, at, back, parts } = module.flow(layers);
  return { depth, parts: xs.map(([a, b]) => parts(trace(a, b))), at: depths.map((v) => xs.map(([a, b]) => at(trace(a, b), v))),
    back: depths.map((v) => xs.map(([a, b]) => { const [c, d] = at(trace(a, b), v); return back(c, d, v); })) };
}"""


@pytest.fixture(scope="module")
def flow():
    """Seven layers, whose weights are as large as trained ones."""
    torch.manual_seed(1)
    model = RealNVP(PLANE, couplings=3, hidden=(8, 8)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.2 if name.endswith("bias") or "log_scale" in name else 0.45)
    return model


@pytest.fixture(scope="module")
def points():
    return TwoMoons().sample(100, torch.Generator().manual_seed(0)) - torch.tensor([0.5, 0.25])


@pytest.fixture(scope="module")
def explorer(flow, points):
    return WarpTheGrid(flow, points, box=BOX)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_part_of_a_layer_is_a_bijection_with_its_own_determinant(flow, points, depth):
    layers = _layers(flow)
    h, log_det = walk(layers, points, depth)
    for x, at in zip(points.double()[:20], log_det, strict=False):
        jacobian = torch.autograd.functional.jacobian(lambda x: walk(layers, x[None], depth)[0][0], x)
        assert torch.linalg.slogdet(jacobian).logabsdet == pytest.approx(float(at), abs=1e-12)
    assert depth == 0 or log_det.abs().max() > 0.01
    assert torch.equal(h, points.double()) == (depth == 0)


def test_the_whole_way_is_the_models(flow, points):
    z, log_det = walk(_layers(flow), points, 7)
    with torch.no_grad():
        expected, by_model = flow.encode(points)
    assert (z - expected).abs().max() < 1e-4 and (log_det - by_model).abs().max() < 1e-4  # the model computes in float32
    assert (z - points).abs().max() > 0.5


@pytest.mark.browser
@pytest.mark.parametrize("hidden", [(8, 8), (16,), (64, 64)], ids=str)
def test_javascript_equals_python_at_every_place_of_the_slider(visit, hidden):
    torch.manual_seed(2)
    model = RealNVP(PLANE, couplings=3, hidden=hidden).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    x = torch.empty(50, 2).uniform_(-2.5, 2.5, generator=torch.Generator().manual_seed(3))
    explorer, layers = WarpTheGrid(model, x), _layers(model)
    source = explorer.module.read_text(encoding="utf-8")
    got = visit().page.evaluate(SCRIPT, [source, explorer.state["layers"], x.double().tolist(), DEPTHS])
    assert got["depth"] == len(layers) == 7
    for depth, at, back in zip(DEPTHS, got["at"], got["back"], strict=True):
        h, log_det = walk(layers, x, depth)
        assert torch.allclose(torch.tensor(at, dtype=torch.float64), torch.cat([h, log_det[:, None]], 1), rtol=1e-10, atol=1e-10)
        assert torch.allclose(torch.tensor(back, dtype=torch.float64), x.double(), rtol=1e-9, atol=1e-9)
    z, log_det = walk(layers, x, 7)
    parts = torch.tensor(got["parts"], dtype=torch.float64)
    assert torch.allclose(parts, torch.stack([NORMAL.log_prob(z), log_det], 1), rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        assert torch.allclose(parts.sum(1).float(), model.log_prob(x), atol=1e-3)


@pytest.fixture
def opened(visit, explorer, tmp_path):
    with opening(visit, explorer, tmp_path, ".frame:not([aria-busy])") as open_page:
        yield open_page


def numbers(page, line):
    return [
        float(n.replace("\u2212", "-"))
        for n in re.findall(r"\u2212?\d+\.\d+", page.locator("output div").nth(line).text_content())
    ]


def x_of(page):
    return numbers(page, 0)[:2]


def mark(page, which):
    """Where the ring stands in a picture, in its coordinates."""
    ring, plane = page.locator(".mark").nth(which).bounding_box(), page.locator(".plane").nth(which).bounding_box()
    x0, x1, y0, y1 = (BOX, (-4, 4, -4, 4))[which]
    across = (ring["x"] + ring["width"] / 2 - plane["x"]) / plane["width"]
    down = (ring["y"] + ring["height"] / 2 - plane["y"]) / plane["height"]
    return [x0 + (x1 - x0) * across, y1 - (y1 - y0) * down]


def slide(page, depth):
    page.get_by_role("slider", name="Layers").fill(str(depth))


def drag(page, which, to, frm=(0.5, 0.5)):
    box = page.locator(".plane").nth(which).bounding_box()
    at = [(box["x"] + box["width"] * a, box["y"] + box["height"] * b) for a, b in (frm, to)]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=4)


def drawing(page, which, kind="lines"):
    return page.locator(f"canvas.{kind}").nth(which).evaluate("c => c.toDataURL()")


@pytest.mark.browser
def test_a_point_dragged_in_the_data_shows_its_image_after_the_layers_so_far(opened, flow):
    seen = opened()
    page, layers = seen.page, _layers(flow)
    slide(page, 3.5)
    drag(page, 0, (0.75, 0.25))
    assert x_of(page) == pytest.approx([1.0, 0.75], abs=0.02)  # while the button is still down
    page.mouse.up()
    for depth in (3.5, 7, 0):
        slide(page, depth)
        h, log_det = walk(layers, torch.tensor([x_of(page)]), depth)
        assert mark(page, 1) == pytest.approx(h[0].tolist(), abs=0.05)  # x is told with two digits
        assert numbers(page, 1)[0] == pytest.approx(float(log_det[0]), abs=0.03)
        assert mark(page, 0) == pytest.approx(x_of(page), abs=0.03)
    prior, whole, total = numbers(page, 2)
    assert total == pytest.approx(prior + whole, abs=0.011)
    with torch.no_grad():
        assert total == pytest.approx(float(flow.log_prob(torch.tensor([x_of(page)]))), abs=0.05)
    assert not seen.errors and not seen.elsewhere


@pytest.mark.browser
@pytest.mark.parametrize("depth", [0, 4, 5.6, 7])
def test_a_point_dragged_after_the_layers_has_the_x_that_comes_there(opened, flow, depth):
    page = opened().page
    slide(page, depth)
    drag(page, 1, (0.6, 0.55))
    page.mouse.up()
    h, _ = walk(_layers(flow), torch.tensor([x_of(page)]), depth)
    assert h[0].tolist() == pytest.approx([0.8, -0.4], abs=0.05)
    assert mark(page, 1) == pytest.approx([0.8, -0.4], abs=0.03)
    drag(page, 1, (5.0, 0.5))  # far outside: the picture holds on, the point stays at its edge
    page.mouse.up()
    assert mark(page, 1)[0] == pytest.approx(4.0, abs=0.03)


@pytest.mark.browser
@pytest.mark.parametrize("depth", [0, 2.5, 4, 7])
def test_the_density_that_is_drawn_is_that_of_the_points_moved_so_far(opened, explorer, flow, points, depth):
    """Opacity is 215 (p / top)^0.4; log p there is that of the data, less the log-determinant so far."""
    page = opened().page
    slide(page, depth)
    layers = _layers(flow)
    h, so_far = walk(layers, points, depth)
    z, whole = walk(layers, points, 7)
    p = torch.exp(NORMAL.log_prob(z) + whole - so_far)
    expected = 215 * (p / explorer.state["top"]).clamp(max=1) ** 0.4
    picture = page.locator("canvas.density").nth(1).evaluate(f"c => [c.width, c.height, {PIXELS}]")
    width, height, alpha = picture[0], picture[1], torch.tensor(picture[2]).double()
    inside = (h.abs() < 3.9).all(1)
    column, row = ((h[:, 0] + 4) / 8 * width).long(), ((4 - h[:, 1]) / 8 * height).long()
    drawn = alpha[(row * width + column)[inside]]
    assert inside.sum() > 60 and expected.max() > 2 * expected.min()
    assert (drawn - expected[inside]).abs().median() < 4
    assert (drawn - expected[inside]).abs().max() < 15  # one colour a square, neighbours overlap by half a pixel


@pytest.mark.browser
def test_the_slider_walks_by_keys_and_buttons_and_says_which_layer(opened):
    page = opened().page
    said = page.locator(".layer")
    before = drawing(page, 1), drawing(page, 0)
    assert said.text_content() == "Before the first layer: the data as they are."
    page.get_by_role("button", name="on a layer").click()
    assert said.text_content() == "Layer 1 of 7: ActNorm scales and shifts both coordinates."
    page.keyboard.press("Enter")
    assert said.text_content() == "Layer 2 of 7: a coupling keeps the first coordinate and moves the second."
    slider = page.get_by_role("slider", name="Layers")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert said.text_content().startswith("Layer 3 of 7 (5 % of it): ActNorm")
    page.keyboard.press("PageUp")
    page.keyboard.press("PageUp")
    assert said.text_content() == "Layer 4 of 7: a coupling keeps the second coordinate and moves the first."
    assert slider.get_attribute("aria-valuetext") == said.text_content()
    page.keyboard.press("End")
    assert said.text_content().startswith("Layer 7 of 7: ") and drawing(page, 1) != before[0]
    page.keyboard.press("PageDown")
    assert said.text_content().startswith("Layer 6 of 7: ")
    page.keyboard.press("Home")
    page.get_by_role("button", name="back a layer").click()
    assert (drawing(page, 1), drawing(page, 0)) == before


@pytest.mark.browser
def test_the_keyboard_alone_moves_the_point(opened, explorer):
    page = opened().page
    start = explorer.state["x"]
    names = []
    for _ in range(7):
        page.keyboard.press("Tab")
        names.append(page.evaluate("(e => e.className || e.type)(document.activeElement.shadowRoot.activeElement)"))
    assert names == ["range", "button", "button", "plane", "checkbox", "checkbox", "checkbox"]
    page.locator(".plane").first.focus()
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    assert x_of(page) == pytest.approx([start[0] + 0.1, start[1] + 0.2], abs=0.011)
    page.keyboard.press("Home")
    assert x_of(page) == pytest.approx(start, abs=0.006)
    slide(page, 7)
    page.locator(".plane").nth(1).focus()
    there = mark(page, 1)
    page.keyboard.press("Shift+ArrowLeft")
    assert mark(page, 1) == pytest.approx([there[0] - 0.5, there[1]], abs=0.02)
    page.keyboard.press("Home")
    assert x_of(page) == pytest.approx(start, abs=0.006)


@pytest.mark.browser
def test_a_finger_works_on_a_phone_in_the_dark(opened):
    page = opened(width=390, height=844, dark=True, touch=True).page
    box = page.locator(".plane").first.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    assert x_of(page) == pytest.approx([-1.0, 0.75], abs=0.02)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    below = page.locator(".plane").nth(1).bounding_box()
    assert below["y"] + below["height"] <= 844  # slider and both pictures are in view together
    controls = [c.bounding_box() for c in page.locator("button, input[type=range], .shown label").all()]
    assert all(b["height"] >= 24 and b["width"] >= 24 for b in controls)  # WCAG 2.2, 2.5.8


@pytest.mark.browser
def test_density_grid_and_points_can_be_hidden(opened):
    page = opened().page

    def ink(kind):
        canvas = page.locator(f"canvas.{kind}").nth(1)
        return canvas.evaluate(f"c => {PIXELS}.filter((alpha) => alpha).length")

    with_all = ink("density"), ink("lines")
    page.get_by_role("checkbox", name="density").uncheck()
    assert ink("density") == 0 and ink("lines") == with_all[1]
    page.get_by_role("checkbox", name="grid").uncheck()
    points_only = ink("lines")
    assert 100 < points_only < with_all[1] / 2
    page.get_by_role("checkbox", name="points").uncheck()
    assert ink("lines") == 0
    for name in ("density", "grid", "points"):
        page.get_by_role("checkbox", name=name).check()
    assert (ink("density"), ink("lines")) == with_all


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="1400"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.get_by_role("button", name="on a layer").nth(1).click()
    assert [text[:7] for text in frame.locator(".layer").all_text_contents()] == ["Before ", "Layer 1"]
    assert not seen.errors


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer, flow, points):
    bundle = explorer._repr_mimebundle_()
    assert bundle == WarpTheGrid(flow, points, box=BOX)._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    key = re.search(r'<div id="(warp_the_grid-[0-9a-f]{16})"', bundle["text/html"])
    assert key and all(
        key[1] not in other.to_html() for other in (WarpTheGrid(flow, points), WarpTheGrid(flow, points[1:], box=BOX))
    )
    assert bundle["text/html"].count("</script>") == 1
    assert json.loads(json.dumps(explorer.state)) == explorer.state


def test_the_widget_starts_from_the_same_state_and_python_sees_what_is_done(explorer):
    widget = explorer.widget()
    assert (widget.depth, widget.x, widget.layers) == (0.0, explorer.state["x"], explorer.state["layers"])
    widget.set_state({"depth": 2.5, "x": [1.0, 0.5]})  # what the browser sends
    assert (widget.depth, widget.x) == (2.5, [1.0, 0.5])
    assert "export default { render }" in widget._esm


def test_the_model_stays_as_it_was(flow, points):
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    WarpTheGrid(flow, points)
    assert all(
        torch.equal(value, before[name]) and value.dtype == before[name].dtype for name, value in flow.state_dict().items()
    )
    assert all(parameter.requires_grad for parameter in flow.parameters())


def with_bound():
    model = RealNVP(PLANE, couplings=1, hidden=(4,))
    model.bijection.append(AffineCoupling(torch.nn.Linear(1, 2), Halves()))
    return model


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: WarpTheGrid(FlatNetwork((2,), (2,), (4,)), x), TypeError, "needs a flow .* not FlatNetwork"),
        (lambda x: WarpTheGrid(RealNVP(Space((4,)), hidden=(4,)), x), ValueError, "points in the plane"),
        (
            lambda x: WarpTheGrid(RealNVP(PLANE, hidden=(4,), prior=LOGISTIC), x),
            TypeError,
            "Gaussian prior, but the model's is logistic",
        ),
        (lambda x: WarpTheGrid(NICE(PLANE, hidden=(4,), prior=NORMAL), x), TypeError, "but the flow has Flatten"),
        (lambda x: WarpTheGrid(Glow(PLANE, steps=1), x), TypeError, "but the flow has"),
        (lambda x: WarpTheGrid(with_bound(), x), TypeError, "but the flow has AffineCoupling"),
        (lambda x: WarpTheGrid(RealNVP(PLANE, hidden=(4,)), x[:, :1]), ValueError, r"points must be \(N, 2\)"),
        (lambda x: WarpTheGrid(RealNVP(PLANE, hidden=(4,)), x[:0]), ValueError, "N from 1 to 2000"),
        (lambda x: WarpTheGrid(RealNVP(PLANE, hidden=(4,)), x, box=0.0), ValueError, "box must be a positive number"),
        (lambda x: WarpTheGrid(RealNVP(PLANE, hidden=(4,)), x, box=(1, 0, 0, 1)), ValueError, "box must be"),
        (lambda x: WarpTheGrid(RealNVP(PLANE, hidden=(4,)), x, reach=-1.0), ValueError, "reach must be positive"),
    ],
)
def test_mistakes_are_named(points, call, error, message):
    with pytest.raises(error, match=message):
        call(points)
