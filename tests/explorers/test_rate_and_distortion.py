"""The page's codes and pictures are the library's, the curve is that of `rate_distortion`, and beta walks along it."""

import json
import math
import re
from itertools import pairwise

import pytest
import torch
from chromium import serve
from opening import assert_draws_no_random_number
from torch import nn

from gencourse import data
from gencourse.explorers import RateAndDistortion
from gencourse.explorers.networks import mean_levels
from gencourse.explorers.rate_and_distortion import normals, trained_on_digits
from gencourse.space import Space
from gencourse.variational.beta import RateDistortion, rate_distortion
from gencourse.variational.posteriors import MixtureOfGaussians
from gencourse.variational.vae import VAE

SPACE = Space((1, 8, 8), 2)
BETAS = (0.1, 1.0, 5.0)
CURVE = [RateDistortion(20.0, 5.0), RateDistortion(8.0, 10.0), RateDistortion(1.0, 22.0)]
SCRIPT = """async ([source, state, seed]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  return state.models.map((one) => {
    const { encode, decode, latent } = module.vae(one);
    return state.images.map((text) => {
      const { mean, sd, rate } = encode(Array.from(text, Number));
      return { mean: [...mean], sd: [...sd], rate, picture: [...decode(mean)] };
    });
  });
}"""


def made(activation=nn.Tanh, **options):
    """VAEs with weights as large as trained ones."""
    torch.manual_seed(0)
    models = [VAE(SPACE, latent=3, hidden=(9,), beta=beta, activation=activation, **options) for beta in BETAS]
    with torch.no_grad():
        for model in models:
            for parameter in model.parameters():
                parameter.normal_(0, 0.3)
    return models


@pytest.fixture(scope="module")
def digits():
    return data.load("binary_digits").test


@pytest.fixture(scope="module")
def explorer(digits):
    return RateAndDistortion(made(), digits, curve=CURVE, chosen=1)


