"""A student's notebook read as data: its code cells, and nothing that a file could do to its reader.

Files are opened here; what is in them is unpacked, parsed and matched in a process of its own (`read` starts this file as a
script), which has limits on processor time and memory, so that no hand-in can keep the grader from the others. What is run,
and how, is decided there and said in the instructor's guide:

1. All code cells, from top to bottom, in one namespace. Markdown, outputs, metadata, counts and ids do not matter.
2. A cell that Python cannot read is read as a notebook does: indentation of the whole cell and prompts go; lines of a notebook's
   own (`%magic`, `!command`, `name?`) are left out, but for what `%time` times. A cell that begins with `%%` is left out,
   unless that only times or hides it (`%%time`, `%%capture`).
3. Of a question's function that is defined more than once the last definition counts, but one whose body is still empty
   never replaces one that is not. Where several exercises are answered in one notebook and ask for functions of the same name,
   the one counts beneath which this exercise's question is checked.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import unicodedata
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

LARGEST_FILE = 50 * 2**20  # bytes, with all outputs
LARGEST_SOURCE = 200_000  # characters of code
MOST_CELLS = 2000  # with code
_SECONDS = 20  # of processor time, to read one hand-in; what is within the limits above takes two at most
_MEMORY = 2**30
_MOST_NAMES = 1000  # that are passed on, of functions that no question asks for
_LONGEST_TEXT = 6000  # characters of an answer in words
_ONLY_AROUND = ("%%time", "%%timeit", "%%capture", "%%prun")
_TOO_MUCH = "this notebook cannot be read: it is nested too deeply, or needs too much memory."


class Unreadable(ValueError):
    """There is no notebook to grade; the text is a sentence for the student."""


@dataclass(frozen=True)
class Cell:
    """A code cell: `number` counts all cells of the notebook from 1, `source` is what Python is given."""

    number: int
    source: str


@dataclass(frozen=True)
class Notebook:
    """What is known of a notebook before any of it is run.

    Args:
        cells: as they are run.
        defined: the functions that are defined at the top level, and in which cells.
        attempted: a question's functions that are defined nowhere, and the unreadable cells in which they should have been.
        uses: for each question's function, the names that it mentions, itself or through others of the notebook.
        left_out: cells that begin with a `%%` line that makes them no Python, and that line's first word.
        prints: a hash of each statement without its names, and its size; for comparing notebooks.
        words: what stands beneath the heading "What if?".
    """

    cells: list[Cell]
    defined: dict[str, list[int]] = field(default_factory=dict)
    attempted: dict[str, list[int]] = field(default_factory=dict)
    uses: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[tuple[int, str]] = field(default_factory=list)
    prints: list[tuple[str, int]] = field(default_factory=list)
    words: str = ""


# --- in the grader ----------------------------------------------------------------------------------------------------


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


def read(content: bytes, functions: Sequence[str] = (), exercise: str = "") -> Notebook:
    """A notebook, or the one in a zip archive, read in a process of its own.

    Args:
        content: the bytes of the file.
        functions: the names that the questions ask for.
        exercise: that they are of, as their ids write it, such as `"9"`.

    Raises:
        Unreadable: if there is no notebook in it, or it is too much to read.
        RuntimeError: if the process was ended by something else than its limits.
    """
    if sys.platform == "win32":  # no limits there, and the notebook is the student's own
        return examined(content, functions, exercise)
    command = [sys.executable, "-I", "-S", "-X", "utf8", __file__]
    asked = json.dumps([list(functions), exercise]).encode() + b"\n" + content
    done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if done.returncode == -getattr(signal, "SIGKILL", 9):
        raise RuntimeError("the process that reads notebooks was killed")
    if done.returncode:
        raise Unreadable(_TOO_MUCH)
    said = json.loads(done.stdout)
    if "unreadable" in said:
        raise Unreadable(said["unreadable"])
    return Notebook(**{**said, "cells": [Cell(**cell) for cell in said["cells"]]})


def _not_too_large(size: int) -> None:
    if size > LARGEST_FILE:
        raise Unreadable(f"the file is larger than {LARGEST_FILE // 2**20} MB; clear the outputs and save it again.")


# --- in the process that reads ----------------------------------------------------------------------------------------


def main() -> None:
    """Read from standard input which functions are asked for, then the file; write what is found, as JSON."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # not every system has every limit
        import resource

        for name, value in ((resource.RLIMIT_CPU, _SECONDS), (resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0)):
            resource.setrlimit(name, (value, value))
    functions, exercise = json.loads(sys.stdin.buffer.readline())
    try:
        found: dict[str, Any] = asdict(examined(sys.stdin.buffer.read(), functions, exercise))
    except Unreadable as error:
        found = {"unreadable": str(error)}
    except (MemoryError, RecursionError):
        found = {"unreadable": _TOO_MUCH}
    sys.stdout.write(json.dumps(found))


