"""A student's notebook read as data: its code cells, and nothing that a file could do to its reader.

What is run, and how, is decided here and said in the instructor's guide:

1. All code cells, from top to bottom, in one namespace. Markdown, outputs, metadata, counts and ids do not matter.
2. Lines that only a notebook understands (`%magic`, `!command`, `name?`) are left out where Python itself cannot read them.
   A cell that begins with `%%` is left out, unless that only times or hides it (`%%time`, `%%capture`).
3. Of a question's function that is defined more than once the last definition counts, but one whose body is still empty
   never replaces one that is not.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import stat
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST_FILE = 50 * 2**20  # bytes, with all outputs
LARGEST_SOURCE = 2 * 2**20  # characters of code
_ONLY_AROUND = ("%%time", "%%timeit", "%%capture", "%%prun")
_MAGIC = re.compile(r"^\s*(?:[%!?]|[\w.]+\?\??\s*$|[\w., ]+=\s*[%!])")


class Unreadable(ValueError):
    """There is no notebook to grade; the text is a sentence for the student."""


@dataclass(frozen=True)
class Cell:
    """A code cell: `number` counts all cells of the notebook from 1, `source` is what Python is given."""

    number: int
    source: str


def read_bytes(path: Path) -> bytes:
    """The bytes of a hand-in, a notebook or a zip archive that holds one. Links are not followed.

    Raises:
        Unreadable: if it is no ordinary file, or too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if path.is_symlink():
            raise Unreadable("this is a link to a file; hand in the file itself.") from None
        raise Unreadable(f"the file cannot be read ({error.strerror}).") from None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        raise Unreadable("this is not an ordinary file.")
    with open(descriptor, "rb") as file:
        _not_too_large(about.st_size)
        content = file.read(LARGEST_FILE + 1)
    _not_too_large(len(content))
    return content


def unzipped(archive: bytes) -> bytes:
    """The one notebook in a zip archive; nothing is written, so that names in it are only names.

    Raises:
        Unreadable: if there is not exactly one.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            entries = [e for e in opened.infolist() if e.filename.lower().endswith(".ipynb") and not _is_litter(e.filename)]
            if len(entries) != 1:
                raise Unreadable(f"the archive holds {len(entries) or 'no'} notebooks; hand in one notebook.")
            _not_too_large(entries[0].file_size)
            with opened.open(entries[0]) as file:
                content = file.read(LARGEST_FILE + 1)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable("this is not a zip archive that can be opened.") from None
    _not_too_large(len(content))
    return content


def parse(content: bytes) -> list[Cell]:
    """The code cells of a notebook file, in order; any version of the format, any metadata.

    Raises:
        Unreadable: if it is no notebook, or holds too much code.
    """
    if not content.strip():
        raise Unreadable("the file is empty.")
    try:
        notebook = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise Unreadable("this is not a notebook: the file is not valid JSON; download it again as .ipynb.") from None
    raw = _raw_cells(notebook)
    if raw is None:
        raise Unreadable("this is not a notebook: the file has no cells; download it again as .ipynb.")
    cells = []
    for number, cell in enumerate(raw, start=1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            cells.append(Cell(number, _text(cell.get("source", cell.get("input", "")))))
    if sum(len(cell.source) for cell in cells) > LARGEST_SOURCE:
        raise Unreadable(f"the notebook holds more than {LARGEST_SOURCE // 2**20} MB of code.")
    return cells


def runnable(cells: Iterable[Cell], functions: Iterable[str] = ()) -> list[Cell]:
    """The cells as they are run: without magics, and without empty definitions of `functions` that are also filled in."""
    plain = [Cell(cell.number, without_magics(cell.source)) for cell in cells]
    trees = {cell.number: _tree(cell.source) for cell in plain}
    filled = {f.name for tree in trees.values() for f in _functions(tree) if not _is_empty(f)} & set(functions)
    made = []
    for cell in plain:
        lines = cell.source.split("\n")
        for function in _functions(trees[cell.number]):
            if function.name in filled and _is_empty(function):
                first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
                lines[first - 1 : function.end_lineno] = [""] * ((function.end_lineno or first) - first + 1)
        made.append(Cell(cell.number, "\n".join(lines)))
    return made


def definitions(cells: Iterable[Cell]) -> dict[str, list[int]]:
    """The functions that are defined at the top level, and in which cells."""
    found: dict[str, list[int]] = {}
    for cell in cells:
        for function in _functions(_tree(cell.source)):
            found.setdefault(function.name, []).append(cell.number)
    return found


def uses(cells: Iterable[Cell], function: str) -> set[str]:
    """The names that a function mentions, and those that the notebook's functions among them mention, and so on."""
    mentions: dict[str, set[str]] = {}
    for cell in cells:
        for made in _functions(_tree(cell.source)):
            mentions[made.name] = {node.id for node in ast.walk(made) if isinstance(node, ast.Name)}
    found: set[str] = set()
    new = {function}
    while new:
        found |= new
        new = {name for known in new for name in mentions.get(known, ())} - found
    return found - {function}


def without_magics(source: str) -> str:
    """The source with what only a notebook understands replaced by `pass`, line for line."""
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    lines = source.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    if lines[first].startswith("%%"):
        if lines[first].split()[0] not in _ONLY_AROUND:
            return ""
        lines[first] = ""
    for _ in range(len(lines)):
        error = _error("\n".join(lines))
        if error is None or error.lineno is None or not 0 < error.lineno <= len(lines):
            break
        # The error is found at the line itself or, where it looked for the body of an `if`, at the one after it.
        at = next((n for n in (error.lineno - 1, error.lineno) if n < len(lines) and _MAGIC.match(lines[n])), None)
        if at is None:
            break
        line = lines[at]
        name = re.match(r"^\s*([\w., ]+?)\s*=", line)
        indent = line[: len(line) - len(line.lstrip())]
        lines[at] = f"{indent}{name[1]} = None" if name and "," not in name[1] else f"{indent}pass"
        while line.rstrip().endswith("\\") and at + 1 < len(lines):  # the command goes on
            at += 1
            line, lines[at] = lines[at], ""
    return "\n".join(lines)


def _is_empty(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return all(
        isinstance(line, ast.Pass)
        or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        or (isinstance(line, ast.Return) and (line.value is None or getattr(line.value, "value", 0) in (None, ...)))
        for line in function.body
    )


def _functions(tree: ast.Module | None) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)] if tree else []


def _tree(source: str) -> ast.Module | None:
    with warnings.catch_warnings(), contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        warnings.simplefilter("ignore")
        return ast.parse(source)
    return None


def _error(source: str) -> SyntaxError | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError):
        pass
    return None


def _raw_cells(notebook: Any) -> list | None:
    if not isinstance(notebook, dict):
        return None
    if isinstance(notebook.get("cells"), list):
        return notebook["cells"]
    sheets = notebook.get("worksheets")  # before version 4
    if isinstance(sheets, list):
        return [c for s in sheets if isinstance(s, dict) and isinstance(s.get("cells"), list) for c in s["cells"]]
    return None


def _text(source: Any) -> str:
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    if not isinstance(source, str):
        return ""
    return source.encode("utf-8", "replace").decode("utf-8").removeprefix("\ufeff")  # half a surrogate pair is no text


def _is_litter(name: str) -> bool:
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return "__MACOSX" in parts or ".ipynb_checkpoints" in parts or parts[-1].startswith("._")


def _not_too_large(size: int) -> None:
    if size > LARGEST_FILE:
        raise Unreadable(f"the file is larger than {LARGEST_FILE // 2**20} MB; clear the outputs and save it again.")
