"""Prints the rendered book as one PDF, _build/gencourse.pdf, by a headless Chromium.

    python -m tools.pdf            after `make book`, with the `test` extra; `make pdf` does all
    python -m tools.pdf FILE       into another file

The articles of all pages are put into one, in the order of the contents, so that a reference from chapter to chapter is a link
within the PDF; MathJax sets the formulas once. The page is printed twice: the first print says on which page each section
begins, the second has these numbers in its contents. What needs a screen is left out or replaced: exercises, the pages on the
library, code that only draws or prepares; an explorer becomes its still picture with the address of its page.
"""

import html
import json
import posixpath
import re
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from tools.notebooks import address, root

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH = 642  # of the printed area, in pixels: 210 mm less two margins of 20
LEFT_OUT = ("exercises/", "book/library", "book/models")  # to be worked on, or to look things up in
PLACE = "book/print.html"  # where the page seems to lie: beside the others, so that what they load is found


def pages(toc: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """The parts of the contents that are printed: `[(caption, [page, ...]), ...]`, the front page in a part without a caption."""

    def files(entries: list[dict[str, Any]]) -> Iterator[str]:
        for entry in entries:
            if not entry["file"].startswith(LEFT_OUT):
                yield entry["file"]
            yield from files(entry.get("sections", []))

    parts = [("", [toc["root"]]), *((part["caption"], list(files(part["chapters"]))) for part in toc["parts"])]
    return [(caption, names) for caption, names in parts if names]


def anchor(page: str, fragment: str = "") -> str:
    """The id, in the one page, of a page or of a place in it."""
    return f"{page.replace('/', '-')}{'--' if fragment else ''}{fragment}"


def article(text: str, page: str, printed: set[str], public: str) -> Any:
    """The article of a rendered page, made ready for print.

    Args:
        text: of the page, as HTML.
        page: its name without ending, such as `book/09-vae`.
        printed: the names of all pages that are printed; links to them stay within the PDF.
        public: where the book is published, ending in a slash; all other links within it go there.

    Raises:
        ValueError: if the page has no article.
    """
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(text, "html.parser")
    found = soup.find("article")
    if found is None:
        raise ValueError(f"{page} is no page of the book: it has no article.")
    for explorer in found.select(".gencourse-explorer"):
        if explorer.find("img", recursive=False):
            note = soup.new_tag("p", attrs={"class": "elsewhere"})
            link = soup.new_tag("a", href=f"{public}{page}.html")
            link.string = f"{public}{page}.html"
            note.extend(["A still of a picture that can be moved in the page: ", link])
            explorer.append(note)
    for element in found.select("script, style, button, .headerlink, .above-input, .below-input"):
        element.decompose()
    for cell in found.select("div.cell"):  # what only prepared has nothing left
        if not cell.get_text(strip=True) and not cell.find(["img", "svg", "table"]):
            cell.decompose()
    for token in found.select(
        "pre :is(span.n, span.p, span.o, span.w)"
    ):  # these have no colour; as many tags would double the file
        token.unwrap()
    for element in found.find_all(id=True):
        element["id"] = anchor(page, str(element["id"]))
    for link in found.find_all("a", href=True):
        link["href"] = target(str(link["href"]), page, printed, public)
    for image in found.find_all("img"):
        image.attrs.pop("loading", None)  # all of them are printed
    for folded in found.find_all("details"):
        folded["open"] = ""
    return found


def target(href: str, page: str, printed: set[str], public: str) -> str:
    """Where a link of a page leads in print: a place of the PDF, a page of the published book, or what it was."""
    parts = urlsplit(href)
    if parts.scheme or parts.netloc:
        return href
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(parts.path))) if parts.path else f"{page}.html"
    name = path.removesuffix(".html")
    if name in printed:
        return f"#{anchor(name, unquote(parts.fragment))}"
    return f"{public}{path}{'#' if parts.fragment else ''}{parts.fragment}"


def contents(parts: list[tuple[str, list[Any]]]) -> str:
    """The table of contents as HTML: parts, pages, sections. Page numbers come later, into `<span class="number">`."""
    lines = ['<section class="contents"><h1>Contents</h1>']
    for caption, articles in parts:
        lines += [f"<h2>{html.escape(caption)}</h2>" if caption else "", "<ol>"]
        for one in articles:
            heading = one.find("h1")
            sections = "".join(f"<li>{_line(h2)}</li>" for h2 in one.find_all("h2"))
            lines.append(f'<li class="page">{_line(heading)}</li><li><ol class="sections">{sections}</ol></li>')
        lines.append("</ol>")
    return "\n".join([*lines, "</section>"])


