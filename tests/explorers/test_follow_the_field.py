"""The page's field and solvers are the library's; what is drawn and told is where they bring the points."""

import json
import math
import re

import pytest
import torch
from opening import opening
from torch import nn

from gencourse.explorers import FollowTheField
from gencourse.explorers.follow_the_field import SOLVERS, _field, walk
from gencourse.flows.base import NORMAL
from gencourse.flows.ffjord import FFJORD
from gencourse.flows.realnvp import RealNVP
from gencourse.solvers import RK4
from gencourse.space import Space

PLANE = Space((2,))
REACH, FINE, STEPS = 3.2, 64, (1, 2, 4, 8, 16, 32)
TIMES = [0.0, 0.13, 0.25, 0.5, 0.77, 1.0]
CHOICES = [("Euler", 1), ("Euler", 8), ("midpoint", 3), ("midpoint", 4), ("RK4", 2), ("RK4", 5)]
SCRIPT = """async ([source, layers, xs, choices, times, before]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  const { ask, nodes, at } = module.flow(layers);
  return { asked: xs.map(([a, b]) => ask(0.3, a, b)),
    ways: [0, 1].map((start) => choices.map(([solver, steps]) => xs.map((x) => {
      const way = nodes(x, start, solver, steps);
      return { at: times.map((t) => at(way, start, t, solver, steps)), density: module.density(way, start, before) };
    }))) };
}"""


def make(hidden=(8, 8)):
    """A flow whose field is far from where training begins."""
    torch.manual_seed(1)
    model = FFJORD(PLANE, hidden=hidden).eval()
    with torch.no_grad():
        model.field.last.weight.normal_(0, 1.2 / math.sqrt(hidden[-1]))
        model.field.last.bias.normal_(0, 0.3)
        model.norm.log_scale.copy_(torch.tensor([-0.4, 0.2]))
        model.norm.bias.copy_(torch.tensor([0.3, -0.1]))
    return model


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def points():
    return 1.5 * torch.randn(20, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def explorer(model, points):
    return FollowTheField(model, points)


def test_rk4_of_the_table_is_the_library_s(model, points):
    """On the place and the integral together, which is what the model solves in its own way."""
    field = _field(model)
    begun, before = model.double().norm(points.double())
    for start, end in ((0, 1), (1, 0)):
        z, integral = walk(field, begun, start, end, "RK4", 6)
        with torch.no_grad(), model.using(RK4(6)):
            expected, trace, _ = model.solve(begun, start, end)
        assert torch.allclose(z, expected, atol=1e-12) and torch.allclose(integral, trace, atol=1e-12)
        assert (z - begun).norm(dim=1).min() > 0.01 and integral.abs().max() > 0.1
    z, integral = walk(field, begun, 0, 1, "RK4", 6)
    with torch.no_grad(), model.using(RK4(6)):
        assert torch.allclose(NORMAL.log_prob(z) + integral + before, model.log_density(points.double()), atol=1e-12)
    model.float()


@pytest.mark.parametrize(("solver", "order"), [("Euler", 1), ("midpoint", 2), ("RK4", 4)])
def test_each_solver_has_its_order(model, points, solver, order):
    field, x = _field(model), points.double()
    truth, _ = walk(field, x, 0, 1, "RK4", 256)
    coarse, fine = (float((walk(field, x, 0, 1, solver, steps)[0] - truth).abs().max()) for steps in (16, 32))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.35)
    assert sum(share for _, share in SOLVERS[solver]) == pytest.approx(1)


@pytest.mark.parametrize("start", [0, 1])
def test_what_is_left_of_the_way_is_a_shorter_step(model, points, start):
    """Euler's own place between two of its times is on the straight line; at its times it is where whole steps lead."""
    field, x = _field(model), points.double()
    h = -0.25 if start else 0.25
    first, second = (walk(field, x, start, start + k * h, "Euler", 4)[0] for k in (1, 2))
    halfway, _ = walk(field, x, start, start + 1.5 * h, "Euler", 4)
    assert torch.allclose(halfway, (first + second) / 2, atol=1e-12)
    assert torch.equal(walk(field, x, start, start, "RK4", 4)[0], x)


