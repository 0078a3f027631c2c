"""The glossary and index, made from book/glossary.toml and the chapters; the search of the book reads the same table."""

import re
import tomllib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tools.sources import BOOK, NOTE, Page, Section, chapters


@dataclass(frozen=True)
class Term:
    """A term of the glossary.

    Attributes:
        name: as the book writes it.
        also: other names and spellings.
        search: what else leads here in the search of the book, and is not the same.
        words: by which the section speaks of it, where it uses none of the names.
        at: the chapter and the heading under which it is introduced, as in `"09-vae#Training"`.
        says: what it is, in a sentence.
    """

    name: str
    at: str
    says: str
    also: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    words: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All of its names, the book's own first."""
        return self.name, *self.also

    @property
    def letter(self) -> str:
        """Under which it stands."""
        return _plain(self.name)[0].upper()

    def mentions(self, text: str) -> int:
        """How often one of its names stands in a text, in the singular or the plural."""
        even, small = _even(text), _even(text).lower()  # to look for a word is quicker than to match it
        return sum(len(_pattern(name).findall(even)) for name in self.names if _even(name).lower() in small)

    def stands(self, text: str) -> bool:
        """Whether a text speaks of it, by one of its names or by its words."""
        return self.mentions(text) > 0 or (bool(self.words) and _even(self.words).lower() in _even(text).lower())

    def introduced(self, pages: Sequence[Page]) -> tuple[Page, list[Section]] | None:
        """The chapter and the sections where it is introduced, the one named first; None if there is no such heading."""
        stem, _, heading = self.at.partition("#")
        page = next((page for page in pages if page.path.stem == stem), None)
        sections = page.within(heading) if page else []
        return (page, sections) if page and sections else None


@cache
def _pattern(name: str) -> re.Pattern[str]:
    """A name as a whole word; capitals count where there is nothing else, so that IS is not "is"."""
    flags = 0 if name.isupper() else re.IGNORECASE
    return re.compile(rf"(?<![\w-]){re.escape(_even(name))}(?:s|es)?(?![\w-])", flags)


@cache
def _even(text: str) -> str:
    """A text with plain spaces and hyphens, without emphasis and the addresses of links."""
    text = re.sub(r"\]\([^)]*\)", "]", text).translate(str.maketrans("–’", "-'", "*[]"))
    return re.sub(r"\s+", " ", text)


def _plain(name: str) -> str:
    """What a name is sorted by: β as b, é as e."""
    letters = unicodedata.normalize("NFD", name.casefold().replace("β", "b"))
    return re.sub(r"[^a-z0-9 ]", "", letters)


def terms() -> list[Term]:
    """In the order of the alphabet."""
    table: dict[str, dict[str, Any]] = tomllib.loads((BOOK / "glossary.toml").read_text(encoding="utf-8"))
    found = [
        Term(name, said["at"], said["says"], tuple(said.get("also", ())), tuple(said.get("search", ())), said.get("words", ""))
        for name, said in table.items()
    ]
    return sorted(found, key=lambda term: _plain(term.name))


def page() -> str:
    """The glossary and index."""
    pages = chapters()
    here = {page.path.stem for page in pages}
    every = [term for term in terms() if term.at.partition("#")[0] in here]  # others wait for their chapter
    letters = sorted({term.letter for term in every})
    lines = [
        "# Glossary and index",
        "",
        NOTE.format(tool="glossary", source="book/glossary.toml"),
        "",
        f"{len(every)} terms, each with the section that introduces it, and where else it is spoken of. Names in brackets mean",
        "the same; the search of the book knows them, too. Symbols are on the page on [notation](notation.md).",
        "",
        " · ".join(f"[{letter}](#{letter.lower()})" for letter in letters),
        "",
    ]
    for letter in letters:
        lines += [f"## {letter}", "", *(entry(term, pages) for term in every if term.letter == letter), ""]
    return "\n".join(lines).rstrip() + "\n"


def entry(term: Term, pages: Sequence[Page]) -> str:
    """A term's line."""
    place = term.introduced(pages)
    if place is None:
        raise SystemExit(f"book/glossary.toml: {term.name!r} is introduced in {term.at!r}, which is no heading of a chapter.")
    page, (section, *_) = place
    also = f" ({', '.join(term.also)})" if term.also else ""
    places = [f"[{other.number}]({other.link(most.title)})" for other in pages if other != page and (most := spoken(term, other))]
    more = f"; also in {', '.join(places)}" if places else ""
    title = re.sub(r"^\d+\. ", "", section.title)
    return f"- **{term.name}**{also}. {term.says} [{page.number}, {title}]({page.link(section.title)}){more}."


def spoken(term: Term, page: Page) -> Section | None:
    """The section of a chapter that speaks most of a term; None where it is only mentioned in passing."""
    most, section = max(((term.mentions(section.prose), section) for section in page.sections), key=lambda pair: pair[0])
    return section if most > 1 or term.mentions(section.title) else None
