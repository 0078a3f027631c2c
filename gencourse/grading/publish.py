"""`gencourse publish`: a folder with what students may have, the book, the exercises and the library, and no answers.

In place of a file of questions the edition has one of numbers: a few draws of each check's inputs, the right answers and those
of each mistake. What judges an experiment is code, and only the part of it that judges is taken over, which `judging` finds.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import gencourse
from gencourse.grading import questions
from gencourse.grading.inside import harness
from gencourse.grading.questions import Question
from gencourse.grading.questions.stored import KINDS, place
from gencourse.grading.release import released

DIFFERENT = 200
"""Draws of a question that differ, at least: as many as its checks' kept draws can be put together to."""

DRAWS = 8
"""Of a check's inputs, at least."""

EXPERIMENT_DRAWS = 4
"""Of an experiment's, which are larger, and to which nobody knows the answer by heart."""

ROOT = Path(gencourse.__file__).resolve().parents[1]
LEFT_OUT = ("gradescope", "lms", "mutants", "overrides", "publish", "release", "report", "selftest", "similar")
"""What only instructors and authors need of `grading/`."""

FOR_INSTRUCTORS = ("book/teaching",)
"""Pages of the book that list mistakes question by question. Where others link them, the text of the link is left."""

TRAINING = f"{questions.__name__}.training"

_README = """\
# gencourse, students' edition

The book, the exercises and the library of a course on deep generative models. The exercises are notebooks in `exercises/`,
the chapters notebooks with their outputs in `book/`. `book/doing-exercises.md` says how to do the exercises.

```sh
python -m pip install . ipykernel    # Python 3.11 or newer, in an environment of your own
gencourse submit 09                  # looks at your notebook and writes the file to hand in
```

`check("9.1")` tries your function on stored draws of its inputs. Grading asks the same questions on other inputs, so
what is right for these draws only is wrong there. Right answers are stored as numbers; there is no function to read them from. So
where a later question calls your answer to an earlier one, `submit` cannot put the right one in its place, as grading does.
"""


def publish(out: Path, url: str = "", root: Path = ROOT) -> list[str]:
    """Write the edition to the folder `out`, and say what is in it, line by line.

    Args:
        out: a folder that is empty or not there yet.
        url: where the edition will stand: on Colab its notebooks install the library from there.
        root: the clone.

    Raises:
        ValueError: if there is no clone, `out` lies in it, or an experiment's judge cannot be had without the reference.
        FileExistsError: if there is something in `out`.
    """
    if not all((root / name).exists() for name in ("solutions", "book", "pyproject.toml", "_config.yml")):
        raise ValueError(
            f"the edition is made from a clone of the repository, and this gencourse is installed in {root}, without one; "
            "run `make book` in a clone, and there `.venv/bin/gencourse publish`."
        )
    target = out.resolve()
    if target.is_relative_to(root):
        raise ValueError(f"{out} lies in the repository, {root}; name a folder outside it.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is not an empty folder; name a new one.")
    pages = re.findall(
        r"^\s*(?:root|- file): ((?:book|exercises)/\S+)", (root / "_toc.yml").read_text(encoding="utf-8"), re.MULTILINE
    )
    pages = [page for page in pages if page not in FOR_INSTRUCTORS]
    sources = [root / "solutions" / f"{page.split('/')[1]}.ipynb" for page in pages if page.startswith("exercises/")]
    numbers = [source.name[:2] for source in sources]
    for source, number in zip(sources, numbers, strict=True):
        if not source.is_file() or number not in questions.exercises():
            lacks = f"solutions/{source.name}" if not source.is_file() else f"file of questions q{number}_*.py"
            raise ValueError(f"_toc.yml names exercises/{source.stem}, and there is no {lacks}.")
    files = [*_files(root, numbers, pages)]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".publish-") as place:
        made = Path(place) / "edition"
        for path in files:
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, made / path)
        (made / "exercises").mkdir()
        for source in sources:
            (made / "exercises" / source.name).write_text(released(source), encoding="utf-8", newline="\n")
        for number in numbers:
            write_questions(number, made / "gencourse" / "grading" / "questions")
        (made / "README.md").write_text(_README, encoding="utf-8", newline="\n")
        _unlink(made)
        home = _address(root)
        if url:
            _readdress(made, home, url.rstrip("/"))
        if target.exists():
            target.rmdir()
        made.rename(target)
    sizes = {path: path.stat().st_size for path in target.rglob("*") if path.is_file()}
    kept = sum(size for path, size in sizes.items() if path.parent.name == "questions" and path.suffix == ".npz")
    chapters = len(list((target / "book").glob("[0-9][0-9]-*.ipynb")))
    lines = [
        f"{out}: {len(numbers)} exercises, {chapters} chapters and the library in {len(sizes)} files, "
        f"{sum(sizes.values()) / 1e6:.1f} MB, of which answers, as numbers, are {kept / 1e6:.1f} MB.",
        f"On Colab its notebooks install the library from {url or home}"
        f"{'.' if url else ', so let the edition stand there, or name its address with --url.'}",
    ]
    if unknown := _untracked(root, files):
        lines.append(f"Git does not know {', '.join(map(str, unknown))}: look whether students may have that.")
    return lines