def examined(content: bytes, functions: Sequence[str] = (), exercise: str = "") -> Notebook:
    """What `read` gives, in this process and without limits."""
    if not content.startswith(b"PK"):
        return _examined(loaded(content), functions, exercise)
    notebooks = []
    entries = _entries(content)
    for entry in entries:
        with contextlib.suppress(*([Unreadable] if len(entries) > 1 else [])):
            notebooks.append(_examined(loaded(entry), functions, exercise))
    answers = [len(set(functions) & (notebook.defined.keys() | notebook.attempted.keys())) for notebook in notebooks]
    most = max(answers, default=0)
    if len(entries) > 1 and (most == 0 or answers.count(most) > 1):
        raise Unreadable(f"the archive holds {len(entries)} notebooks; hand in the one with your answers.")
    return notebooks[answers.index(most)]


def loaded(content: bytes) -> dict[str, Any]:
    """A notebook file as data, in whatever encoding an editor has saved it.

    Raises:
        Unreadable: if it is none.
    """
    if not content.strip():
        raise Unreadable("the file is empty.")
    try:
        try:
            notebook = json.loads(content)  # UTF-8, 16 and 32, with a byte order mark or without
        except UnicodeDecodeError:
            notebook = json.loads(content.decode("cp1252", "replace"))
    except (ValueError, RecursionError):
        raise Unreadable("this is not a notebook: the file is not valid JSON; download it again as .ipynb.") from None
    if _raw_cells(notebook) is None:
        raise Unreadable("this is not a notebook: the file has no cells; download it again as .ipynb.")
    return notebook


def _entries(archive: bytes) -> list[bytes]:
    """The notebooks in a zip archive; nothing is written, so that names in it are only names."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            entries = [e for e in opened.infolist() if e.filename.lower().endswith(".ipynb") and not _is_litter(e.filename)]
            if not entries:
                raise Unreadable("the archive holds no notebooks; hand in one notebook.")
            _not_too_large(sum(entry.file_size for entry in entries))
            found = []
            for entry in entries:
                with opened.open(entry) as file:
                    found.append(file.read(LARGEST_FILE + 1))
                _not_too_large(sum(map(len, found)))
            return found
    except (Unreadable, MemoryError):
        raise
    except Exception:  # each way of packing has errors of its own for what is damaged
        raise Unreadable("this is not a zip archive that can be opened.") from None


def _examined(notebook: dict[str, Any], functions: Sequence[str], exercise: str) -> Notebook:
    raw = _raw_cells(notebook) or []
    cells = _code_cells(raw)
    left_out = [(cell.number, word) for cell in cells if (word := _cell_magic(cell.source)) and word not in _ONLY_AROUND]
    trees: dict[int, ast.Module | None] = {}
    runs = runnable(cells, functions, trees, exercise)
    defined: dict[str, list[int]] = {}
    mentions: dict[str, set[str]] = {}
    for cell in runs:
        for function in _functions(trees[cell.number]):
            defined.setdefault(function.name, []).append(cell.number)
            mentions[function.name] = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    known = [name for name in defined if name in functions or len(name) <= 100]
    known = [name for i, name in enumerate(known) if name in functions or i < _MOST_NAMES]
    attempted = {
        name: where
        for name in functions
        if name not in defined and (where := [c.number for c in runs if trees[c.number] is None and _begins(c.source, name)])
    }
    prints = [one for tree in trees.values() if tree for one in _prints(tree)]
    return Notebook(
        runs,
        {name: defined[name] for name in known},
        attempted,
        {name: sorted(_uses(mentions, name) & set(functions)) for name in functions},
        left_out,
        prints[:MOST_CELLS],
        _words(raw),
    )


def parse(content: bytes) -> list[Cell]:
    """The code cells of a notebook file, in order; any version of the format, any metadata.

    Raises:
        Unreadable: if it is no notebook, or holds too much code.
    """
    return _code_cells(_raw_cells(loaded(content)) or [])


def _code_cells(raw: Iterable[Any]) -> list[Cell]:
    cells = []
    for number, cell in enumerate(raw, start=1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            cells.append(Cell(number, _text(cell.get("source", cell.get("input", "")))))
    if sum(len(cell.source) for cell in cells) > LARGEST_SOURCE:
        raise Unreadable(f"the notebook holds more than {LARGEST_SOURCE // 1000} kB of code; take out what is data.")
    if len(cells) > MOST_CELLS:
        raise Unreadable(f"the notebook holds more than {MOST_CELLS} cells of code.")
    return cells


def runnable(
    cells: Iterable[Cell],
    functions: Iterable[str] = (),
    trees: dict[int, ast.Module | None] | None = None,
    exercise: str = "",
) -> list[Cell]:
    """The cells as they are run: read as a notebook reads them, without definitions of `functions` in whose place others count.

    Args:
        cells: as they stand in the notebook.
        functions: the names that the questions ask for.
        trees: filled with what the cells mean to Python, by number.
        exercise: the first part of the questions' ids.
    """
    cells = [Cell(cell.number, without_magics(cell.source)) for cell in cells]
    trees = {} if trees is None else trees
    trees |= {cell.number: _tree(cell.source) for cell in cells}
    functions = set(functions)
    foreign = _of_others([tree for cell in cells if (tree := trees[cell.number])], functions, exercise)
    filled = {f.name for tree in trees.values() for f in _functions(tree) if not _is_empty(f) and f not in foreign} & functions
    made = []
    for cell in cells:
        lines, tree = cell.source.split("\n"), trees[cell.number]
        unwanted = [f for f in _functions(tree) if f in foreign or (f.name in filled and _is_empty(f))]
        for function in unwanted:
            first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
            lines[first - 1 : function.end_lineno] = [""] * ((function.end_lineno or first) - first + 1)
        if tree is not None and unwanted:
            gone = set(unwanted)
            tree.body = [node for node in tree.body if node not in gone]
        made.append(Cell(cell.number, "\n".join(lines)))
    return made


def asked(cells: Iterable[Cell]) -> list[str]:
    """The questions that a notebook's cells call `check` for, such as `"9.1"`."""
    return [id for cell in cells if (tree := _tree(cell.source)) for id in _asks(tree)]


