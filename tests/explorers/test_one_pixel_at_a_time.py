"""The page's NADE is Python's: its probabilities, its images; and a flipped pixel has consequences only after it."""

import json
import re

import pytest
import torch
from opening import opening

from gencourse import data
from gencourse.autoregressive.made import MADE
from gencourse.autoregressive.nade import NADE
from gencourse.explorers import OnePixelAtATime
from gencourse.explorers.one_pixel_at_a_time import drawn, uniforms
from gencourse.space import Space

SPACE = Space((1, 8, 8), 2)
DRAW = """async ([source, network, draws]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  const draw = module.nade(network);
  return draws.map(({ u, kept }) => { const { x, p } = draw(u, new Map(kept ?? [])); return [Array.from(x), Array.from(p)]; });
}"""


class Backwards(NADE):
    """From the last pixel to the first."""

    @property
    def order(self):
        return torch.arange(self.space.dim).flip(0)


def trained_size(space=SPACE, hidden=50, seed=0, kind=NADE):
    """A NADE with parameters as large as trained ones, so that its probabilities are anywhere in (0, 1)."""
    torch.manual_seed(seed)
    model = kind(space, hidden=hidden)
    with torch.no_grad():
        model.W.normal_(0, 1)
        model.c.normal_(0, 1)
        model.V.normal_(0, 4 / hidden**0.5)
        model.b.normal_(0, 1)
    return model


@pytest.fixture(scope="module")
def model():
    return trained_size()


@pytest.fixture(scope="module")
def explorer(model):
    return OnePixelAtATime(model, data.load("binary_digits").test[:3])


def in_javascript(visit, model, draws):
    source = OnePixelAtATime.module.read_text(encoding="utf-8")
    answers = visit().page.evaluate(DRAW, [source, OnePixelAtATime(model).state["network"], draws])
    return [(torch.tensor(x), torch.tensor(p, dtype=torch.float64)) for x, p in answers]


@pytest.mark.browser
@pytest.mark.parametrize(
    "model",
    [trained_size(), trained_size(Space((1, 28, 28), 2), 20), trained_size(Space((1, 3, 5), 2), 1), trained_size(kind=Backwards)],
    ids=["8x8", "28x28", "3x5 one unit", "backwards"],
)
def test_the_page_draws_pythons_images_with_pythons_probabilities(visit, model):
    n, dim = 10, model.space.dim
    images = model.sample(n, generator=torch.Generator().manual_seed(3))
    u = torch.rand(n, dim, generator=torch.Generator().manual_seed(3))  # the sampler's numbers
    with torch.no_grad():
        p = model.conditionals(images).probs.flatten(1).double()
    assert p.min() < 0.1 and p.max() > 0.9 and images.unique().tolist() == [0, 1]
    for i, (x, probabilities) in enumerate(in_javascript(visit, model, [{"u": row.tolist()} for row in u])):
        assert torch.equal(x, images[i].flatten())
        assert (probabilities - p[i]).abs().max() < 1e-5


@pytest.mark.browser
@pytest.mark.parametrize("kind", [NADE, Backwards])
def test_a_flipped_pixel_changes_nothing_before_it(visit, kind):
    model = trained_size(kind=kind)
    u, order = uniforms(5, SPACE.dim), model.order
    draws = [{"u": u.tolist()}]
    ((x, p),) = in_javascript(visit, model, draws)
    flips = [{"u": u.tolist(), "kept": [[int(i), 1 - int(x[i])]]} for i in order]
    consequences = 0
    for t, (y, q) in enumerate(in_javascript(visit, model, flips)):
        i = int(order[t])
        before, after = order[:t], order[t + 1 :]
        assert y[i] == 1 - x[i]
        assert torch.equal(y[before], x[before]) and torch.equal(q[order[: t + 1]], p[order[: t + 1]])
        assert torch.equal(y[after], (u[after] >= 1 - q[after]).long())  # the same numbers again
        expected, _ = drawn(model, u, {i: 1 - int(x[i])})
        assert torch.equal(y, expected)
        consequences += int((y[after] != x[after]).sum())
    assert consequences > 50  # and it does change much after it


