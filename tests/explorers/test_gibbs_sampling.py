"""The page's chain is the library's Gibbs sampling, unit by unit; held pixels, temperatures and free energies are as told."""

import json
import re

import pytest
import torch
from opening import assert_draws_no_random_number, opening

from gencourse import data
from gencourse.explorers import GibbsSampling
from gencourse.explorers.gibbs_sampling import Chain, as_sent, stream, trained_on_digits
from gencourse.explorers.one_pixel_at_a_time import uniforms
from gencourse.markov.boltzmann import Boltzmann
from gencourse.markov.rbm import RBM
from gencourse.space import Space

SPACE = Space((1, 8, 8), 2)
SWEEP = 64 + 64
SCRIPT = """async ([source, network, numbers, image, temperature, held, turns]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  const rbm = module.machine(network), stream = numbers[Symbol.iterator]();
  const chain = rbm.begin(() => stream.next().value, image);
  const kept = new Map(held);
  for (const [i, value] of kept) chain.v[i] = value;
  return turns.map((n) => {
    for (let k = 0; k < n; k++) rbm.turn(chain, temperature, (i) => kept.has(i));
    return { v: [...chain.v], h: [...chain.h], last: chain.last, energy: rbm.freeEnergy(chain.v) };
  });
}"""


def made(space=SPACE, hidden=64, seed=0):
    """A machine with weights as large as trained ones, so that its probabilities are anywhere in (0, 1)."""
    torch.manual_seed(seed)
    model = RBM(space, hidden=hidden)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.7)
    return model


@pytest.fixture(scope="module")
def digits():
    return data.load("binary_digits").test


@pytest.fixture(scope="module")
def explorer(digits):
    return GibbsSampling(made(), digits)


def in_javascript(visit, model, numbers, image=None, temperature=1.0, held=None, turns=(1,)):
    network = GibbsSampling(model, torch.zeros(1, *model.space.shape).long()).state["network"]
    image = None if image is None else image.flatten().tolist()
    given = [GibbsSampling.source(), network, numbers, image, temperature, sorted((held or {}).items()), list(turns)]
    return visit().page.evaluate(SCRIPT, given)


@pytest.mark.browser
@pytest.mark.parametrize(("shape", "hidden"), [((1, 8, 8), 64), ((1, 3, 5), 7)], ids=str)
def test_the_page_takes_the_steps_of_the_library_with_its_numbers(visit, shape, hidden):
    """`RBM.gibbs` asks for all hidden numbers of a sweep and then for all pixels': one stream, which the page takes in turns."""
    model, sweeps = made(Space(shape, 2), hidden), 20
    sent, dim = as_sent(model), model.space.dim
    x = (torch.rand(1, *shape, generator=torch.Generator().manual_seed(1)) < 0.5).long()
    g = torch.Generator().manual_seed(2)
    numbers = torch.cat([torch.rand(n, generator=g, dtype=torch.float64) for _ in range(sweeps) for n in (hidden, dim)])
    states = in_javascript(visit, model, numbers.tolist(), x, turns=[hidden + dim] * sweeps)
    g = torch.Generator().manual_seed(2)
    visited = set()
    for state in states:
        x = sent.gibbs(x, 1, generator=g)
        assert state["v"] == x.flatten().tolist()
        assert state["energy"] == pytest.approx(float(sent.free_energy(x)), abs=1e-9)
        visited.add(tuple(state["v"]))
    assert len(visited) > 5


@pytest.mark.browser
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_unit_by_unit_with_held_pixels_javascript_equals_python(visit, temperature):
    model, held = made(), {3: 1, 20: 0, 63: 1}
    numbers = uniforms(5, 64 + 300).tolist()
    states = in_javascript(visit, model, numbers, temperature=temperature, held=held, turns=[1] * 300)
    chain, sent = Chain(model, numbers=iter(numbers)), as_sent(model)
    for turn, state in enumerate(states):
        unit, u = turn % SWEEP, numbers[64 + turn]
        v, h = chain.v.clone(), chain.h.clone()
        for i, value in held.items():
            v[i] = value
        logits = sent.hidden_logits(v.view(1, *SPACE.shape).long()) if unit < 64 else sent.visible_logits(h[None])
        p = float(torch.sigmoid(logits[0, unit % 64] / temperature))
        chain.advance(1, temperature=temperature, held=held)
        assert state["v"] == chain.v.tolist() and state["h"] == chain.h.tolist()
        assert state["last"] == {"unit": unit, "u": u, "p": pytest.approx(p, abs=1e-12)}
        assert all(state["v"][i] == value for i, value in held.items())
        if unit < 64 or unit - 64 not in held:
            assert (state["h"] + state["v"])[unit] == (u < p)


