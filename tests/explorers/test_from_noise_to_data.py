"""The page takes the library's steps from noise to data, with the same numbers; what it tells is what Python computes."""

import copy
import json
import re

import pytest
import torch
from chromium import serve
from opening import assert_draws_no_random_number

from gencourse import data
from gencourse.adversarial.gan import GAN
from gencourse.data.toys import Checkerboard
from gencourse.diffusion import samplers
from gencourse.diffusion.ddpm import DDPM
from gencourse.diffusion.samplers import DDIM, Ancestral, levels
from gencourse.diffusion.schedule import V
from gencourse.explorers import FromNoiseToData
from gencourse.explorers.from_noise_to_data import as_sent, packed, trained
from gencourse.explorers.rate_and_distortion import normals
from gencourse.space import Space

IMAGES = Space((1, 4, 6), 5)
SCRIPT = """async ([source, sent, x, labels, weight, steps, sampler, numbers]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  const stream = numbers[Symbol.iterator](), normal = () => stream.next().value;
  const given = { x: x.map((v) => Float64Array.from(v)), labels, weight, steps, sampler, normal };
  const lists = (list) => list.map((v) => [...v]);
  return [...module.walk(module.denoiser(sent), given)].map(({ t, x, x0 }) => ({ t, x: lists(x), x0: lists(x0) }));
}"""


def made(space=IMAGES, classes=3, seed=0, **options):
    """A model that is sure of something: the last layer of a new one says next to nothing."""
    torch.manual_seed(seed)
    settings = {"steps": 40, "hidden": 20, "blocks": 2, "classes": classes, **options}
    model = DDPM(space, **settings)
    with torch.no_grad():
        model.network.last[2].weight.mul_(40)
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def points(**options):
    return made(Space((2,)), None, frequencies=4, scale=2.3, **options)


@pytest.fixture(scope="module")
def explorer():
    return FromNoiseToData(points(), made(), count=20, steps=6)


def walked(model, x, labels, weight, sampler, numbers, monkeypatch):
    """The library's states and guesses, with these Gaussian numbers in place of a generator's."""
    monkeypatch.setattr(
        samplers, "_noise", lambda x, generator: torch.stack([next(numbers) for _ in range(x.numel())]).view_as(x)
    )
    sent = as_sent(model)
    eps, found = sent.denoiser(labels, len(x), guidance=weight), []
    path = [(sent.schedule.T, x), *sampler.path(eps, sent.schedule, x)]
    for t, x in path:
        x0 = samplers._parts(eps, sent.schedule, x, t)[0] if t else x
        found.append((t, x, x0))
    return found


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["DDIM", "ancestral"])
@pytest.mark.parametrize(
    ("which", "labels", "weight", "steps"),
    [
        ("points", None, 1.0, 7),
        ("images", [0, 2, 1], 1.0, 40),
        ("images", [0, 2, 1], 2.5, 9),
        ("images", [1, 1, 1], 0.0, 2),
        ("images", None, 3.0, 5),
        ("shipped points", None, 1.0, 20),
        ("shipped digits", [4, 7, 0], 1.5, 20),
    ],
)
def test_the_page_takes_the_steps_of_the_library_with_its_numbers(visit, monkeypatch, which, labels, weight, steps, kind):
    model = {"points": points, "images": made}[which]() if "shipped" not in which else trained()[which.endswith("digits")]
    dim, g = model.space.dim, torch.Generator().manual_seed(3)
    x = torch.randn(3, *model.space.shape, generator=g, dtype=torch.float64)
    numbers = torch.randn(3 * dim * steps, generator=g, dtype=torch.float64)
    context = None if labels is None else torch.tensor(labels)
    sampler = DDIM(steps) if kind == "DDIM" else Ancestral(steps)
    here = walked(model, x, context, weight, sampler, iter(numbers), monkeypatch)
    given = [x.flatten(1).tolist(), labels or [-1] * 3, weight, steps, kind, numbers.tolist()]
    source = FromNoiseToData(points(), made()).source()
    there = visit().page.evaluate(SCRIPT, [source, packed(as_sent(model)), *given])
    assert len(there) == len(here) == steps + 1
    for page, (t, state, guess) in zip(there, here, strict=True):
        assert page["t"] == t
        for key, value in (("x", state), ("x0", guess)):
            told = torch.tensor(page[key], dtype=torch.float64)
            assert (told - value.flatten(1)).abs().max() < 1e-7 * max(1.0, float(value.abs().max()))
    assert (here[-1][1] - x).abs().max() > 0.1  # it went somewhere


