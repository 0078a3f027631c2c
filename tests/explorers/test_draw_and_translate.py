"""The page's U-Net is the library's, what it reads off is what the library's reader reads, and one can draw in every way."""

import json
import re

import pytest
import torch
from chromium import serve
from opening import assert_draws_no_random_number, opening

from gencourse.adversarial.gan import GAN
from gencourse.adversarial.pix2pix import Pix2Pix
from gencourse.data.scenes import outlines_to_filled
from gencourse.explorers import DrawAndTranslate
from gencourse.explorers.draw_and_translate import trained_on_stripes, two_levels
from gencourse.explorers.rate_and_distortion import normals
from gencourse.metrics.scenes import striped
from gencourse.space import Space

GREY, LINES = Space((1, 16, 16), 256), Space((1, 16, 16), 2)
SCRIPT = """async ([source, networks, drawings, z]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  return Object.fromEntries(Object.entries(networks).map(([name, parts]) => {
    const fill = module.unet(parts);
    return [name, drawings.map((text, i) => [...fill(z[i], Array.from(text, (v) => 2 * v - 1))])];
  }));
}"""
READ = """async ([source, pictures, masks, drawings, width]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  return [
    pictures.map((values, i) => module.striped(values, masks[i], width)),
    drawings.map((drawing) => [...module.inside(drawing, width)]),
  ];
}"""


def made(gan=1.0, *, source=LINES, space=GREY, **options):
    """A model with weights that let everything be felt, the norms and the noise too."""
    torch.manual_seed(int(gan))
    model = Pix2Pix(space, source=source, gan=gan, **{"widths": (4, 6, 5), "latent": 3} | options)
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.normal_(0, 0.4)
    return model


@pytest.fixture(scope="module")
def outlines():
    return two_levels(outlines_to_filled(16, fill="stripes").test_labels[:8])


@pytest.fixture(scope="module")
def explorer(outlines):
    return DrawAndTranslate(made(0.0), made(), outlines)


@pytest.mark.browser
@pytest.mark.parametrize(("widths", "latent"), [((4, 6, 5), 3), ((5, 3), 1)])
def test_the_page_fills_in_as_python_does(visit, outlines, widths, latent):
    models = {"l1": made(0.0, widths=widths, latent=latent), "gan": made(widths=widths, latent=latent)}
    explorer = DrawAndTranslate(*models.values(), outlines)
    z = normals(3, 8 * latent).view(8, latent)
    got = visit().page.evaluate(SCRIPT, [explorer.source(), explorer.state["networks"], explorer.state["outlines"], z.tolist()])
    for name, model in models.items():
        y = torch.tensor(got[name], dtype=torch.float64).view(8, 1, 16, 16)
        expected = 2 * explorer.filled(name, outlines, z) - 1
        assert (y - expected).abs().max() < 1e-9
        with torch.no_grad():  # but for rounding to float16 it is the library's
            library = model.generator(z.float(), GREY.to_signed(255 * outlines))
        assert (y - library).abs().mean() < 0.02
        other = explorer.filled(name, outlines, -z)
        assert expected.std() > 0.1 and (2 * other - 1 - expected).abs().mean() > 0.001


