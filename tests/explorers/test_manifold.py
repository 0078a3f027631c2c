"""The page draws what Python's decoder says, and follows the mouse, a finger and the keyboard."""

import json
import re

import pytest
import torch
from opening import opening
from torch import nn

from gencourse import data
from gencourse.explorers import Manifold
from gencourse.explorers.base import pack
from gencourse.explorers.manifold import TOLERANCE
from gencourse.space import Space
from gencourse.train import fit
from gencourse.variational.vae import VAE

IMPORT = """async ([source, network, zs]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  const decode = module.decoder(network);
  return zs.map((z) => Array.from(decode(z)));
}"""


def trained_size(space, hidden, seed=0, **options):
    """A VAE whose weights are as large as trained ones, so that rounding them shows as it does in the book."""
    torch.manual_seed(seed)
    model = VAE(space, latent=2, hidden=hidden, **options)
    with torch.no_grad():
        for layer in model.decoder:
            if isinstance(layer, nn.Linear):
                layer.weight.normal_(0, 1.7 / layer.in_features**0.5)
                layer.bias.normal_(0, 0.5)
    return model


@pytest.fixture(scope="module")
def digits_vae():
    digits = data.load("binary_digits")
    torch.manual_seed(0)
    model = VAE(digits.space, latent=2, hidden=(64, 64))
    fit(model, digits, steps=300, batch_size=100, lr=3e-3, seed=0, progress=False)
    return model


@pytest.fixture(scope="module")
def explorer(digits_vae):
    digits = data.load("binary_digits")
    return Manifold(digits_vae, points=digits_vae.encode(digits.test).mean, labels=digits.test_labels)


def in_javascript(visit, explorer, z):
    page = visit().page
    source = explorer.module.read_text(encoding="utf-8")
    return torch.tensor(page.evaluate(IMPORT, [source, explorer.state["network"], z.tolist()]), dtype=torch.float64)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("space", "hidden", "options"),
    [
        (Space((1, 8, 8), 2), (64, 64, 64), {}),
        (Space((1, 28, 28), 2), (200, 200), {}),
        (Space((1, 28, 20), 256), (200,), {}),
        (Space((1, 8, 8), 17), (64,), {"activation": nn.ReLU}),
        (Space((3, 4, 4), 256), (32,), {"activation": nn.Softplus}),
    ],
    ids=["binary 8x8", "binary 28x28", "grey 28x20", "17 levels relu", "colour softplus"],
)
def test_javascript_equals_python_to_a_hundredth_of_a_grey_level(visit, space, hidden, options):
    model = trained_size(space, hidden, **options)
    z = 6 * torch.rand(100, 2, generator=torch.Generator().manual_seed(1)) - 3
    with torch.no_grad():
        expected = model.decode_mean(z).flatten(1).double()
    assert (expected.max() - expected.min()) > 0.5 * (space.levels - 1)  # not a blank picture
    got = in_javascript(visit, Manifold(model), z)
    assert (got - expected).abs().max() < TOLERANCE


@pytest.mark.browser
def test_a_trained_vae_is_sent_in_half_precision_and_still_equal(visit, digits_vae, explorer):
    z = 6 * torch.rand(100, 2, generator=torch.Generator().manual_seed(2)) - 3
    with torch.no_grad():
        expected = digits_vae.decode_mean(z).flatten(1).double()
    assert explorer.dtype == "float16"
    assert (in_javascript(visit, explorer, z) - expected).abs().max() < TOLERANCE


@pytest.mark.browser
def test_a_decoder_alone_gives_means_in_units_of_the_grey_range(visit):
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16))
    space = Space((1, 4, 4), 9)
    z = torch.randn(50, 2)
    got = in_javascript(visit, Manifold(decoder, space), z)
    assert (got - 8 * decoder(z).detach().clamp(0, 1)).abs().max() < TOLERANCE


@pytest.mark.browser
def test_half_precision_unpacks_to_the_same_numbers(visit):
    x = torch.tensor([0.0, -0.0, 1.0, -2.5, 6e-8, -6.1e-5, 65504.0, 0.1]).half()
    source = Manifold.module.read_text(encoding="utf-8")
    script = """async ([source, array]) => {
      const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
      return Array.from(module.unpack(array));
    }"""
    assert visit().page.evaluate(script, [source, pack(x, torch.float16)]) == x.tolist()


def read_z(page):
    return [
        float(number.replace("\u2212", "-")) for number in re.findall(r"= ([\u2212\d.]+)", page.locator("output").text_content())
    ]


def picture(page):
    return page.evaluate("""() => { const c = document.querySelector(".gencourse-explorer").shadowRoot.querySelector(".picture");
        return Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data).filter((_, i) => i % 4 === 0); }""")


@pytest.fixture
def opened(visit, explorer, tmp_path):
    with opening(visit, explorer, tmp_path, ".plane") as open_page:
        yield open_page