def _files(root: Path, numbers: Sequence[str], pages: Sequence[str]) -> Iterator[Path]:
    """What is taken over as it is, from the root: of the library its source, of the book the pages that `_toc.yml` names.

    Nothing hidden is taken, as are the copies that editors keep of a file, nor what else lies about.
    """
    grading = Path("gencourse", "grading")
    taken = {"__init__.py", "stored.py", *(f"{questions.module_name(number)}.toml" for number in numbers)}
    found = (path.relative_to(root) for folder in ("gencourse", "book/_static") for path in (root / folder).rglob("*"))
    for path in sorted(found):
        if not (root / path).is_file() or any(part.startswith(".") for part in path.parts):
            continue
        if path.parts[0] == "gencourse" and path.suffix not in (".py", ".js", ".json", ".npz", ".toml", ".typed"):
            continue
        if path.parent == grading and path.stem in LEFT_OUT:
            continue
        if path.is_relative_to(grading / "questions") and not (path.parent.name == "questions" and path.name in taken):
            continue  # what judges, and the numbers, are made
        yield path
    for page in (page for page in pages if page.startswith("book/")):
        yield from (path for path in (Path(f"{page}.ipynb"), Path(f"{page}.md")) if (root / path).is_file())
    yield from map(Path, ("book/references.bib", "LICENSE", "pyproject.toml"))


def _untracked(root: Path, files: Sequence[Path]) -> list[Path]:
    """Those that are not in the repository; none, if there is no way to know."""
    try:
        listed = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        return []
    known = set(listed.split("\0"))
    return [path for path in files if listed and path.as_posix() not in known]


def _address(root: Path) -> str:
    found = re.search(r"^repository:\s*\n\s+url:\s*(\S+)", (root / "_config.yml").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


def _unlink(made: Path) -> None:
    names = "|".join(page.removeprefix("book/") for page in FOR_INSTRUCTORS)
    for path in made.glob("book/*.md"):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(rf"\[([^]]*)\]\((?:{names})\.md[^)]*\)", r"\1", text), encoding="utf-8", newline="\n")


def _readdress(made: Path, home: str, url: str) -> None:
    for path in [*made.glob("book/*"), *made.glob("exercises/*")]:
        if path.suffix in (".ipynb", ".md"):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(home, url), encoding="utf-8", newline="\n")


# --- what judges ------------------------------------------------------------------------------------------------------


def write_questions(number: str, folder: Path) -> None:
    """Write an exercise's `qNN_name.py`, what judges its experiment, and `qNN_name.npz`, its numbers."""
    every = questions.of_exercise(number)
    module = importlib.import_module(f"{questions.__name__}.{questions.module_name(number)}")
    source, hidden = judging(module, every)
    name = module.__name__.rpartition(".")[2]
    (folder / f"{name}.py").write_text(source, encoding="utf-8", newline="\n")
    with open(folder / f"{name}.npz", "wb") as file:
        np.savez_compressed(file, **_stored(every, hidden))  # type: ignore[arg-type]