@pytest.mark.browser
def test_the_page_reads_stripes_as_the_library_does_and_finds_the_inside(visit):
    from gencourse.data.scenes import cover, grid, signed_distance

    pairs = outlines_to_filled(16, fill="stripes", n=400)
    scenes, generator = pairs.test_scenes, torch.Generator().manual_seed(0)
    blurred = (pairs.test + 60 * torch.randn(pairs.test.shape, generator=generator)).clamp(0, 255).round().long()
    line = grid(16)
    shape, half, x, y = (getattr(scenes, name).view(-1, 1, 1, 1) for name in ("shape", "size", "x", "y"))
    within = cover(signed_distance(shape, half, line - x, line.unsqueeze(1) - y), 16) == 1
    ring = torch.zeros(16, 16, dtype=torch.long)
    ring[3, 3:9] = ring[8, 3:9] = ring[3:9, 3] = ring[3:9, 8] = 1
    gap, corner = ring.clone(), ring.clone()
    gap[8, 5] = 0
    corner[3, 3] = 0  # lines that touch at a corner only are closed
    drawings = [d.flatten().tolist() for d in (ring, gap, corner, torch.zeros(16, 16, dtype=torch.long))]
    pictures = (blurred.flatten(1) / 255).tolist()
    shares, inner = visit().page.evaluate(
        READ, [DrawAndTranslate.source(), pictures, within.flatten(1).int().tolist(), drawings, 16]
    )
    best = torch.tensor(shares, dtype=torch.float64).amax(1)
    expected = striped(blurred, scenes).inside.double()
    assert (best - expected).abs().max() < 1e-6 and 0.2 < expected.mean() < 0.95
    square = torch.zeros(16, 16, dtype=torch.long)
    square[4:8, 4:8] = 1
    assert inner[0] == square.flatten().tolist() and not sum(inner[1]) and not sum(inner[3])
    assert inner[2] == square.flatten().tolist()


def test_the_weights_that_come_with_the_package_stripe_the_inside_against_a_discriminator_only():
    l1, gan, run = trained_on_stripes()
    pairs = outlines_to_filled(16, fill="stripes")
    context = two_levels(pairs.test_labels)
    inside, movement = [], []
    for model, said in zip((l1, gan), run["share of the inside that is striped"], strict=True):
        x = model.sample(len(context), context, generator=torch.Generator().manual_seed(1))
        filled = striped(x, pairs.test_scenes)
        inside.append(float(filled.inside.double().mean()))
        assert inside[-1] == pytest.approx(said, abs=0.02)
        assert filled.ground.mean() > 0.97
        movement.append(float(model.variety(context[:6], draws=8, generator=torch.Generator().manual_seed(2)).movement.mean()))
    assert inside[0] < 0.6 and inside[1] > 0.7
    assert max(movement) < 0.03  # of 2: the noise hardly matters
    assert (l1.gan, gan.gan) == (0.0, 1.0) == tuple(run["gan"])


def test_loading_the_weights_draws_no_random_number():
    assert_draws_no_random_number(trained_on_stripes)


@pytest.fixture
def opened(visit, explorer, tmp_path):
    with opening(visit, explorer, tmp_path, ".plane") as open_page:
        yield open_page


def pixels(page, which):
    """The grey of each pixel of a picture, in its middle, 0 to 255."""
    values = page.evaluate(
        """(which) => {
          const c = document.querySelector(".gencourse-explorer").shadowRoot.querySelectorAll("canvas")[which];
          const context = c.getContext("2d"), side = c.width / 16;
          return Array.from({ length: 256 }, (_, i) => {
            const at = [Math.floor((i % 16 + 0.5) * side), Math.floor((Math.floor(i / 16) + 0.5) * side)];
            return context.getImageData(...at, 1, 1).data[0];
          });
        }""",
        which,
    )
    return torch.tensor(values, dtype=torch.float64).view(1, 16, 16)


def shows(page, explorer, drawing, network="gan", seed=0):
    """The page has the drawing, and beside it what Python makes of it with the noise of the seed."""
    assert torch.equal(pixels(page, 0), 255.0 * drawing)
    expected = 255 * explorer.filled(network, drawing[None], normals(seed, 3)[None])[0]
    assert (pixels(page, 1) - expected).abs().max() < 0.51
    return True


def centre(page, row, column):
    box = page.locator(".plane").bounding_box()
    return box["x"] + box["width"] * (column + 0.5) / 16, box["y"] + box["height"] * (row + 0.5) / 16


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