@pytest.mark.browser
@pytest.mark.parametrize("hidden", [(8, 8), (16,), (64, 64, 64)], ids=str)
def test_javascript_equals_python_with_every_solver_at_every_time(visit, hidden):
    model = make(hidden)
    x = torch.empty(12, 2).uniform_(-2.5, 2.5, generator=torch.Generator().manual_seed(3)).double()
    explorer, field = FollowTheField(model, x.float()), _field(model)
    before = explorer.state["log_det"]
    given = [explorer.source(), explorer.state["layers"], x.tolist(), CHOICES, TIMES, before]
    got = visit().page.evaluate(SCRIPT, given)
    velocity = torch.tensor(got["asked"], dtype=torch.float64)
    J = torch.func.vmap(torch.func.jacrev(lambda z: field(0.3, z[None])[0]))(x)
    assert torch.allclose(velocity[:, :2], field(0.3, x), atol=1e-10)
    assert torch.allclose(velocity[:, 2], J.diagonal(dim1=1, dim2=2).sum(1), atol=1e-10)
    for start in (0, 1):
        for (solver, steps), ways in zip(CHOICES, got["ways"][start], strict=True):
            for i, t in enumerate(TIMES):
                z, integral = walk(field, x, start, t, solver, steps)
                there = torch.tensor([way["at"][i] for way in ways], dtype=torch.float64)
                assert torch.allclose(there, torch.cat([z, integral[:, None]], 1), atol=1e-9)
            z, integral = walk(field, x, start, 1 - start, solver, steps)
            density = NORMAL.log_prob(x) - integral if start else NORMAL.log_prob(z) + integral
            said = torch.tensor([way["density"] for way in ways], dtype=torch.float64)
            assert torch.allclose(said, density + before, atol=1e-9)


def test_the_density_that_is_told_is_the_model_s(model, points, explorer):
    """The state's points and log-determinant are what the model does to data before the field."""
    begun, before = model.norm(points)
    assert explorer.state["log_det"] == pytest.approx(float(before[0].detach()), abs=1e-6)
    z, integral = walk(_field(model), begun.detach(), 0, 1, "RK4", 64)
    with torch.no_grad(), model.using(RK4(64)):
        assert torch.allclose(
            (NORMAL.log_prob(z) + integral + explorer.state["log_det"]).float(), model.log_prob(points), atol=1e-4
        )


@pytest.fixture
def opened(visit, explorer, tmp_path):
    with opening(visit, explorer, tmp_path, ".frame:not([aria-busy])") as open_page:
        yield open_page


def numbers(page, which):
    """The decimal numbers of the first or second output."""
    text = page.locator("output").nth(which).text_content().replace("\u2212", "-")
    return [float(n) for n in re.findall(r"-?\d+\.\d+(?:e-\d+)?", text)]


def choose(page, **wanted):
    for group, name in wanted.items():
        page.get_by_role("radiogroup", name=group).get_by_role("radio", name=str(name), exact=True).check()
    page.locator(".frame:not([aria-busy])").wait_for()


def to(page, t):
    page.get_by_role("slider", name="Time t").fill(str(t))


def mark(page):
    ring, plane = page.locator(".mark").bounding_box(), page.locator(".plane").bounding_box()
    across = (ring["x"] + ring["width"] / 2 - plane["x"]) / plane["width"]
    down = (ring["y"] + ring["height"] / 2 - plane["y"]) / plane["height"]
    return [REACH * (2 * across - 1), REACH * (1 - 2 * down)]


def drag(page, a, b):
    box = page.locator(".plane").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * (a / REACH + 1) / 2, box["y"] + box["height"] * (1 - b / REACH) / 2, steps=4)


def drawing(page):
    return page.locator("canvas.points").evaluate("c => c.toDataURL()")


