"""The test in the page: its order, its staircase, its score and its file are those of Python."""

import json
import re
from collections import Counter

import pytest
import torch
from chromium import serve

from gencourse import data
from gencourse.explorers import TakeTheTest
from gencourse.explorers.take_the_test import order, pictures
from gencourse.metrics.answers import read_answers
from gencourse.metrics.hype import Staircase, error_rates
from gencourse.metrics.two_sample import binomial_interval

CALL = """async ([source, name, calls]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  return calls.map((given) => module[name](...given));
}"""
REALS, FAKES, LAST = 70, {"one": 65, "two": 60}, 50


def images(n, seed):
    return torch.randint(5, (n, 1, 3, 4), generator=torch.Generator().manual_seed(seed))


def made(**options):
    fakes = {name: images(n, k + 1) for k, (name, n) in enumerate(FAKES.items())}
    return TakeTheTest(images(REALS, 0), fakes, levels=5, last=LAST, **options)


@pytest.fixture(scope="module")
def explorer():
    return made()


def called(visit, name, *calls):
    return visit().page.evaluate(CALL, [made().source(), name, calls])


@pytest.mark.browser
def test_the_order_is_python_s_half_of_it_real_and_no_picture_comes_twice(visit):
    cases = [(24, 120, [60, 60, 60, 60], 0), (40, 70, [65, 60], 3), (80, 60, [45], 2**32 - 1), (24, 30, [12] * 5, 7)]
    for case, there in zip(cases, called(visit, "order", *cases), strict=True):
        here = order(*case)
        assert [tuple(pair) for pair in there["pictures"]] == here
        n, reals, fakes, _ = case
        assert len(set(here)) == n and sum(k < 0 for k, _ in here) == n // 2
        shares = Counter(k for k, _ in here if k >= 0)
        assert max(shares.values()) - min(shares[k] for k in range(len(fakes))) <= 1
        assert not {i for k, i in here if k < 0} & set(there["left"]) and len(there["left"]) == reals - n // 2


def test_where_a_picture_stands_says_nothing_of_its_kind():
    """Over 400 orders each place is real half of the time, up to chance: six standard errors are .15."""
    real = torch.tensor([[k < 0 for k, _ in order(24, 60, [60, 60], seed)] for seed in range(400)]).double()
    assert (real.mean(0) - 0.5).abs().max() < 0.15
    assert abs(float(((real[:, 1:] == real[:, :-1]).double()).mean()) - 11 / 23) < 0.04


@pytest.mark.browser
def test_intervals_are_python_s(visit):
    cases = [(0, 24), (24, 24), (13, 24), (40, 80), (1, 120), (119, 120), (5, 7), (1, 1)]
    for case, there in zip(cases, called(visit, "interval", *cases), strict=True):
        assert there == pytest.approx(binomial_interval(*case), abs=1e-9)


@pytest.mark.browser
def test_the_staircase_is_python_s(visit):
    steps, wanted = Staircase(), []
    cases = [(ms, right) for ms in (100, 105, 500, 980, 1000) for right in (True, False)]
    for ms, right in cases:
        wanted.append(float(steps.after(torch.tensor(float(ms)), torch.tensor(right))))
    sent = made().state["staircase"]
    assert called(visit, "after", *[(ms, right, sent) for ms, right in cases]) == wanted


@pytest.fixture
def opened(visit, explorer, tmp_path):
    """The page with a clock that stands still until it is told to run."""
    explorer.save(tmp_path / "test.html")
    with serve(tmp_path) as address:

        def open_page(calm=False, **options):
            seen = visit(**options)
            if calm:
                seen.page.emulate_media(reduced_motion="reduce")
            seen.page.clock.install(time=0)
            seen.page.goto(address + "test.html")
            seen.page.get_by_role("button", name="start").wait_for()
            seen.page.clock.pause_at(60_000)
            return seen

        yield open_page


def press(page, name):
    page.get_by_role("button", name=name).click()


def told(page):
    return page.locator("output").text_content()


def shown(page):
    """The greys in the picture, 0 to 4; None where it is marked."""
    values = page.locator(".stage canvas").evaluate(
        """(c) => {
          const context = c.getContext("2d"), side = c.width / 4;
          return Array.from({ length: 12 }, (_, i) => {
            const at = [Math.floor((i % 4 + 0.5) * side), Math.floor((Math.floor(i / 4) + 0.5) * side)];
            return context.getImageData(...at, 1, 1).data[0];
          });
        }"""
    )
    return [4 * v / 255 for v in values]


