"""The page's chain takes the library's steps; what it counts is what the library counts."""

import copy
import json
import re

import pytest
import torch
from opening import assert_draws_no_random_number, opening
from torch import nn

from gencourse import data
from gencourse.explorers import ChainOfReconstructions
from gencourse.explorers.chain_of_reconstructions import as_sent, trained_on_digits, walked
from gencourse.explorers.gibbs_sampling import stream
from gencourse.markov.chains import label_changes
from gencourse.markov.corruption import SaltAndPepper
from gencourse.markov.gsn import GSN
from gencourse.markov.rbm import RBM
from gencourse.space import Space

SPACE = Space((1, 8, 8), 2)
SCRIPT = """async ([source, layers, numbers, x, rho, steps]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  const network = module.reconstructor(layers), stream = numbers[Symbol.iterator](), made = [];
  for (let k = 0; k < steps; k++) {
    const { noisy, white, x: next } = module.step(() => stream.next().value, network, x, rho);
    made.push({ noisy: [...noisy], white: [...white], x: [...next] });
    x = next;
  }
  return made;
}"""


def made(space=SPACE, hidden=(30, 30), rho=0.1, seed=0):
    """A chain whose guesses are neither certain nor coins."""
    torch.manual_seed(seed)
    model = GSN(space, corruption=SaltAndPepper(rho), hidden=hidden)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def a_classifier(seed=7, dim=64):
    torch.manual_seed(seed)
    return nn.Linear(dim, 10)


@pytest.fixture(scope="module")
def digits():
    return data.load("binary_digits")


@pytest.fixture(scope="module")
def explorer(digits):
    return ChainOfReconstructions(made(), made(seed=1), a_classifier(), digits.test, digits.test_labels)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("shape", "hidden", "rho"), [((1, 8, 8), (80, 80), 0.05), ((1, 3, 5), (7,), 0.5), ((1, 4, 4), (9, 5, 7), 0.2)], ids=str
)
def test_the_page_takes_the_steps_of_the_library_with_its_numbers(visit, shape, hidden, rho):
    model, steps = made(Space(shape, 2), hidden, rho), 15
    sent, dim = copy.deepcopy(model), model.space.dim
    sent.network = as_sent(model)
    begun = (torch.rand(1, *shape, generator=torch.Generator().manual_seed(1)) < 0.5).long()
    g = torch.Generator().manual_seed(2)
    numbers = []
    for _ in range(steps):  # what `step` asks for: float32 for the noise, and the logits' float64 for the draw
        numbers += torch.rand(dim, generator=g).double().tolist()
        numbers += torch.rand(dim, generator=g, dtype=torch.float64).tolist()
    one = ChainOfReconstructions(model, model, a_classifier(dim=dim), begun, torch.zeros(1).long())
    given = [one.source(), one.state["networks"]["plain"], numbers, begun.flatten().tolist(), rho, steps]
    g, x, moved = torch.Generator().manual_seed(2), begun, 0
    python = walked(model, begun[0], iter(numbers), rho)
    for there in visit().page.evaluate(SCRIPT, given):
        before, x = x, sent.step(x, generator=g)
        noisy, here = next(python)
        assert there["x"] == x.flatten().tolist() == here.flatten().tolist()
        assert there["noisy"] == noisy.flatten().tolist()
        p = sent.reconstruct(noisy[None]).base_dist.probs.flatten()
        assert (torch.tensor(there["white"], dtype=torch.float64) - p).abs().max() < 1e-10
        moved += int((x != before).sum())
    assert moved > 10


def test_the_weights_that_come_with_the_package_tell_the_chapter_s_story(digits):
    """Walkback makes a chain that moves more; five seeds say so in the chapter's record, and this is one more."""
    plain, walkback, classifier, run = trained_on_digits()
    assert (plain.walkback, walkback.walkback) == (0, 3) == tuple(run["walkback"])
    assert plain.corruption == walkback.corruption == SaltAndPepper(0.05)
    right = (classifier(digits.test.flatten(1).float()).argmax(1) == digits.test_labels).double().mean()
    assert right > 0.85
    changes = {}
    for name, model in (("plain", plain), ("walkback", walkback)):
        states = model.chain(digits.test[:50].long(), 100, generator=torch.Generator().manual_seed(0))
        changes[name] = float(label_changes(classifier(states.flatten(2).float()).argmax(2)).mean())
    assert changes["walkback"] > 1.4 * changes["plain"] and changes["plain"] > 0.03


def test_loading_the_weights_draws_no_random_number():
    assert_draws_no_random_number(trained_on_digits)


@pytest.fixture
def opened(visit, explorer, tmp_path):
    with opening(visit, explorer, tmp_path, ".strip") as open_page:
        yield open_page


