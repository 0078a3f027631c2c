"""The page shows exactly what the gradient says: seen, blind, later; and follows the mouse, a finger and the keyboard."""

import json
import re

import pytest
import torch
from opening import opening
from torch import nn
from torch.distributions import Bernoulli

from gencourse.autoregressive.base import Autoregressive
from gencourse.autoregressive.gated_pixelcnn import GatedPixelCNN
from gencourse.autoregressive.pixelcnn import PixelCNN
from gencourse.autoregressive.pixelrnn import DiagonalBiLSTM, RowLSTM
from gencourse.checks import influence
from gencourse.explorers import ReceptiveField
from gencourse.explorers.receptive_field import DECADES, quantized
from gencourse.space import Space

SPACE = Space((1, 6, 7), 2)
FIELDS = """async ([source, models]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  return models.map((model) => model.order.map((pixel) => {
    const { strengths, ...sets } = module.fields(model)(pixel);
    return { ...sets, strengths: Array.from(strengths) };
  }));
}"""


class Parents(Autoregressive):
    """A logistic regression a pixel, on the pixels that a table says: `weight[i, j]` of pixel j for pixel i, flat indices."""

    def __init__(self, weight, space=SPACE, order=None):
        super().__init__(space)
        self.weight, self.path = nn.Parameter(weight), order

    @property
    def order(self):
        return super().order if self.path is None else self.path

    def conditionals(self, x, context=None):
        return Bernoulli(logits=(x.to(self.weight.dtype).flatten(1) @ self.weight.T).view(-1, *self.space.shape))


def parents(share, order=None, seed=0, space=SPACE):
    """A random table in which a pixel sees this share of the earlier ones, with weights over six powers of ten."""
    generator = torch.Generator().manual_seed(seed)
    dim = space.dim
    weight = 10 ** (-6 * torch.rand(dim, dim, generator=generator)) * (torch.rand(dim, dim, generator=generator) < share)
    position = torch.empty(dim, dtype=torch.long)
    position[torch.arange(dim) if order is None else order] = torch.arange(dim)
    return Parents(weight * (position[:, None] > position), space, order)


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    small = {"hidden": 3, "layers": 2, "kernel": 3}
    return {
        "PixelCNN": PixelCNN(SPACE, blocks=2, channels=8, kernel=3),
        "Gated PixelCNN": GatedPixelCNN(SPACE, blocks=5, channels=4, kernel=3),
        "Row LSTM": RowLSTM(SPACE, **small),
        "Diagonal BiLSTM": DiagonalBiLSTM(SPACE, **small),
    }


@pytest.fixture(scope="module")
def explorer(models):
    return ReceptiveField(models, pixel=(4, 2))


def in_javascript(visit, explorer):
    source = explorer.module.read_text(encoding="utf-8")
    return visit().page.evaluate(FIELDS, [source, explorer.state["models"]])


def agree(pages_fields, model):
    """Whether what the page has for every pixel is what the gradient says, entry by entry."""
    seen, order = influence(model) != 0, model.order
    for i, field in enumerate(pages_fields):
        earlier = torch.arange(len(order)) < i
        assert field["earlier"] == i
        assert field["seen"] == order[seen[i] & earlier].tolist()
        assert field["blind"] == order[~seen[i] & earlier].tolist()
        assert field["leak"] == order[seen[i] & ~earlier].tolist()
    return True


@pytest.mark.browser
def test_the_pages_sets_are_those_of_the_gradient(visit, explorer, models):
    for field, model in zip(in_javascript(visit, explorer), models.values(), strict=True):
        assert agree(field, model)


@pytest.mark.browser
def test_weak_influences_other_orders_and_leaks_are_told_exactly(visit):
    backwards = torch.arange(SPACE.dim).flip(0)
    shuffled = torch.randperm(SPACE.dim, generator=torch.Generator().manual_seed(0))
    leaky = parents(0.5)
    with torch.no_grad():
        leaky.weight[10, 10] = leaky.weight[10, 30] = 1e-9  # its own pixel, and a later one
    models = {"half": parents(0.5), "backwards": parents(0.3, backwards), "shuffled": parents(0.7, shuffled), "leaky": leaky}
    fields = in_javascript(visit, ReceptiveField(models))
    for field, model in zip(fields, models.values(), strict=True):
        assert agree(field, model)
    assert fields[3][10]["leak"] == [10, 30]
    assert [field["leak"] for field in fields[2]] == [[]] * SPACE.dim