@pytest.mark.browser
def test_a_drag_moves_z_and_the_picture_is_the_decoders_there(opened, digits_vae):
    seen = opened()
    page, box = seen.page, seen.page.locator(".plane").bounding_box()
    before = picture(page)
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.75, steps=4)
    dragged = picture(page)
    assert dragged != before  # while the button is still down
    assert read_z(page) == pytest.approx([1.5, -1.5], abs=0.02)
    with torch.no_grad():
        expected = 255 * digits_vae.decode_mean(torch.tensor([[1.5, -1.5]])).flatten()
    assert (torch.tensor(dragged) - expected).abs().max() < 4  # of 255: the mouse is on a pixel, z is not exactly 1.5
    page.mouse.move(box["x"] + box["width"] * 3, box["y"] - 50)  # far outside: the plane holds on, z stays in the box
    assert read_z(page) == [3.0, 3.0]
    page.mouse.up()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.2)
    assert read_z(page) == [3.0, 3.0]  # released
    assert not seen.errors and not seen.elsewhere


@pytest.mark.browser
def test_the_keyboard_alone_suffices(opened):
    page = opened().page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.shadowRoot.activeElement.className") == "plane"
    before = picture(page)
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    assert read_z(page) == pytest.approx([-0.3, 0.1])
    assert picture(page) != before
    assert page.locator(".picture").get_attribute("aria-label").endswith("z\u2081 = \u22120.30, z\u2082 = 0.10")
    page.keyboard.press("Home")
    assert read_z(page) == [0, 0] and picture(page) == before


@pytest.mark.browser
def test_a_finger_works_on_a_phone_in_the_dark(opened):
    page = opened(width=390, height=800, dark=True, touch=True).page
    box = page.locator(".plane").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    assert read_z(page) == pytest.approx([-1.5, 1.5], abs=0.02)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    both = page.locator(".view").bounding_box()
    assert both["y"] + both["height"] <= 800  # the plane and the picture are in view together


@pytest.mark.browser
def test_test_images_are_shown_on_request(opened):
    page = opened().page
    ink = """() => { const c = document.querySelector(".gencourse-explorer").shadowRoot.querySelector(".dots");
        return c.getContext("2d").getImageData(0, 0, c.width, c.height).data.filter((v) => v).length; }"""
    assert page.evaluate(ink) == 0
    page.get_by_role("checkbox").check()
    assert page.evaluate(ink) > 1000
    page.get_by_role("checkbox").uncheck()
    assert page.evaluate(ink) == 0


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="700"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.locator(".plane").nth(1).wait_for()
    assert frame.locator(".plane").count() == 2
    frame.locator(".plane").nth(1).press("ArrowUp")
    assert frame.locator("output").all_text_contents() == ["z\u2081 = 0.00, z\u2082 = 0.00", "z\u2081 = 0.00, z\u2082 = 0.10"]
    assert not seen.errors


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer, digits_vae):
    digits = data.load("binary_digits")
    bundle = explorer._repr_mimebundle_()
    again = Manifold(digits_vae, points=digits_vae.encode(digits.test).mean, labels=digits.test_labels)
    assert bundle == again._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    key = re.search(r'<div id="(manifold-[0-9a-f]{16})"', bundle["text/html"])
    other = Manifold(digits_vae).to_html()
    assert key and key[1] not in other
    assert bundle["text/html"].count("</script>") == 1


def test_the_widget_starts_from_the_same_state_and_python_sees_z(explorer):
    widget = explorer.widget()
    assert widget.network == explorer.state["network"]
    assert widget.z == [0.0, 0.0]
    widget.set_state({"z": [1.0, -1.0]})  # what the browser sends after a drag
    assert widget.z == [1.0, -1.0]
    assert "export default { render }" in widget._esm


def test_weights_too_large_for_half_precision_are_sent_in_single(digits_vae):
    decoder = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 64))
    with torch.no_grad():
        decoder[2].bias.fill_(1e6)  # float16 ends at 65504
    assert Manifold(decoder, digits_vae.space).dtype == "float32"


def test_size_for_a_page(explorer):
    assert len(explorer.to_html()) < 150_000
    assert len(Manifold(trained_size(Space((1, 28, 28), 2), (200, 200))).to_html()) < 1_600_000


SPACE = Space((1, 8, 8), 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Manifold(VAE(SPACE, latent=8)), ValueError, "2 latent variables, but this decoder takes 8"),
        (lambda: Manifold(nn.Sequential(nn.Linear(2, 64), nn.GELU()), SPACE), TypeError, "but the decoder has GELU"),
        (
            lambda: Manifold(nn.Sequential(nn.Linear(2, 64), nn.Softplus(beta=2)), SPACE),
            TypeError,
            "but the decoder has Softplus",
        ),
        (lambda: Manifold(nn.Sequential(nn.Linear(2, 5)), SPACE), ValueError, "has 64 pixels, but the decoder has 5 outputs"),
        (lambda: Manifold(nn.Sequential(nn.Linear(2, 5))), ValueError, "needs the space of its images"),
        (lambda: Manifold(nn.Linear(2, 64), SPACE), TypeError, "nn.Sequential, not Linear"),
        (lambda: Manifold(VAE(Space((3,)), latent=2)), ValueError, "shows grey or RGB images"),
        (lambda: Manifold(VAE(SPACE), box=0), ValueError, "box must be positive"),
        (lambda: Manifold(VAE(SPACE), points=torch.zeros(3, 8)), ValueError, r"points must be \(N, 2\)"),
        (lambda: Manifold(VAE(SPACE), points=torch.zeros(3, 2), labels=torch.zeros(4)), ValueError, "3 points need labels"),
        (lambda: Manifold(VAE(SPACE), labels=torch.zeros(4)), ValueError, "labels need the points"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_state_is_json(explorer):
    assert json.loads(json.dumps(explorer.state)) == explorer.state