def pixels(page, which):
    """The greys of a picture, 0 to 1, in the middle of its pixels; -1 where nothing is known."""
    values = page.evaluate(
        """(which) => {
          const c = document.querySelector(".gencourse-explorer").shadowRoot.querySelectorAll("canvas")[which];
          const context = c.getContext("2d"), side = c.width / 8;
          return Array.from({ length: 64 }, (_, i) => {
            const at = [Math.floor((i % 8 + 0.5) * side), Math.floor((Math.floor(i / 8) + 0.5) * side)];
            const [r, g, b] = context.getImageData(...at, 1, 1).data;
            return r === g && g === b ? r / 255 : -1;
          });
        }""",
        which,
    )
    return torch.tensor(values, dtype=torch.float64)


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def rounded(module):
    """In double precision, with the weights as they are sent."""
    module = module.double().requires_grad_(False)
    for parameter in module.parameters():
        parameter.copy_(parameter.half())
    return module


class Told:
    """What the page should show, by Python: the states, their classes, and what was counted."""

    def __init__(self, x, model, noise, numbers) -> None:
        self.x, self.numbers, self.judge = x, numbers, rounded(a_classifier())
        self.labels, self.from_here = [self.label(x)], 0
        self.use(model, noise)

    def use(self, model, noise):
        self.model, self.noise, self.from_here = model, noise, len(self.labels) - 1
        return self

    def label(self, x):
        return int(self.judge(x.flatten().double()).argmax())

    def walk(self, steps):
        walk = walked(self.model, self.x, self.numbers, self.noise)
        for _ in range(steps):
            self.before = self.x
            self.noisy, self.x = next(walk)
            self.labels.append(self.label(self.x))
        return self

    @property
    def text(self):
        labels = torch.tensor(self.labels[self.from_here :])
        n, changes = len(labels) - 1, 100 * float(label_changes(labels[None])[0])
        flipped = int((self.noisy != self.before).sum())
        return (
            f"Step {len(self.labels) - 1}: class {self.labels[-1]}; the noise flipped {flipped} of 64 pixels."
            f"In {n} step{'s'[: n != 1]} since something was changed: {len(labels[1:].unique())} of 10 classes; "
            f"{changes:.1f} % of the steps changed the class."
        )


@pytest.mark.browser
def test_steps_pictures_classes_and_counts_are_python_s(opened, digits):
    seen = opened()
    page, text = seen.page, seen.page.locator("output")
    told = Told(digits.test[0].long(), made(seed=1), 0.1, stream(0))
    assert torch.equal(pixels(page, 0), told.x.flatten().double()) and (pixels(page, 1) == -1).all()
    assert text.text_content() == f"Step 0: class {told.labels[0]}.No step yet since something was changed."
    press(page, "one step")
    told.walk(1)
    assert text.text_content() == told.text
    for which, values in ((0, told.before), (1, told.noisy), (3, told.x)):
        assert torch.equal(pixels(page, which), values.flatten().double())
    p = torch.sigmoid(as_sent(told.model)(2 * told.noisy.flatten().double() - 1))
    assert (pixels(page, 2) - p).abs().max() < 0.003
    press(page, "100 steps")
    assert text.text_content() == told.walk(100).text
    said = page.locator(".strip").get_attribute("aria-label")
    assert said == f"The last 30 states, by class: {' '.join(map(str, told.labels[-30:]))}."
    counts = torch.bincount(torch.tensor(told.labels[1:]), minlength=10).tolist()
    assert ", ".join(f"{k}: {n}" for k, n in enumerate(counts)) in page.locator("svg").get_attribute("aria-label")
    page.get_by_role("radio", name="plain", exact=True).check()
    assert "No step yet since something was changed." in text.text_content()
    press(page, "one step")
    assert text.text_content() == told.use(made(), 0.1).walk(1).text
    slider = page.get_by_role("slider", name="Noise")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    press(page, "100 steps")
    assert text.text_content() == told.use(made(), 0.15).walk(100).text
    rows = [row.all_text_contents() for row in (row.locator("td") for row in page.locator("tbody tr").all())]
    assert [row[:3] for row in rows] == [
        ["with walkback", "0.10", "101"],
        ["plain", "0.10", "1"],
        ["plain", "0.15", "100"],
    ]
    press(page, "new numbers")
    press(page, "one step")
    assert text.text_content() == Told(digits.test[0].long(), made(), 0.15, stream(1)).walk(1).text
    assert not seen.errors and not seen.elsewhere


