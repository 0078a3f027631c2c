"""The page's generator is PyTorch's, its arithmetic the library's, and mouse, finger and keyboard reach all of it."""

import json
import re

import pytest
import torch
from chromium import serve
from torch import nn

from gencourse.adversarial.dcgan import DCGAN, trained_on_faces
from gencourse.adversarial.latent import analogy, to_shell
from gencourse.explorers.latent_arithmetic import TOLERANCE, LatentArithmetic, draw, folded
from gencourse.space import Space

SPACE = Space((1, 16, 16), 256)
NAMES = ("smiling, long hair", "neutral, long hair", "neutral, short hair")


def trained_size(space, *, seed=0, **options):
    """A DCGAN whose statistics and weights are as far from their first values as trained ones."""
    torch.manual_seed(seed)
    model = DCGAN(space, **{"latent": 8, "width": 8} | options)
    with torch.no_grad():
        for module in model.generator.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5), module.bias.normal_(0, 0.3)
            elif isinstance(module, nn.ConvTranspose2d) and options.get("norm") is nn.Identity:
                module.weight.normal_(0, 0.3)
        *_, last, _ = model.generator.net
        last.weight.normal_(0, 0.1)
        model.train()
        for _ in range(30):
            model.generator(model.draw_latent(64))
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return trained_size(SPACE)


@pytest.fixture(scope="module")
def z(model):
    return model.draw_latent(12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def explorer(model, z):
    return LatentArithmetic(model, z, slots=((0, 1), (2, 3), (4,)), names=NAMES)


def in_javascript(visit, explorer, script, arguments):
    source = explorer.module.read_text(encoding="utf-8")
    body = f"""async ([source, network, argument]) => {{
      const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
      {script}
    }}"""
    return torch.tensor(visit().page.evaluate(body, [source, explorer.state["network"], arguments]), dtype=torch.float64)


DRAW = "const draw = module.generator(network); return argument.map((z) => Array.from(draw(z)));"


@pytest.mark.parametrize(
    ("space", "options"),
    [(SPACE, {}), (Space((3, 8, 8), 256), {"base": 2}), (Space((1, 28, 20), 17), {"norm": nn.Identity})],
    ids=["grey 16x16", "colour 8x8", "28x20 without norm"],
)
@pytest.mark.browser
def test_javascript_equals_pytorch(visit, space, options):
    """The page's numbers are those of PyTorch's network to the stated tolerance, and to rounding those of the folded one."""
    model = trained_size(space, **options)
    z = model.draw_latent(20, generator=torch.Generator().manual_seed(2))
    explorer = LatentArithmetic(model, z)
    got = in_javascript(visit, explorer, DRAW, z.tolist()).view(20, *space.shape)
    with torch.no_grad():
        expected = (model.generator(z).double() + 1) / 2 * (space.levels - 1)
    assert expected.std() > 0.05 * (space.levels - 1)  # not a grey picture
    assert (got - expected).abs().max() <= TOLERANCE * (space.levels - 1)
    dtype = getattr(torch, explorer.dtype)
    rounded = [(weight.to(dtype).double(), bias.to(dtype).double(), *rest) for weight, bias, *rest in folded(model.generator.net)]
    assert (got - draw(rounded, space, z)).abs().max() < 1e-9


def test_folding_the_batch_norms_changes_nothing(model, z):
    double = [(weight, bias, *rest) for weight, bias, *rest in folded(model.generator.net)]
    assert len(double) == 3  # the convolutions alone
    with torch.no_grad():
        expected = (model.generator.double()(z.double()) + 1) / 2 * 255
    model.generator.float()
    assert (draw(double, SPACE, z) - expected).abs().max() < 1e-9


@pytest.mark.browser
def test_the_arithmetic_is_the_librarys(visit, explorer, z):
    terms = [z[:2], z[2:5], z[5:6]]
    script = "return Array.from(module.arithmetic(argument[0], argument[1]));"
    got = in_javascript(visit, explorer, script, [[term.tolist() for term in terms], 1])
    assert torch.allclose(got, to_shell(analogy(*terms)).double(), atol=1e-6)
    none = in_javascript(visit, explorer, script, [[term.tolist() for term in terms], 0])
    assert torch.allclose(none, to_shell(z[5]).double(), atol=1e-6)


@pytest.fixture
def opened(visit, explorer, tmp_path):
    explorer.save(tmp_path / "arithmetic.html")
    with serve(tmp_path) as address:

        def open_page(**options):
            seen = visit(**options)
            seen.page.goto(address + "arithmetic.html")
            seen.page.locator(".sample").first.wait_for()
            return seen

        yield open_page


def pixels(page, selector):
    return page.evaluate(
        """(selector) => { const c = document.querySelector(".gencourse-explorer").shadowRoot.querySelector(selector);
        return Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data).filter((_, i) => i % 4 === 0); }""",
        selector,
    )


RESULT = ".result canvas"


def expected(model, z, a, b, c):
    with torch.no_grad():
        y = model.generator(to_shell(analogy(z[a], z[b], z[c]))[None]).flatten()
    return ((y + 1) / 2 * 255).clamp(0, 255)


@pytest.mark.browser
def test_clicking_samples_changes_the_term_and_the_result_is_the_generators(opened, model, z):
    seen = opened()
    page = seen.page
    assert (torch.tensor(pixels(page, RESULT)) - expected(model, z, [0, 1], [2, 3], [4])).abs().max() <= 1.5  # half is rounding
    page.locator(".sample").nth(7).click()  # into A, which is active
    assert page.locator(".term").first.text_content().startswith("Amean of 3")
    assert (torch.tensor(pixels(page, RESULT)) - expected(model, z, [0, 1, 7], [2, 3], [4])).abs().max() <= 1.5
    page.locator(".term").nth(2).click()
    page.locator(".sample").nth(4).click()  # out of C, which is then empty
    assert page.locator(".result output").text_content() == "every term needs a sample"
    page.locator(".sample").nth(9).click()
    assert (torch.tensor(pixels(page, RESULT)) - expected(model, z, [0, 1, 7], [2, 3], [9])).abs().max() <= 1.5
    page.get_by_text("as at the start").click()
    assert (torch.tensor(pixels(page, RESULT)) - expected(model, z, [0, 1], [2, 3], [4])).abs().max() <= 1.5
    assert not seen.errors and not seen.elsewhere


@pytest.mark.browser
def test_with_nothing_of_the_difference_the_result_is_the_third_term(opened):
    page = opened().page
    before = pixels(page, RESULT)
    page.locator("input[type=range]").fill("0")
    assert pixels(page, RESULT) == pixels(page, ".term:nth-of-type(3) canvas") != before


@pytest.mark.browser
def test_the_keyboard_alone_suffices(opened):
    page = opened().page
    before = pixels(page, RESULT)
    page.keyboard.press("Tab")  # the terms
    page.keyboard.press("ArrowRight")  # B
    assert page.locator("input[type=radio]").nth(1).is_checked()
    page.keyboard.press("Tab")  # the slider
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    assert "0.80" in page.locator(".controls").text_content()
    for _ in range(3):  # the two buttons, the first sample
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    sample = page.locator(".sample").first
    assert sample.get_attribute("aria-pressed") == "true"
    assert sample.get_attribute("aria-label") == "Sample 1, in A and B"
    assert pixels(page, RESULT) != before
    page.keyboard.press("Space")
    assert sample.get_attribute("aria-pressed") == "false"
    assert page.locator(RESULT).get_attribute("aria-label").startswith("The face at C + 0.80 ")


@pytest.mark.browser
def test_a_finger_works_on_a_phone_in_the_dark(opened):
    page = opened(width=390, height=800, dark=True, touch=True).page
    before = pixels(page, RESULT)
    page.locator(".sample").nth(5).tap()
    assert pixels(page, RESULT) != before
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="1400"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.locator(".frame").nth(1).wait_for()
    frame.locator(".frame").nth(1).locator(".sample").nth(8).click()
    counts = [frame.locator(".frame").nth(i).locator(".term").first.text_content() for i in (0, 1)]
    assert [re.search(r"mean of (\d)", text)[1] for text in counts] == ["2", "3"]
    assert not seen.errors


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer, model, z):
    bundle = explorer._repr_mimebundle_()
    again = LatentArithmetic(model, z, slots=((0, 1), (2, 3), (4,)), names=NAMES)
    assert bundle == again._repr_mimebundle_()
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    assert bundle["text/html"].count("</script>") == 1
    assert json.loads(json.dumps(explorer.state)) == explorer.state


