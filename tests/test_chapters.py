"""The rules that every stored notebook keeps: portable, described, and no equation numbered that is not verified."""

import re
from pathlib import Path

import nbformat
import pytest

from tools import notebooks

ROOT = Path(__file__).parents[1]
PATHS = [path for folder in notebooks.FOLDERS for path in sorted((ROOT / folder).glob("*.ipynb"))]
PAGES = [path for path in PATHS if path.parent.name == "book"]
CHAPTERS = [path for path in PAGES if path.name[:2].isdigit()]  # a page beside them has no number, and numbers no equation
UNPORTABLE = re.compile(r"^:::|^```\{|\{[a-z:]+\}`|^\+\+\+$|\{\{", re.MULTILINE)  # directives, roles, blocks, templates


def cells(path: Path, kind: str) -> list[tuple[int, nbformat.NotebookNode]]:
    nb = nbformat.read(path, as_version=4)
    return [(position, cell) for position, cell in enumerate(nb.cells) if cell.cell_type == kind]


def first_line(cell) -> str:
    return (cell.source.splitlines() or ["(empty)"])[0]


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=[str(path.relative_to(ROOT)) for path in paths])


def compared(cell) -> bool:
    return "NBVAL_CHECK_OUTPUT" in cell.source or "nbval-check-output" in cell.metadata.get("tags", [])


@each(PATHS)
def test_the_notebook_is_in_its_normal_form_and_has_its_first_cells(path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert notebooks.main(["check", str(path)]) == 0, capsys.readouterr().out


@each(PATHS)
def test_no_stored_output_is_an_error_or_a_warning(path):
    for _, cell in cells(path, "code"):
        expected = "raises-exception" in cell.metadata.get("tags", [])
        for output in cell.outputs:
            assert expected or output.output_type != "error", first_line(cell)
            assert output.get("name") != "stderr", f"{first_line(cell)}\n{output.text}"


@each(PATHS)
def test_every_picture_says_what_it_shows(path):
    for _, cell in cells(path, "code"):
        if any(kind.startswith("image/") for output in cell.outputs for kind in output.get("data", {})):
            assert len(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")) > 20, first_line(cell)


@each(PATHS)
def test_markdown_reads_the_same_everywhere_and_cells_are_short(path):
    for _, cell in cells(path, "markdown"):
        assert not UNPORTABLE.search(cell.source), first_line(cell)
    for _, cell in cells(path, "code"):
        assert len(cell.source.splitlines()) <= 40, first_line(cell)


@each(PAGES)
def test_what_a_page_claims_is_compared(path):
    for _, cell in cells(path, "code"):
        assert compared(cell) or not re.search(r"\b(equation|claim)\(\s*f?[\"']", cell.source), (
            f"nothing compares the output of the cell that begins {first_line(cell)!r}"
        )


@each(PAGES)
def test_a_numbered_equation_is_a_verified_equation(path):
    """Numbers run 1, 2, ... in order; each is checked by `equation(number, ...)` in a later cell."""
    tagged = [(number, at) for at, cell in cells(path, "markdown") for number in re.findall(r"\\tag\{([^}]*)\}", cell.source)]
    verified: dict[str, int] = {}
    for at, cell in cells(path, "code"):
        calls = re.findall(r"\bequation\(\s*[\"']([^\"']*)[\"']", cell.source)
        verified |= dict.fromkeys(calls, at)
    chapter = path.name[:2].lstrip("0")
    assert [number for number, _ in tagged] == [f"{chapter}.{n + 1}" for n in range(len(tagged))]
    assert {number for number, _ in tagged} == set(verified)
    for number, at in tagged:
        assert verified[number] > at, f"equation ({number}) is verified above itself"


@each(CHAPTERS)
def test_a_chapter_tells_what_it_promises_and_what_it_needs(path):
    opening = " ".join(cell.source for at, cell in cells(path, "markdown") if at < 3).lower().replace("*", "")
    for word in ("after this chapter you can", "you need", "time:", "slide"):
        assert word in opening, f"the first lines do not say {word!r}"
