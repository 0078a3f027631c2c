"""What the pages about the book are made from: its chapters as text, section by section, and its exercises."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
NOTE = "<!-- Made by tools/{tool}.py from {source}; `make format` renews it. -->"
HEADING = re.compile(r"(#{1,6}) +(.*?)\s*$")


def anchor(heading: str) -> str:
    """The address of a heading within its page, as GitHub and the book make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@dataclass
class Section:
    """A stretch of a page from one heading to the next: its level, title, cells (kind, source, text of its outputs)."""

    level: int
    title: str
    cells: list[tuple[str, str, str]] = field(default_factory=list)

    @cached_property
    def prose(self) -> str:
        """Its title and text, no code."""
        return "\n\n".join([self.title, *(source for kind, source, _ in self.cells if kind == "markdown")])


@dataclass(frozen=True)
class Page:
    """A page of the book: a notebook, or a file of Markdown."""

    path: Path

    @property
    def number(self) -> int:
        """Of a chapter or an exercise; 0 for other pages."""
        return int(self.path.name[:2]) if self.path.name[:2].isdigit() else 0

    @property
    def title(self) -> str:
        """Without the number."""
        return re.sub(r"^(?:\d+\.|Exercise \d+:)\s*", "", self.sections[0].title)

    def link(self, title: str = "") -> str:
        """The address of a section, from another page of the book."""
        folder = "" if self.path.parent.name == "book" else f"../{self.path.parent.name}/"
        return f"{folder}{self.path.name}" + (f"#{anchor(title)}" if title else "")

    @cached_property
    def sections(self) -> list[Section]:
        """In order; what stands before the first heading is left out."""
        found: list[Section] = []
        for kind, source, output in self._cells():
            if kind != "markdown":
                if found:
                    found[-1].cells.append((kind, source, output))
                continue
            part: list[str] = []
            fenced = False
            for line in [*source.split("\n"), None]:
                heading = None if line is None or fenced else HEADING.match(line)
                if line is None or heading:
                    if found and "".join(part).strip():
                        found[-1].cells.append((kind, "\n".join(part), ""))
                    part = []
                    if heading:
                        found.append(Section(len(heading[1]), heading[2]))
                else:
                    fenced ^= line.startswith("```")
                    part.append(line)
        return found

    def within(self, title: str) -> list[Section]:
        """A section with those below it; none if there is no such heading."""
        at = next((i for i, section in enumerate(self.sections) if section.title == title), None)
        if at is None:
            return []
        first, *rest = self.sections[at:]
        return [first, *itertools.takewhile(lambda section: section.level > first.level, rest)]

    def _cells(self) -> Iterator[tuple[str, str, str]]:
        text = self.path.read_text(encoding="utf-8")
        if self.path.suffix != ".ipynb":
            yield "markdown", text, ""
            return
        for cell in json.loads(text)["cells"]:
            printed = (output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", []))
            yield cell["cell_type"], _joined(cell["source"]), "\n".join(map(_joined, printed))


def _joined(lines: Any) -> str:
    return lines if isinstance(lines, str) else "".join(lines)


def chapters() -> list[Page]:
    """Those that are written and stand in the contents, in order."""
    return _pages("book")


def exercises() -> list[Page]:
    """Those that stand in the contents, in order."""
    return _pages("exercises")


def _pages(folder: str) -> list[Page]:
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    paths = [ROOT / f"{name}.ipynb" for name in re.findall(rf"file: ({folder}/\d\d-\S+)", toc)]
    return [Page(path) for path in paths if path.exists()]


def filled(text: str, parts: Mapping[str, str]) -> str:
    """A page that is written by hand, with what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->` renewed."""
    for name, made in parts.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{made}\n\n{end}{rest.split(end)[1]}"
    return text
