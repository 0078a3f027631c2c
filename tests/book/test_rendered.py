"""What must hold for every page of the built book, however many chapters there are."""

import json
import posixpath
import re
import runpy
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]

SCHEMES = ("http:", "https:", "mailto:", "data:", "javascript:")
# a directive, a role, a fence of MyST or a substitution that was left as text
RAW = re.compile(r"\{[a-z][a-z0-9:_-]*\}`|^\s*(?:`{3,}|:{3,})\s*\{|^\s*:::|^\s*`{3,}|\{\{.*\}\}", re.MULTILINE)


def links(page):
    for element in page.elements:
        for name in ("href", "src"):
            url = element.attributes.get(name)
            if url is not None and url != "/" and not url.startswith(SCHEMES) and not urlsplit(url).netloc:
                yield url


def test_every_link_inside_the_book_leads_somewhere(book, pages):
    broken = []
    for page in pages.values():
        for url in links(page):
            parts = urlsplit(url)
            target = (
                posixpath.normpath(posixpath.join(posixpath.dirname(page.name), unquote(parts.path))) if parts.path else page.name
            )
            if not (book / target).is_file():
                broken.append(f"{page.name}: {url} (no such file)")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                broken.append(f"{page.name}: {url} (no such place in the page)")
    assert not broken, "\n".join(broken)


def test_every_page_of_the_contents_is_there_and_can_be_reached(pages, toc):
    assert {f"{name}.html" for name in toc} <= set(pages)
    reached = {posixpath.normpath(posixpath.join("book", urlsplit(url).path)) for url in links(pages["book/index.html"])}
    assert {f"{name}.html" for name in toc[1:]} <= reached


def test_every_picture_has_a_text_for_those_who_do_not_see_it(written):
    silent = [
        f"{page.name}: {image.attributes.get('src', '')[:80]}"
        for page in written
        for image in page.find("img")
        # the theme's own icons stand beside their names
        if not image.attributes.get("alt", "").strip() and not image.attributes.get("src", "").endswith("logo_colab.png")
    ]
    assert not silent, "\n".join(silent)


def test_alt_texts_are_written_by_people(written):
    stored = re.compile(r"^(?:\.\./)?_images/|\.png$")
    machine = [
        f"{p.name}: {i.attributes['alt'][:80]}"
        for p in written
        for i in p.find("img")
        if stored.search(i.attributes.get("alt", ""))
    ]
    assert not machine, "\n".join(machine)


def test_no_markup_is_left_raw(written):
    left = [f"{page.name}: {match[0]!r}" for page in written for match in RAW.finditer(page.prose)]
    assert not left, "\n".join(left)


def test_no_page_shows_an_error(written):
    failed = [
        page.name
        for page in written
        if any(
            "traceback" in e.attributes.get("class", "").split() or "highlight-ipythontb" in e.attributes.get("class", "")
            for e in page.elements
        )
    ]
    assert not failed


def test_no_warning_or_error_stream_is_shown(written):
    noisy = [page.name for page in written if any("stderr" in e.attributes.get("class", "").split() for e in page.elements)]
    assert not noisy


def test_a_notebooks_page_opens_the_same_notebook_on_colab(pages, notebooks, config):
    repository, branch = config["repository"]["url"], config["repository"]["branch"]
    owner_and_name = urlsplit(repository).path.strip("/")
    assert notebooks
    for name in notebooks:
        found = {
            a.attributes["href"]
            for a in pages[f"{name}.html"].find("a")
            if "colab.research.google.com" in a.attributes.get("href", "")
        }
        assert found == {f"https://colab.research.google.com/github/{owner_and_name}/blob/{branch}/{name}.ipynb"}


def test_pages_name_no_other_repository_of_their_own(written, config):
    repository = config["repository"]["url"]
    owner = urlsplit(repository).path.split("/")[1]
    for page in written:
        own = [a.attributes["href"] for a in page.find("a") if f"github.com/{owner}/" in a.attributes.get("href", "")]
        assert own and all(url.startswith((repository, "https://colab.research.google.com/github/")) for url in own)


def test_pages_load_nothing_from_elsewhere(written):
    loaded = [
        f"{page.name}: {url}"
        for page in written
        for e in page.elements
        if e.tag in ("script", "link", "img", "iframe", "source")
        for url in (
            e.attributes.get("src") or (e.attributes.get("href", "") if e.attributes.get("rel", "") == "stylesheet" else ""),
        )
        if url.startswith(("http:", "https:", "//"))
    ]
    assert not loaded, "\n".join(loaded)