def judging(module: ModuleType, every: tuple[Question, ...]) -> tuple[str, dict[str, Any]]:
    """The part of a file of questions that judges answers to its experiments, and whose answers it wants as numbers.

    These are the measures that stand in `Check(..., measure=...)`, and all that they name, and what that names. In
    `alike(function, ...)` the function's place is taken by the name of a hidden input, its answer.

    Raises:
        ValueError: if that has a reference or a mistake in it.
    """
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    defined = _defined(tree)
    hidden: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "alike":
            name = f"_alike {len(hidden)}"
            hidden[name] = eval(compile(ast.Expression(node.args[0]), "<alike>", "eval"), vars(module))
            node.args[0] = ast.copy_location(ast.Constant(name), node.args[0])
    measures: dict[str, dict[str, ast.expr]] = {}
    answering: set[str] = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Question"):
        said = {keyword.arg: keyword.value for keyword in call.keywords}
        id = ast.literal_eval(said["id"])
        answering |= _reached(_names(said["reference"]) | _names(said["mistakes"]), defined, through=(ast.Assign, ast.AnnAssign))
        for check in (node for node in ast.walk(said["checks"]) if isinstance(node, ast.Call)):
            for keyword in check.keywords:
                if keyword.arg == "measure":
                    measures.setdefault(id, {})[ast.literal_eval(check.args[0])] = keyword.value
    wanted = {(q.id, check.name) for q in every for check in q.checks if check.measure}
    if wanted != {(id, check) for id, checks in measures.items() for check in checks}:
        raise ValueError(f"{module.__name__}: each measure must stand in its question, as Check(name, ..., measure=...).")
    needed = _reached({name for checks in measures.values() for m in checks.values() for name in _names(m)}, defined)
    answer = {name for name in needed & answering if callable(getattr(module, name, None)) and _own(defined[name])}
    if answer:
        raise ValueError(
            f"{module.__name__}: what judges the experiment calls {', '.join(sorted(answer))}, which also answers a question, so "
            "the edition would give it away. Judge by hidden inputs, or compare with `alike`."
        )
    number = every[0].id.split(".")[0]
    lines = [f'"""What judges answers to exercise {number}. The right ones are numbers, in the .npz beside this file."""', ""]
    lines += ["from pathlib import Path", ""]
    kept = [s for s in tree.body if needed & _binds(s)]
    lines += [text for s in kept if (text := _import(s, needed))]
    lines += ["from gencourse.grading.questions.stored import load", ""]
    lines += [ast.unparse(s) + "\n" for s in kept if not isinstance(s, ast.Import | ast.ImportFrom)]
    listed = ", ".join(
        f"{id!r}: {{{', '.join(f'{check!r}: {ast.unparse(value)}' for check, value in checks.items())}}}"
        for id, checks in measures.items()
    )
    lines += [f'QUESTIONS = load(Path(__file__).with_suffix(".npz"), {{{listed}}})']
    return "\n".join(lines) + "\n", hidden


def _own(statement: ast.stmt) -> bool:
    """Whether something comes from the file itself, or is a way to train."""
    return not isinstance(statement, ast.Import | ast.ImportFrom) or getattr(statement, "module", None) == TRAINING


def _import(statement: ast.stmt, needed: set[str]) -> str:
    if isinstance(statement, ast.Import):
        return ast.unparse(ast.Import([a for a in statement.names if (a.asname or a.name.split(".")[0]) in needed]))
    if not isinstance(statement, ast.ImportFrom):
        return ""
    names = [alias for alias in statement.names if (alias.asname or alias.name) in needed]
    apart = [alias for alias in names if (statement.module, alias.name) == (questions.__name__, "alike")]
    lines = ["from gencourse.grading.questions.stored import alike"] if apart else []
    if rest := [alias for alias in names if alias not in apart]:
        lines.append(ast.unparse(ast.ImportFrom(statement.module, rest, statement.level)))
    return "\n".join(lines)