@pytest.mark.browser
def test_the_pages_random_numbers_are_pythons_and_uniform(visit):
    script = """async ([source, seeds, n]) => {
      const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
      return seeds.map((seed) => Array.from(module.uniforms(seed, n)));
    }"""
    seeds = [0, 1, 2**31, 2**32 - 1]
    got = visit().page.evaluate(script, [OnePixelAtATime.module.read_text(encoding="utf-8"), seeds, 200])
    assert got == [uniforms(seed, 200).tolist() for seed in seeds]
    u = uniforms(7, 20_000)
    counts = torch.histc(u, 20, 0, 1)
    chi2 = float(((counts - 1000) ** 2 / 1000).sum())
    assert u.min() >= 0 and u.max() < 1 and chi2 < 43.8  # the 99.9 % point of 19 degrees of freedom


def test_python_draws_what_the_sampler_draws(model):
    u = torch.rand(1, 64, generator=torch.Generator().manual_seed(0))
    x, p = drawn(model, u[0])
    expected = model.sample(1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x, expected.flatten())
    with torch.no_grad():
        assert (p - model.conditionals(expected).probs.flatten()).abs().max() < 1e-5


@pytest.fixture
def opened(visit, explorer, tmp_path):
    with opening(visit, explorer, tmp_path, ".plane") as open_page:
        yield open_page


def cells(page, which=0):
    """The greys of a picture's cells, `(64,)`, read near their corners, where no sign is; -1 where nothing is drawn."""
    values = page.evaluate(
        """(which) => {
          const c = document.querySelector(".gencourse-explorer").shadowRoot.querySelectorAll("canvas")[which];
          const context = c.getContext("2d"), side = c.width / 8;
          return Array.from({ length: 64 }, (_, i) => {
            const at = [Math.floor((i % 8 + 0.25) * side), Math.floor((Math.floor(i / 8) + 0.25) * side)];
            const [r, g, b] = context.getImageData(...at, 1, 1).data;
            return r === g && g === b ? r : -1;
          });
        }""",
        which,
    )
    return torch.tensor(values)


def image(page, n):
    """The first n pixels of the image, and a check that they are black or white and that no other is drawn."""
    shown = cells(page)
    assert set(shown[:n].tolist()) <= {0, 255} and (shown[n:] == -1).all()
    return (shown[:n] == 255).long()