def test_a_unit_a_side_and_a_sweep_are_one_chain():
    """Given the other side, units of a side do not hear each other: all at once is each in turn."""
    model = made()
    numbers = uniforms(3, 64 + 6 * 64)
    chain, sent = Chain(model, numbers=iter(numbers.tolist())), as_sent(model)
    for side in range(6):
        u = numbers[64 * (side + 1) : 64 * (side + 2)]
        v = chain.v.view(1, *SPACE.shape).long()
        logits = sent.visible_logits(chain.h[None]) if side % 2 else sent.hidden_logits(v)
        chain.advance(64)
        assert torch.equal(chain.v if side % 2 else chain.h, (u < torch.sigmoid(logits[0])).double())


def test_with_held_pixels_the_chain_settles_at_the_conditional_distribution():
    """Of a machine so small that p(v | held) can be summed."""
    model = made(Space((1, 2, 2), 2), hidden=3, seed=1)
    sent, held = as_sent(model), {0: 1}
    chain, counts = Chain(model, seed=0), torch.zeros(8)
    places = torch.tensor([4.0, 2.0, 1.0])
    for _ in range(20_000):
        chain.advance(7, held=held)
        counts[int(chain.v[1:].float() @ places)] += 1
    free = torch.cartesian_prod(*[torch.arange(2)] * 3)
    states = torch.cat([torch.ones(8, 1).long(), free], 1).view(8, 1, 2, 2)
    p = torch.softmax(-sent.free_energy(states), 0)
    assert (counts / counts.sum() - p).abs().max() < 0.02  # 0.0035 a draw's error, times the chain's memory
    assert p.max() > 0.2


def test_the_stream_of_numbers_goes_on_as_the_generator_does():
    numbers = stream(2**32 - 5)
    assert [next(numbers) for _ in range(3000)] == uniforms(2**32 - 5, 3000).tolist()


def test_the_weights_that_come_with_the_package_are_a_good_model_of_digits(digits):
    model, run = trained_on_digits()
    said = run["test nll estimated by annealing, nats"]
    estimate = model.estimate_log_partition(chains=100, temperatures=2000, generator=torch.Generator().manual_seed(1))
    nll = float(model.free_energy(digits).mean().detach() + estimate.log_z)
    assert nll == pytest.approx(said, abs=0.3) and said < 17.0  # the recipe's band
    assert (model.hidden, model.space) == (64, SPACE)


def test_loading_the_weights_draws_no_random_number():
    assert_draws_no_random_number(trained_on_digits)


@pytest.fixture
def opened(visit, explorer, tmp_path):
    with opening(visit, explorer, tmp_path, ".plane") as open_page:
        yield open_page


def pixels(page, which=0, across=8):
    """The grey of each cell of a picture, 0 to 1, in its middle; -1 where nothing is known."""
    values = page.evaluate(
        """([which, n]) => {
          const c = document.querySelector(".gencourse-explorer").shadowRoot.querySelectorAll("canvas")[which];
          const context = c.getContext("2d"), side = c.width / n;
          return Array.from({ length: n * n }, (_, i) => {
            const at = [Math.floor((i % n + 0.5) * side), Math.floor((Math.floor(i / n) + 0.5) * side)];
            const [r, g, b] = context.getImageData(...at, 1, 1).data;
            return r === g && g === b ? r / 255 : -1;
          });
        }""",
        [which, across],
    )
    return torch.tensor(values, dtype=torch.float64)