def test_the_shipped_models_draw_what_they_should():
    """Points on the dark squares, half of the board; digits of the classes asked for, by the nearest mean image."""
    board, digits, runs = trained()
    g = torch.Generator().manual_seed(0)
    dark = torch.isfinite(Checkerboard().log_prob(board.sample(1000, generator=g, sampler=DDIM(20))))
    assert dark.double().mean() > 0.75  # .84 was measured
    known, labels = data.load("digits"), torch.arange(10).repeat(20)
    means = torch.stack([known.train[known.train_labels == k].flatten(1).double().mean(0) for k in range(10)])
    nearest = lambda x: torch.cdist(x.flatten(1).double(), means).argmin(1)  # noqa: E731
    drawn = digits.sample(200, labels, generator=g, sampler=DDIM(20), guidance=1.5)
    assert (nearest(drawn) == labels).double().mean() > 0.85
    assert (runs["points"]["data"], runs["digits"]["data"]) == ("Checkerboard", "digits")
    assert runs["digits"]["parameters"] == sum(p.numel() for p in digits.parameters())


def test_loading_the_weights_draws_no_random_number():
    assert_draws_no_random_number(trained)


@pytest.fixture
def opened(visit, explorer, tmp_path):
    explorer.save(tmp_path / "noise.html")
    with serve(tmp_path) as address:

        def open_page(**options):
            seen = visit(**options)
            seen.page.goto(address + "noise.html")
            settled(seen.page)
            return seen

        yield open_page


def settled(page):
    page.locator(".frame:not([aria-busy])").wait_for()


def expected(at, steps, sampler, monkeypatch, *, images=False, label=None, weight=1.5, seed=0):
    """What the page should tell."""
    model = made() if images else points()
    n, dim = (3, model.space.dim) if images else (20, 2)
    numbers = normals(seed, n * dim * (steps + 1))
    x = numbers[: n * dim].view(n, *model.space.shape)
    labels = torch.arange(3) if label == "each" else None if label is None else torch.full((n,), label)
    path = walked(model, x, labels, weight, sampler(steps), iter(numbers[n * dim :]), monkeypatch)
    t, x, x0 = path[at]
    signal, noise = (float(v) for v in model.schedule.amounts(float(t), torch.zeros((), dtype=torch.float64)))
    times = at * (2 if labels is not None and weight != 1 else 1)
    lines = [
        f"Step {at} of {steps}: t = {t} of 40. x\u209c is {signal:.2f} times data and {noise:.2f} times noise; so far {times} "
        f"evaluation{'s'[: times != 1]} of the network for each example."
    ]
    if not images:
        dark = [100 * float(torch.isfinite(Checkerboard().log_prob(2.3 * v)).double().mean()) for v in (x, x0)]
        lines.append(f"On the shaded squares lie {dark[0]:.0f} % of the states, and {dark[1]:.0f} % of the guesses.")
    if t == 0:
        lines.append("This is the end: the last guess itself.")
    else:
        off = [(1 if images else 2.3) * float((v - path[-1][1]).square().mean().sqrt()) for v in (x0, x)]
        lines.append(
            f"The guess is still {off[0]:.2f} away from what comes out in the end, the state {off[1]:.2f} (root mean square)."
        )
    return "".join(lines)


