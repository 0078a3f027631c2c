"""What students get, made from the solutions: `solutions/NN-name.ipynb` becomes `exercises/NN-name.ipynb`.

What stands between a line `### BEGIN SOLUTION` and a line `### END SOLUTION` is cut and replaced by one placeholder, at
the same indentation. Outputs and counts go. The same source gives the same bytes, so that a comparison of files tells
whether the exercises are up to date.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
PLACEHOLDER = "...  # your code here"
# Anything that was probably meant as a marker: an answer must not slip through for a missing '#'.
_MARKER_LIKE = re.compile(r"^[\W_]*(begin|end)[\W_]*(solutions?|answers?)\b", re.IGNORECASE)
_OUTPUT_TAG = "nbval-check-output"  # asks for the stored output, which is cut


def available(root: Path | str | None = None) -> list[str]:
    """The numbers of the exercises that have a solution, `["09", ...]`."""
    return sorted(_sources(_root(root)))


def release(number: str | int, root: Path | str | None = None) -> Path:
    """Write `exercises/NN-name.ipynb` and return its path.

    Args:
        number: of the exercise, `"09"`.
        root: the folder that has `solutions/` and `exercises/`; by default the current folder or the nearest one above it.

    Raises:
        ValueError: if there is no such solution, or its markers do not pair up.
        FileNotFoundError: if there is no folder `solutions/`.
    """
    source, target = _paths(number, root)
    text = released(source)  # before anything is written
    target.parent.mkdir(exist_ok=True)
    target.write_text(text, encoding="utf-8", newline="\n")
    return target


def is_current(number: str | int, root: Path | str | None = None) -> bool:
    """True if the exercise's file holds, to the byte, what `release` would write."""
    source, target = _paths(number, root)
    return target.is_file() and target.read_bytes() == released(source).encode()


def differences(root: Path | str | None = None) -> list[str]:
    """One sentence for each exercise that is not what its solution gives; an empty list if all is well."""
    root = _root(root)
    said = []
    for number, source in sorted(_sources(root).items()):
        if not is_current(number, root):
            said.append(f"exercises/{source.name} is not what solutions/{source.name} gives; run: gencourse release {number}")
    names = {source.name for source in _sources(root).values()}
    for path in sorted((root / "exercises").glob("*.ipynb")):
        if path.name not in names:
            said.append(f"exercises/{path.name} has no source; there is no solutions/{path.name}")
    return said


def released(source: Path) -> str:
    """The text of the notebook for students.

    Raises:
        ValueError: if the file is not a notebook, or its markers do not pair up.
    """
    try:
        notebook = json.loads(source.read_text(encoding="utf-8"))
        cells = notebook["cells"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{source.name} is not a notebook (.ipynb, nbformat 4).") from None
    made: list[dict[str, Any]] = []
    cuts = 0
    for index, cell in enumerate(cells, start=1):
        where = f"{source.name}, cell {index}"
        lines = "".join(cell["source"]).split("\n")
        kept, n = _cut(lines, where) if cell["cell_type"] == "code" else (_without_markers(lines, where), 0)
        cuts += n
        text = "\n".join(kept)
        before = sum("".join(other["source"]) == text for other in made)
        made.append(_cell(cell, text, before))
    if not cuts:
        raise ValueError(f"{source.name} has no line '{BEGIN}': it would be released with all its answers.")
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    result = {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(result, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _cut(lines: list[str], where: str) -> tuple[list[str], int]:
    """The lines without their solutions, and how many there were."""
    kept: list[str] = []
    begun, cuts = 0, 0
    for number, line in enumerate(lines, start=1):
        marker = line.strip()
        if marker == BEGIN:
            if begun:
                raise ValueError(f"{where}, line {number}: '{BEGIN}' inside a solution begun in line {begun}.")
            begun, cuts = number, cuts + 1
            kept.append(line[: len(line) - len(line.lstrip())] + PLACEHOLDER)
        elif marker == END:
            if not begun:
                raise ValueError(f"{where}, line {number}: '{END}' without '{BEGIN}'.")
            begun = 0
        elif _MARKER_LIKE.match(line):
            raise ValueError(f"{where}, line {number}: {marker!r} is no marker; write '{BEGIN}' or '{END}'.")
        elif not begun:
            kept.append(line)
    if begun:
        raise ValueError(f"{where}: '{BEGIN}' in line {begun} has no '{END}'.")
    return kept, cuts


def _without_markers(lines: list[str], where: str) -> list[str]:
    for number, line in enumerate(lines, start=1):
        if _MARKER_LIKE.match(line):
            raise ValueError(f"{where}, line {number}: {line.strip()!r} stands in a text cell; only code cells have solutions.")
    return lines


def _cell(cell: dict[str, Any], text: str, before: int) -> dict[str, Any]:
    metadata = {key: value for key, value in cell.get("metadata", {}).items() if key in ("tags", "mystnb")}
    if "tags" in metadata:
        metadata["tags"] = [tag for tag in metadata["tags"] if tag != _OUTPUT_TAG]
        if not metadata["tags"]:
            del metadata["tags"]
    # From the text that students see, and the number of equal cells before it: ids in the source may change at every save.
    identity = hashlib.sha256(f"{before} {text}".encode()).hexdigest()[:8]
    made = {"cell_type": cell["cell_type"], "id": identity, "metadata": metadata, "source": text.splitlines(keepends=True)}
    if cell["cell_type"] == "code":
        made |= {"execution_count": None, "outputs": []}
    if cell.get("attachments"):
        made["attachments"] = cell["attachments"]
    return made


def _root(root: Path | str | None) -> Path:
    here = [Path(root)] if root is not None else [Path.cwd(), *Path.cwd().parents]
    for folder in here:
        if (folder / "solutions").is_dir():
            return folder
    raise FileNotFoundError(f"there is no folder solutions/ in {here[0]}; exercises are made in a clone of the repository.")


def _sources(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted((root / "solutions").glob("[0-9][0-9]-*.ipynb")):
        if path.name[:2] in found:
            raise ValueError(f"solutions/ has two for exercise {path.name[:2]}: {found[path.name[:2]].name} and {path.name}.")
        found[path.name[:2]] = path
    return found


def _paths(number: str | int, root: Path | str | None) -> tuple[Path, Path]:
    root = _root(root)
    sources = _sources(root)
    name = str(number).zfill(2)
    if name not in sources:
        raise ValueError(f"there is no solutions/{name}-*.ipynb; there are solutions for: {', '.join(sources) or 'none'}.")
    return sources[name], root / "exercises" / sources[name].name