@pytest.mark.browser
def test_what_is_drawn_with_the_mouse_is_filled_in_at_once(opened, explorer, outlines):
    seen = opened()
    page, told = seen.page, seen.page.locator("output")
    assert shows(page, explorer, outlines[0])
    press(page, "clear")
    drawing = torch.zeros(1, 16, 16, dtype=torch.long)
    assert shows(page, explorer, drawing) and told.text_content().startswith("Nothing is drawn yet.")
    page.mouse.move(*centre(page, 4, 3))
    page.mouse.down()
    for row, column in ((4, 10), (11, 10), (11, 3)):  # in jumps: no gap
        page.mouse.move(*centre(page, row, column))
    page.mouse.up()
    drawing[0, 4, 3:11] = drawing[0, 11, 3:11] = drawing[0, 4:12, 10] = 1
    assert shows(page, explorer, drawing)
    assert told.text_content().startswith("22 pixels of line, and nothing inside: the line is not closed.")
    page.mouse.move(*centre(page, 11, 3))
    page.mouse.down()
    page.mouse.move(*centre(page, 4, 3))
    page.mouse.up()
    drawing[0, 4:12, 3] = 1
    assert shows(page, explorer, drawing) and told.text_content().startswith("28 pixels of line, 36 inside.")
    page.get_by_role("radio", name="rubber").check()
    page.mouse.click(*centre(page, 4, 5))
    drawing[0, 4, 5] = 0
    assert shows(page, explorer, drawing)
    assert not seen.errors and not seen.elsewhere


@pytest.mark.browser
def test_networks_noise_and_outlines_are_chosen_and_what_noise_does_is_told(opened, explorer, outlines):
    page = opened().page
    page.get_by_role("combobox", name="Outline to begin with").select_option("test outline 3")
    assert shows(page, explorer, outlines[2])
    page.get_by_role("radio", name="L1 alone").check()
    assert shows(page, explorer, outlines[2], "l1") and page.get_by_text("Filled in: L1 alone").is_visible()
    before = pixels(page, 1)
    press(page, "new noise")
    assert shows(page, explorer, outlines[2], "l1", seed=1)
    change = (pixels(page, 1) - before).abs()
    said = re.search(r"by ([\d.]+) of 255 grey levels on average, by (\d+) at most", page.locator("output").text_content())
    assert float(said[1]) == pytest.approx(float(change.mean()), abs=0.051) and int(said[2]) == int(change.max())
    assert ("hardly matters" in page.locator("output").text_content()) == bool(change.mean() < 2.5)


@pytest.mark.browser
def test_the_noise_of_the_trained_networks_hardly_matters_in_the_page(visit, tmp_path):
    DrawAndTranslate().save(tmp_path / "draw.html")
    with serve(tmp_path) as address:
        page = visit().page
        page.goto(address + "draw.html")
        for name in ("L1 + GAN", "L1 alone"):
            page.get_by_role("radio", name=name).check()
            press(page, "new noise")
            assert "The noise hardly matters" in page.locator("output").text_content()


@pytest.mark.browser
def test_the_keyboard_alone_suffices(opened, explorer):
    page = opened().page
    press(page, "clear")
    page.locator(".plane").focus()
    drawing = torch.zeros(1, 16, 16, dtype=torch.long)
    for key in ("ArrowUp", "ArrowLeft", "Enter", "ArrowLeft", " "):
        page.keyboard.press(key)
    drawing[0, 7, 6:8] = 1
    assert shows(page, explorer, drawing)
    assert "at row 7, column 6: line" in page.locator(".plane").get_attribute("aria-label")
    page.keyboard.press("Delete")
    drawing[0, 7, 6] = 0
    assert shows(page, explorer, drawing)
    page.keyboard.press("Home")
    assert "at row 8, column 8: empty" in page.locator(".plane").get_attribute("aria-label")


def stroke(page, touch, cells):
    for i, cell in enumerate([*cells, None]):
        points = [] if cell is None else [dict(zip("xy", centre(page, *cell), strict=True))]
        kind = "touchStart" if not i else "touchEnd" if cell is None else "touchMove"
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