@pytest.mark.browser
def test_what_is_told_of_points_is_python_s(opened, monkeypatch):
    seen = opened()
    page, told = seen.page, seen.page.locator("output")
    assert told.text_content() == expected(0, 6, DDIM, monkeypatch)
    page.get_by_role("button", name="a step on").click()
    assert told.text_content() == expected(1, 6, DDIM, monkeypatch)
    time = page.get_by_role("slider", name="Time, from noise to data")
    time.focus()
    page.keyboard.press("End")
    assert told.text_content() == expected(6, 6, DDIM, monkeypatch)
    page.get_by_role("radio", name="ancestral").check()
    settled(page)
    page.get_by_role("button", name="a step back").click()
    assert told.text_content() == expected(5, 6, Ancestral, monkeypatch)
    page.get_by_role("slider", name="steps").fill("12")  # time stays where it was
    settled(page)
    assert told.text_content() == expected(10, 12, Ancestral, monkeypatch)
    page.get_by_role("button", name="new noise").click()
    settled(page)
    assert told.text_content() == expected(10, 12, Ancestral, monkeypatch, seed=1)
    assert not seen.errors and not seen.elsewhere


def greys(page, which):
    """The greys of the images in a picture of three digits side by side, and of the column between two."""
    return (
        page.locator("canvas:visible")
        .nth(which)
        .evaluate(
            """(c) => {
          const context = c.getContext("2d"), side = c.height / 4, found = [];
          const dot = (v) => Math.floor((v + 0.5) * side);
          const at = (i, j) => context.getImageData(dot(j), dot(i), 1, 1).data[0] / 255;
          for (let n = 0; n < 3; n++) for (let i = 0; i < 4; i++) for (let j = 0; j < 6; j++) found.push(at(i, 7 * n + j));
          return found;
        }"""
        )
    )


@pytest.mark.browser
def test_what_is_told_and_drawn_of_digits_is_python_s(opened, monkeypatch):
    page = opened().page
    told = page.locator("output")
    page.get_by_role("radio", name="digits").check()
    settled(page)
    page.get_by_role("slider", name="Time, from noise to data").fill("4")
    assert told.text_content() == expected(4, 6, DDIM, monkeypatch, images=True, label="each")
    path = walked(made(), normals(0, 72).view(3, 1, 4, 6), torch.arange(3), 1.5, DDIM(6), None, monkeypatch)
    for which in (0, 1):
        shown = torch.tensor(greys(page, which), dtype=torch.float64)
        assert (shown - ((path[4][1 + which].flatten() + 1) / 2).clamp(0, 1)).abs().max() < 0.003
    page.get_by_role("slider", name="guidance w").fill("1")
    settled(page)
    assert told.text_content() == expected(4, 6, DDIM, monkeypatch, images=True, label="each", weight=1.0)
    page.get_by_role("combobox", name="Class of the digits").select_option("class 2")
    settled(page)
    assert told.text_content() == expected(4, 6, DDIM, monkeypatch, images=True, label=2, weight=1.0)
    page.get_by_role("combobox", name="Class of the digits").select_option("no label")
    settled(page)
    assert told.text_content() == expected(4, 6, DDIM, monkeypatch, images=True)
    assert not page.get_by_role("slider", name="guidance w").is_visible()


@pytest.mark.browser
def test_it_plays_to_the_end_and_begins_again(opened, monkeypatch):
    page = opened().page
    page.get_by_role("button", name="play").click()
    page.locator("output", has_text="This is the end").wait_for()
    page.get_by_role("button", name="play").wait_for()
    page.get_by_role("button", name="play").click()
    page.locator("output", has_text=re.compile("^Step 1 of 6")).wait_for()
    page.get_by_role("button", name="pause").click()
    assert "Step 6" not in page.locator("output").text_content()


