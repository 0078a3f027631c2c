"""The built pages in a real browser whose network ends at loopback."""

import re

import pytest

pytestmark = pytest.mark.browser

WIDTHS = {"wide": 1200, "phone": 390}
# Sphinx-thebe, where a theme brings it, declares a constant twice; nothing comes of it.
KNOWN = re.compile("THEBE_JS_URL")


def open_page(visit, address, name, **options):
    seen = visit(**options)
    seen.page.goto(f"{address}{name}.html", wait_until="load")
    seen.page.evaluate("() => window.MathJax?.startup?.promise")
    return seen


@pytest.fixture
def chapters(notebooks):
    return [name for name in notebooks if name.startswith("book/")]


def test_every_page_works_with_the_network_off(visit, address, toc):
    for name in toc:
        seen = open_page(visit, address, name)
        seen.page.wait_for_load_state("networkidle")
        assert not seen.elsewhere, f"{name} asked for {seen.elsewhere}"
        errors = [error for error in seen.errors if not KNOWN.search(error)]
        assert not errors, f"{name}: {errors}"


def test_formulas_are_set_with_their_numbers(visit, address, chapters):
    for name in chapters:
        page = open_page(visit, address, name).page
        source = page.request.get(f"{address}{name}.html").text()
        tags = re.findall(r"\\tag\{([\d.]+)\}", source)
        shown = page.locator("mjx-labels, mjx-mtd").evaluate_all(
            """cells => cells.filter((c) => /^mjx-eqn:/.test(c.id)).map((c) => c.id.slice(8))"""
        )
        assert sorted(shown) == sorted(tags), name
        assert page.locator("mjx-merror, .MathJax_Error").count() == 0, name
        written = page.locator("span.math, div.math").count()
        assert page.locator("span.math mjx-container, div.math mjx-container").count() >= written > 0, name
        assert page.evaluate("document.fonts.check('16px MJXTEX')"), name


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", list(WIDTHS.values()), ids=list(WIDTHS))
def test_nothing_is_wider_than_the_screen(visit, address, toc, width, dark):
    for name in toc:
        page = open_page(visit, address, name, width=width, dark=dark).page
        assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if dark else "light")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
        cut = page.evaluate("""() => [...document.querySelectorAll("article :is(img, table, .gencourse-explorer)")]
            .filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))""")
        assert not cut, f"{name}: {cut}"


def test_a_long_formula_scrolls_inside_itself_from_its_beginning(visit, address, chapters):
    for name in chapters:
        page = open_page(visit, address, name, width=390).page
        hidden = page.evaluate("""() => [...document.querySelectorAll("div.math")].filter((d) => {
            d.scrollLeft = 0;
            const left = d.querySelector("mjx-container").getBoundingClientRect().left;
            const canScroll = d.scrollWidth <= d.clientWidth || getComputedStyle(d).overflowX === "auto";
            return left < d.getBoundingClientRect().left - 1 || !canScroll;
        }).map((d) => d.textContent.slice(0, 60))""")
        assert not hidden, f"{name}: {hidden}"


CONTRAST = """() => {
  const numbers = (s) => s.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = (e) => {
    const c = numbers(getComputedStyle(e).backgroundColor);
    return c[3] === 0 && e.parentElement ? ground(e.parentElement) : c;
  };
  return [...document.querySelectorAll("article, article .gencourse-explorer")].map((e) => {
    const [a, b] = [numbers(getComputedStyle(e).color), ground(e)].map((c) => light(c));
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  });
}"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(visit, address, toc, dark):
    for name in toc:
        contrast = open_page(visit, address, name, dark=dark).page.evaluate(CONTRAST)
        assert min(contrast) >= 7, name  # the strictest level of WCAG 2


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


# What is done to each explorer, by the beginning of its id.
USES = {
    "manifold": drag_the_manifold,
    "receptive_field": look_from_another_pixel,
    "one_pixel_at_a_time": draw_some_pixels,
    "the_game": play_some_rounds,
    "latent_arithmetic": add_a_face,
    "self_test": answer_the_questions,
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


def test_search_finds_a_chapter(visit, address):
    seen = visit()
    seen.page.goto(f"{address}search.html?q=variational")
    seen.page.locator("#search-results li a").first.wait_for()
    assert not seen.elsewhere