@pytest.mark.browser
def test_strengths_are_on_a_logarithmic_scale_of_three_powers_of_ten(visit):
    weight = torch.zeros(SPACE.dim, SPACE.dim)
    weight[6, :6] = torch.tensor([1.0, 0.1, 0.01, 1e-3, 1e-12, 0.0])
    (field,) = in_javascript(visit, ReceptiveField({"one": Parents(weight)}))
    expected = torch.tensor([1, 1 - 1 / DECADES, 1 - 2 / DECADES, 0, 0])
    got = torch.tensor(field[6]["strengths"][:6])
    assert (got[:5] - expected).abs().max() < 1.5 / 255  # a byte, and that zero stands for nothing at all
    assert got[4] > 0 and got[5] == 0


def test_a_byte_is_zero_exactly_where_the_influence_is():
    matrix = torch.tensor([[0.0, 0.0, 0.0], [1e-300, 0.0, 1e300], [1.0, 0.5, 0.0]], dtype=torch.float64)
    bytes_ = quantized(matrix)
    assert bytes_.dtype == torch.uint8
    assert torch.equal(bytes_ == 0, matrix == 0)
    assert bytes_[1].tolist() == [1, 0, 255] and bytes_[2, 0] == 255


@pytest.fixture
def opened(visit, explorer, tmp_path):
    with opening(visit, explorer, tmp_path, ".plane") as open_page:
        yield open_page


def sentence(model, row, column):
    """What the text must say, from the gradient alone, in raster order."""
    i = row * SPACE.shape[2] + column
    sees = int((influence(model)[i, :i] != 0).sum())
    return f"row {row}, column {column}: sees {sees} of {i} earlier pixels; {i - sees or 'none'} in the blind spot"


def kinds(page):
    """How many cells of each kind there are in the grid."""
    return {kind: page.locator(f".plane .{kind}").count() for kind in ("seen", "blind", "here", "later", "leak")}


@pytest.mark.browser
def test_click_drag_and_choice_of_a_model(opened, models):
    seen = opened()
    page, text, box = seen.page, seen.page.locator("output"), seen.page.locator(".plane").bounding_box()

    def at(row, column):
        return box["x"] + box["width"] * (column + 0.5) / 7, box["y"] + box["height"] * (row + 0.5) / 6

    assert text.text_content() == sentence(models["PixelCNN"], 4, 2)
    page.mouse.click(*at(3, 4))
    assert text.text_content() == sentence(models["PixelCNN"], 3, 4)
    blind = int((influence(models["PixelCNN"])[25, :25] == 0).sum())
    assert 0 < blind < 25
    assert kinds(page) == {"seen": 25 - blind, "blind": blind, "here": 1, "later": 42 - 26, "leak": 0}
    page.mouse.down()
    page.mouse.move(*at(5, 1), steps=5)
    assert text.text_content() == sentence(models["PixelCNN"], 5, 1)
    page.mouse.move(box["x"] + 3 * box["width"], box["y"] - 50)  # far outside: the nearest pixel
    assert text.text_content() == sentence(models["PixelCNN"], 0, 6)
    page.mouse.up()
    page.mouse.move(*at(2, 2))
    assert text.text_content() == sentence(models["PixelCNN"], 0, 6)  # released
    page.mouse.click(*at(5, 1))
    for name, model in models.items():
        page.get_by_role("radio", name=name, exact=True).check()
        assert text.text_content() == sentence(model, 5, 1)
        total = int((influence(model) != 0).sum())
        assert page.locator(".whole").text_content().startswith(f"{name}, all pixels together: {total} of 861 pairs")
    page.get_by_role("radio", name="Gated PixelCNN").check()
    assert kinds(page)["blind"] == 0
    assert not seen.errors and not seen.elsewhere