@pytest.mark.browser
def test_the_keyboard_alone_suffices(opened):
    page = opened().page
    names = []
    for _ in range(8):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate("(e => e.ariaLabel || e.value || e.textContent)(document.activeElement.shadowRoot.activeElement)")
        )
    assert names == ["points", "DDIM", "steps", "play", "a step back", "a step on", "new noise", "Time, from noise to data"]
    page.keyboard.press("ArrowRight")
    assert page.locator("output").text_content().startswith("Step 1 of 6")


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["points", "digits"])
def test_a_finger_works_on_a_phone_in_the_dark(opened, kind):
    page = opened(width=390, height=844, dark=True, touch=True).page
    page.get_by_role("radio", name=kind).tap()
    settled(page)
    page.get_by_role("button", name="a step on").tap()
    assert page.locator("output").text_content().startswith("Step 1 of 6")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    controls = [c.bounding_box() for c in page.locator("button, select, input[type=range], .group label").all() if c.is_visible()]
    assert all(b["height"] >= 24 and b["width"] >= 24 and b["x"] + b["width"] <= 390 for b in controls)  # WCAG 2.2, 2.5.8
    last = page.locator("canvas:visible").last.bounding_box()
    assert last["y"] + last["height"] <= 844  # in view together with the controls


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="2400"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.get_by_role("button", name="a step on").nth(1).click()
    assert [text[:6] for text in frame.locator("output").all_text_contents()] == ["Step 0", "Step 1"]
    assert not seen.errors


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle == FromNoiseToData(points(), made(), count=20, steps=6)._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    assert re.search(r'<div id="(from_noise_to_data-[0-9a-f]{16})"', bundle["text/html"])
    assert bundle["text/html"].count("</script>") == 1
    assert json.loads(json.dumps(explorer.state)) == explorer.state


def test_the_chapter_s_is_small():
    explorer = FromNoiseToData()
    assert len(explorer.to_html()) < 500_000
    assert explorer.state["most"] == 100 and explorer.state["models"]["digits"]["classes"] == 10


@pytest.mark.browser
def test_the_levels_are_the_library_s(visit):
    script = """async ([source, pairs]) => {
      const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
      return pairs.map(([T, steps]) => module.levels(T, steps));
    }"""
    pairs = [(200, 2), (200, 7), (100, 33), (100, 100), (5, 3)]
    source = FromNoiseToData(points(), made()).source()
    assert visit().page.evaluate(script, [source, pairs]) == [levels(*pair) for pair in pairs]


def test_the_widget_starts_from_the_same_state_and_python_sees_what_is_done(explorer):
    widget = explorer.widget()
    assert (widget.data, widget.sampler, widget.steps, widget.at) == ("points", "DDIM", 6, 0)
    widget.set_state({"data": "digits", "label": 3, "weight": 2.0})  # what the browser sends
    assert (widget.data, widget.label, widget.weight) == ("digits", 3, 2.0)


def test_the_models_stay_as_they_were():
    model = points()
    before = copy.deepcopy(model.state_dict())
    FromNoiseToData(model, made())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FromNoiseToData(GAN(Space((2,))), made()), TypeError, "needs a DDPM, not GAN"),
        (lambda: FromNoiseToData(points(predicts=V), made()), TypeError, "that predicts the noise"),
        (lambda: FromNoiseToData(made(), made()), ValueError, "points must be a model of points"),
        (lambda: FromNoiseToData(points(), points()), ValueError, "digits must be a model of grey images"),
        (lambda: FromNoiseToData(points(), made(classes=None)), ValueError, "with classes"),
        (lambda: FromNoiseToData(points(), made(), steps=41), ValueError, r"steps must be in 2\.\.40"),
        (lambda: FromNoiseToData(points(), made(), seed=-1), ValueError, "seed in 0"),
        (lambda: as_sent(DDPM(IMAGES, network=torch.nn.Identity())), TypeError, "a ResidualMLP"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