def click(page, pixel):
    box = page.locator(".plane").bounding_box()
    page.mouse.click(box["x"] + box["width"] * (pixel % 8 + 0.5) / 8, box["y"] + box["height"] * (pixel // 8 + 0.5) / 8)


@pytest.mark.browser
def test_the_pictures_the_text_and_the_bar_are_the_models(opened, model):
    seen = opened()
    page, text = seen.page, seen.page.locator("output")
    u = uniforms(0, 64)
    x, p = drawn(model, u)
    assert torch.equal(image(page, 36), x[:36])
    assert (cells(page, 1)[:36] - 255 * p[:36]).abs().max() <= 0.51
    log_p = torch.where(x == 1, p, 1 - p)[:36].log().sum()
    outcome = "white" if x[36] else "black"
    assert text.text_content() == (
        f"36 of 64 pixels drawn, log p = \u2212{-log_p:.2f} nats. Next is row 4, column 4: P(white) = {p[36]:.3f}, "
        f"with u = {u[36]:.3f} it will be {outcome}."
    )
    bar, zero, mark = (page.locator(name).bounding_box() for name in (".bar", ".zero", ".u"))
    assert zero["width"] / bar["width"] == pytest.approx(1 - float(p[36]), abs=0.02)
    assert (mark["x"] + mark["width"] / 2 - bar["x"]) / bar["width"] == pytest.approx(float(u[36]), abs=0.02)
    page.get_by_role("button", name="step").click()
    assert torch.equal(image(page, 37), x[:37])
    for _ in range(2):
        page.get_by_role("button", name="back").click()
    assert torch.equal(image(page, 35), x[:35])
    page.get_by_role("button", name="new noise").click()
    assert torch.equal(image(page, 35), drawn(model, uniforms(1, 64))[0][:35])
    page.get_by_role("button", name="restart").click()
    assert (cells(page) == -1).all() and text.text_content().startswith("0 of 64 pixels drawn, log p = 0.00 nats")
    assert not seen.errors and not seen.elsewhere


@pytest.mark.browser
def test_play_draws_to_the_end_and_the_log_probability_is_the_models(opened, model):
    page = opened().page
    page.get_by_role("combobox", name="Speed").select_option("32 pixels a second")
    page.get_by_role("button", name="play").click()
    assert page.locator("output").get_attribute("aria-live") == "off"
    page.get_by_role("button", name="pause").click()
    page.get_by_role("button", name="play").click()
    page.get_by_text("All 64 pixels are drawn").wait_for(timeout=15_000)
    x = image(page, 64)
    with torch.no_grad():
        expected = float(model.log_prob(x.view(1, *SPACE.shape)))
    assert f"log p = \u2212{-expected:.2f} nats" in page.locator("output").text_content()
    assert page.get_by_role("button", name="play").is_visible()  # no longer "pause"
    assert page.locator("output").get_attribute("aria-live") == "polite"


@pytest.mark.browser
def test_a_click_flips_a_pixel_and_the_rest_follows(opened, model):
    page, u = opened().page, uniforms(0, 64)
    x, _ = drawn(model, u)
    flipped = [drawn(model, u, {i: 1 - int(x[i])})[0] for i in range(20)]
    i = max(range(20), key=lambda i: int((flipped[i] != x)[:36].sum()))  # the one with most consequences
    once, kept = flipped[i], {i: 1 - int(x[i])}
    changed = int((once != x)[i + 1 : 36].sum())
    assert changed > 2
    click(page, i)
    assert torch.equal(image(page, 36), once[:36]) and torch.equal(once[:i], x[:i])
    assert page.locator(".events").text_content() == (
        f"Flipped row {i // 8}, column {i % 8} to {'black' if x[i] else 'white'}: "
        f"{changed} of the {35 - i} pixels drawn after it changed."
    )
    click(page, 30)
    twice = drawn(model, u, kept | {30: 1 - int(once[30])})[0][:36]
    assert torch.equal(image(page, 36), twice)
    click(page, 40)  # not drawn yet
    assert torch.equal(image(page, 36), twice)
    click(page, 25)  # what was flipped later was flipped in another image
    assert torch.equal(image(page, 36), drawn(model, u, kept | {25: 1 - int(once[25])})[0][:36])
    click(page, i)  # back again, and everything with it
    assert torch.equal(image(page, 36), x[:36])
    assert page.locator(".events").text_content() == ""


@pytest.mark.browser
def test_a_test_image_is_completed(opened, model):
    page, digits = opened().page, data.load("binary_digits")
    given = digits.test[1].flatten()
    page.get_by_role("combobox", name="What the image begins with").select_option("begin with half of test image 2")
    assert torch.equal(image(page, 32), given[:32])
    for _ in range(4):
        page.get_by_role("button", name="step").click()
    kept = dict(enumerate(given[:32].tolist()))
    assert torch.equal(image(page, 36), drawn(model, uniforms(0, 64), kept)[0][:36])
    page.get_by_role("button", name="new noise").click()
    assert torch.equal(image(page, 36), drawn(model, uniforms(1, 64), kept)[0][:36])
    click(page, 5)
    kept[5] = 1 - kept[5]
    assert torch.equal(image(page, 36), drawn(model, uniforms(1, 64), kept)[0][:36])


@pytest.mark.browser
def test_the_keyboard_alone_suffices(opened, model):
    page, u = opened().page, uniforms(0, 64)
    x, _ = drawn(model, u)
    focus = "document.activeElement.shadowRoot.activeElement"
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focus}.className") == "plane"
    for key in ("ArrowUp", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    colour = "white" if x[10] else "black"
    assert f"at row 1, column 2: {colour}. The arrow keys" in page.locator(".plane").get_attribute("aria-label")
    assert page.locator(".cursor").is_visible()
    page.keyboard.press("Enter")
    assert torch.equal(image(page, 36), drawn(model, u, {10: 1 - int(x[10])})[0][:36])
    page.keyboard.press(" ")
    assert torch.equal(image(page, 36), x[:36])
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate(f"{focus}.textContent") == "step"
    page.keyboard.press("Enter")
    page.keyboard.press(" ")
    assert torch.equal(image(page, 38), x[:38])


@pytest.mark.browser
def test_a_finger_works_on_a_phone_in_the_dark(opened, model):
    page = opened(width=390, height=844, dark=True, touch=True).page
    x, _ = drawn(model, uniforms(0, 64))
    box = page.locator(".plane").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 2.5 / 8, box["y"] + box["height"] * 1.5 / 8)
    assert image(page, 36)[10] == 1 - x[10]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    buttons = [button.bounding_box() for button in page.get_by_role("button").all()]
    assert all(b["height"] >= 24 and b["width"] >= 24 and b["x"] + b["width"] <= 390 for b in buttons)  # WCAG 2.2, 2.5.8
    assert max(b["y"] + b["height"] for b in buttons) <= 844  # in view together with the picture


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="1600"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.locator(".plane").nth(1).wait_for()
    frame.get_by_role("button", name="step").nth(1).click()
    first, second = frame.locator("output").all_text_contents()
    assert first.startswith("36 of 64") and second.startswith("37 of 64")
    assert not seen.errors


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer, model):
    bundle = explorer._repr_mimebundle_()
    assert bundle == OnePixelAtATime(model, data.load("binary_digits").test[:3])._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    key = re.search(r'<div id="(one_pixel_at_a_time-[0-9a-f]{16})"', bundle["text/html"])
    assert key and key[1] not in OnePixelAtATime(model, seed=1).to_html()
    assert bundle["text/html"].count("</script>") == 1
    assert len(bundle["text/html"]) < 80_000
    assert json.loads(json.dumps(explorer.state)) == explorer.state