def shows(page, chain):
    """The page's pixels, hidden units and free energy are the chain's."""
    assert torch.equal(pixels(page), chain.v)
    assert torch.equal(pixels(page, 1)[: chain.turns], chain.h[: chain.turns])
    energy = float(chain.model.free_energy(chain.v.view(1, *SPACE.shape).long()))
    assert f"F(v) = {energy:.1f} nats".replace("-", "\u2212") in page.locator("output").text_content()
    return True


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def centre(page, pixel):
    box = page.locator(".plane").bounding_box()
    return box["x"] + box["width"] * (pixel % 8 + 0.5) / 8, box["y"] + box["height"] * (pixel // 8 + 0.5) / 8


@pytest.mark.browser
def test_units_sides_and_sweeps_are_drawn_as_in_python(opened, explorer, digits):
    seen = opened()
    page, model = seen.page, made()
    chain = Chain(model, seed=0)
    assert shows(page, chain) and (pixels(page, 1) == -1).all() and (pixels(page, 2) == -1).all()
    assert "0 sweeps; 0 pixels are held; the mean is of 0.Nothing is drawn yet." in page.locator("output").text_content()
    press(page, "one unit")
    assert shows(page, chain.advance(1))
    press(page, "one side")  # the rest of it
    assert shows(page, chain.advance(63))
    assert "0 sweeps and 64 of 128 units" in page.locator("output").text_content()
    press(page, "one side")
    assert shows(page, chain.advance(64))
    assert torch.equal(pixels(page, 2), chain.v)  # the mean of one sweep
    total = chain.v.clone()
    for _ in range(3):
        press(page, "one sweep")
        total += chain.advance(SWEEP).v
    assert shows(page, chain)
    assert (pixels(page, 2) - total / 4).abs().max() < 0.003
    assert page.get_by_text("the mean is of 4.").is_visible()
    press(page, "new numbers")
    assert shows(page, Chain(model, seed=1))
    page.get_by_role("combobox", name="What the chain begins with").select_option("begin with test digit 3")
    press(page, "one sweep")
    assert shows(page, Chain(model, digits[2], seed=1).advance(SWEEP))
    assert not seen.errors and not seen.elsewhere


@pytest.mark.browser
def test_it_plays_and_stops_and_what_is_there_is_the_chain(opened):
    page = opened().page
    page.get_by_role("combobox", name="Pace").select_option("200 sweeps a second")
    press(page, "play")
    page.locator("output", has_text=re.compile(r"^\d{3,} sweeps")).wait_for()
    assert page.locator("output").get_attribute("aria-live") == "off"
    press(page, "pause")
    assert page.locator("output").get_attribute("aria-live") == "polite"
    sweeps = int(re.match(r"(\d+) sweeps;", page.locator("output").text_content())[1])
    assert shows(page, Chain(made(), seed=0).advance(sweeps * SWEEP))
    assert page.get_by_text(f"the mean is of {sweeps}.").is_visible()
    points = page.locator(".trace").get_attribute("points").split()
    assert len(points) == min(200, sweeps + 1)


@pytest.mark.browser
def test_the_temperature_divides_the_logits_and_the_mean_begins_anew(opened):
    page, chain = opened().page, Chain(made(), seed=0)
    press(page, "one sweep")
    slider = page.get_by_role("slider", name="Temperature")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == "temperature 0.5"
    assert page.get_by_text("the mean is of 0.").is_visible()
    press(page, "one sweep")
    assert shows(page, chain.advance(SWEEP).advance(SWEEP, temperature=0.5))


@pytest.mark.browser
def test_a_stroke_holds_pixels_and_the_others_go_on(opened):
    page, chain = opened().page, Chain(made(), seed=0)
    press(page, "one sweep")
    chain.advance(SWEEP)
    page.mouse.move(*centre(page, 16))
    page.mouse.down()
    page.mouse.move(*centre(page, 23))  # in one jump: no gap
    page.mouse.up()
    held = {i: 1 for i in range(16, 24)}
    assert shows(page, chain.advance(0, held=held))
    assert "8 pixels are held; the mean is of 0." in page.locator("output").text_content()
    page.get_by_role("radio", name="black", exact=True).check()
    page.mouse.click(*centre(page, 18))
    held[18] = 0
    press(page, "one sweep")
    assert shows(page, chain.advance(SWEEP, held=held))
    page.get_by_role("radio", name="let go", exact=True).check()
    page.mouse.click(*centre(page, 20))
    del held[20]
    for _ in range(3):
        press(page, "one sweep")
    assert shows(page, chain.advance(3 * SWEEP, held=held))
    press(page, "let all go")
    press(page, "one sweep")
    assert shows(page, chain.advance(SWEEP))
    press(page, "hold the upper half")
    upper = {i: int(chain.v[i]) for i in range(32)}
    assert "32 pixels are held" in page.locator("output").text_content()
    for _ in range(2):
        press(page, "one sweep")
    assert shows(page, chain.advance(2 * SWEEP, held=upper))
    press(page, "begin again")  # what is held stays so
    assert shows(page, Chain(made(), seed=0).advance(0, held=upper))


@pytest.mark.browser
def test_the_keyboard_alone_suffices(opened):
    page, chain = opened().page, Chain(made(), seed=0)
    plane = page.locator(".plane")
    while page.evaluate("(e => e.className)(document.activeElement.shadowRoot?.activeElement ?? document.body)") != "plane":
        page.keyboard.press("Tab")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    assert "at row 1, column 2:" in plane.get_attribute("aria-label")
    assert shows(page, chain)  # the arrow keys hold nothing
    page.keyboard.press("Enter")
    assert shows(page, chain.advance(0, held={10: 1}))
    assert "white, held" in plane.get_attribute("aria-label")
    page.keyboard.press("Delete")
    assert "white, free" in plane.get_attribute("aria-label")
    page.keyboard.press("Home")
    assert "at row 0, column 0:" in plane.get_attribute("aria-label")


@pytest.mark.browser
def test_a_finger_works_on_a_phone_in_the_dark(opened):
    page = opened(width=390, height=844, dark=True, touch=True).page
    page.touchscreen.tap(*centre(page, 18))
    held = {18: 1}
    assert shows(page, Chain(made(), seed=0).advance(0, held=held))
    touch = page.context.new_cdp_session(page)  # from the frame a stroke may go down
    for kind, pixel in (("touchStart", 18), ("touchMove", 26), ("touchMove", 42), ("touchEnd", None)):
        points = [] if pixel is None else [dict(zip("xy", centre(page, pixel), strict=True))]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    held |= {26: 1, 34: 1, 42: 1}
    assert shows(page, Chain(made(), seed=0).advance(0, held=held))
    assert page.evaluate("scrollY") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    controls = [c.bounding_box() for c in page.locator("button, select, input[type=range], .group label").all()]
    assert all(b["height"] >= 24 and b["width"] >= 24 and b["x"] + b["width"] <= 390 for b in controls)  # WCAG 2.2, 2.5.8
    plane = page.locator(".plane").bounding_box()
    assert plane["y"] + plane["height"] <= 844  # in view together with the controls


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="2000"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.locator(".plane").nth(1).wait_for()
    frame.get_by_role("button", name="one sweep").nth(1).click()
    assert [text[:8] for text in frame.locator("output").all_text_contents()] == ["0 sweeps", "1 sweep;"]
    assert not seen.errors


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer, digits):
    bundle = explorer._repr_mimebundle_()
    assert bundle == GibbsSampling(made(), digits)._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    key = re.search(r'<div id="(gibbs_sampling-[0-9a-f]{16})"', bundle["text/html"])
    assert key and key[1] not in GibbsSampling(made(seed=1), digits).to_html()
    assert bundle["text/html"].count("</script>") == 1
    assert len(bundle["text/html"]) < 100_000
    assert json.loads(json.dumps(explorer.state)) == explorer.state


