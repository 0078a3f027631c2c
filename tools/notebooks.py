"""Notebooks as files under version control: in one normal form, checked, executed.

    python -m tools.notebooks normalise [FILE ...]        rewrite in the normal form (all notebooks without a FILE)
    python -m tools.notebooks check [FILE ...]            say what is wrong, change nothing
    python -m tools.notebooks run 09-vae --profile cpu    execute a chapter and store its outputs

The normal form keeps outputs and drops what changes by itself: counts, timings, addresses, widgets, progress bars. It
folds the cells that only prepare: the page shows their code on request.
Run it in the clone of the repository that the notebooks are in.
"""

import argparse
import base64
import hashlib
import io
import itertools
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

FOLDERS = ("book", "exercises", "solutions")
WIDGET = "application/vnd.jupyter.widget-view+json"
COLAB = """import sys

# Colab has torch; this adds the course's own library and nothing else
if "google.colab" in sys.modules:
    %pip install --quiet "gencourse @ git+{url}\""""
PARAMETERS = 'profile = "auto"'

# Cell metadata that tools add for themselves; what people write (tags, mystnb, ...) stays.
TOOLS = (
    "ExecuteTime",
    "colab",
    "collapsed",
    "execution",
    "id",
    "lines_to_next_cell",
    "outputId",
    "papermill",
    "scrolled",
    "vscode",
)
FOLDED = {"hide-input", "remove-input", "hide-cell", "remove-cell"}
VOLATILE = (
    (re.compile(r"0x[0-9a-f]{6,}"), "0x000000"),  # still an address to nbval, which ignores addresses
    (re.compile(r"(/\S*)?/ipykernel_\d+/\d+\.py"), "/ipykernel_0/0.py"),
    (re.compile(r"^.*\r(?=[^\n])", re.MULTILINE), ""),  # what a carriage return has overwritten
)
PROGRESS = re.compile(r"^.*(\d+%\||\d(it|s)/(s|it)\b).*\n?", re.MULTILINE)


def normalise(nb: Any, url: str) -> str:
    """The text of a notebook in its normal form; a second pass changes nothing.

    Args:
        nb: an `nbformat.NotebookNode` of version 4; it is changed in place.
        url: the repository's public address, from which the Colab cell installs.
    """
    import nbformat

    nb.nbformat, nb.nbformat_minor = 4, 5
    nb.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            **{key: nb.metadata[key] for key in ("gencourse", "mystnb") if key in nb.metadata},
        }
    )
    nb.cells = [cell for cell in nb.cells if "injected-parameters" not in cell.metadata.get("tags", ())]
    seen: set[str] = set()
    counter = 0
    for cell in nb.cells:
        cell.source = _stripped(cell.source.strip("\n"), cell.cell_type)
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k not in TOOLS and v not in ([], {})})
        cell.id = _identity(cell, seen)
        if cell.cell_type == "code":
            if "google.colab" in cell.source and cell is _first_code(nb):
                cell.source = COLAB.format(url=url)
            counter += 1
            cell.outputs = _outputs(cell.outputs)
            cell.execution_count = counter if cell.outputs else None  # nbval takes a cell without a count as never run
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = counter
    for cell in _setup(nb):
        tags = cell.metadata.get("tags", [])
        if not set(tags) & FOLDED:
            cell.metadata["tags"] = [*tags, "hide-input"]
    nbformat.validate(nb)
    return nbformat.writes(nb).rstrip("\n") + "\n"


def read(path: Path) -> Any:
    """The notebook in a file, as an `nbformat.NotebookNode`; cells without an id of their own get one from their content.

    Raises:
        SystemExit: with one sentence, if there is none.
    """
    import nbformat

    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        seen: set[str] = set()
        for cell in raw["cells"] if raw["nbformat"] == 4 else []:  # before nbformat gives it a random one
            cell["id"] = _identity(cell, seen)
        return nbformat.reads(json.dumps(raw | {"nbformat_minor": 5}), as_version=4)
    except (OSError, ValueError, KeyError, TypeError, nbformat.ValidationError) as error:
        raise SystemExit(f"{path} is no notebook that can be read: {(str(error).splitlines() or ['?'])[0]}") from None


def _stripped(source: str, kind: str) -> str:
    """The text without white space at the ends of lines, except where it means something."""
    if kind == "code" and ('"""' in source or "'''" in source or source.startswith("%%")):
        return source  # it may be a string's own; ruff strips the rest
    lines = source.split("\n")
    kept = [line.rstrip() for line in lines]
    if kind == "markdown":  # two spaces break a line, unless it is the last of its paragraph
        for i, (line, following) in enumerate(zip(lines, kept[1:], strict=False)):
            if kept[i] and following and line.endswith("  "):
                kept[i] += "  "
    return "\n".join(kept)