def _asks(tree: ast.AST) -> list[str]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    ids = [getattr(call.args[0], "value", None) for call in calls if getattr(call.func, "id", "") == "check"]
    return [id for id in ids if isinstance(id, str) and re.fullmatch(r"\d{1,4}\.\d{1,4}", id)]


def _of_others(trees: Sequence[ast.Module], functions: Iterable[str], exercise: str) -> set[ast.AST]:
    """Definitions of these functions that answer another exercise's question: that one is what is checked next beneath them."""
    mine, others = set(), []
    checked = ""  # the exercise of the next check
    for statement in (statement for tree in reversed(trees) for statement in reversed(tree.body)):
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            checked = next((id.partition(".")[0] for id in _asks(statement)), checked)
        elif statement.name in functions and checked == exercise:
            mine.add(statement.name)
        elif statement.name in functions and checked:
            others.append(statement)
    return {statement for statement in others if statement.name in mine}


# --- lines of a notebook's own ----------------------------------------------------------------------------------------

_PROMPT = re.compile(r"[ \t]*(?:>>>|\.\.\.(?!\.)|In \[\d{1,9}\]:|\.{3,9}:)(?: |$)")
_MARKS = re.compile(r"\"\"\"|'''|[\"'#\\()\[\]{}]|=[ \t]*[!%]")
_TIMED = re.compile(r"%(?:time|prun)[ \t]+([^\s-].*)")


def without_magics(source: str) -> str:
    """The source as Python reads it, line for line; it takes one pass, however odd the source is."""
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    if _tree(source) is not None:
        return source
    lines = source.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    if indent:
        lines = [line.removeprefix(indent) for line in lines]
    prompts = [found[0].lstrip() for line in lines[first : first + 2] if (found := _PROMPT.match(line))]
    if any(not prompt.startswith(".") for prompt in prompts):
        lines = [line[found.end() :] if (found := _PROMPT.match(line)) else line for line in lines]
    if (word := _cell_magic(lines[first])) is not None:
        if word not in _ONLY_AROUND:
            return ""
        lines[first] = ""
    at = 0
    while at < len(lines):
        end, plain = _statement(lines, at)
        if plain is not None:
            lines[at : end + 1] = [plain, *[""] * (end - at)]
        at = end + 1
    return "\n".join(lines)


def _cell_magic(source: str) -> str | None:
    """The first word of a cell that begins with `%%`."""
    start = source.lstrip()[:100]
    return start.split()[0] if start.startswith("%%") else None