def sequence(n, seed=0, whose=None):
    """Kind, name, model and pixels of each picture of the test."""
    names = [whose] if whose else list(FAKES)
    real, found = images(REALS, 0), []
    for k, i in order(n, REALS, [FAKES[name] for name in names], seed):
        if k < 0:
            found.append(("real", f"real-{i:03d}", None, real[i].flatten().tolist()))
        else:
            own = images(FAKES[names[k]], list(FAKES).index(names[k]) + 1)
            found.append(("fake", f"{names[k]}-{i:03d}", names[k], own[i].flatten().tolist()))
    return found


def saved(page, path):
    with page.expect_download() as download:
        press(page, "save the answers")
    file = path / download.value.suggested_filename
    download.value.save_as(file)
    return file


@pytest.mark.browser
def test_the_file_is_read_by_python_whose_score_is_the_page_s(opened, tmp_path):
    seen = opened()
    page = seen.page
    page.get_by_role("combobox", name="How many pictures").select_option("24 pictures")
    press(page, "start")
    given = []
    for number, (kind, _, _, pixels) in enumerate(sequence(24)):
        assert told(page) == f"Picture {number + 1} of 24: real or generated?"
        assert shown(page) == pytest.approx(pixels, abs=0.01)
        page.clock.run_for(400)
        said = {"real": "fake", "fake": "real"}[kind] if number % 3 == 0 else kind
        given.append(said)
        if number % 2:
            press(page, "real (R)" if said == "real" else "generated (G)")
        else:
            page.keyboard.press({"real": "r" if number % 4 else "ArrowLeft", "fake": "G" if number % 4 else "ArrowRight"}[said])
    page.get_by_role("textbox", name="Your name in the file").fill("ada")
    file = saved(page, tmp_path)
    assert file.name == "hype-infinity.json"
    answers = read_answers(file)
    assert answers.test == "infinity"
    assert [(a.rater, a.kind, a.image, a.model, a.answer, a.exposure_ms) for a in answers.answers] == [
        ("ada", kind, name, model, said, None) for (kind, name, model, _), said in zip(sequence(24), given, strict=True)
    ]
    rates, wrong = error_rates(answers), sum(a.wrong for a in answers.answers)
    low, high = binomial_interval(wrong, 24)
    text = page.locator(".score").text_content()
    fakes, reals = (round(12 * float(rate)) for rate in (rates.fakes[0], rates.reals[0]))
    assert f"{fakes} of 12 ({100 * rates.fakes[0]:.1f} %) generated pictures for real" in text
    assert f"{reals} of 12 ({100 * rates.reals[0]:.1f} %) real ones generated" in text
    assert f"error rate: {100 * rates.rate[0]:.1f} %, 95 % interval {100 * low:.1f} % to {100 * high:.1f} %." in text
    assert "describe you and these pictures, and no one else" in text
    for row, name in zip(page.locator("tbody tr").all(), FAKES, strict=True):
        own = [a.wrong for a in answers.answers if a.model == name]
        assert row.locator("td").all_text_contents() == [str(len(own)), str(sum(own))]
    assert page.locator(".film > div").count() == wrong
    page.locator("summary").click()
    assert page.get_by_role("textbox", name="The file", exact=True).input_value() == file.read_text()
    assert not seen.elsewhere and not seen.errors
    press(page, "another test")
    press(page, "start")
    assert shown(page) == pytest.approx(sequence(24, seed=1)[0][3], abs=0.01)