def test_free_energies_to_compare_with_are_those_of_the_images(explorer, digits):
    found = as_sent(made()).free_energy(digits)
    known = explorer.state["known"]
    assert known["mean"] == pytest.approx(float(found.mean()), abs=1e-3)
    inside = ((found >= known["low"] - 1e-3) & (found <= known["high"] + 1e-3)).double().mean()
    assert 0.88 < inside < 0.92
    trained = GibbsSampling.of_digits().state["known"]
    assert trained["high"] < trained["noise"] - 10  # a trained machine tells digits from noise


def test_the_widget_starts_from_the_same_state_and_python_sees_what_is_done(explorer):
    widget = explorer.widget()
    assert (widget.temperature, widget.held, widget.image) == (1.0, "." * 64, -1)
    widget.set_state({"temperature": 0.5, "held": "1" + "." * 63})  # what the browser sends
    assert (widget.temperature, widget.held[0]) == (0.5, "1")
    assert "export default { render }" in widget._esm and "function draggable" in widget._esm


def test_the_model_stays_as_it_was(digits):
    model = made()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    GibbsSampling(model, digits[:3])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: GibbsSampling(Boltzmann(SPACE, hidden=2), x), TypeError, "needs an RBM, not Boltzmann"),
        (lambda x: GibbsSampling(RBM(Space((64,), 2), hidden=2), x.view(-1, 64)), ValueError, "grey images without classes"),
        (lambda x: GibbsSampling(RBM(SPACE, hidden=2, classes=10), x), ValueError, "without classes"),
        (lambda x: GibbsSampling(RBM(SPACE, hidden=2), x.view(-1, 64)), ValueError, r"a batch of shape \(B, 1, 8, 8\)"),
        (lambda x: GibbsSampling(RBM(SPACE, hidden=2), x[:0]), ValueError, "at least one image"),
        (lambda x: GibbsSampling(RBM(SPACE, hidden=2), x, seed=-1), ValueError, "seed must be in 0"),
    ],
)
def test_mistakes_are_named(digits, call, error, message):
    with pytest.raises(error, match=message):
        call(digits[:5])
