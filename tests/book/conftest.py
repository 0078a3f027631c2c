"""The built book: `make book` makes it, these tests read it."""

import os
from dataclasses import dataclass
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from chromium import browser, serve, visit  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@dataclass
class Element:
    """A start tag, and the classes and the tags of the elements around it."""

    tag: str
    attributes: dict[str, str]
    around: tuple[str, ...]
    inside: tuple[str, ...] = ()


class Page(HTMLParser):
    """A page's start tags, its anchors, and the text a reader sees outside of code."""

    def __init__(self, path: Path, book: Path) -> None:
        super().__init__()
        self.path, self.name = path, path.relative_to(book).as_posix()
        self.elements: list[Element] = []
        self.anchors = {""}
        self._open: list[tuple[str, str]] = []
        self._prose: list[str] = []
        self._unlinked: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        self.anchors |= {attributes.get("id", ""), attributes.get("name", "") if tag == "a" else ""}
        around, inside = tuple(classes for _, classes in self._open), tuple(name for name, _ in self._open)
        self.elements.append(Element(tag, attributes, around, inside))
        if tag not in VOID:
            self._open.append((tag, attributes.get("class", "")))

    def handle_endtag(self, tag):
        while any(tag == open_tag for open_tag, _ in self._open):
            if self._open.pop()[0] == tag:
                break

    def handle_data(self, data):
        tags = {tag for tag, _ in self._open}
        if "article" in tags and not tags & {"pre", "code", "script", "style"} and not any("math" in c for _, c in self._open):
            self._prose.append(data)
            heading = tags & {"a", "h1", "h2", "h3", "h4"}
            self._unlinked.append(" " if heading else data)

    def find(self, tag: str) -> list[Element]:
        """The elements of a tag."""
        return [element for element in self.elements if element.tag == tag]

    @cached_property
    def prose(self) -> str:
        return "".join(self._prose)

    @cached_property
    def unlinked(self) -> str:
        """The prose without its links and headings."""
        return "".join(self._unlinked)


@pytest.fixture(scope="session")
def book() -> Path:
    """The folder of the built pages."""
    folder = Path(os.environ.get("GENCOURSE_BOOK", ROOT / "_build" / "html"))
    if not (folder / "book" / "index.html").is_file():
        pytest.fail(f"there is no built book in {folder}: run `make book` first, or set GENCOURSE_BOOK.", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def pages(book) -> dict[str, Page]:
    """Every page by its name, such as `book/index.html`."""
    return {
        page.name: page for page in (Page(path, book) for path in sorted(book.rglob("*.html")) if "_static" not in path.parts)
    }


@pytest.fixture(scope="session")
def written(pages, config, toc) -> list[Page]:
    """The pages that people wrote, in the order of the table of contents."""
    return [pages[f"{name}.html"] for name in toc]


@pytest.fixture(scope="session")
def config() -> dict:
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def toc() -> list[str]:
    """The names in `_toc.yml`, the root first, without extension."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))

    def files(entries):
        for entry in entries:
            yield entry["file"]
            yield from files(entry.get("sections", []))

    return [contents["root"], *(name for part in contents["parts"] for name in files(part["chapters"]))]


@pytest.fixture(scope="session")
def notebooks(toc) -> list[str]:
    """The pages that are notebooks: chapters and their exercises."""
    return [name for name in toc if (ROOT / f"{name}.ipynb").is_file()]


@pytest.fixture(scope="session")
def address(book):
    """The built book on loopback."""
    with serve(book) as url:
        yield url
