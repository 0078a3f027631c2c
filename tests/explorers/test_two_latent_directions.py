"""The page's decoder and reader are the library's, directions are those of a regression, and changes are told as they are."""

import json
import re

import pytest
import torch
from opening import assert_draws_no_random_number, opening
from torch import nn

from gencourse.data.faces import BINARY, FACTORS, Factors, faces, sample_factors
from gencourse.explorers import TwoLatentDirections
from gencourse.explorers.networks import as_sent, mean_levels
from gencourse.explorers.two_latent_directions import found_directions, plain_faces, read, trained_on_faces, varying
from gencourse.metrics import factors as readers
from gencourse.metrics.factors import FactorReader
from gencourse.space import Space
from gencourse.variational.vae import VAE

SPACE = Space((1, 16, 16), 256)
SCRIPT = """async ([source, state, z]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  const decode = module.pixelMeans(state.decoder);
  const read = module.factorReader(state.reader, state.factors, state.decoder.levels);
  return z.map((row) => { const x = decode(row); return [Array.from(x), read(x)]; });
}"""


def made(seed=0, activation=nn.ReLU):
    """A VAE and a reader whose numbers are as large as trained ones."""
    torch.manual_seed(seed)
    model = VAE(SPACE, latent=3, hidden=(12, 10), activation=activation)
    network = readers._network(SPACE, 3)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.normal_(0, 0.5)
        model.log_scale.uniform_(-4, -1)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5), module.bias.normal_(0, 0.3)
                module.running_mean.normal_(0, 0.3), module.running_var.uniform_(0.3, 2)
            elif isinstance(module, nn.Linear):
                module.weight.normal_(0, 0.2)
    return model.eval(), FactorReader(SPACE, network.eval())


@pytest.fixture(scope="module")
def drawn():
    return faces(16, n=100)


@pytest.fixture(scope="module")
def explorer(drawn):
    return TwoLatentDirections(*made(), drawn.train, drawn.train_factors)


@pytest.fixture(scope="module")
def trained():
    return trained_on_faces()