@pytest.mark.browser
@pytest.mark.parametrize("direction", ["data to noise", "noise to data"])
def test_errors_and_nats_of_all_points_are_those_of_python(opened, explorer, model, points, direction):
    seen = opened()
    page, field, start = seen.page, _field(model), int(direction == "noise to data")
    begun = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)) if start else model.norm(points)[0].detach()
    before = explorer.state["log_det"]
    for solver, steps in (("Euler", 4), ("midpoint", 8), ("RK4", 1)):
        choose(page, **{"from": direction, "solver": solver, "steps": steps})
        expected = []
        for name, n in ((solver, steps), ("RK4", FINE)):
            z, integral = walk(field, begun, start, 1 - start, name, n)
            log_p = NORMAL.log_prob(begun.double()) - integral if start else NORMAL.log_prob(z) + integral
            back, _ = walk(field, z, 1 - start, start, name, n)
            expected.append((z, -float((log_p + before).mean()), float((back - begun).norm(dim=1).mean())))
        (z, nats, back), (truth, right, _) = expected
        off = float((z - truth).norm(dim=1).mean())
        said = numbers(page, 1)
        assert said[:2] == pytest.approx([off, back], rel=0.06)  # two digits are told
        assert said[2:] == pytest.approx([nats, right], abs=0.006)
    assert len(page.locator("svg circle:not(.chosen)").all()) == 3 * len(STEPS)
    heights = [float(c.get_attribute("cy")) for c in page.locator("svg circle:not(.chosen)").all()]
    assert heights[5] > heights[0] and heights[11] > heights[5] and heights[17] > heights[11]  # lower, that is better
    assert not seen.errors and not seen.elsewhere


@pytest.mark.browser
def test_the_ring_is_dragged_at_any_time_and_in_both_directions(opened, explorer, model):
    page, field = opened().page, _field(model)
    for direction, t in (("data to noise", 0), ("data to noise", 0.6), ("noise to data", 1), ("noise to data", 0.3)):
        choose(page, **{"from": direction, "solver": "Euler", "steps": 4})
        to(page, t)
        drag(page, 0.8, -0.6)
        assert mark(page) == pytest.approx([0.8, -0.6], abs=0.05)  # while the button is still down
        page.mouse.up()
        start = int(direction == "noise to data")
        x, _ = walk(field, torch.tensor([[0.8, -0.6]]), 1, 1, "RK4", FINE)
        if t != start:  # from where it is, back to its beginning by the fine field
            steps = RK4(FINE)
            x = steps(field, x, t, float(start))
        own, _ = walk(field, x, start, t, "Euler", 4)
        said = numbers(page, 0)
        assert said[:2] == pytest.approx([0.8, -0.6], abs=0.03)
        assert said[2:4] == pytest.approx(own[0].tolist(), abs=0.05)
    drag(page, 9.0, 0.0)  # far outside: the picture holds on, the ring stays at its edge
    page.mouse.up()
    assert mark(page)[0] == pytest.approx(REACH, abs=0.03)


@pytest.mark.browser
def test_time_goes_by_steps_keys_and_a_button_and_says_what_was_asked(opened):
    page = opened().page
    said, before = page.locator(".now"), drawing(page)
    assert said.text_content() == "t = 0.00: 0 of 4 steps, 0 of 4 evaluations of the field"
    page.get_by_role("button", name="a step towards the noise").click()
    assert said.text_content() == "t = 0.25: 1 of 4 steps, 1 of 4 evaluations of the field"
    choose(page, solver="RK4")
    slider = page.get_by_role("slider", name="Time t")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert said.text_content() == "t = 0.26: 2 of 4 steps, 8 of 16 evaluations of the field"
    page.keyboard.press("PageUp")
    assert said.text_content().startswith("t = 0.50: 2 of 4 steps")
    assert slider.get_attribute("aria-valuetext") == said.text_content()
    page.keyboard.press("End")
    page.keyboard.press("PageDown")
    assert said.text_content().startswith("t = 0.75: 3 of 4 steps")
    choose(page, **{"from": "noise to data"})
    assert said.text_content() == "t = 1.00: 0 of 4 steps, 0 of 16 evaluations of the field"
    page.get_by_role("button", name="a step towards the data").click()
    assert said.text_content() == "t = 0.75: 1 of 4 steps, 4 of 16 evaluations of the field"
    choose(page, **{"from": "data to noise", "solver": "Euler", "steps": 4})
    assert drawing(page) == before
    choose(page, steps=1)
    assert said.text_content() == "t = 0.00: 0 of 1 step, 0 of 1 evaluation of the field"
    page.get_by_role("button", name="play").click()
    page.get_by_role("button", name="play").wait_for()  # at the end it says so again
    assert said.text_content().startswith("t = 1.00: 1 of 1 step")