def _line(heading: Any) -> str:
    place = heading.find_parent(id=True)["id"]
    name = html.escape(" ".join(heading.get_text().split()))
    return f'<a href="#{place}"><span class="name">{name}</span><span class="dots"></span><span class="number">000</span></a>'


def whole(book: Path, toc: dict[str, Any], public: str, version: str) -> str:
    """The one page that is printed, as HTML.

    Args:
        book: the folder of the rendered book.
    """
    parts = pages(toc)
    printed = {name for _, names in parts for name in names}
    texts = {name: (book / f"{name}.html").read_text(encoding="utf-8") for name in printed}
    articles = {name: article(text, name, printed, public) for name, text in texts.items()}
    styles = dict.fromkeys(link for text in texts.values() for link in re.findall(r'<link[^>]*rel="stylesheet"[^>]*>', text))
    formulas = next(text for text in texts.values() if "tex-chtml.js" in text)
    scripts = [
        tag for tag in re.findall(r"<script[^>]*>.*?</script>", formulas, re.DOTALL) if "MathJax" in tag or "mathjax" in tag
    ]
    order = [name for _, names in parts for name in names]
    heads = [_running(name, articles[name]) for name in order]
    body = "\n".join(f'<section id="{anchor(name)}" style="page: {anchor(name)}">{articles[name]}</section>' for name in order)
    listed = contents([(caption, [articles[name] for name in names]) for caption, names in parts])
    css = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en" data-theme="light" data-mode="light">