def _setup(nb: Any) -> list[Any]:
    """The cells that prepare and teach nothing: Colab's, the parameters and the imports, before the first text after them."""
    code = itertools.dropwhile(lambda cell: cell.cell_type != "code", nb.cells)
    leading = list(itertools.takewhile(lambda cell: cell.cell_type == "code", code))
    return [
        cell for cell in leading if "parameters" in cell.metadata.get("tags", []) or re.match(r"(import|from)\s", cell.source)
    ]


def _identity(cell: Any, seen: set[str]) -> str:
    """The cell's own id where it has one that is free, else one made from its content."""
    name = cell.get("id", "")
    salt = 0
    while not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) or name in seen:
        name = hashlib.sha256(f"{salt}{cell['cell_type']}{''.join(cell['source'])}".encode()).hexdigest()[:8]
        salt += 1
    seen.add(name)
    return name


def _outputs(outputs: Iterable[Any]) -> list[Any]:
    """Outputs without progress bars, widgets and addresses; what one stream sent in pieces is in one piece again."""
    kept: list[Any] = []
    streams: dict[str, Any] = {}  # since the last output that is not a stream
    for output in outputs:
        if output.output_type == "stream":
            if output.name in streams:
                streams[output.name].text += output.text
                continue
            streams[output.name] = output
        elif "data" in output:
            if WIDGET in output.data and set(output.data) <= {WIDGET, "text/plain"}:
                continue
            output.data.pop(WIDGET, None)
            if "text/plain" in output.data:
                output.data["text/plain"] = _settle(output.data["text/plain"])
            for kind in output.data:
                if kind.startswith("image/") and isinstance(output.data[kind], str):
                    output.data[kind] = output.data[kind].strip("\n")
                if kind == "image/png":
                    output.data[kind] = lighter(output.data[kind])
        if output.output_type != "stream":
            streams = {}
        kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = _settle(output.text)
            if output.name == "stderr":
                output.text = PROGRESS.sub("", output.text)
    return [output for output in kept if output.output_type != "stream" or output.text.strip()]


def lighter(png: str) -> str:
    """A picture as matplotlib writes it, in base64, with a palette of 256 colours: about a third of the bytes.

    Pictures that already are without transparency, and those that 256 colours would change to the eye, stay as they are.
    """
    import numpy as np
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(base64.b64decode(png)))
        image.load()
    except (OSError, ValueError):
        return png  # no picture: nothing to make lighter
    if image.mode != "RGBA" or image.getchannel("A").getextrema() != (255, 255):
        return png
    rgb = image.convert("RGB")
    if rgb.getcolors(256) is not None:
        small = rgb.convert("P", palette=Image.Palette.ADAPTIVE)  # no colour changes
    else:
        small = rgb.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    error = np.abs(np.asarray(small.convert("RGB"), dtype=int) - np.asarray(rgb, dtype=int))
    if np.quantile(error, 0.999) > 12:
        return png
    buffer = io.BytesIO()
    small.save(buffer, format="png", optimize=True, dpi=image.info.get("dpi"))
    return base64.b64encode(buffer.getvalue()).decode()


def _settle(text: str) -> str:
    for pattern, replacement in VOLATILE:
        text = pattern.sub(replacement, text)
    return text


def problems(nb: Any, path: Path, url: str) -> list[str]:
    """What is wrong with the two cells that every notebook, and every chapter, must have; a sentence each."""
    found = []
    first = _first_code(nb)
    if first is None or first.source != COLAB.format(url=url):
        found.append(f"its first code cell must be the one that installs the library on Colab:\n\n{COLAB.format(url=url)}\n")
    parameters = [cell.source for cell in nb.cells if "parameters" in cell.metadata.get("tags", [])]
    right = len(parameters) == 1 and any(line.startswith(PARAMETERS) for line in parameters[0].splitlines())
    if path.resolve().parent.name == "book" and not right:
        found.append(f"it needs one cell tagged `parameters` that reads {PARAMETERS}.")
    return found


