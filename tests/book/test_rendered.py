"""What must hold for every page of the built book, however many chapters there are."""

import posixpath
import re
from urllib.parse import unquote, urlsplit

SCHEMES = ("http:", "https:", "mailto:", "data:", "javascript:")
# a directive, a role, a fence of MyST or a substitution that was left as text
RAW = re.compile(r"\{[a-z][a-z0-9:_-]*\}`|^\s*(?:`{3,}|:{3,})\s*\{|^\s*:::|^\s*`{3,}|\{\{.*\}\}", re.MULTILINE)


def links(page):
    for element in page.elements:
        for name in ("href", "src"):
            url = element.attributes.get(name)
            if url is not None and not url.startswith(SCHEMES) and not urlsplit(url).netloc:
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


def test_equation_tags_are_in_order_and_belong_to_their_chapter(written):
    for page in written:
        chapter = re.match(r"book/(\d\d)-", page.name)
        tags = re.findall(r"\\tag\{(\d+)\.(\d+)\}", page.path.read_text(encoding="utf-8"))
        assert all(chapter and int(number) == int(chapter[1]) for number, _ in tags), page.name
        assert [int(i) for _, i in tags] == list(range(1, len(tags) + 1)), page.name