@pytest.mark.browser
def test_exposures_follow_the_staircase_and_are_the_score(opened, tmp_path):
    page = opened().page
    page.get_by_role("radio", name="for a moment").check()
    page.get_by_role("combobox", name="How many pictures").select_option("80 pictures")
    page.get_by_role("combobox", name="Whose samples").select_option("samples of two")
    press(page, "start")
    exposure, exposures, expected = 500.0, [], Staircase()
    for number, (kind, _, _, pixels) in enumerate(sequence(80, whose="two")):
        assert told(page) == f"Picture {number + 1} of 80: look."
        page.keyboard.press("r")  # too early, so it counts for nothing
        page.clock.run_for(700 + 50)
        if number < 5:
            assert shown(page) == pytest.approx(pixels, abs=0.01)
            page.clock.run_for(exposure - 100)
            assert told(page) == f"Picture {number + 1} of 80: look."
            page.clock.run_for(100)
            assert shown(page) != pytest.approx(pixels, abs=0.01)
        else:
            page.clock.run_for(exposure)
        assert told(page) == f"Picture {number + 1} of 80: real or generated?"
        right = number % 5 > 0
        page.keyboard.press("r" if (kind == "real") == right else "g")
        exposures.append(exposure)
        exposure = float(expected.after(torch.tensor(exposure), torch.tensor(right)))
    answers = read_answers(saved(page, tmp_path))
    assert answers.test == "time" and [a.exposure_ms for a in answers.answers] == exposures
    assert f"your last 50 answers: {sum(exposures[-LAST:]) / LAST:.1f} ms." in page.locator(".score").text_content()
    assert f"ended at {exposures[-1]:.0f} ms" in page.locator("svg").get_attribute("aria-label")
    rates = error_rates(answers)
    assert f"({100 * rates.fakes[0]:.1f} %) generated" in page.locator(".score").text_content()


@pytest.mark.browser
@pytest.mark.parametrize(("test", "least"), [("as long as I like", 350), ("for a moment", 800)])
def test_it_never_flashes_three_times_a_second_whatever_is_pressed(opened, test, least):
    page = opened().page
    page.get_by_role("radio", name=test).check()
    press(page, "start")
    for _ in range(80):
        page.keyboard.press("r")
        page.clock.run_for(50)
    number = int(re.match(r"Picture (\d+)", told(page))[1])
    assert 2 <= number <= 1 + 80 * 50 / least


@pytest.mark.browser
def test_who_asks_for_less_motion_calls_each_picture_and_sees_an_even_mask(opened):
    page = opened(calm=True).page
    page.get_by_role("radio", name="for a moment").check()
    assert page.get_by_role("combobox", name="How many pictures").input_value() == "80"  # enough for a score
    page.get_by_role("combobox", name="How many pictures").select_option("40 pictures")
    assert "your settings ask for less motion" in page.locator(".help").text_content()
    press(page, "start")
    pixels = sequence(40)[0][3]
    page.clock.run_for(5000)
    assert told(page).endswith("call it when you are ready.") and shown(page) != pytest.approx(pixels, abs=0.01)
    page.keyboard.press(" ")
    page.clock.run_for(100)
    assert shown(page) == pytest.approx(pixels, abs=0.01)
    page.clock.run_for(600)
    assert len({round(v, 2) for v in shown(page)}) == 1
    page.keyboard.press("g")
    page.clock.run_for(800)
    assert told(page) == "Picture 2 of 40: call it when you are ready."
    press(page, "show the picture")
    page.clock.run_for(100)
    assert shown(page) == pytest.approx(sequence(40)[1][3], abs=0.01)


@pytest.mark.browser
def test_the_score_of_a_test_that_was_stopped_says_what_it_lacks(opened):
    page = opened().page
    press(page, "start")
    press(page, "stop here")
    assert page.get_by_role("button", name="start").is_visible()  # nothing was answered
    press(page, "start")
    kinds = [kind for kind, *_ in sequence(40)]
    for _ in range(1 + kinds.index({"real": "fake", "fake": "real"}[kinds[0]])):
        page.clock.run_for(400)
        page.keyboard.press("r")
    n = 1 + kinds.index({"real": "fake", "fake": "real"}[kinds[0]])
    press(page, "stop here")
    text = page.locator(".score").text_content()
    assert ("unequal numbers" in text) == (n != 2) and "Balanced error rate" in text
    press(page, "another test")
    press(page, "start")
    page.clock.run_for(400)
    page.keyboard.press("r")
    press(page, "stop here")
    assert "pictures of one kind only" in page.locator(".score").text_content()
    rater = page.get_by_role("textbox", name="Your name in the file").input_value()
    assert re.fullmatch("[0-9a-f]{6}", rater)