@pytest.mark.browser
def test_the_keyboard_alone_moves_the_ring(opened, explorer):
    page = opened().page
    names = []
    for _ in range(8):
        page.keyboard.press("Tab")
        names.append(page.evaluate("(e => e.className || e.type)(document.activeElement.shadowRoot.activeElement)"))
    assert names == ["radio", "radio", "radio", "range", "button", "button", "button", "plane"]
    start = mark(page)
    assert start == pytest.approx(explorer.state["x"], abs=0.03)
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    assert mark(page) == pytest.approx([start[0] + 0.16, start[1] + 0.32], abs=0.02)
    page.keyboard.press("Home")
    assert mark(page) == pytest.approx(start, abs=0.01)


@pytest.mark.browser
def test_a_finger_works_on_a_phone_in_the_dark(opened):
    page = opened(width=390, height=844, dark=True, touch=True).page
    box = page.locator(".plane").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    assert mark(page) == pytest.approx([-1.6, 1.6], abs=0.05)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert box["y"] + box["height"] <= 844  # the choices, the slider and the picture are in view together
    controls = [c.bounding_box() for c in page.locator("button, input[type=range], .group label").all()]
    assert all(b["height"] >= 24 and b["width"] >= 24 for b in controls)  # WCAG 2.2, 2.5.8


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="1800"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.get_by_role("button", name="a step towards the noise").nth(1).click()
    assert [text[:8] for text in frame.locator(".now").all_text_contents()] == ["t = 0.00", "t = 0.25"]
    assert not seen.errors


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer, model, points):
    bundle = explorer._repr_mimebundle_()
    assert bundle == FollowTheField(model, points)._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    key = re.search(r'<div id="(follow_the_field-[0-9a-f]{16})"', bundle["text/html"])
    assert key and all(
        key[1] not in other.to_html() for other in (FollowTheField(model, points[1:]), FollowTheField(model, points, seed=1))
    )
    assert bundle["text/html"].count("</script>") == 1
    assert json.loads(json.dumps(explorer.state)) == explorer.state


def test_the_widget_starts_from_the_same_state_and_python_sees_what_is_done(explorer):
    widget = explorer.widget()
    assert (widget.t, widget.solver, widget.steps, widget.x) == (0.0, "Euler", 4, explorer.state["x"])
    widget.set_state({"t": 0.5, "solver": "RK4"})  # what the browser sends
    assert (widget.t, widget.solver) == (0.5, "RK4")
    assert "export default { render }" in widget._esm and "function draggable" in widget._esm


def test_the_model_stays_as_it_was(model, points):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    FollowTheField(model, points)
    assert all(
        torch.equal(value, before[name]) and value.dtype == before[name].dtype for name, value in model.state_dict().items()
    )
    assert all(parameter.requires_grad for parameter in model.parameters())


class Still(nn.Module):
    def forward(self, t, z):
        return 0 * z


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: FollowTheField(RealNVP(PLANE, hidden=(4,)), x), TypeError, "needs an FFJORD, not RealNVP"),
        (lambda x: FollowTheField(FFJORD(Space((3,)), hidden=(4,)), x), ValueError, "points in the plane"),
        (lambda x: FollowTheField(FFJORD(PLANE, field=Still()), x), TypeError, "a TanhField, but the model's field is Still"),
        (lambda x: FollowTheField(FFJORD(PLANE, hidden=(4,)), x[:, :1]), ValueError, r"points must be \(N, 2\)"),
        (lambda x: FollowTheField(FFJORD(PLANE, hidden=(4,)), x[:0]), ValueError, "N from 1 to 500"),
        (lambda x: FollowTheField(FFJORD(PLANE, hidden=(4,)), x, reach=0.0), ValueError, "reach must be positive"),
    ],
)
def test_mistakes_are_named(points, call, error, message):
    with pytest.raises(error, match=message):
        call(points)