def _statement(lines: Sequence[str], at: int) -> tuple[int, str | None]:
    """The last line of the logical line that begins at line `at`, and what stands for it if it is a notebook's own."""
    line = lines[at]
    indent = line[: len(line) - len(line.lstrip())]
    if line.lstrip().startswith(("%", "!", "?")):
        end = _continued(lines, at)
        timed = _TIMED.match(line.lstrip()) if end == at else None
        return end, indent + (timed[1] if timed and _tree(timed[1]) else "pass")
    depth, quote, begun, here = 0, "", at, 0
    while True:
        line = lines[at]
        if quote:
            closed = _end_of_string(line, here, quote)
            if closed is None:
                if at + 1 == len(lines) or (len(quote) == 1 and not line.endswith("\\")):
                    return at, None  # never closed: the student's error
                at, here = at + 1, 0
                continue
            quote, here = "", closed
        mark = _MARKS.search(line, here)
        sign = mark[0] if mark else ""
        if mark is not None and sign not in ("#", "\\"):
            here = mark.end()
            if sign[0] in "\"'":
                quote = sign
            elif sign in "([{":
                depth += 1
            elif sign in ")]}":
                depth -= 1
            elif depth == 0 and at == begun and line[mark.start() - 1 : mark.start()] not in ("", *"=!<>+-*/%&|^@:"):
                left = line[: mark.start()].rstrip()
                value = "[]" if sign[-1] == "!" else "None"
                return _continued(lines, at), indent + "pass" if "," in left else f"{left} = {value}"
            continue
        if sign == "\\" and mark is not None and mark.end() < len(line):
            here = mark.end()
            continue
        if at + 1 < len(lines) and (sign == "\\" or depth > 0):
            at, here = at + 1, 0
            continue
        asks = (line[: mark.start()] if mark else line).rstrip().endswith("?")
        return at, indent + "pass" if asks else None


def _continued(lines: Sequence[str], at: int) -> int:
    """The last line of a command that goes on after a backslash."""
    while lines[at].rstrip().endswith("\\") and at + 1 < len(lines):
        at += 1
    return at


def _end_of_string(line: str, here: int, quote: str) -> int | None:
    """Where the string that is open at `here` has ended; None if not in this line."""
    while (found := line.find(quote, here)) >= 0:
        escapes = found - len(line[here:found].rstrip("\\")) - here
        if escapes % 2 == 0:
            return found + len(quote)
        here = found + 1
    return None


# --- what stands in the code ------------------------------------------------------------------------------------------


def _is_empty(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return all(
        isinstance(line, ast.Pass)
        or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        or (isinstance(line, ast.Return) and (line.value is None or getattr(line.value, "value", 0) in (None, ...)))
        or (isinstance(line, ast.Raise) and getattr(getattr(line.exc, "func", line.exc), "id", "") == "NotImplementedError")
        for line in function.body
    )


def _functions(tree: ast.Module | None) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)] if tree else []


def _tree(source: str) -> ast.Module | None:
    with warnings.catch_warnings(), contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        warnings.simplefilter("ignore")
        return ast.parse(source)
    return None


def _begins(source: str, function: str) -> bool:
    """True if a line begins the definition of this function."""
    begun = (line.split(None, 1) for line in source.split("\n") if line.lstrip().startswith("def "))
    return any(words[1:] and words[1].startswith(function) and words[1][len(function) :].lstrip()[:1] == "(" for words in begun)


def _uses(mentions: dict[str, set[str]], function: str) -> set[str]:
    """The names that a function mentions, and those that the notebook's functions among them mention, and so on."""
    found: set[str] = set()
    new = {function}
    while new:
        found |= new
        new = {name for known in new for name in mentions.get(known, ())} - found
    return found - {function}


def _prints(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """A hash and a size for each statement: what it does, whatever its variables are called, without comments and docstrings."""
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        words: list[str] = []
        inside: list[ast.AST] = [statement]
        size = 0
        while inside:
            node = inside.pop()
            size += 1
            words.append(type(node).__name__)
            words += [repr(value)[:50] for name, value in ast.iter_fields(node) if name in ("attr", "value") and _is_plain(value)]
            for child in ast.iter_child_nodes(node):
                (waiting if isinstance(child, ast.stmt | ast.excepthandler) else inside).append(child)
        if size >= 8:
            yield hashlib.blake2b("\0".join(words).encode("utf-8", "replace"), digest_size=6).hexdigest(), size


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | complex | bytes)


def _words(raw: Sequence[Any]) -> str:
    """The cells from the heading "What if?" to the next heading."""
    found: list[str] = []
    for cell in raw:
        if not isinstance(cell, dict):
            continue
        text = _text(cell.get("source", cell.get("input", "")))
        heading = cell.get("cell_type") == "markdown" and text.lstrip().startswith("#")
        if heading and "what if" in text[:200].casefold():
            found = [text]
        elif found and heading:
            break
        elif found:
            found.append(text)
    return "\n\n".join(found)[:_LONGEST_TEXT]


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


if __name__ == "__main__":
    main()