def keep_equal(new: Any, old: Any, patterns: Iterable[tuple[re.Pattern[str], str]]) -> None:
    """Give the cells of `new` their old texts back where they differ only in what the patterns match (seconds, ...)."""

    def settled(text: str) -> str:
        for pattern, replacement in patterns:
            text = pattern.sub(replacement, text)
        return text

    patterns = list(patterns)
    before = {cell.get("id"): cell for cell in old.cells}
    for cell in new.cells:
        then = before.get(cell.get("id"))
        if cell.cell_type != "code" or not then or [o.output_type for o in cell.outputs] != [o.output_type for o in then.outputs]:
            continue
        for now, was in zip(cell.outputs, then.outputs, strict=True):
            if now.output_type == "stream" and settled(now.text) == settled(was.text):
                now.text = was.text
            for kind, content in now.get("data", {}).items():
                stored = was.data.get(kind)
                if kind.startswith("text/") and isinstance(stored, str) and settled(content) == settled(stored):
                    now.data[kind] = stored


def run(chapter: str, profile: str = "auto") -> Path:
    """Execute a chapter of the clone one is in, and store its outputs; on an error the stored notebook stays as it was.

    Raises:
        SystemExit: with one sentence, if there is no such chapter or profile, or one of its cells fails.
    """
    from gencourse.profile import PROFILES

    home = root()
    chapters = {path.stem: path for path in sorted((home / "book").glob("*.ipynb"))}
    if chapter not in chapters:
        raise SystemExit(f"there is no chapter {chapter!r}; there are: {', '.join(chapters) or 'none yet'}.")
    if profile not in ("auto", *PROFILES):
        raise SystemExit(f"there is no profile {profile!r}; there are: auto, {', '.join(PROFILES)}.")
    import papermill

    path = chapters[chapter]
    quiet = patch.dict(os.environ, TQDM_DISABLE="1")  # as in the tests: a progress bar is nothing to store
    with quiet, tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / path.name
        try:
            papermill.execute_notebook(
                path, executed, {"profile": profile}, cwd=path.parent, kernel_name="python3", progress_bar=sys.stderr.isatty()
            )
        except papermill.PapermillExecutionError as error:
            raise SystemExit(f"{path.name} is unchanged, because one of its cells failed:\n{error}") from None
        new = read(executed)
    old = read(path)
    url = address(home)
    for nb in (new, old):
        normalise(nb, url)
    lines = (home / "tests" / "nbval.cfg").read_text()
    regexes = re.findall(r"^regex: (.*)$", lines, re.MULTILINE)
    replacements = re.findall(r"^replace: (.*)$", lines, re.MULTILINE)
    keep_equal(new, old, [(re.compile(a), b) for a, b in zip(regexes, replacements, strict=True)])
    _write(path, normalise(new, url))
    return path


def root() -> Path:
    """The clone one is in: the nearest folder upwards that has the book's `_config.yml`."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "_config.yml").exists():
            return folder
    raise SystemExit(f"{Path.cwd()} is not inside a clone of gencourse: there is no _config.yml here or above.")


def address(home: Path) -> str:
    """The repository's public address, from the one place where it stands: `repository.url` in `_config.yml`."""
    import yaml

    return str(yaml.safe_load((home / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"])


def main(arguments: list[str] | None = None) -> int:
    """The command line described above; the number is the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_ in (("normalise", "rewrite in the normal form"), ("check", "say what is wrong, change nothing")):
        commands.add_parser(name, help=help_).add_argument("files", nargs="*", type=Path, metavar="FILE")
    runner = commands.add_parser("run", help="execute a chapter and store its outputs")
    runner.add_argument("chapter", help="its file name, such as 09-vae")
    runner.add_argument("--profile", default="auto", help="auto, smoke, cpu or gpu")
    chosen = parser.parse_args(arguments)
    if chosen.command == "run":
        print(f"stored the outputs in {run(chosen.chapter, chosen.profile)}")
        return 0

    home = root()
    url = address(home)
    bad = 0
    for path in chosen.files or [path for folder in FOLDERS for path in sorted((home / folder).glob("*.ipynb"))]:
        nb = read(path)
        found = problems(nb, path, url) if chosen.command == "check" else []
        normal = normalise(nb, url)
        if normal != path.read_text(encoding="utf-8"):
            if chosen.command == "normalise":
                _write(path, normal)
            else:
                found.append("it is not in its normal form; `make format` rewrites it.")
        for problem in found:
            print(f"{path}: {problem}")
        bad += bool(found)
    return 1 if bad else 0


def _write(path: Path, text: str) -> None:
    """Replace a file at once, so that nothing can leave half a notebook."""
    beside = path.with_suffix(f".{os.getpid()}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _first_code(nb: Any) -> Any:
    return next((cell for cell in nb.cells if cell.cell_type == "code"), None)


if __name__ == "__main__":
    sys.exit(main())