def test_the_widget_starts_from_the_same_state_and_python_sees_the_slots(explorer):
    widget = explorer.widget()
    assert widget.slots == [[0, 1], [2, 3], [4]]
    widget.set_state({"slots": [[0], [2], [5]]})  # what the browser sends after clicks
    assert widget.slots == [[0], [2], [5]]


def test_half_precision_where_it_suffices_and_single_where_not(model, z, explorer):
    assert explorer.dtype == "float16"
    sharp = trained_size(SPACE)
    with torch.no_grad():
        sharp.generator.net[0].weight.mul_(1e6)
        sharp.generator.net[1].running_var.fill_(1e-4)  # folded weights far above what float16 holds
    assert LatentArithmetic(sharp, z).dtype == "float32"


def test_the_faces_of_the_book_are_sent_in_half_precision_and_fit_a_page():
    faces, _ = trained_on_faces()
    explorer = LatentArithmetic(faces, faces.draw_latent(32, generator=torch.Generator().manual_seed(1)))
    assert explorer.dtype == "float16"
    assert len(json.dumps(explorer.state["network"])) < 220_000
    assert len(explorer.to_html()) < 350_000


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"z": torch.zeros(3, 5)}, ValueError, r"z must be \(N, 8\)"),
        ({"slots": ((0,), (1,), (99,))}, ValueError, r"places in z, 0..11"),
        ({"slots": ((0,), (1,))}, ValueError, "three terms"),
        ({"model": DCGAN(SPACE, latent=8, width=8, classes=2)}, ValueError, "unconditional"),
        ({"model": trained_size(SPACE, norm=nn.InstanceNorm2d)}, TypeError, "ReLU and Tanh, not InstanceNorm2d"),
    ],
)
def test_mistakes_are_named(change, error, message, model, z):
    arguments = {"model": model, "z": z} | change
    with pytest.raises(error, match=message):
        LatentArithmetic(arguments.pop("model"), arguments.pop("z"), **arguments)