@pytest.mark.browser
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_the_page_draws_and_reads_what_python_does(visit, drawn, activation):
    model, reader = made(1, activation)
    explorer = TwoLatentDirections(model, reader, drawn.train, drawn.train_factors)
    z = 2 * torch.randn(12, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = visit().page.evaluate(SCRIPT, [explorer.source(), explorer.state, z.tolist()])
    expected = mean_levels(model, explorer.decoder, z)
    got = torch.tensor([image for image, _ in found], dtype=torch.float64).view_as(expected)
    assert expected.std() > 20 and (got - expected).abs().max() < 1e-4  # the scales are sent as float32
    values = torch.tensor([reading for _, reading in found], dtype=torch.float64)
    assert (values - read(explorer.reader, model, expected)).abs().max() < 1e-9
    assert values.std(0).min() > 1e-3


def test_what_is_sent_is_the_librarys_decoder_and_reader_but_for_rounding(trained):
    model, reader, _ = trained
    z = torch.randn(50, model.latent, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = model.decode_mean(z).double()
    sent = mean_levels(model, as_sent(model.decoder), z)
    assert (sent - exact).abs().max() < 0.05  # float32; the weights are float16 already
    pictures = exact.round().clamp(0, 255)
    library = torch.stack(list(reader.read(pictures.to(torch.uint8)).values()), 1).double()
    page = read(as_sent(reader.network), model, pictures)
    assert (page - library).abs().max() < 0.02  # folding the batch norms, then float16


def test_found_directions_are_those_of_the_regression():
    """Of codes linear in the factors they are the columns, however the factors go together."""
    g = torch.Generator().manual_seed(0)
    factors, mixing = sample_factors(300, g), torch.randn(8, 10, generator=g, dtype=torch.float64)
    codes = factors.table().double() @ mixing + 3.0
    expected = mixing / mixing.norm(dim=1, keepdim=True)
    assert torch.allclose(found_directions(codes, factors), expected, atol=1e-6)
    correlated = factors[(factors.smile > 0.4) | (factors.pose > 0)]
    assert torch.allclose(found_directions(correlated.table().double() @ mixing, correlated), expected, atol=1e-6)


def test_what_is_the_same_in_all_faces_is_left_out():
    g = torch.Generator().manual_seed(0)
    all_vary = sample_factors(300, g)
    some, mixing = Factors(pose=all_vary.pose, skin=all_vary.skin), torch.randn(2, 5, generator=g, dtype=torch.float64)
    assert varying(some) == ["pose", "skin"] and varying(all_vary) == list(FACTORS)
    codes = torch.stack([some.pose, some.skin], 1).double() @ mixing
    assert torch.allclose(found_directions(codes, some), mixing / mixing.norm(dim=1, keepdim=True), atol=1e-6)


def test_the_weights_that_come_with_the_package_know_faces_they_have_not_seen(trained):
    model, reader, run = trained
    unseen = plain_faces(300, seed=77)
    with torch.no_grad():
        bound = float(model.elbo(unseen.train, samples=5, generator=torch.Generator().manual_seed(0)).double().mean())
    assert bound == pytest.approx(run["test elbo, nats"], abs=25)
    found = reader.read(unseen.train)
    for name in varying(unseen.train_factors):
        truth, score = getattr(unseen.train_factors, name), reader.scores[name]
        if name in BINARY:
            assert ((found[name] > 0.5) == truth).double().mean() > score - 0.05
        else:
            assert (found[name] - truth).square().mean().sqrt() < 1.5 * score
            assert score < 0.15 * (truth.max() - truth.min())


def test_what_the_chapter_says_of_the_directions(trained):
    """Found ones change their own reading by most of its range; smile and pose hardly another; some variables mix factors."""
    model, reader, _ = trained
    explorer, faces24 = TwoLatentDirections.of_faces(), plain_faces()
    with torch.no_grad():
        directions = found_directions(model.encode(faces24.test).mean, faces24.test_factors)
    directions = torch.cat([directions, torch.eye(model.latent, dtype=torch.float64)])
    low, high = (read(explorer.reader, model, mean_levels(model, explorer.decoder, sign * 3 * directions)) for sign in (-1, 1))
    change = (high - low)[:, [FACTORS.index(name) for name in ("smile", "pose", "glasses")]]  # each has a range of 1
    own, others = change[:3].diagonal(), change[:3] - torch.diag(change[:3].diagonal())
    assert (own > 0.9).all() and (others[:2].abs() < 0.15).all()
    assert 0.2 < others[2, 0] < 0.4  # glasses bring some smile
    single = change[3:].abs()
    assert ((single > 0.5).sum(1) == 2).sum() == 2  # z2 and z3: pose and glasses
    assert (single[3] > torch.tensor([0.9, 0, 0])).all() and (single[3, 1:] < 0.1).all()  # z4: the smile alone
    assert [f["score"] for f in explorer.state["factors"]] == [reader.scores[name] for name in ("smile", "pose", "glasses")]


@pytest.fixture
def opened(visit, explorer, tmp_path):
    with opening(visit, explorer, tmp_path, ".frame[data-rows='7']") as open_page:
        yield open_page


def pixels(page, selector):
    """A canvas's grey levels, flat."""
    values = page.evaluate(
        """(selector) => { const c = document.querySelector(".gencourse-explorer").shadowRoot.querySelector(selector);
        return Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data).filter((_, i) => i % 4 === 0); }""",
        selector,
    )
    return torch.tensor(values, dtype=torch.float64)


def direction(explorer, drawn, name):
    if name[0] == "z":
        return torch.eye(3, dtype=torch.float64)[int(name[1]) - 1]
    with torch.no_grad():
        codes = made()[0].encode(drawn.train).mean
    return found_directions(codes, drawn.train_factors)[FACTORS.index(name)]


def shows(page, explorer, drawn, at, axes=("smile", "pose"), start=0):
    """The face, the readings and their changes are those of Python at this place."""
    model = made()[0]
    with torch.no_grad():
        base = model.encode(drawn.train[start - 1 : start]).mean[0].double() if start else torch.zeros(3, dtype=torch.float64)
    u, v = (direction(explorer, drawn, name) for name in axes)
    places = torch.stack([at[0] * u + at[1] * v, -3 * u, 3 * u, -3 * v, 3 * v]) + base
    levels = mean_levels(model, explorer.decoder, places)
    assert (pixels(page, ".face") - levels[0].flatten()).abs().max() <= 0.51
    here, left, right, down, up = read(explorer.reader, model, levels)
    for kind, expected in (("now-value", here), ("across", right - left), ("up", up - down)):
        cells = page.locator(f"td.{kind}").all_text_contents()
        got = torch.tensor([float(cell.replace("\u2212", "-")) for cell in cells], dtype=torch.float64)
        assert (got - expected).abs().max() < 0.006
    bold = [("much" in cell.get_attribute("class")) for cell in page.locator("td.across").all()]
    part = (right - left).abs() / torch.tensor([f["high"] - f["low"] for f in explorer.state["factors"]])
    assert all(part[i] >= 0.249 if much else part[i] < 0.251 for i, much in enumerate(bold))
    return True


def drag(page, a, b):
    """From the ring to the place (a, b)."""
    box, ring = page.locator(".plane").bounding_box(), page.locator(".mark").bounding_box()
    page.mouse.move(ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * (a + 3) / 6, box["y"] + box["height"] * (3 - b) / 6, steps=3)
    page.mouse.up()


def at(page):
    found = re.match(r"(\S+) across \(.*\) and (\S+) up", page.locator("output").text_content().replace("\u2212", "-"))
    return float(found[1]), float(found[2])


@pytest.mark.browser
def test_dragging_and_choosing_show_what_python_computes(opened, explorer, drawn):
    seen = opened()
    page = seen.page
    assert at(page) == (0, 0) and shows(page, explorer, drawn, (0, 0))
    page.get_by_role("combobox", name="Direction across").select_option(explorer.state["names"][9])
    page.get_by_role("combobox", name="Where the walk begins").select_option("the code of test face 2")
    assert shows(page, explorer, drawn, (0, 0), ("z2", "pose"), 2)
    drag(page, 1.5, -2.0)
    a, b = at(page)
    assert abs(a - 1.5) < 0.05 and abs(b + 2.0) < 0.05
    page.keyboard.press("Home")
    for key in ("ArrowRight", "Shift+ArrowUp"):
        page.keyboard.press(key)
    assert at(page) == (0.1, 0.5) and shows(page, explorer, drawn, (0.1, 0.5), ("z2", "pose"), 2)
    page.get_by_role("combobox", name="Direction upwards").select_option(explorer.state["names"][9])  # across has it: they swap
    assert shows(page, explorer, drawn, (0.1, 0.5), ("pose", "z2"), 2)
    page.get_by_role("button", name="back to the centre").click()
    assert at(page) == (0, 0)
    assert not seen.errors and not seen.elsewhere


@pytest.mark.browser
def test_the_map_is_the_decoders_faces(opened, explorer, drawn):
    page, model = opened().page, made()[0]
    u, v = direction(explorer, drawn, "smile"), direction(explorer, drawn, "pose")
    line = torch.linspace(-3, 3, 7, dtype=torch.float64)
    z = torch.stack([a * u + b * v for b in line.flip(0) for a in line])
    tiles = mean_levels(model, explorer.decoder, z).view(7, 7, 16, 16).permute(0, 2, 1, 3).flatten()
    assert (pixels(page, ".plane canvas") - tiles).abs().max() <= 0.51


@pytest.mark.browser
def test_a_finger_works_on_a_phone_in_the_dark(opened):
    page = opened(width=390, height=844, dark=True, touch=True).page
    box = page.locator(".plane").bounding_box()
    page.touchscreen.tap(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    assert all(abs(v - 1.5) < 0.1 for v in at(page))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for control in page.locator("button, select").all():
        size = control.bounding_box()
        assert size["height"] >= 24 and size["x"] + size["width"] <= 390


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="2000"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.locator(".plane").nth(1).focus()
    frame.locator(".plane").nth(1).press("ArrowRight")
    assert [text[:4] for text in frame.locator("output").all_text_contents()] == ["0.00", "0.10"]
    assert not seen.errors


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer, drawn):
    bundle = explorer._repr_mimebundle_()
    assert bundle == TwoLatentDirections(*made(), drawn.train, drawn.train_factors)._repr_mimebundle_()
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    assert bundle["text/html"].count("</script>") == 1
    assert json.loads(json.dumps(explorer.state)) == explorer.state


def test_the_faces_of_the_book_fit_a_page():
    assert len(TwoLatentDirections.of_faces().to_html()) < 250_000


def test_the_widget_starts_from_the_same_state_and_python_sees_the_place(explorer):
    widget = explorer.widget()
    assert (widget.at, widget.axes) == ([0.0, 0.0], [0, 1])
    widget.set_state({"at": [1.0, -0.5]})  # what the browser sends
    assert widget.at == [1.0, -0.5]


def test_loading_the_weights_draws_no_random_number():
    assert_draws_no_random_number(trained_on_faces)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"axes": ("smile", "z4")}, ValueError, "an axis is one of smile, pose"),
        ({"reach": 0}, ValueError, "reach must be positive"),
        ({"images": torch.zeros(5, 1, 16, 16).long()}, ValueError, "the factors of"),
        (
            {"reader": FactorReader(Space((1, 24, 24), 256), readers._network(Space((1, 24, 24), 256), 3))},
            ValueError,
            "reader of",
        ),
        ({"model": VAE(SPACE, latent=3, activation=nn.ELU)}, TypeError, "Tanh and ReLU, but the network has ELU"),
        ({"model": VAE(Space((1, 16, 16), 2), latent=3)}, TypeError, "a VAE of grey levels"),
    ],
)
def test_mistakes_are_named(drawn, change, error, message):
    model, reader = made()
    given = {"model": model, "reader": reader, "images": drawn.train, "factors": drawn.train_factors} | change
    with pytest.raises(error, match=message):
        TwoLatentDirections(**given)
