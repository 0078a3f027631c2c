"""The book as a PDF: what is printed, where links lead, and that a formula stays on the paper. The whole is `make pdf`."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

from tools import pdf

ROOT = Path(__file__).parents[1]
PUBLIC = "https://example.org/book/"
STILL = (
    '<div class="gencourse-explorer" id="e"><img alt="a plane" src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'
    "<script>1</script></div>"
)
WIDE = " + ".join(f"x_{{{i}}}" for i in range(30))


def page(title: str, body: str) -> str:
    """A page as the theme makes it, as far as printing looks at it."""
    return f"""<html><head><link href="../_static/gencourse.css" rel="stylesheet">
<script>window.MathJax = {{}}</script><script defer src="../mathjax/tex-chtml.js"></script></head>
<body><nav>Contents</nav><article class="bd-article"><section id="top"><h1>{title}<a class="headerlink" href="#top">#</a></h1>
{body}</section></article></body></html>"""


ONE = page(
    "1. One",
    '<section id="first"><h2>The first</h2><p><a href="02-two.html#eq-2-1">(2.1)</a> <a href="#first">here</a>'
    ' <a href="../exercises/01-one.html">exercise 01</a> <a href="https://example.com/paper">a paper</a></p></section>'
    '<div class="cell"><div class="cell_input"><details class="above-input"><pre>import torch</pre></details></div></div>'
    '<div class="cell"><div class="cell_input"><pre>fit(model)</pre></div></div>' + STILL,
)
TWO = page("2. Two", rf'<section id="second"><h2>A wide one</h2><div class="math" id="eq-2-1">\[{WIDE}\]</div></section>')
TOC = {
    "root": "book/index",
    "parts": [
        {
            "caption": "A part",
            "chapters": [{"file": "book/01-one", "sections": [{"file": "exercises/01-one"}]}, {"file": "book/02-two"}],
        },
        {"caption": "Beside", "chapters": [{"file": "book/library"}]},
    ],
}


@pytest.fixture
def book(tmp_path):
    """A rendered book of three pages, with the course's own styles and formulas."""
    (tmp_path / "book").mkdir()
    for name, text in (("index", page("Front", "<p>Front page.</p>")), ("01-one", ONE), ("02-two", TWO)):
        (tmp_path / "book" / f"{name}.html").write_text(text)
    shutil.copytree(ROOT / "book" / "_static", tmp_path / "_static")
    shutil.copytree(ROOT / "book" / "_vendor" / "mathjax", tmp_path / "mathjax")
    return tmp_path


def test_exercises_and_the_library_s_pages_are_not_printed():
    assert pdf.pages(TOC) == [("", ["book/index"]), ("A part", ["book/01-one", "book/02-two"])]
    every = [name for _, names in pdf.pages(yaml.safe_load((ROOT / "_toc.yml").read_text())) for name in names]
    assert {"book/index", "book/09-vae", "book/notation"} <= set(every) and len(every) == len(set(every))


@pytest.mark.parametrize(
    ("href", "leads"),
    [
        ("02-two.html#eq-2-1", "#book-02-two--eq-2-1"),
        ("02-two.html", "#book-02-two"),
        ("#first", "#book-01-one--first"),
        ("../exercises/01-one.html#a", f"{PUBLIC}exercises/01-one.html#a"),
        ("https://example.com/paper#3", "https://example.com/paper#3"),
    ],
)
def test_a_link_stays_in_the_pdf_where_it_can(href, leads):
    assert pdf.target(href, "book/01-one", {"book/01-one", "book/02-two"}, PUBLIC) == leads


def test_what_needs_a_screen_is_left_out_or_replaced():
    text = str(pdf.article(ONE, "book/01-one", {"book/01-one"}, PUBLIC))
    assert "fit(model)" in text and "import torch" not in text and "<script" not in text and "headerlink" not in text
    assert f'can be moved in the page: <a href="{PUBLIC}book/01-one.html"' in text and "a plane" in text
    assert BeautifulSoup(text, "html.parser").find("h2").parent["id"] == "book-01-one--first"
    with pytest.raises(ValueError, match="book/none is no page of the book"):
        pdf.article("<html></html>", "book/none", set(), PUBLIC)


@pytest.mark.browser
def test_the_contents_name_the_page_on_which_a_section_begins_and_a_wide_formula_is_made_to_fit(book, tmp_path):
    from pypdf import PdfReader

    out = tmp_path / "out.pdf"
    toc = TOC | {"parts": TOC["parts"][:1]}
    report = pdf.printed(pdf.whole(book, toc, PUBLIC, "1.2.3"), book, out)
    assert report["formulas"] == 1 and not report["over"]
    reader = PdfReader(out)
    texts = [" ".join(page.extract_text().split()) for page in reader.pages]
    assert len(texts) == 5  # cover, contents, three pages
    assert "Version 1.2.3" in texts[0]
    starts = pdf.begins(out)
    for title, place in (("1. One", "book-01-one--top"), ("A wide one", "book-02-two--second")):
        number = starts[place]
        assert title in texts[number - 1]
        assert title in texts[1] and str(number) in texts[1].split(title)[1].split()[0]
    assert {(float(page.mediabox.width) // 1, float(page.mediabox.height) // 1) for page in reader.pages} == {(594, 841)}
    names = [[one.title for one in item] if isinstance(item, list) else item.title for item in reader.outline]
    assert names == ["Front", "1. One", ["The first"], "2. Two", ["A wide one"]]
    links = [one.get_object() for one in reader.pages[3].get("/Annots", [])]
    assert any("/Dest" in one or one.get("/A", {}).get("/S") == "/GoTo" for one in links), "(2.1) is a link within the PDF"


def test_without_a_rendered_book_it_says_so(tmp_path, monkeypatch):
    (tmp_path / "_config.yml").write_text(f"repository:\n  url: {PUBLIC}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"there is no rendered book in .*`make book` makes it"):
        pdf.main([])


def test_without_a_browser_it_says_what_to_install(book, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="no Chromium found: install it"):
        pdf.printed("", book, tmp_path / "out.pdf")


def test_make_help_names_it():
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "_build/gencourse.pdf" in listed and "_build/gencourse-VERSION.zip" in listed
