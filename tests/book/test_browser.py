"""The built pages in a real browser whose network ends at loopback."""

import re
import zipfile
from pathlib import Path

import pytest
from chromium import Visit

from gencourse.metrics.answers import read_answers
from tools.bundle import bundle

pytestmark = pytest.mark.browser

# Sphinx-thebe, where a theme brings it, declares a constant twice; nothing comes of it.
KNOWN = re.compile("THEBE_JS_URL")
AXE = Path(__file__).parent / "axe" / "axe.min.js"
# What axe-core finds in the theme and in myst-nb, which we do not write: by rule, where.
THEME = {
    "summary-name": r"summary|details",  # chevrons of the sidebar
    "label-content-name-mismatch": r"search-button|toggle-hidden|above-input|copybtn",
    "region": r"tooltip|skip|pst-|bd-|navbar|search|header|footer|dialog",
    "duplicate-id": r"search-input",
    "duplicate-id-aria": r"search-input",
    "landmark-unique": r"nav|sidebar|bd-",
    "aria-allowed-role": r"bd-|nav|search|toctree",
}


def open_page(visit, address, name, **options):
    seen = visit(**options)
    seen.page.goto(f"{address}{name}.html", wait_until="load")
    seen.page.evaluate("() => window.MathJax?.startup?.promise")
    return seen


@pytest.fixture
def chapters(notebooks):
    return [name for name in notebooks if name.startswith("book/")]


WIDE = """() => ({
  height: document.documentElement.scrollHeight,
  merrors: document.querySelectorAll("mjx-merror, .MathJax_Error").length,
  unset: [...document.querySelectorAll("article :is(span.math, div.math)")]
    .filter((m) => !m.querySelector("mjx-container")).length,
  fonts: !document.querySelector("mjx-container") || document.fonts.check("16px MJXTEX"),
  numbers: [...document.querySelectorAll("article .eqno")].map((a) => a.textContent.slice(1, -1)),
  outputs: [...document.querySelectorAll(".cell_output pre")].filter((p) => p.scrollWidth > p.clientWidth + 1).length,
  code: [...document.querySelectorAll(".cell_input pre")].filter((p) => p.scrollWidth > p.clientWidth + 1)
    .map((p) => p.textContent.slice(0, 60)),
  soft: [...document.querySelectorAll("article .cell_output img")].filter((i) => i.complete && i.naturalWidth
    && i.naturalWidth < 1.9 * i.getAttribute("width")).map((i) => i.alt.slice(0, 60)),
})"""

# Words of table cells that stand on two lines, and numbers of formulas out of sight.
NARROW = r"""() => {
  const broken = [];
  for (const cell of document.querySelectorAll("article :is(td, th)")) {
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    for (let text; (text = texts.nextNode());) {
      if (text.parentElement.closest("code, .math, mjx-container")) continue;
      for (const word of text.data.matchAll(/[\p{L}\p{N}]{2,}/gu)) {
        const range = document.createRange();
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size > 1) broken.push(word[0]);
      }
    }
  }
  const outside = [...document.querySelectorAll("article .eqno")].filter((a) => {
    const { left, right, width } = a.getBoundingClientRect(), box = a.closest("article").getBoundingClientRect();
    return !width || left < box.left || right > Math.min(box.right, innerWidth) + 1;
  }).map((a) => a.textContent);
  const cut = [...document.querySelectorAll("article :is(img, table, .gencourse-explorer)")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80));
  const hidden = [...document.querySelectorAll("div.math")].filter((d) => {
    d.scrollLeft = 0;
    const left = d.querySelector("mjx-container").getBoundingClientRect().left;
    const canScroll = d.scrollWidth <= d.clientWidth + 1
      || (getComputedStyle(d).overflowX === "auto" && d.tabIndex === 0 && d.classList.contains("goes-on"));
    return left < d.getBoundingClientRect().left - 1 || !canScroll;
  }).map((d) => d.textContent.slice(0, 60));
  const squashed = [...document.querySelectorAll("article .cell_output img[height]")].filter((i) => {
    const { width, height } = i.getBoundingClientRect();
    return width && Math.abs((width / height) * (i.getAttribute("height") / i.getAttribute("width")) - 1) > 0.02;
  }).map((i) => i.alt.slice(0, 60));
  const wrapped = [...document.querySelectorAll(".cell_output .columns pre")].filter((p) => {
    const { lineHeight, paddingTop, paddingBottom } = getComputedStyle(p);
    const room = p.clientHeight - parseFloat(paddingTop) - parseFloat(paddingBottom);
    return room / parseFloat(lineHeight) > p.textContent.trimEnd().split("\n").length + 1.5;
  }).map((p) => p.textContent.slice(0, 60));
  return { broken, outside, cut, hidden, squashed, wrapped, wider: document.documentElement.scrollWidth - innerWidth };
}"""

