"""`gencourse submit`: a student's own look at a notebook before handing it in, and the one file to hand in.

The notebook is run from top to bottom in a process of its own, as it is graded and within the same time, and each question is
checked as `check` does it, on new random inputs. Whatever comes of that, the file is written: nothing that was written by the
student is lost. On Windows the file is written, and nothing is run.
"""

from __future__ import annotations

import getpass
import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from gencourse import checkpoint
from gencourse.grading import grade, handins, notebook, questions
from gencourse.grading.check import SAID
from gencourse.grading.conversation import Limits
from gencourse.grading.notebook import Unreadable
from gencourse.grading.questions import Question
from gencourse.grading.sandbox import DidNotStart


def submit(number: str, path: Path | None = None, name: str | None = None, out: Path = Path()) -> list[str]:
    """Run and check a notebook, write `out/NAME-NN.ipynb`, and say how it went, line by line.

    Args:
        number: of the exercise, `"09"`.
        path: of the notebook; by default the one of this exercise here or in `exercises/`.
        name: of the student; by default the user's.
        out: the folder to write to.

    Raises:
        ValueError: if there is no such exercise, or the file is no notebook, or that of another exercise.
        FileNotFoundError: if there is no notebook.
    """
    number = number.zfill(2)
    every = questions.of_exercise(number)
    path = path or _notebook(number)
    if not path.is_file():
        raise FileNotFoundError(f"there is no notebook {path}.")
    content = notebook.read_bytes(path)
    try:
        if other := _another(content, number, every):
            raise ValueError(
                f"{path} is the notebook of exercise {other}, not of {number}; hand it in by `gencourse submit {other}`."
            )
        record = grade.grade_notebook(
            content, every, {q.id: secrets.randbits(64) for q in every}, slot=0, limits=Limits(), shut_in=False, own=True
        )
        lines = _how_it_went(record)
    except Unreadable as error:
        raise Unreadable(f"{path}: {error}") from None
    except DidNotStart as error:
        lines = [f"Your notebook was not tried here ({error}); `check` in it asks the same questions."]
    target = out / f"{_file_name(name or getpass.getuser())}-{number}.ipynb"
    checkpoint.write_atomically(target, _without_outputs(content))
    return [*lines, f"Hand in this file: {target}"]


def _another(content: bytes, number: str, every: Sequence[Question]) -> str:
    """The number of another exercise whose notebook this is: it asks `check` for its questions, and answers more of them."""
    found = notebook.examined(content)
    asked = [id.split(".")[0].zfill(2) for id in notebook.asked(found.cells)]
    others = [other for other in asked if other in questions.exercises()]
    if number in asked or not others:
        return ""
    other = max(others, key=others.count)
    mine, theirs = (sum(q.function in found.defined for q in these) for these in (every, questions.of_exercise(other)))
    return other if not mine or theirs > mine else ""  # two exercises may have functions of one name


def _how_it_went(record: dict) -> list[str]:
    lines = []
    for result in record["questions"]:
        mark = "✓" if result["status"] == "ok" else "·" if result["status"] == "missing" else "✗"
        lines += [f"{mark} {result['sentence']}", *(f"  {note}" for note in result.get("notes", ()))]
    answered = sum(result["status"] != "missing" for result in record["questions"])
    points, out_of = (sum(result[key] for result in record["questions"]) for key in ("points", "out_of"))
    lines.append(f"{answered} of {len(record['questions'])} questions answered; {points} of {out_of} points on these inputs.")
    lines += record["notes"]
    for error in record["cells"]:
        what = f"{error['type']}: {error['message']}" if "type" in error else f"{SAID[error['status']]}: {error['message']}"
        code = f" ({error['code']})" if error.get("code") else ""
        lines.append(f"It does not run from top to bottom: cell {error['cell']}{code}: {what}")
    if not record["cells"]:
        lines.append("It runs from top to bottom.")
    return lines


def _notebook(number: str) -> Path:
    found = sorted(path for folder in (Path(), Path("exercises")) for path in folder.glob(f"{number}-*.ipynb"))
    if not found:
        raise FileNotFoundError(f"there is no notebook {number}-*.ipynb here or in exercises/; name it with --notebook.")
    if len(found) > 1:
        raise ValueError(f"there is more than one: {', '.join(map(str, found))}; say which with --notebook.")
    return found[0]


def _file_name(name: str) -> str:
    """The name as it is, without what a file system may refuse."""
    return re.sub(r'[<>:"/\\|?*]', "_", handins.printable(name)).strip(" .") or "student"


def _without_outputs(content: bytes) -> bytes:
    """All cells, code and text; the outputs go, which make files too large to hand in."""
    made = notebook.loaded(content)
    for cell in made.get("cells", ()):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            cell |= {"outputs": [], "execution_count": None}
    return (json.dumps(made, indent=1, ensure_ascii=True) + "\n").encode()