@pytest.mark.browser
def test_the_keyboard_alone_suffices(opened):
    page = opened().page
    script = "(e => e.ariaLabel || e.value || e.textContent)(document.activeElement.shadowRoot.activeElement)"

    def name():
        return page.evaluate(script)

    names = []
    for _ in range(4):
        page.keyboard.press("Tab")
        names.append(name())
    assert names == ["infinity", "Whose samples", "How many pictures", "start"]
    page.keyboard.press("Enter")
    for _ in range(40):
        page.clock.run_for(400)
        page.keyboard.press("g")
    assert name() == "Your 40 answers"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert name() == "save the answers"


@pytest.mark.browser
def test_a_finger_works_on_a_phone_in_the_dark(opened):
    page = opened(width=390, height=844, dark=True, touch=True).page

    def fits():
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        controls = page.locator("button, select, input[type=text], .group label, summary").all()
        boxes = [c.bounding_box() for c in controls if c.is_visible()]
        assert all(b["height"] >= 24 and b["width"] >= 24 and b["x"] + b["width"] <= 390 for b in boxes)  # WCAG 2.2, 2.5.8
        return boxes

    fits()
    page.get_by_role("button", name="start").tap()
    assert max(b["y"] + b["height"] for b in fits()) <= 844  # picture and buttons in view together
    for _ in range(40):
        page.clock.run_for(400)
        page.get_by_role("button", name="real (R)").tap()
    assert "20 of 20 (100.0 %) generated pictures for real, and called 0 of 20" in told(page)
    fits()


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="1600"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.get_by_role("button", name="start").nth(1).click()
    assert frame.locator("output").all_text_contents() == ["Picture 1 of 40: real or generated?"]
    frame.get_by_role("button", name="start").click()
    assert frame.locator("output").count() == 2
    assert not seen.errors


def test_the_pictures_are_the_data_s_and_say_how_they_came_about():
    real, fakes, names, run = pictures()
    test, train = data.load("digits").test, data.load("digits").train.flatten(1).double()
    assert len(real) == 120 and [len(x) for x in fakes.values()] == [60] * 4
    assert all(torch.equal(x, test[int(name.removeprefix("test-"))]) for name, x in zip(names, real, strict=True))
    assert list(fakes) == run["models"] == ["independent_pixels", "gan", "dcgan", "biggan"] and run["seed"] == 0
    pixels = fakes["independent_pixels"].flatten(1).double()
    error = train.std(0) / 60**0.5 + 1e-9
    assert ((pixels.mean(0) - train.mean(0)).abs() / error).max() < 4.5  # of 64 pixels
    far = {
        name: float(torch.cdist(x.flatten(1).double(), train).min(1).values.mean()) for name, x in {**fakes, "real": real}.items()
    }
    assert far["independent_pixels"] > 1.5 * far["real"] and far["biggan"] < 1.3 * far["real"]


def test_the_chapter_s_is_small():
    explorer = TakeTheTest()
    assert len(explorer.to_html()) < 150_000
    assert explorer.state["lengths"] == [24, 40, 80, 120] and len(explorer.state["fakes"]) == 4


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle == made()._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    assert re.search(r'<div id="(take_the_test-[0-9a-f]{16})"', bundle["text/html"])
    assert bundle["text/html"].count("</script>") == 1
    assert json.loads(json.dumps(explorer.state)) == explorer.state


def test_the_widget_starts_from_the_same_state_and_python_sees_the_answers(explorer):
    widget = explorer.widget()
    assert (widget.test, widget.n, widget.answers) == ("infinity", 40, [])
    widget.set_state({"answers": [{"rater": "a"}], "test": "time"})  # what the browser sends
    assert (widget.test, widget.answers) == ("time", [{"rater": "a"}])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TakeTheTest(images(30, 0)), "or neither"),
        (lambda: TakeTheTest(images(30, 0), {}, levels=5), "one model's fakes or more"),
        (lambda: TakeTheTest(images(19, 0), {"a": images(20, 1)}, levels=5), "20 real images or more"),
        (lambda: TakeTheTest(images(30, 0), {"a": images(11, 1)}, levels=5), "12 fakes of each model"),
        (lambda: TakeTheTest(images(30, 0), {"a": images(20, 1)}, levels=3), "3"),
        (lambda: TakeTheTest(images(30, 0), {"a": images(20, 1)}, levels=40), r"levels must be in 2\.\.36"),
        (lambda: TakeTheTest(images(30, 0), {"a": images(20, 1)}, names=["x"], levels=5), "each with a name"),
        (lambda: made(seed=2**32), "seed must be in 0"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