CONTRAST = r"""() => {
  const numbers = (s) => s.match(/[\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = (e) => {
    const c = numbers(getComputedStyle(e).backgroundColor);
    return c[3] === 0 && e.parentElement ? ground(e.parentElement) : c;
  };
  const contrast = (e) => {
    const [a, b] = [numbers(getComputedStyle(e).color), ground(e)].map((c) => light(c));
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  return {
    theme: document.documentElement.dataset.theme,
    text: Math.min(...[...document.querySelectorAll("article, article .gencourse-explorer")].map(contrast)),
    links: Math.min(21, ...[...document.querySelectorAll("article td a")].map(contrast)),
  };
}"""

AXE_RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .flatMap((v) => v.nodes.map((n) => [v.id, n.target.flat().join(" "), n.html.slice(0, 120)]))"""

FOCUS = """() => [...document.querySelectorAll(".bd-header-article :is(button, label, a)")]
  .filter((e) => e.offsetParent && e.tabIndex >= 0).map((e) => {
    e.focus({ focusVisible: true });
    const s = getComputedStyle(e);
    return [(e.getAttribute("aria-label") || e.title || e.outerHTML).slice(0, 80), s.outlineStyle, s.boxShadow];
  }).filter(([, outline, shadow]) => outline === "none" && shadow === "none").map(([name]) => name)"""


@pytest.fixture(scope="module")
def looked(browser, address, toc):
    """Each page opened once, and looked at on a wide screen and a phone, light and dark; by page what was seen."""
    found = {}
    for name in toc:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
        seen = Visit(context.new_page())
        page = seen.page
        page.goto(f"{address}{name}.html", wait_until="load")
        page.evaluate("() => window.MathJax?.startup?.promise")
        page.wait_for_load_state("networkidle")
        page.evaluate("() => measure()")
        this = found[name] = {"wide": page.evaluate(WIDE) | page.evaluate(NARROW), "light": page.evaluate(CONTRAST)}
        page.add_script_tag(path=AXE)
        this["axe"] = page.evaluate(AXE_RUN)
        this["focus"] = page.evaluate(FOCUS)
        page.set_viewport_size({"width": 390, "height": 844})
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => { measure(); done(); }))")
        this["phone"] = page.evaluate(NARROW)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
        page.wait_for_timeout(400)  # colours change in a transition
        this["dark"] = page.evaluate(CONTRAST)
        this["elsewhere"] = seen.elsewhere
        this["errors"] = [error for error in seen.errors if not KNOWN.search(error)]
        context.close()
    return found


def each(looked, *path):
    """What was seen on every page, where there is anything."""
    for name, value in looked.items():
        for key in path:
            value = value[key]
        if value:
            yield f"{name}: {value}"


def test_every_page_works_with_the_network_off(looked):
    assert not [*each(looked, "elsewhere"), *each(looked, "errors")]


def test_formulas_are_set_with_their_numbers(looked, pages):
    assert not [*each(looked, "wide", "merrors"), *each(looked, "wide", "unset")]
    for name, page in looked.items():
        assert page["wide"]["fonts"], name
        own = [e.attributes["href"][1:] for e in pages[f"{name}.html"].find("a") if e.attributes.get("class") == "eqno"]
        assert [f"eq-{n.replace('.', '-')}" for n in page["wide"]["numbers"]] == own, name
        chapter = re.match(r"book/(\d\d)-", name)
        expected = [f"{int(chapter[1])}.{i + 1}" for i in range(len(own))] if chapter else []
        assert page["wide"]["numbers"] == expected, name


def test_nothing_is_wider_than_the_screen(looked):
    for width in ("wide", "phone"):
        assert not [f"{n}: {p[width]['wider']}" for n, p in looked.items() if p[width]["wider"] > 0]
        assert not [*each(looked, width, "cut")]


def test_no_word_of_a_table_is_broken_and_no_page_is_endless(looked):
    assert not [*each(looked, "wide", "broken"), *each(looked, "phone", "broken")]
    assert not [f"{n}: {p['wide']['height']}" for n, p in looked.items() if p["wide"]["height"] > 60_000]


def test_the_number_of_a_formula_is_in_sight(looked):
    assert not [*each(looked, "wide", "outside"), *each(looked, "phone", "outside")]


def test_a_long_formula_scrolls_inside_itself_from_its_beginning_by_keys_too_and_shows_that_it_goes_on(looked):
    assert not [*each(looked, "wide", "hidden"), *each(looked, "phone", "hidden")]


def test_code_and_outputs_are_not_cut_off_on_a_laptop(looked):
    assert not [*each(looked, "wide", "outputs")]
    assert not [*each(looked, "wide", "code")]


def test_lines_of_a_printed_table_stay_whole(looked):
    assert not [*each(looked, "wide", "wrapped"), *each(looked, "phone", "wrapped")]


def test_pictures_have_twice_the_dots_and_their_own_shape(looked):
    assert not [*each(looked, "wide", "soft")]
    assert not [*each(looked, "wide", "squashed"), *each(looked, "phone", "squashed")]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_its_ground(looked, theme):
    for name, page in looked.items():
        assert page[theme]["theme"] == theme, name
        assert page[theme]["text"] >= 7, name  # the strictest level of WCAG 2
        assert page[theme]["links"] >= 4.5, name  # on striped rows as well


def test_buttons_of_the_head_show_the_focus(looked):
    assert not [*each(looked, "focus")]


def test_axe_finds_nothing_but_what_the_theme_does(looked):
    ours = [
        f"{name}: {rule} at {target}: {html}"
        for name, page in looked.items()
        for rule, target, html in page["axe"]
        if not (rule in THEME and re.search(THEME[rule], f"{target} {html}"))
    ]
    assert not ours, "\n".join(ours)


def test_a_finger_scrolls_past_every_explorer(visit, address, chapters):
    for name in chapters:
        page = open_page(visit, address, name, width=390, height=844, touch=True).page
        touch = page.context.new_cdp_session(page)
        for explorer in page.locator(".gencourse-explorer[data-live]").all():
            plane = explorer.locator(".plane").first
            if not plane.count():
                continue
            plane.scroll_into_view_if_needed()
            page.evaluate("() => scrollBy(0, -100)")
            box, before = plane.bounding_box(), page.evaluate("scrollY")
            told = explorer.locator("output").first.text_content()
            x, y = box["x"] + 0.2 * box["width"], min(box["y"] + 0.7 * box["height"], 800)
            touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
            for step in range(1, 11):
                touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y - 20 * step}]})
            touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
            page.wait_for_timeout(300)
            assert page.evaluate("scrollY") > before + 100, f"{name}: {explorer.get_attribute('id')}"
            assert explorer.locator("output").first.text_content() == told, "scrolling past changes nothing"


def drag_the_manifold(page, explorer):
    plane, canvas = explorer.locator(".plane"), explorer.locator("canvas.picture")
    image = lambda: canvas.evaluate("c => c.toDataURL()")  # noqa: E731
    start, box = image(), plane.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.2, steps=5)
    page.mouse.up()
    dragged = image()
    assert dragged != start
    for _ in range(5):
        page.keyboard.press("Shift+ArrowLeft")
    assert image() != dragged
    page.keyboard.press("Home")
    assert explorer.locator("output").text_content() == "z\u2081 = 0.00, z\u2082 = 0.00"
    assert image() == start


def look_from_another_pixel(page, explorer):
    plane, text = explorer.locator(".plane"), explorer.locator("output")
    box = plane.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.95, box["y"] + box["height"] * 0.95, steps=5)
    page.mouse.up()
    dragged = text.text_content()
    page.keyboard.press("ArrowUp")
    assert text.text_content() != dragged
    page.keyboard.press("Home")
    assert text.text_content().startswith("row 0, column 0: comes first")


def draw_some_pixels(page, explorer):
    text, canvas = explorer.locator("output"), explorer.locator("canvas").first
    start, image = text.text_content(), canvas.evaluate("c => c.toDataURL()")
    for _ in range(12):
        explorer.get_by_role("button", name="step", exact=True).click()
    assert text.text_content() != start
    assert canvas.evaluate("c => c.toDataURL()") != image


def play_some_rounds(page, explorer):
    text, canvas = explorer.locator("output"), explorer.locator("canvas").first
    start = canvas.evaluate("c => c.toDataURL()")
    explorer.get_by_role("button", name="new seed", exact=True).click()
    for _ in range(3):
        explorer.get_by_role("button", name="step", exact=True).click()
    assert text.text_content().startswith("Round 3 ")
    assert canvas.evaluate("c => c.toDataURL()") != start


def add_a_face(page, explorer):
    explorer.locator(".sample").first.wait_for()
    canvas, term = explorer.locator(".result canvas"), explorer.locator(".term").first
    start, told = canvas.evaluate("c => c.toDataURL()"), term.text_content()
    explorer.locator(".sample").nth(20).click()  # into the first term, which is active
    assert term.text_content() != told
    changed = canvas.evaluate("c => c.toDataURL()")
    assert changed != start
    explorer.locator("input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    assert canvas.evaluate("c => c.toDataURL()") != changed
    explorer.get_by_text("as at the start").click()
    assert canvas.evaluate("c => c.toDataURL()") == start


def walk_through_the_layers(page, explorer):
    explorer.locator(".frame:not([aria-busy])").wait_for()
    lines, text, slider = (
        explorer.locator("canvas.lines").nth(1),
        explorer.locator("output"),
        explorer.locator("input[type=range]"),
    )
    start, told = lines.evaluate("c => c.toDataURL()"), text.text_content()
    explorer.get_by_role("button", name="on a layer", exact=True).click()
    slider.focus()
    page.keyboard.press("End")
    end = lines.evaluate("c => c.toDataURL()")
    assert end != start and text.text_content() != told
    for which in (0, 1):  # the point is dragged in either picture
        plane, before = explorer.locator(".plane").nth(which), text.text_content()
        plane.scroll_into_view_if_needed()
        box = plane.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.6, steps=5)
        page.mouse.up()
        assert text.text_content() != before
        page.keyboard.press("Home")
    slider.focus()
    page.keyboard.press("Home")
    assert text.text_content() == told
    assert lines.evaluate("c => c.toDataURL()") == start


def follow_the_field(page, explorer):
    explorer.locator(".frame:not([aria-busy])").wait_for()
    points, told, found = explorer.locator("canvas.points"), explorer.locator("output").first, explorer.locator("output").last
    start, before, error = points.evaluate("c => c.toDataURL()"), told.text_content(), found.text_content()
    explorer.get_by_role("button", name="a step towards the noise", exact=True).click()
    assert explorer.locator(".now").text_content().startswith("t = 0.25: 1 of 4 steps")
    plane = explorer.locator(".plane")
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.6, steps=5)
    page.mouse.up()
    assert told.text_content() != before and points.evaluate("c => c.toDataURL()") != start
    page.keyboard.press("Home")
    explorer.get_by_role("radio", name="RK4", exact=True).check()
    explorer.get_by_role("radio", name="noise to data", exact=True).check()
    explorer.locator(".frame:not([aria-busy])").wait_for()
    assert found.text_content() != error
    explorer.get_by_role("radio", name="data to noise", exact=True).check()
    explorer.get_by_role("radio", name="Euler", exact=True).check()
    explorer.locator(".frame:not([aria-busy])").wait_for()
    assert (told.text_content(), found.text_content()) == (before, error)
    assert points.evaluate("c => c.toDataURL()") == start


def hold_some_pixels(page, explorer):
    told, canvas, plane = explorer.locator("output"), explorer.locator("canvas").first, explorer.locator(".plane")
    start = canvas.evaluate("c => c.toDataURL()")
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.05, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.95, box["y"] + box["height"] * 0.5, steps=3)
    page.mouse.up()
    assert "8 pixels are held" in told.text_content()
    page.keyboard.press("Delete")
    assert "7 pixels are held" in told.text_content()
    explorer.get_by_role("button", name="one sweep", exact=True).click()
    assert told.text_content().startswith("1 sweep;") and canvas.evaluate("c => c.toDataURL()") != start
    explorer.get_by_role("button", name="let all go", exact=True).click()
    explorer.get_by_role("button", name="begin again", exact=True).click()
    page.evaluate("document.activeElement.blur()")
    assert canvas.evaluate("c => c.toDataURL()") == start


def walk_some_steps(page, explorer):
    told, state = explorer.locator("output"), explorer.locator("canvas").nth(3)
    start, image = told.text_content(), state.evaluate("c => c.toDataURL()")
    for name in ("one step", "100 steps"):
        explorer.get_by_role("button", name=name, exact=True).click()
    first = told.text_content()
    assert first.startswith("Step 101:") and state.evaluate("c => c.toDataURL()") != image
    explorer.get_by_role("radio", name="plain", exact=True).check()
    explorer.get_by_role("slider", name="Noise").focus()
    page.keyboard.press("ArrowRight")
    explorer.get_by_role("button", name="100 steps", exact=True).click()
    assert told.text_content().startswith("Step 201:") and explorer.locator("tbody tr").count() == 2
    explorer.get_by_role("radio", name="with walkback", exact=True).check()
    explorer.get_by_role("slider", name="Noise").focus()
    page.keyboard.press("ArrowLeft")
    explorer.get_by_role("button", name="begin again", exact=True).click()
    assert told.text_content() == start


def walk_along_two_directions(page, explorer):
    explorer.locator(".frame[data-rows='7']").wait_for()
    told, face, plane = explorer.locator("output"), explorer.locator("canvas.face"), explorer.locator(".plane")
    start, image = told.text_content(), face.evaluate("c => c.toDataURL()")
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.2, steps=5)
    page.mouse.up()
    dragged = face.evaluate("c => c.toDataURL()")
    assert told.text_content() != start and dragged != image
    page.keyboard.press("Shift+ArrowLeft")
    assert face.evaluate("c => c.toDataURL()") != dragged
    explorer.get_by_role("combobox", name="Direction across").select_option(index=4)
    assert "across (z" in told.text_content()
    explorer.get_by_role("combobox", name="Direction across").select_option(index=0)
    explorer.get_by_role("button", name="back to the centre", exact=True).click()
    assert told.text_content() == start and face.evaluate("c => c.toDataURL()") == image


def move_beta(page, explorer):
    told, back, plane = explorer.locator("output"), explorer.locator("canvas.back"), explorer.locator(".plane")
    start, image = told.text_content(), back.evaluate("c => c.toDataURL()")
    plane.scroll_into_view_if_needed()
    ring, last = explorer.locator(".mark").bounding_box(), explorer.locator(".plane circle").last.bounding_box()
    page.mouse.move(ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2)
    page.mouse.down()
    page.mouse.move(last["x"] + last["width"] / 2, last["y"] + last["height"] / 2, steps=5)
    page.mouse.up()
    assert told.text_content() != start and back.evaluate("c => c.toDataURL()") != image
    most = plane.get_attribute("aria-valuenow")
    assert most == plane.get_attribute("aria-valuemax")
    page.keyboard.press("ArrowRight")
    assert int(plane.get_attribute("aria-valuenow")) == int(most) - 1
    page.keyboard.press("Home")
    assert told.text_content() == start and back.evaluate("c => c.toDataURL()") == image


def take_the_test(page, explorer):
    explorer.get_by_role("combobox", name="How many pictures").select_option("24 pictures")
    explorer.get_by_role("button", name="start", exact=True).click()
    told, picture = explorer.locator("output"), explorer.locator(".stage canvas")
    start = picture.evaluate("c => c.toDataURL()")
    for number in range(1, 4):
        assert told.text_content() == f"Picture {number} of 24: real or generated?"
        page.wait_for_timeout(500)  # faster answers do not count
        page.keyboard.press("r")
    assert picture.evaluate("c => c.toDataURL()") != start
    page.wait_for_timeout(500)
    explorer.get_by_role("button", name="generated (G)").click()
    explorer.get_by_role("button", name="stop here", exact=True).click()
    assert "You took " in explorer.locator(".score").text_content()
    with page.expect_download() as download:
        explorer.get_by_role("button", name="save the answers", exact=True).click()
    assert len(read_answers(download.value.path()).answers) == 4
    explorer.get_by_role("button", name="another test", exact=True).click()


def go_from_noise_to_data(page, explorer):
    explorer.locator(".frame:not([aria-busy])").wait_for()
    told, time = explorer.locator("output"), explorer.get_by_role("slider", name="Time, from noise to data")
    start = told.text_content()
    for kind in ("digits", "points"):
        explorer.get_by_role("radio", name=kind, exact=True).check()
        explorer.locator(".frame:not([aria-busy])").wait_for()
        image = explorer.locator("canvas:visible").first
        noise = image.evaluate("c => c.toDataURL()")
        time.focus()
        page.keyboard.press("End")
        assert "This is the end" in told.text_content() and image.evaluate("c => c.toDataURL()") != noise
        page.keyboard.press("Home")
    assert told.text_content() == start
    explorer.get_by_role("radio", name="ancestral", exact=True).check()
    explorer.locator(".frame:not([aria-busy])").wait_for()
    assert told.text_content() != start
    explorer.get_by_role("radio", name="DDIM", exact=True).check()
    explorer.locator(".frame:not([aria-busy])").wait_for()
    assert told.text_content() == start


def answer_the_questions(page, explorer):
    while explorer.get_by_role("button", name="check", exact=True).count():
        options = explorer.locator("label.option")
        if options.count():
            options.last.click()
        else:
            explorer.get_by_label("Your answer, a number").fill("1")
        explorer.get_by_role("button", name="check", exact=True).click()
        assert len(explorer.get_by_role("status").text_content()) > 20
        explorer.locator("button").last.click()
    assert "right at the first try" in explorer.locator("strong").text_content()


def draw_an_outline(page, explorer):
    plane, text = explorer.locator(".plane"), explorer.locator("output")
    filled = lambda: explorer.locator("canvas.answer").evaluate("c => c.toDataURL()")  # noqa: E731
    explorer.get_by_role("button", name="clear", exact=True).click()
    assert text.text_content().startswith("Nothing is drawn yet.")
    empty, box = filled(), plane.bounding_box()
    corners = [
        (box["x"] + box["width"] * a / 16, box["y"] + box["height"] * b / 16)
        for a, b in ((4.5, 4.5), (12.5, 4.5), (12.5, 12.5), (4.5, 12.5))
    ]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in (*corners[1:], corners[0]):
        page.mouse.move(*corner, steps=3)
    page.mouse.up()
    assert text.text_content().startswith("32 pixels of line, 49 inside.")
    drawn = filled()
    assert drawn != empty
    explorer.get_by_role("radio", name="L1 alone").check()
    assert filled() != drawn
    explorer.get_by_role("button", name="new noise", exact=True).click()
    assert "The noise hardly matters" in text.text_content()
    plane.focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert text.text_content().startswith("33 pixels of line, 48 inside.")


def change_a_relation(page, explorer):
    text, canvas = explorer.locator("output"), explorer.locator("canvas.large")
    image = lambda: canvas.evaluate("c => c.toDataURL()")  # noqa: E731
    start, shown = image(), "option:checked"
    one, back = (explorer.get_by_role("combobox", name=name) for name in ("A stands to B", "B stands to A"))
    inverse = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    refused = 0
    for relation, other in inverse.items():
        before = one.locator(shown).text_content()
        one.select_option(relation)
        if text.text_content().startswith("Refused: no scene has"):
            refused += 1
            relation, other = before, inverse[before]
        assert (one.locator(shown).text_content(), back.locator(shown).text_content()) == (relation, other)
    assert refused < 4
    explorer.get_by_role("button", name="the first graph", exact=True).click()
    assert image() == start
    explorer.get_by_role("button", name="swap A and B", exact=True).click()
    swapped = image()
    assert swapped != start
    explorer.get_by_role("button", name="new noise", exact=True).click()
    assert image() != swapped
    assert re.search(r"\d of 3 relations are obeyed in the picture", text.text_content())


def climb_the_tree(page, explorer):
    title, leaves = explorer.locator(".panel .title"), explorer.locator(".leaf")
    leaves.filter(has_text="pix2pix").click()
    assert title.text_content() == "pix2pix"
    page.keyboard.press("Home")
    assert title.text_content() == leaves.first.text_content()
    explorer.get_by_role("radio", name="finds a z for an x?").check()
    assert 0 < explorer.locator(".leaf.yes").count() < leaves.count()
    for chapter in set(leaves.evaluate_all("(leaves) => leaves.map((leaf) => leaf.href)")):
        assert page.request.get(chapter).ok, chapter


# What is done to each explorer, by the beginning of its id.
USES = {
    "manifold": drag_the_manifold,
    "receptive_field": look_from_another_pixel,
    "one_pixel_at_a_time": draw_some_pixels,
    "the_game": play_some_rounds,
    "latent_arithmetic": add_a_face,
    "warp_the_grid": walk_through_the_layers,
    "follow_the_field": follow_the_field,
    "gibbs_sampling": hold_some_pixels,
    "chain_of_reconstructions": walk_some_steps,
    "two_latent_directions": walk_along_two_directions,
    "rate_and_distortion": move_beta,
    "draw_and_translate": draw_an_outline,
    "edit_the_scene": change_a_relation,
    "take_the_test": take_the_test,
    "from_noise_to_data": go_from_noise_to_data,
    "self_test": answer_the_questions,
    "tree_of_models": climb_the_tree,
}


def test_explorers_follow_the_mouse_and_the_keys(visit, address, chapters):
    found = 0
    for name in chapters:
        seen = open_page(visit, address, name)
        for explorer in seen.page.locator(".gencourse-explorer").all():
            found += 1
            explorer.scroll_into_view_if_needed()
            kind = explorer.get_attribute("id").rpartition("-")[0]
            USES[kind](seen.page, explorer)
        assert not seen.elsewhere and not [e for e in seen.errors if not KNOWN.search(e)]
    assert found, "no chapter has an explorer"


def test_pages_without_scripts_show_the_explorers_still_picture(browser, address, chapters):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    for name in chapters:
        page.goto(f"{address}{name}.html")
        for image in page.locator(".gencourse-explorer > img").all():
            assert image.is_visible() and len(image.get_attribute("alt")) > 30
            assert image.bounding_box()["width"] > 100
    context.close()


@pytest.mark.parametrize("where", ["nowhere.html", "book/nowhere.html", "exercises/some/where.html", "gencourse/book/a/b.html"])
def test_from_any_wrong_address_the_front_page_is_a_click_away(visit, address, book, where):
    seen = visit()
    wrong = (book / "404.html").read_text(encoding="utf-8")
    seen.page.route(f"{address}{where}", lambda route: route.fulfill(status=404, content_type="text/html", body=wrong))
    seen.page.goto(f"{address}{where}")
    root = f"{address}gencourse/" if where.startswith("gencourse/") else address
    links = seen.page.evaluate("() => [...document.querySelectorAll('a')].map((a) => a.href)")
    assert links == [f"{root}book/index.html", f"{root}book/lecture-map.html"]
    assert seen.page.evaluate("document.querySelector('form').action") == f"{root}search.html"


def test_the_packed_book_is_read_from_files(browser, book, tmp_path):
    bundle(book, tmp_path / "book.zip", "0")
    with zipfile.ZipFile(tmp_path / "book.zip") as archive:
        archive.extractall(tmp_path)
    context = browser.new_context(offline=True)
    context.set_default_timeout(600_000)
    page, errors = context.new_page(), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "gencourse-0" / "book" / "09-vae.html").as_uri())
    page.evaluate("async () => { await window.MathJax.startup.promise; await document.fonts.ready; }")
    page.locator(".gencourse-explorer[data-live]").first.wait_for()
    seen = page.evaluate("""async () => {
      const images = [...document.querySelectorAll("article img")];
      for (const image of images) { image.loading = "eager"; await image.decode(); }
      return [images.length, document.querySelectorAll("mjx-container").length, document.fonts.check("16px MJXTEX")];
    }""")
    assert seen[0] > 10 and seen[1] > 100 and seen[2]
    page.goto((tmp_path / "gencourse-0" / "search.html").as_uri() + "?q=mode+collapse")
    page.locator("#search-results li a").first.click()
    page.wait_for_url("**/book/*.html*")
    assert not [error for error in errors if not KNOWN.search(error)]
    context.close()


def test_the_logo_is_that_of_the_page_s_ground(visit, address):
    for dark, name in ((False, "logo.svg"), (True, "logo-dark.svg")):
        page = open_page(visit, address, "book/index", dark=dark).page
        shown = page.evaluate("() => [...document.querySelectorAll('.logo img')].filter((i) => i.offsetWidth).map((i) => i.src)")
        assert shown == [f"{address}_static/{name}"]