def _binds(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in statement.names}
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    return set()


def _defined(tree: ast.Module) -> dict[str, ast.stmt]:
    return {name: statement for statement in tree.body for name in _binds(statement)}


def _names(node: ast.AST) -> set[str]:
    return {found.id for found in ast.walk(node) if isinstance(found, ast.Name)}


def _reached(names: set[str], defined: Mapping[str, ast.stmt], through: tuple[type, ...] = (ast.stmt,)) -> set[str]:
    """All module-level names that these lead to, by way of statements of these types."""
    found: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        if name in found or name not in defined:
            continue
        found.add(name)
        if isinstance(defined[name], through):
            queue += _names(defined[name])
    return found


# --- numbers ----------------------------------------------------------------------------------------------------------


def draws_of(question: Question) -> int:
    """How many draws of each check are kept."""
    if question.seconds:
        return EXPERIMENT_DRAWS
    checks = sum(not check.of for check in question.checks)
    return max(DRAWS, next(n for n in range(1, DIFFERENT + 1) if n**checks >= DIFFERENT))


def _stored(every: tuple[Question, ...], hidden: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of an exercise's file."""
    kept: dict[str, np.ndarray] = {}
    about = []
    for question in every:
        draws = draws_of(question)
        given: dict[str, list[str]] = {}
        for draw in range(draws):
            inputs = question.draw(draw)
            for check in (check for check in question.checks if not check.of):
                own = dict(inputs[check.name])
                if check.measure:
                    seen = check.given(own)
                    own |= {name: harness.run(function, seen, twice=False)["value"] for name, function in hidden.items()}
                given[check.name] = list(own)
                kept |= {place(question.id, check.name, draw, f"given {name}"): array for name, array in own.items()}
            for check in (check for check in question.checks if not check.measure):
                own = dict(inputs[check.of or check.name])
                answers = {"right": question.right(own, check)}
                answers |= {f"wrong {mistake}": question.wrong(mistake, own, check) for mistake in question.mistakes}
                for what, answer in answers.items():
                    for key in ("value", *check.compares):
                        if key in answer:
                            kept[place(question.id, check.name, draw, f"{what}: {key}")] = answer[key]
        if not question.seconds:
            kept[f"{question.id}/example"] = question.right(question.example)["value"]
        about.append(_said(question) | {"given": given, "draws": draws})
    return _packed(kept, {"questions": about})


def _said(question: Question) -> dict[str, Any]:
    """What is known of a question beside its functions."""
    said = {name: getattr(question, name) for name in ("id", "title", "function", "returns", "seconds", "library")}
    names = ("name", "points", "gradients", "rtol", "atol", "needs", "of")
    return said | {
        "example": {name: array.tolist() for name, array in question.example.items()},
        "mistakes": list(question.mistakes),  # in the order in which they are tried
        "checks": [{name: getattr(check, name) for name in names} for check in question.checks],
    }


def _packed(kept: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> dict[str, np.ndarray]:
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    ends, places = [0, 0], {}
    for name, array in kept.items():
        array = np.asarray(array, dtype=float)
        with np.errstate(over="ignore"):
            kind = int(not np.array_equal(array.astype(np.float32).astype(float), array, equal_nan=True))
        places[name] = (kind, ends[kind], array.shape)
        parts[kind].append(array.ravel())
        ends[kind] += array.size
    text = json.dumps({**about, "places": places}, separators=(",", ":")).encode()
    numbers = {
        name: np.concatenate([np.zeros(0), *own]).astype(dtype)
        for name, own, dtype in zip(KINDS, parts, (np.float32, np.float64), strict=True)
    }
    return {"about": np.frombuffer(text, dtype=np.uint8), **numbers}
