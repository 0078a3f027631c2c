"""Marks and feedback as course platforms import them, and a gradebook over all exercises.

`import/` gets what fits the platforms that the hand-ins came from; each form is the one that its platform documents:

- Canvas: the gradebook's CSV (Student, ID, SIS User ID, SIS Login ID, Section, the assignment), and a zip whose names begin as
  those of the downloaded submissions do;
- Moodle: the offline grading worksheet (Identifier, Full name, Grade, Maximum grade, Last modified (grade)), and a zip of
  feedback files in the folders of the downloaded submissions;
- Brightspace: a zip in the folders of the downloaded submissions.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gencourse import checkpoint
from gencourse.grading import overrides, report
from gencourse.grading.overrides import written
from gencourse.grading.questions import Question

Record = dict[str, Any]

_NAMES = {"canvas.csv", "moodle.csv", "canvas-feedback.zip", "moodle-feedback.zip", "brightspace-feedback.zip"}
_DATE = (1980, 1, 1, 0, 0, 0)  # the same archive from the same marks
_CANVAS_FILE = re.compile(r"(?:(?:LATE_)?anon_\w{5}|.+?_\d+)_\d+(?=_)")
# Platforms whose id stays a student's through the course; the others number anew in each assignment.
_LASTING = ("canvas", "gradescope")


def hand_over(
    records: Sequence[Record], decided: tuple[Any, Any], questions: Sequence[Question], out: Path, secret: bytes | None = None
) -> list[str]:
    """Write all that grading gives, and say what the instructor reads in the terminal.

    Args:
        records: of all hand-ins.
        decided: by hand: what `overrides.read` gives.
        questions: of the exercise.
        out: the folder.
        secret: where one is given, pages and tables show codes, and `names.csv` says whose they are.
    """
    records = overrides.apply(records, *decided)
    write(records, questions, out)
    shown, names = records, out / "names.csv"
    if secret is None:
        names.unlink(missing_ok=True)
    else:
        shown = report.anonymous(records, secret)
        people = sorted({(new["name"], report.safe(old["name"])) for new, old in zip(shown, _sorted(records), strict=True)})
        checkpoint.write_atomically(names, _csv([("code", "name"), *people]).encode("utf-8-sig"))
    report.write(shown, questions, out)
    return report.summary(shown, out)


def _sorted(records: Sequence[Record]) -> list[Record]:
    """In the order in which `report.anonymous` gives them."""
    return [record for hand_ins in report.by_student(records) for record in sorted(hand_ins, key=lambda r: r["file"])]


def write(records: Sequence[Record], questions: Sequence[Question], out: Path) -> list[Path]:
    """Write `out/import/` for the platforms that hand-ins came from; what was written."""
    students = report.by_student(records)
    title = f"Exercise {questions[0].id.split('.')[0].zfill(2)}"
    made: dict[str, bytes] = {}
    for platform, table in (("canvas", _canvas), ("moodle", _moodle), ("brightspace", None)):
        theirs = [hand_ins for hand_ins in students if hand_ins[0]["platform"] == platform]
        if theirs:
            if table is not None:
                made[f"{platform}.csv"] = table([hand_ins[0] for hand_ins in theirs], title).encode("utf-8")
            pages = {_place(h[0]["file"], platform): report.feedback(h, questions).encode() for h in theirs}
            made[f"{platform}-feedback.zip"] = _zipped(pages)
    for name in _NAMES - made.keys():
        (out / "import" / name).unlink(missing_ok=True)
    for name, content in made.items():
        checkpoint.write_atomically(out / "import" / name, content)
    return [out / "import" / name for name in made]


def _canvas(records: Sequence[Record], title: str) -> str:
    most = written(report.out_of(records[0]))
    rows = [["Student", "ID", "SIS User ID", "SIS Login ID", "Section", title], ["Points Possible", "", "", "", "", most]]
    return _csv([*rows, *([report.safe(r["name"]), r["id"], "", "", "", _points(r)] for r in records)])


def _moodle(records: Sequence[Record], title: str) -> str:
    head = ["Identifier", "Full name", "Grade", "Maximum grade", "Last modified (grade)"]
    most = written(report.out_of(records[0]))
    return _csv([head, *([f"Participant {r['id']}", report.safe(r["name"]), _points(r), most, "-"] for r in records)])


def _points(record: Record) -> str:
    points = report.total(record)
    return "" if points is None else written(points)


def _place(file: str, platform: str) -> str:
    """The name under which a platform finds the student to whom a page of feedback goes."""
    first, slash, _ = file.partition("/")
    if slash:
        return f"{first}/feedback.html"
    if platform == "canvas":
        found = _CANVAS_FILE.match(first)
        return f"{found[0] if found else first}_feedback.html"
    if platform == "moodle":
        return re.sub(r"(_assignsubmission_[a-z]+_).*", r"\1feedback.html", first)
    return f"{first.rpartition('.')[0]} feedback.html"


def _zipped(files: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _DATE), content, zipfile.ZIP_DEFLATED)
    return held.getvalue()


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


# --- all exercises ----------------------------------------------------------------------------------------------------


def gradebook(folders: Sequence[Path], out: Path) -> list[str]:
    """Join the marks of several exercises, a row for each student; what an instructor should know of it, in sentences.

    A student is the same by Canvas's and Gradescope's ids. Elsewhere the name has to do, as long as each folder has one student
    of that name; where two share it, their rows are not joined.

    Args:
        folders: that `gencourse grade` made, one for each exercise.
        out: the CSV file to write.

    Raises:
        ValueError: if a folder has no marks, or two are of one exercise.
    """
    marks: dict[str, list[dict[str, str]]] = {}
    for folder in folders:
        if not (folder / "students.csv").is_file() or not (folder / "results.json").is_file():
            raise ValueError(f"there are no marks in {folder}; it should be a folder that `gencourse grade --out` made.")
        exercise = str(json.loads((folder / "results.json").read_text(encoding="utf-8"))["exercise"]).zfill(2)
        if exercise in marks:
            raise ValueError(f"{folder} is a second folder of exercise {exercise}; name one for each exercise.")
        marks[exercise] = [row for _, row in overrides.table(folder / "students.csv", ("student", "id", "platform", "points"))]
    shared = {name for rows in marks.values() for name, n in Counter(map(_name, rows)).items() if n > 1}
    found: dict[str, dict[str, dict[str, str]]] = {}
    for exercise, rows in marks.items():
        for row in rows:
            found.setdefault(_key(row, exercise, shared), {})[exercise] = row
    exercises = sorted(marks)
    most = {exercise: max((float(row["out of"]) for row in rows), default=0.0) for exercise, rows in marks.items()}
    table = [["student", "id", *(f"exercise {exercise}" for exercise in exercises), "points", "out of", "days late"]]
    for key in sorted(found, key=lambda key: (_name(found[key][max(found[key])]), key)):
        mine = found[key]
        last = mine[max(mine)]
        points = [mine.get(exercise, {}).get("points", "") for exercise in exercises]
        late = sum(int(row["days late"] or 0) for row in mine.values())
        known = sum(float(value) for value in points if value)
        table.append([last["student"], last["id"], *points, written(known), written(sum(most.values())), str(late)])
    checkpoint.write_atomically(out, _csv(table).encode("utf-8-sig"))
    lines = [f"{report.number(len(found), 'student')}, {report.number(len(exercises), 'exercise')}; {out}"]
    apart = sorted({row["student"] for rows in marks.values() for row in rows if _name(row) in shared and not _lasting(row)})
    return lines + [f"{name} is the name of several students; their rows are not joined, join them by hand." for name in apart]


def _name(row: dict[str, str]) -> str:
    return unicodedata.normalize("NFC", row["student"]).lower()


def _lasting(row: dict[str, str]) -> bool:
    return row["platform"] in _LASTING


def _key(row: dict[str, str], exercise: str, shared: set[str]) -> str:
    if _lasting(row):
        return f"{row['platform']}\0{row['id']}"
    return f"{_name(row)}\0{exercise}\0{row['id']}" if _name(row) in shared else _name(row)
