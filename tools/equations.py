"""The page of all verified equations, made from the chapters; what each was checked against is said in book/equations.toml.

python -m tools.equations           say which sentences are missing, or are about cells that have changed since
python -m tools.equations --read    they have been read against their cells: write down the cells' marks

A sentence about code goes stale when the code changes. So it carries a mark of the formula and of the cells down to the check.
Where the mark is not that of today's cells, the page shows the two sides of the check as they stand in the code.
"""

import ast
import hashlib
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

from tools.sources import BOOK, NOTE, Page, chapters

SAID = BOOK / "equations.toml"
FORMULA = re.compile(r"\$\$(.*?)\$\$", re.DOTALL)
TAG = re.compile(r"\s*\\tag\{(\d+\.\d+)\}\s*")


@dataclass(frozen=True)
class Equation:
    """A numbered formula, where it stands, and how it is checked.

    Attributes:
        number: as in `"9.3"`.
        formula: in TeX, without its number.
        page, section: where it stands.
        code: of the cells from the formula down to the last that checks it.
        sides: of each check, as code.
        atol: the largest tolerance of its checks.
    """

    number: str
    formula: str
    page: Page
    section: str
    code: str
    sides: tuple[tuple[str, str], ...]
    atol: float

    @property
    def mark(self) -> str:
        """Eight characters that change with the formula and with the code that checks it."""
        return hashlib.sha256(re.sub(r"\s", "", self.formula + self.code).encode()).hexdigest()[:8]


def equations(page: Page) -> Iterator[Equation]:
    """The numbered equations of a chapter, in order."""
    cells = [(section.title, *cell[:2]) for section in page.sections for cell in section.cells]
    for at, (section, kind, source) in enumerate(cells):
        for formula in FORMULA.findall(source) if kind == "markdown" else []:
            for number in TAG.findall(formula):
                below = [(text, checks(text, number)) for _, kind, text in cells[at:] if kind == "code"]
                last = max((i for i, (_, found) in enumerate(below) if found), default=-1)
                found = [check for _, each in below for check in each]
                yield Equation(
                    number,
                    bare(formula),
                    page,
                    section,
                    "\n".join(text for text, _ in below[: last + 1]),
                    tuple(sides for sides, _ in found),
                    max((atol for _, atol in found), default=0.0),
                )


def bare(formula: str) -> str:
    """A formula without its number, and without the stop or comma that it has as part of a sentence."""
    lines = TAG.sub("", formula).strip()
    end = re.search(r"\s*\\end\{\w+\}$", lines)
    body = lines[: end.start()] if end else lines
    return re.sub(r"\s*[.,;]$", "", body.rstrip()) + (end[0] if end else "")


def checks(code: str, number: str) -> list[tuple[tuple[str, str], float]]:
    """The calls of `equation` with this number: their two sides as code, and the tolerance."""
    if f'equation("{number}"' not in re.sub(r"\s", "", code):
        return []
    found = []
    for node in ast.walk(ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", code, flags=re.MULTILINE))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "equation" and ast.literal_eval(node.args[0]) == number:
            atol = next((float(ast.literal_eval(k.value)) for k in node.keywords if k.arg == "atol"), default_tolerance())
            found.append(((ast.unparse(node.args[1]), ast.unparse(node.args[2])), atol))
    return found


def default_tolerance() -> float:
    """That of `equation`, where a call names none."""
    import inspect

    from gencourse.checks import equation

    return float(inspect.signature(equation).parameters["atol"].default)


def said() -> dict[str, tuple[str, str]]:
    """By number: the mark of the cells that a sentence is about, and the sentence."""
    return {number: (mark, text) for number, (mark, text) in tomllib.loads(SAID.read_text(encoding="utf-8")).items()}


def within(atol: float) -> str:
    """A tolerance in words: `to within 10⁻¹²`."""
    if atol == 0:
        return "exactly"
    digits, _, power = f"{atol:.0e}".partition("e")
    small = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"to within {'' if digits == '1' else f'{digits}·'}10{small}"


def page() -> str:
    """All verified equations, chapter by chapter."""
    known = said()
    lines = [
        "# All verified equations",
        "",
        NOTE.format(tool="equations", source="the chapters and book/equations.toml"),
        "",
        "COUNT",
        "",
        "Below each stands what its two sides were computed from, how closely they agree, and the section where it is",
        "derived. The tolerance is absolute, in the units of the two sides; where a formula is checked several times, it is the",
        "largest. *Exactly* means that not a bit differs, as for whole numbers. The number leads to the formula's place.",
        "Terms are in the [glossary](glossary.md), symbols on the page on [notation](notation.md).",
        "",
    ]
    count = pages = 0
    for chapter in chapters():
        every = list(equations(chapter))
        if not every:
            continue
        count, pages = count + len(every), pages + 1
        lines += [f"## {chapter.number}. {chapter.title}", ""]
        for one in every:
            lines += ["$$", one.formula, "$$", "", entry(one, known.get(one.number)), ""]
    lines[4] = f"The book has {count} numbered equations in {pages} chapters, and each has been computed from both of its sides."
    return "\n".join(lines).rstrip() + "\n"


def entry(one: Equation, known: tuple[str, str] | None) -> str:
    """What is said below a formula."""
    against = "; ".join(f"`{left}` against `{right}`" for left, right in one.sides)
    if known and known[0] == one.mark:
        against = known[1][0].upper() + known[1][1:]
    return f"({one.number}) {against}, {within(one.atol)}. [{one.section}]({one.page.link(one.section)})"


def stale() -> list[Equation]:
    """Equations of which nothing is said, or something about other cells than today's."""
    known = said()
    return [one for chapter in chapters() for one in equations(chapter) if known.get(one.number, ("",))[0] != one.mark]


def main(arguments: list[str]) -> int:
    """Name what must be read again, or with `--read` mark it as read."""
    known, late = said(), stale()
    if "--read" in arguments:
        text = SAID.read_text(encoding="utf-8")
        for one in late:
            if one.number in known:
                text = text.replace(f'"{one.number}" = ["{known[one.number][0]}"', f'"{one.number}" = ["{one.mark}"')
        SAID.write_text(text, encoding="utf-8")
        late = [one for one in late if one.number not in known]
    for one in late:
        print(f"({one.number}) {known.get(one.number, ('', 'nothing is said of it'))[1]}\n{one.code}\n")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