<head>
<meta charset="utf-8">
<title>gencourse: generative models, read and run</title>
{"".join(styles)}
<style>{css}{"".join(heads)}</style>
{"".join(scripts)}
</head>
<body>
<div class="cover"><img src="../_static/card.png" alt="gencourse: generative models, read and run">
<p>Version {version}<br><a href="{public}">{public}</a></p></div>
<div class="bd-main print"><div class="bd-content"><div class="bd-article-container">
{listed}
<p class="elsewhere">Printed from the pages of the book. The exercises, the library's own pages and code that only draws or
prepares are left out; explorers are still pictures. All of it is at <a href="{public}">{public}</a>.</p>
{body}
</div></div></div>
</body>
</html>
"""


def _running(name: str, one: Any) -> str:
    """The head of each page of a chapter, as CSS: its title."""
    title = json.dumps(" ".join(one.find("h1").get_text().split()), ensure_ascii=False)
    font = 'font: 8.5pt "DejaVu Sans Condensed", sans-serif; color: #57606a'
    return f"@page {anchor(name)} {{ @top-left {{ content: {title}; {font} }} }}\n"


# Formulas, tables and printed tables that are wider than the paper become smaller; a short cell stays on one page.
FIT = """() => {
  const report = { formulas: 0, tables: 0, outputs: 0, over: [] };
  const fit = (box, inner, name, least) => {
    const wide = inner.getBoundingClientRect().width, room = box.clientWidth;
    if (wide <= room + 1 || !room) return;
    const size = parseFloat(getComputedStyle(box).fontSize);
    box.style.setProperty("font-size", `${Math.max(least, (0.985 * room) / wide) * size}px`, "important");
    report[name] += 1;
  };
  for (const box of document.querySelectorAll("div.math")) {
    const set = box.querySelector("mjx-container mjx-math");
    if (set) fit(box, set, "formulas", 0.5);
  }
  for (const pre of document.querySelectorAll(".columns pre")) {
    const range = document.createRange();
    range.selectNodeContents(pre);
    pre.style.setProperty("white-space", "pre", "important");
    fit(pre, range, "outputs", 0.5);
  }
  for (const table of document.querySelectorAll("article table")) {
    const room = table.parentElement.clientWidth;
    for (let size = 8.4; table.scrollWidth > room + 1 && size >= 6; size -= 0.6) {
      table.style.setProperty("font-size", `${size}pt`, "important");
    }
    if (table.scrollWidth > room + 1) table.classList.add("squeezed");
    if (table.style.fontSize) report.tables += 1;
  }
  for (const part of document.querySelectorAll("div.cell_input, div.cell_output, article p, article li")) {
    if (part.getBoundingClientRect().height < 170) part.classList.add("short");
  }
  for (const part of document.querySelectorAll("article :is(div.math mjx-math, table, pre, img)")) {
    const { right } = part.getBoundingClientRect();
    if (right > innerWidth + 1) report.over.push(`${part.closest("section[style]").id}: ${part.textContent.slice(0, 60)}`);
  }
  return report;
}"""

NUMBER = """(numbers) => {
  for (const link of document.querySelectorAll(".contents a")) {
    const page = numbers[link.getAttribute("href").slice(1)];
    link.querySelector(".number").textContent = page ?? "";
  }
}"""


def begins(pdf: Path) -> dict[str, int]:
    """On which page, from 1, each place begins that a link of the PDF leads to."""
    from pypdf import PdfReader

    reader = PdfReader(pdf)
    found = {name.lstrip("/"): reader.get_destination_page_number(at) for name, at in reader.named_destinations.items()}
    return {unquote(name): page + 1 for name, page in found.items() if page is not None}


ENTRIES = """() => [...document.querySelectorAll(".contents a")].map((link) => [
  Boolean(link.closest(".sections")), link.querySelector(".name").textContent, link.getAttribute("href").slice(1)])"""


def bookmark(pdf: Path, entries: list[tuple[bool, str, str]]) -> None:
    """Give the PDF bookmarks: of each entry whether it is a section of the page before it, its name, and its place."""
    from pypdf import PdfWriter

    numbers, writer, above = begins(pdf), PdfWriter(clone_from=pdf), None
    for section, name, place in entries:
        if place in numbers:
            item = writer.add_outline_item(title=name, page_number=numbers[place] - 1, parent=above if section else None)
            above = above if section else item
    writer.write(pdf)


def printed(text: str, book: Path, out: Path) -> dict[str, Any]:
    """Print the page, which loads what lies in the folder of the book, into the file `out`; says what had to be fitted.

    Raises:
        SystemExit: with one sentence, if there is no browser.
    """
    import shutil

    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise SystemExit("no Chromium found: install it with `apt-get install chromium`, or Google Chrome elsewhere.")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(book)))
    Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}/"
    options: dict[str, Any] = {
        "prefer_css_page_size": True,
        "print_background": True,
        "tagged": False,
    }  # tags would nearly double the file: 27 MB for 15
    try:
        with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
            chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
            page = chromium.new_page(viewport={"width": WIDTH, "height": 971})
            page.set_default_timeout(1_800_000)  # a busy machine is slow, and no fault
            page.emulate_media(media="print", color_scheme="light")
            page.route(f"{here}{PLACE}", lambda route: route.fulfill(content_type="text/html", body=text))
            page.goto(f"{here}{PLACE}", wait_until="load")
            page.evaluate("async () => { await window.MathJax?.startup?.promise; }")
            page.evaluate("() => document.fonts.ready")
            report: dict[str, Any] = page.evaluate(FIT)
            first = Path(folder) / "first.pdf"
            page.pdf(path=first, **options)
            page.evaluate(NUMBER, begins(first))
            page.pdf(path=out, **options)
            bookmark(out, page.evaluate(ENTRIES))
            chromium.close()
    finally:
        server.shutdown()
        server.server_close()
    return report


def main(arguments: list[str]) -> int:
    """Print the book that `make book` has rendered; the number is the exit status."""
    import yaml

    import gencourse

    home = root()
    book = home / "_build" / "html"
    if not (book / "book" / "index.html").is_file():
        raise SystemExit(f"there is no rendered book in {book}: `make book` makes it.")
    toc = yaml.safe_load((home / "_toc.yml").read_text(encoding="utf-8"))
    owner, name = address(home).rstrip("/").split("/")[-2:]
    out = Path(arguments[0]) if arguments else home / "_build" / "gencourse.pdf"
    report = printed(whole(book, toc, f"https://{owner}.github.io/{name}/", gencourse.__version__), book, out)
    fitted = ", ".join(f"{report[kind]} {kind}" for kind in ("formulas", "tables", "outputs"))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB; made smaller to fit: {fitted}.")
    for over in report["over"]:
        print(f"  wider than the page: {over}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