@pytest.mark.browser
def test_the_keyboard_alone_suffices(opened, models):
    page = opened().page
    text = page.locator("output")
    page.keyboard.press("Tab")  # to the models
    page.keyboard.press("ArrowRight")
    assert text.text_content() == sentence(models["Gated PixelCNN"], 4, 2)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.shadowRoot.activeElement.className") == "plane"
    for key in ("ArrowUp", "ArrowUp", "ArrowRight", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    assert text.text_content() == sentence(models["Gated PixelCNN"], 2, 1)
    page.keyboard.press("End")
    assert text.text_content() == sentence(models["Gated PixelCNN"], 5, 6)
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")  # there is nothing above
    assert text.text_content() == "row 0, column 0: comes first, there is nothing to see"
    assert text.get_attribute("aria-live") == "polite"


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_finger_on_a_phone_and_kinds_that_differ_in_more_than_colour(opened, models, dark):
    page = opened(width=390, height=844, dark=dark, touch=True).page
    box = page.locator(".plane").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 4.5 / 7, box["y"] + box["height"] * 3.5 / 6)
    assert page.locator("output").text_content() == sentence(models["PixelCNN"], 3, 4)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    bottom = page.locator("output").bounding_box()
    assert bottom["y"] + bottom["height"] <= 844  # the grid and the sentence are in view together
    style = "(cell, name) => getComputedStyle(cell)[name]"
    pattern = {k: page.locator(f".plane .{k}").first.evaluate(style, "backgroundImage") for k in ("seen", "blind", "later")}
    assert "gradient" in pattern["blind"] and pattern["seen"] == pattern["later"] == "none"
    assert page.locator(".plane .later").first.evaluate(style, "transform") != "none"  # smaller
    assert page.locator(".plane .here").text_content() == "?"


@pytest.mark.browser
def test_a_leak_is_shown_as_one(visit):
    weight = torch.zeros(SPACE.dim, SPACE.dim)
    weight[2, 0] = weight[2, 2] = weight[2, 5] = 1.0
    page = visit().page
    page.set_content(ReceptiveField({"mask B first": Parents(weight)}, pixel=(0, 2)).to_html())
    page.locator(".plane").wait_for()
    assert (
        page.locator("output").text_content().endswith("1 in the blind spot; and it leaks: it depends on 2 pixels not before it")
    )
    assert kinds(page)["leak"] == 2 and page.locator(".plane .leak").all_text_contents() == ["!", "!"]
    assert page.get_by_text("a leak:").is_visible()


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="1400"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.locator(".plane").nth(1).wait_for()
    frame.locator(".plane").nth(1).press("ArrowUp")
    frame.get_by_role("radio", name="Row LSTM").nth(1).check()
    first, second = frame.locator("output").all_text_contents()
    assert first.startswith("row 4, column 2") and second.startswith("row 3, column 2")
    assert frame.get_by_role("radio", name="PixelCNN", exact=True).nth(0).is_checked()
    assert not seen.errors


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer, models):
    bundle = explorer._repr_mimebundle_()
    assert bundle == ReceptiveField(models, pixel=(4, 2))._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    key = re.search(r'<div id="(receptive_field-[0-9a-f]{16})"', bundle["text/html"])
    assert key and key[1] not in ReceptiveField(models).to_html()
    assert bundle["text/html"].count("</script>") == 1
    assert len(bundle["text/html"]) < 80_000
    assert json.loads(json.dumps(explorer.state)) == explorer.state


def test_the_widget_starts_from_the_same_state_and_python_sees_the_pixel(explorer):
    widget = explorer.widget()
    assert widget.models == explorer.state["models"] and widget.pixel == [4, 2]
    widget.set_state({"pixel": [1, 3], "model": 2})  # what the browser sends
    assert (widget.pixel, widget.model) == ([1, 3], 2)
    assert "export default { render }" in widget._esm


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ReceptiveField({}), ValueError, "at least one model with its name"),
        (lambda: ReceptiveField(parents(1)), ValueError, "at least one model with its name"),
        (lambda: ReceptiveField({"a": nn.Linear(2, 2)}), TypeError, "'a' is a Linear"),
        (lambda: ReceptiveField({"a": parents(1, space=Space((3, 2, 2), 2))}), ValueError, "grey images of at most 256 pixels"),
        (lambda: ReceptiveField({"a": parents(1, space=Space((1, 17, 17), 2))}), ValueError, r"such as Space\(\(1, 8, 8\), 2\)"),
        (
            lambda: ReceptiveField({"a": parents(1), "b": parents(1, space=Space((1, 3, 3), 2))}),
            ValueError,
            r"one height and width, but these have \[\(3, 3\), \(6, 7\)\]",
        ),
        (lambda: ReceptiveField({"a": parents(1)}, pixel=(6, 0)), ValueError, r"rows are 0..5 .* pixel is \(6, 0\)"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