@pytest.mark.browser
def test_it_begins_with_noise_and_plays(opened, digits):
    page = opened().page
    page.get_by_role("combobox", name="What the chain begins with").select_option("begin with noise")
    numbers = stream(0)
    noise = torch.tensor([next(numbers) < 0.5 for _ in range(64)]).long().view(1, 8, 8)
    told = Told(noise, made(seed=1), 0.1, numbers)
    assert torch.equal(pixels(page, 0), noise.flatten().double())
    page.get_by_role("combobox", name="Pace").select_option("60 steps a second")
    press(page, "play")
    page.locator("output", has_text=re.compile(r"^Step \d\d")).wait_for()
    press(page, "pause")
    text = page.locator("output").text_content()
    assert text == told.walk(int(re.match(r"Step (\d+)", text)[1])).text
    page.get_by_role("combobox", name="What the chain begins with").select_option("begin with test digit 4")
    assert torch.equal(pixels(page, 0), digits.test[3].flatten().double())


@pytest.mark.browser
def test_the_keyboard_alone_suffices(opened):
    page = opened().page
    names = []
    for _ in range(10):
        page.keyboard.press("Tab")
        names.append(page.evaluate("(e => e.textContent.slice(0, 9) || e.type)(document.activeElement.shadowRoot.activeElement)"))
    assert names[:4] == ["play", "one step", "100 steps", "1000 step"] and names[-2:] == ["range", "radio"]
    page.keyboard.press("ArrowUp")
    assert page.get_by_role("radio", name="plain", exact=True).is_checked()


@pytest.mark.browser
def test_a_finger_works_on_a_phone_in_the_dark(opened):
    page = opened(width=390, height=844, dark=True, touch=True).page
    page.get_by_role("button", name="one step", exact=True).tap()
    assert page.locator("output").text_content().startswith("Step 1:")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    controls = [c.bounding_box() for c in page.locator("button, select, input[type=range], .group label").all()]
    assert all(b["height"] >= 24 and b["width"] >= 24 and b["x"] + b["width"] <= 390 for b in controls)  # WCAG 2.2, 2.5.8
    strip = page.locator(".strip").bounding_box()
    assert strip["y"] + strip["height"] <= 844  # in view together with the controls


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="2000"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.get_by_role("button", name="one step").nth(1).click()
    assert [text[:6] for text in frame.locator("output").all_text_contents()] == ["Step 0", "Step 1"]
    assert not seen.errors


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer, digits):
    bundle = explorer._repr_mimebundle_()
    again = ChainOfReconstructions(made(), made(seed=1), a_classifier(), digits.test, digits.test_labels)
    assert bundle == again._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    assert re.search(r'<div id="(chain_of_reconstructions-[0-9a-f]{16})"', bundle["text/html"])
    assert bundle["text/html"].count("</script>") == 1
    assert json.loads(json.dumps(explorer.state)) == explorer.state


def test_the_chapter_s_is_small_and_says_how_good_its_classifier_is(digits):
    explorer = ChainOfReconstructions.of_digits()
    assert len(explorer.to_html()) < 150_000
    classifier = rounded(trained_on_digits()[2])
    right = (classifier(digits.test.flatten(1).double()).argmax(1) == digits.test_labels).double().mean()
    assert explorer.state["right"] == pytest.approx(float(right), abs=1e-4)
    assert explorer.state["trained"] == {"plain": 0.05, "walkback": 0.05}


def test_the_widget_starts_from_the_same_state_and_python_sees_what_is_done(explorer):
    widget = explorer.widget()
    assert (widget.network, widget.noise, widget.image) == ("walkback", 0.1, 0)
    widget.set_state({"network": "plain", "noise": 0.3})  # what the browser sends
    assert (widget.network, widget.noise) == ("plain", 0.3)


def test_the_model_stays_as_it_was(digits):
    model = made()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ChainOfReconstructions(model, model, a_classifier(), digits.test[:3], digits.test_labels[:3])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in model.parameters())


def build(model=None, x=None, labels=None, **options):
    x = torch.zeros(2, 1, 8, 8).long() if x is None else x
    labels = torch.zeros(len(x)).long() if labels is None else labels
    return ChainOfReconstructions(model or made(hidden=(4,)), made(hidden=(4,)), a_classifier(), x, labels, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: build(RBM(SPACE, hidden=2)), TypeError, "needs a GSN, not RBM"),
        (lambda: build(GSN(Space((1, 8, 8), 4), hidden=(4,))), TypeError, "grey images on two levels"),
        (lambda: build(GSN(SPACE, hidden=(4,), corruption=SaltAndPepper(0.1, 0.2))), TypeError, "with a fair coin"),
        (lambda: build(GSN(SPACE, hidden=(4,), activation=nn.Softplus)), TypeError, "the network has Softplus"),
        (lambda: build(labels=torch.zeros(1).long()), ValueError, "a label for each image, not 1 for 2"),
        (lambda: build(x=torch.zeros(2, 64).long()), ValueError, r"a batch of shape \(B, 1, 8, 8\)"),
        (lambda: build(seed=2**32), ValueError, "seed must be in 0"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