def test_references_to_equations_and_chapters_are_links(written, config):
    """Every "(9.3)" and "chapter 9" in prose leads somewhere, if what it names exists."""
    numbers = {e.attributes["id"] for page in written for e in page.elements if e.attributes.get("id", "").startswith("eq-")}
    chapters = {int(page.name[5:7]) for page in written if re.match(r"book/\d\d-", page.name)}
    left = []
    for page in written:
        own = re.match(r"(?:book|exercises)/(\d\d)-", page.name)
        for match in re.finditer(r"\((\d+)\.(\d+)\)|\b[Cc]hapter\s+(\d+)\b", page.unlinked):
            known = f"eq-{match[1]}-{match[2]}" in numbers if match[1] else int(match[3]) in chapters - {own and int(own[1])}
            left += [f"{page.name}: {match[0]}"] if known else []
    assert not left, "\n".join(left)
    linked = [a for page in written for a in page.find("a") if "gencourse-link" in a.attributes.get("class", "")]
    assert len(linked) > 150


def test_a_question_of_an_exercise_is_not_taken_for_an_equation(notebooks):
    wrong = []
    for name in notebooks:
        for cell in json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]:
            for paragraph in "".join(cell["source"]).split("\n\n"):
                if name.startswith("book/") and "**Now you.**" in paragraph:
                    wrong += [f"{name}: {found}" for found in re.findall(r"\(\d+\.\d+\)", paragraph)]
    assert not wrong, f"{wrong}: in brackets it is a link to the equation; write 'question 9.1'"


def test_printed_tables_are_known_from_other_outputs(written):
    in_columns = runpy.run_path(str(ROOT / "book" / "_ext" / "gencourse_pages.py"))["in_columns"]
    assert in_columns("name   score\nvae    16.5") and in_columns("name   score\nvae     16.5")  # on the left, on the right
    assert not in_columns("one sentence.\nAnother  one") and not in_columns("a  b") and not in_columns("    if x:\n    y = 1")
    found = {page.name: sum("columns" in e.attributes.get("class", "").split() for e in page.find("div")) for page in written}
    assert found["book/14-dcgan.html"] >= 5 and found["book/index.html"] == 0


def test_every_picture_has_a_numbered_caption(written):
    """Says which are without: the caption stands in the metadata of the cell, beside the text for those who do not see it."""
    bare = [
        f"{page.name}: {image.attributes.get('alt', '')[:70]}"
        for page in written
        for image in page.find("img")
        if any("cell_output" in classes for classes in image.around) and "figure" not in image.inside
    ]
    assert not bare, "\n".join(bare)
    for page in written:
        chapter = re.match(r"book/(\d\d)-", page.name)
        captions = re.findall(r"Figure (\d+)\.(\d+)\. ", page.prose)
        own = [(int(a), int(b)) for a, b in captions]
        assert own == [(int(chapter[1]), i + 1) for i in range(len(own))] if chapter else not own, page.name


def test_nothing_large_holds_up_the_first_paint(book, written):
    """No script of more than 100 kB that the page waits for."""
    for page in written:
        for script in page.find("script"):
            url = script.attributes.get("src", "")
            if url and not {"defer", "async"} & set(script.attributes):
                path = book / posixpath.normpath(posixpath.join(posixpath.dirname(page.name), urlsplit(url).path))
                assert path.stat().st_size < 100_000, f"{page.name} waits for {url}"


def test_every_page_describes_itself(written):
    for page in written:
        said = [e.attributes["content"] for e in page.find("meta") if e.attributes.get("name") == "description"]
        assert len(said) == 1 and 40 < len(said[0]) < 220, page.name
        assert any(e.attributes.get("rel") == "icon" or "icon" in e.attributes.get("rel", "") for e in page.find("link"))
        assert not any(e.attributes.get("rel") == "index" for e in page.find("link")), "there is no index"


def test_a_shared_link_shows_the_card(book, written, config):
    owner, name = urlsplit(config["repository"]["url"]).path.strip("/").split("/")
    for page in written:
        shared = {e.attributes.get("property", e.attributes.get("name")): e.attributes.get("content") for e in page.find("meta")}
        assert shared["og:url"] == f"https://{owner}.github.io/{name}/{page.name}"
        assert (book / shared["og:image"].removeprefix(f"https://{owner}.github.io/{name}/")).is_file()
        assert shared["twitter:card"] == "summary_large_image" and shared["og:title"] and shared["og:image:alt"]


def test_a_wrong_address_is_answered_by_a_page_that_is_in_no_contents(pages, toc):
    assert "404" not in toc
    assert all(urlsplit(a.attributes["href"]).netloc for a in pages["404.html"].find("a")), "a relative link leads astray"


def test_the_front_page_leads_to_every_page_in_its_text(pages, toc):
    front = pages["book/index.html"]
    inside = {
        posixpath.normpath(posixpath.join("book", urlsplit(a.attributes["href"]).path))
        for a in front.find("a")
        if "article" in a.inside and "href" in a.attributes and not urlsplit(a.attributes["href"]).netloc
    }
    assert not {f"{name}.html" for name in toc[1:]} - inside


def test_cells_that_only_prepare_are_folded(notebooks):
    import nbformat

    for name in notebooks:
        for cell in nbformat.read(f"{ROOT / name}.ipynb", as_version=4).cells[1:3]:
            assert cell.cell_type != "code" or "hide-input" in cell.metadata.get("tags", []), name