def test_the_widget_starts_from_the_same_state_and_python_sees_what_is_done(explorer):
    widget = explorer.widget()
    assert widget.network == explorer.state["network"] and (widget.drawn, widget.flips) == (36, [])
    widget.set_state({"drawn": 40, "flips": [3]})  # what the browser sends
    assert (widget.drawn, widget.flips) == (40, [3])
    assert "export default { render }" in widget._esm


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: OnePixelAtATime(MADE(SPACE)), TypeError, "needs a NADE, .* not MADE"),
        (
            lambda: OnePixelAtATime(NADE(Space((1, 8, 8), 17), hidden=2)),
            ValueError,
            "grey images on two levels, but .* levels=17",
        ),
        (lambda: OnePixelAtATime(NADE(Space((3, 2, 2), 2), hidden=2)), ValueError, "grey images on two levels"),
        (
            lambda: OnePixelAtATime(NADE(SPACE, hidden=2), torch.zeros(2, 8, 8).long()),
            ValueError,
            r"a batch of shape \(B, 1, 8, 8\)",
        ),
        (lambda: OnePixelAtATime(NADE(SPACE, hidden=2), torch.zeros(21, 1, 8, 8).long()), ValueError, "at most 20 images"),
        (lambda: OnePixelAtATime(NADE(SPACE, hidden=2), seed=-1), ValueError, "seed must be in 0"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