def codes(explorer, k, images):
    """mu, sigma and the rate of each image, with the numbers as they are sent."""
    out = explorer.encoders[k](2.0 * images.flatten(1).double() - 1)
    mean, log_var = out.chunk(2, dim=1)
    q, p = torch.distributions.Normal(mean, (log_var / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    return mean, q.scale, torch.distributions.kl_divergence(q, p).sum(1)


@pytest.mark.browser
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_the_page_codes_and_draws_as_python_does(visit, digits, activation):
    models = made(activation)
    explorer = RateAndDistortion(models, digits, curve=CURVE)
    found = visit().page.evaluate(SCRIPT, [explorer.source(), explorer.state, 0])
    for k, model in enumerate(models):
        mean, sd, rate = codes(explorer, k, digits[:8])
        got = {key: torch.tensor([one[key] for one in found[k]], dtype=torch.float64) for key in found[k][0]}
        pictures = mean_levels(model, explorer.decoders[k], mean).flatten(1)
        for name, expected in {"mean": mean, "sd": sd, "rate": rate, "picture": pictures}.items():
            assert (got[name] - expected).abs().max() < 1e-9, name
        with torch.no_grad():  # but for rounding to float16 it is the library's
            _, kl = model.elbo_terms(digits[:8])
        assert torch.allclose(rate, kl.double(), rtol=0.02, atol=0.02)
        assert rate.std() > 0.05 and pictures.std() > 0.05


def test_the_gaussian_numbers_are_gaussian():
    x = normals(3, 20_000)
    assert abs(float(x.mean())) < 0.03 and abs(float(x.std()) - 1) < 0.02  # four standard errors
    p = torch.distributions.Normal(0.0, 1.0).cdf(x).sort().values
    gap = (p - (torch.arange(len(x)) + 0.5) / len(x)).abs().max()
    assert gap < 2.0 / math.sqrt(len(x))  # Kolmogorov and Smirnov: 1.63 at one per cent
    assert abs(float((x[:-1] * x[1:]).mean())) < 0.03


def test_without_a_curve_it_is_computed_from_the_images(digits):
    models, few = made(), digits[:20]
    explorer = RateAndDistortion(models, few)
    for model, sent in zip(models, explorer.state["models"], strict=True):
        point = rate_distortion(model, few, generator=torch.Generator().manual_seed(0))
        assert (sent["rate"], sent["distortion"]) == (
            pytest.approx(point.rate, abs=1e-3),
            pytest.approx(point.distortion, abs=1e-3),
        )


def test_the_models_that_come_with_the_package_stand_where_their_file_says(digits):
    """On one curve: the larger beta, the lower the rate and the higher the distortion; the bound itself is best near beta = 1."""
    models, run = trained_on_digits()
    points = [rate_distortion(model, digits, samples=20, generator=torch.Generator().manual_seed(5)) for model in models]
    for point, (rate, distortion) in zip(points, run["rate and distortion"], strict=True):
        assert point.rate == pytest.approx(rate, abs=0.01)
        assert point.distortion == pytest.approx(distortion, abs=0.25)  # 20 draws
    assert [model.beta for model in models] == run["betas"]
    assert all(a.rate > b.rate + 0.3 and a.distortion < b.distortion - 0.3 for a, b in pairwise(points))
    bounds = [point.rate + point.distortion for point in points]
    assert min(bounds) > bounds[run["betas"].index(1.0)] - 0.5
    assert bounds[0] > min(bounds) + 3 and bounds[-1] > min(bounds) + 1


@pytest.fixture
def opened(visit, explorer, tmp_path):
    explorer.save(tmp_path / "rate.html")
    with serve(tmp_path) as address:

        def open_page(**options):
            seen = visit(**options)
            seen.page.goto(address + "rate.html")
            seen.page.locator(".plane svg text").first.wait_for()
            return seen

        yield open_page


def strip(page, kind):
    """The grey levels of the eight images of a row, `(8, 64)`."""
    values = page.evaluate(
        """(kind) => {
          const c = document.querySelector(".gencourse-explorer").shadowRoot.querySelector("canvas." + kind);
          const context = c.getContext("2d"), side = c.height / 8;
          return Array.from({ length: 512 }, (_, i) => {
            const image = Math.floor(i / 64), row = Math.floor((i % 64) / 8), column = i % 8 + 9 * image;
            return context.getImageData(Math.floor((column + 0.5) * side), Math.floor((row + 0.5) * side), 1, 1).data[0] / 255;
          });
        }""",
        kind,
    )
    return torch.tensor(values, dtype=torch.float64).view(8, 64)


def shows(page, explorer, digits, k, seed=0):
    """Pictures, rates and the words are those of model k with the numbers of the seed."""
    model = made()[k]
    mean, sd, rate = codes(explorer, k, digits[:8])
    noise, prior = normals(seed, 48).view(2, 8, 3)
    expected = {"test": digits[:8].double()}
    expected |= {"back": mean_levels(model, explorer.decoders[k], mean + sd * noise)}
    expected |= {"drawn": mean_levels(model, explorer.decoders[k], prior)}
    for kind, pictures in expected.items():
        assert (strip(page, kind) - pictures.flatten(1)).abs().max() < 0.0021, kind  # half a level in 255
    told = [float(text) for text in page.locator(".nats span").all_text_contents()]
    assert (torch.tensor(told, dtype=torch.float64) - rate).abs().max() < 0.051
    point, text = CURVE[k], page.locator("output").text_content()
    assert f"\u03b2 = {BETAS[k]:g}: rate R = {point.rate:.1f} nats, distortion D = {point.distortion:.1f} nats" in text
    assert f"R + D = {point.rate + point.distortion:.1f} nats" in text
    return True


def onto(page, k):
    """Where the model's point is on the screen."""
    page.locator(".plane").scroll_into_view_if_needed()
    circle = page.locator(".plane circle").nth(k).bounding_box()
    return circle["x"] + circle["width"] / 2, circle["y"] + circle["height"] / 2


@pytest.mark.browser
def test_dragging_along_the_curve_and_the_slider_show_what_python_computes(opened, explorer, digits):
    seen = opened()
    page = seen.page
    assert shows(page, explorer, digits, 1) and "R + D, the negative bound itself" in page.locator("output").text_content()
    assert page.locator(".price").count() == 0
    page.mouse.move(*onto(page, 1))
    page.mouse.down()
    page.mouse.move(*onto(page, 0), steps=4)
    page.mouse.up()
    assert shows(page, explorer, digits, 0)
    page.get_by_role("button", name="draw again").click()
    assert shows(page, explorer, digits, 0, seed=1)
    page.get_by_role("slider", name="Beta", exact=True).fill("2")
    assert shows(page, explorer, digits, 2, seed=1)
    assert "a nat of rate counts as 5 nats of distortion" in page.locator("output").text_content()
    assert not seen.errors and not seen.elsewhere


@pytest.mark.browser
@pytest.mark.parametrize(("which", "slope"), [("elbo", 1.0), ("price", 5.0)])
def test_the_lines_through_the_point_have_the_slopes_that_are_told(opened, which, slope):
    page = opened().page
    page.get_by_role("slider", name="Beta", exact=True).fill("2")
    ends = [float(page.locator(f".{which}").get_attribute(name)) for name in ("x1", "y1", "x2", "y2")]
    places = [[float(c.get_attribute(name)) for name in ("cx", "cy")] for c in page.locator(".plane circle").all()]
    across = (places[2][0] - places[0][0]) / (CURVE[2].rate - CURVE[0].rate)  # of the screen for a nat
    up = (places[2][1] - places[0][1]) / (CURVE[2].distortion - CURVE[0].distortion)
    assert (ends[3] - ends[1]) / up / ((ends[2] - ends[0]) / across) == pytest.approx(-slope, rel=1e-3)
    at = ends[1] + (places[2][0] - ends[0]) * (ends[3] - ends[1]) / (ends[2] - ends[0])
    assert at == pytest.approx(places[2][1], abs=0.5)


@pytest.mark.browser
def test_the_keyboard_walks_along_the_curve(opened, explorer, digits):
    page = opened().page
    page.locator(".plane").focus()
    for key, k in (
        ("ArrowRight", 0),
        ("ArrowRight", 0),
        ("ArrowUp", 1),
        ("ArrowLeft", 2),
        ("ArrowDown", 1),
        ("ArrowUp", 2),
        ("Home", 1),
    ):
        page.keyboard.press(key)
        assert page.locator(".plane").get_attribute("aria-valuenow") == str(k), key
    assert shows(page, explorer, digits, 1)


@pytest.mark.browser
def test_a_finger_works_on_a_phone_in_the_dark(opened, explorer, digits):
    page = opened(width=390, height=844, dark=True, touch=True).page
    page.touchscreen.tap(*onto(page, 2))
    assert shows(page, explorer, digits, 2)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for control in page.locator("button, input").all():
        size = control.bounding_box()
        assert size["height"] >= 24 and size["x"] + size["width"] <= 390


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="2000"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.locator(".plane").nth(1).press("ArrowRight")
    assert [frame.locator(".plane").nth(i).get_attribute("aria-valuenow") for i in (0, 1)] == ["1", "0"]
    assert not seen.errors


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer, digits):
    bundle = explorer._repr_mimebundle_()
    assert bundle == RateAndDistortion(made(), digits, curve=CURVE, chosen=1)._repr_mimebundle_()
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    assert bundle["text/html"].count("</script>") == 1
    assert json.loads(json.dumps(explorer.state)) == explorer.state


def test_the_digits_of_the_book_fit_a_page():
    assert len(RateAndDistortion.of_digits().to_html()) < 250_000


def test_the_widget_starts_from_the_same_state_and_python_sees_what_is_chosen(explorer):
    widget = explorer.widget()
    assert (widget.chosen, widget.seed) == (1, 0)
    widget.set_state({"chosen": 2})  # what the browser sends
    assert widget.chosen == 2


def test_loading_the_weights_draws_no_random_number():
    assert_draws_no_random_number(trained_on_digits)


@pytest.mark.parametrize(
    ("models", "options", "error", "message"),
    [
        (lambda: made()[::-1], {}, ValueError, "positive and growing, not"),
        (lambda: made()[:1], {}, ValueError, "two models or more"),
        (lambda: made(posterior=MixtureOfGaussians), {}, TypeError, "with Gaussian posteriors"),
        (lambda: [VAE(Space((1, 8, 8), 17), latent=2, beta=b) for b in (1, 2)], {}, TypeError, "VAEs of binary images"),
        (lambda: made(nn.ELU), {}, TypeError, "Tanh and ReLU, but the network has ELU"),
        (made, {"chosen": 3}, ValueError, "chosen must be in 0..2"),
        (made, {"shown": 0}, ValueError, "shown must be in 1.."),
        (made, {"curve": CURVE[:2]}, ValueError, "3 models need as many points"),
    ],
)
def test_mistakes_are_named(digits, models, options, error, message):
    with pytest.raises(error, match=message):
        RateAndDistortion(models(), digits, **({"curve": CURVE} | options))