@pytest.mark.browser
def test_a_finger_works_on_a_phone_in_the_dark(opened, explorer):
    page = opened(width=390, height=844, dark=True, touch=True).page
    press(page, "clear")
    touch = page.context.new_cdp_session(page)
    stroke(page, touch, [(3, 4), (3, 8), (9, 8)])  # sideways first
    drawing = torch.zeros(1, 16, 16, dtype=torch.long)
    drawing[0, 3, 4:9] = drawing[0, 3:10, 8] = 1
    assert shows(page, explorer, drawing)
    page.get_by_role("checkbox", name="a finger draws up and down too").check()
    stroke(page, touch, [(3, 2), (5, 2), (9, 2)])
    drawing[0, 3:10, 2] = 1
    assert shows(page, explorer, drawing) and page.evaluate("scrollY") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    controls = [c.bounding_box() for c in page.locator("button, select, .group label, label.whole").all()]
    assert all(b["height"] >= 24 and b["width"] >= 24 and b["x"] + b["width"] <= 390 for b in controls)
    for canvas in page.locator("canvas").all():
        box = canvas.bounding_box()
        assert box["y"] + box["height"] <= 844  # in view together with the controls


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="2000"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.locator(".plane").nth(1).wait_for()
    frame.get_by_role("button", name="clear").nth(1).click()
    first, second = frame.locator("output").all_text_contents()
    assert "inside" in first and second.startswith("Nothing is drawn yet.")
    assert not seen.errors


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer, outlines):
    bundle = explorer._repr_mimebundle_()
    assert bundle == DrawAndTranslate(made(0.0), made(), outlines)._repr_mimebundle_()
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    assert bundle["text/html"].count("</script>") == 1
    assert json.loads(json.dumps(explorer.state)) == explorer.state


def test_the_explorer_of_the_book_fits_a_page():
    explorer = DrawAndTranslate()
    assert len(explorer.to_html()) < 250_000
    assert explorer.state["outlines"][0] == explorer.state["drawing"] and len(explorer.state["outlines"]) == 8
    assert len(set(explorer.state["outlines"])) == 8


def test_the_widget_starts_from_the_same_state_and_python_sees_what_is_drawn(explorer):
    widget = explorer.widget()
    assert (widget.network, widget.seed, widget.drawing) == ("gan", 0, explorer.state["drawing"])
    widget.set_state({"drawing": "1" * 256})  # what the browser sends
    assert widget.drawing == "1" * 256


def test_the_model_stays_as_it_was(outlines):
    model = made()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    DrawAndTranslate(model, model, outlines)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in model.parameters())


COLOUR, WIDE = Space((3, 16, 16), 256), Space((1, 16, 24), 2)


@pytest.mark.parametrize(
    ("models", "options", "error", "message"),
    [
        (lambda: (made(),), {}, ValueError, "needs two models, or none"),
        (lambda: (made(), GAN(GREY, latent=2)), {}, TypeError, "models of the class Pix2Pix, not GAN"),
        (lambda: (made(), made(latent=2)), {}, ValueError, "two models from black and white to grey"),
        (lambda: (made(space=COLOUR),) * 2, {}, ValueError, "two models from black and white to grey"),
        (lambda: (made(source=GREY),) * 2, {}, ValueError, "two models from black and white to grey"),
        (lambda: (made(space=Space((1, 16, 24), 256), source=WIDE),) * 2, {}, ValueError, "16, 32, ... pixels wide, not 24"),
        (lambda: (made(), made()), {"outlines": torch.zeros(0, 1, 16, 16).long()}, ValueError, "at least one outline"),
        (lambda: (made(), made()), {"outlines": torch.zeros(1, 1, 8, 8).long()}, ValueError, r"a batch of shape"),
    ],
)
def test_mistakes_are_named(models, options, error, message):
    with pytest.raises(error, match=message):
        DrawAndTranslate(*models(), **options)
