"""What an instructor decides by hand, in two small tables that outlive every regrade: `changes.csv` and `times.csv`.

`changes.csv` has the columns student, question, points and reason; the student `*` is everybody:

    student,question,points,reason
    *,9.4,drop,The text gave two readings.
    *,9.5,of 10,It took longer than we thought.
    ada,9.1,2.5,Right but for a slip of the pen.
    bo,total,add 1,You found an error in the exercise.
    cem,9.2,,See me about the shapes.
    *,deadline,2026-11-30 23:59,
    *,late,10%,for each day begun
    dee,late,2,two of the term's five late days
    eve,deadline,2026-12-02 23:59,ill
    *,counts,last,

`times.csv` has student and submitted, and file where a student has handed in more than once. Times come from there, or from names
that the platform itself makes (Blackboard, Gradescope); the dates of files say when they were copied, and are not used.

Rows are applied in this order: weights, then a question's points, then the cost of being late, then the total. None of it runs
anything again: a mark is the machine's, and what was changed, by how much and why stands beside it.
"""

from __future__ import annotations

import copy
import csv
import difflib
import io
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gencourse.grading import handins
from gencourse.grading import questions as all_questions
from gencourse.grading.questions import Question

Record = dict[str, Any]

COLUMNS = ("student", "question", "points", "reason")
_EVERYBODY = "*"
_MOST = 1000.0
_NUMBER = re.compile(r"[+-]?(\d{1,4}([.,]\d{0,4})?|[.,]\d{1,4})")


@dataclass(frozen=True)
class Person:
    """A student as a table may name them: `student` is the key, `code` what anonymous reports show."""

    student: str
    name: str
    id: str = ""
    code: str = ""


@dataclass(frozen=True)
class Change:
    """One row. `kind` is set, add, comment, out of, deadline, days, cost or counts; no `student` is everybody."""

    student: str
    question: str
    kind: str
    value: Any
    reason: str


def read(
    folder: Path, exercise: str, out: Path, changes: Path | None = None, times: Path | None = None, secret: bytes | None = None
) -> tuple[list[Change], dict[tuple[str, str], datetime]]:
    """Both tables, for the hand-ins of a folder; by default those in `out`, if there are any.

    Raises:
        ValueError: with a sentence for each row that cannot be understood.
        FileNotFoundError: if there is no such file, or nothing to grade.
    """
    found: list[Path | None] = []
    for path, name in ((changes, "changes.csv"), (times, "times.csv")):
        if path is not None and not path.is_file():
            raise FileNotFoundError(f"there is no file {path}.")
        default = out / name
        found.append(path or (default if default.is_file() else None))
    hand_ins = handins.find(folder, exercise, leave_out=out)
    people = [Person(h.student, h.name, h.id.lower(), handins.code(h.student, h.id, secret) if secret else "") for h in hand_ins]
    every = all_questions.of_exercise(exercise)
    return (
        [] if found[0] is None else read_changes(found[0], people, every),
        {} if found[1] is None else read_times(found[1], people),
    )


def table(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with the numbers of their lines; with commas, semicolons or tabs, in any encoding of a spreadsheet.

    Raises:
        ValueError: if it is no such table, a column is missing, or a row has too many fields.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    first = text.split("\n", 1)[0]
    # Strict, as a quotation mark that is never closed would take all later rows with it.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    rows, bad = [], []
    try:
        head = [name.strip().casefold() for name in next(reader, [])]
        if missing := [name for name in columns if name not in head]:
            found, wanted = handins.printable(",".join(head)), ",".join([*columns, *optional])
            raise ValueError(f"{path}, line 1: there is no column {missing[0]!r} in {found!r}; the first line is {wanted}.")
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if len(fields) > len(head):
                bad.append(
                    f"{path}, line {reader.line_num}: {len(fields)} fields where there are {len(head)} columns; "
                    'put a text with commas between "quotation marks".'
                )
            whole = [*fields, *[""] * (len(head) - len(fields))]
            rows.append((reader.line_num, {name: field.strip() for name, field in zip(head, whole, strict=False)}))
    except csv.Error as error:
        bad.append(f"{path}, line {reader.line_num}: {error}; is a quotation mark not closed?")
    if bad:
        raise ValueError("\n".join(bad))
    return rows


def read_changes(path: Path, people: Sequence[Person], questions: Sequence[Question]) -> list[Change]:
    """The rows of `changes.csv`.

    Raises:
        ValueError: with a sentence for each row that cannot be understood.
    """
    found: list[Change] = []
    bad: list[str] = []
    seen: dict[tuple[str, str, str], int] = {}
    for line, row in table(path, COLUMNS):
        try:
            student = "" if row["student"] == _EVERYBODY else _who(row["student"], people)
            kind, value, question = _meaning(row["question"], row["points"], not student, questions)
            if not row["reason"] and kind in ("set", "add", "comment", "out of"):
                raise ValueError("there is no reason; the student reads it.")
            if kind in ("set", "out of", "deadline", "days", "cost", "counts"):
                before = seen.setdefault((student, question, kind), line)
                if before != line:
                    raise ValueError(f"line {before} says something of {row['question']!r} for {row['student']!r} already.")
            found.append(Change(student, question, kind, value, row["reason"]))
        except ValueError as error:
            bad.append(f"{path}, line {line}: {error}")
    if bad:
        raise ValueError("\n".join(bad))
    return found


def read_times(path: Path, people: Sequence[Person]) -> dict[tuple[str, str], datetime]:
    """When each hand-in arrived, by student and file; the file is "" where the row names none.

    Raises:
        ValueError: with a sentence for each row that cannot be understood.
    """
    found: dict[tuple[str, str], datetime] = {}
    bad: list[str] = []
    for line, row in table(path, ("student", "submitted"), ("file",)):
        try:
            key = (_who(row["student"], people), row.get("file", ""))
            if key in found:
                raise ValueError(f"there are two times for {row['student']!r}; say in a column `file` which hand-in each is of.")
            found[key] = instant(row["submitted"])
        except ValueError as error:
            bad.append(f"{path}, line {line}: {error}")
    if bad:
        raise ValueError("\n".join(bad))
    return found


def instant(text: str) -> datetime:
    """A point in time from ISO 8601, with or without a time zone.

    Raises:
        ValueError: if it is none.
    """
    try:
        return datetime.fromisoformat(text.strip().replace(" Z", "+00:00"))
    except ValueError:
        raise ValueError(f"{text!r} is no time; write it as 2026-11-30 23:59.") from None


def _who(text: str, people: Sequence[Person]) -> str:
    """The key of the student that a table names: by key, code, id, or a name that only one has."""
    wanted = unicodedata.normalize("NFC", text).lower()
    for names in (lambda p: (p.student, p.code), lambda p: (p.id,), lambda p: (unicodedata.normalize("NFC", p.name).lower(),)):
        keys = sorted({p.student for p in people if wanted and wanted in names(p)})
        if len(keys) > 1:
            raise ValueError(f"{text!r} are {len(keys)} students; write which: {', '.join(keys)}.")
        if keys:
            return keys[0]
    near = difflib.get_close_matches(wanted, [name for p in people for name in (p.student, p.name)], n=1)
    raise ValueError(f"there is no student {text!r}{f'; is it {near[0]!r}?' if near else '.'}")


def _meaning(question: str, points: str, everybody: bool, questions: Sequence[Question]) -> tuple[str, Any, str]:
    """What a row does: its kind, its value, and the question or word that it is about."""
    word, given = question.casefold(), points.casefold()
    if word == "deadline":
        return "deadline", instant(points), word
    if word == "counts":
        if given not in ("best", "last"):
            raise ValueError(f"{points!r} cannot count; write best or last.")
        return "counts", given, word
    if word == "late":
        if everybody:
            if not given.endswith("%"):
                raise ValueError(f"{points!r} is no share of the points; write 10% for a tenth off for each day begun.")
            return "cost", _number(given.rstrip("% "), 0, 100), word
        return "days", _number(given, 0), word
    ids = {q.id: q for q in questions}
    id = question if question in ids else question.lstrip("0")
    if word != "total" and id not in ids:
        raise ValueError(f"there is no question {question!r}; write {', '.join(ids)}, total, late, deadline or counts.")
    id = "total" if word == "total" else id
    if given == "drop" or given.startswith("of "):
        if not everybody or id == "total":
            raise ValueError(f"{points!r} is for a question and everybody, the student *.")
        return "out of", 0.0 if given == "drop" else _number(given.removeprefix("of "), 0), id
    if not given:
        return "comment", None, id
    if given.startswith("add ") or given[0] in "+-":
        return "add", _number(given.removeprefix("add "), -_MOST), id
    return "set", _number(given, 0), id


def _number(text: str, least: float, most: float = _MOST) -> float:
    if _NUMBER.fullmatch(text.strip()):
        value = float(text.strip().replace(",", "."))
        if least <= value <= most:
            return value
        raise ValueError(f"{text.strip()!r} is not between {written(least)} and {written(most)}.")
    raise ValueError(f"{text!r} is no number of points; write 2.5, add 1, add -0.5, or nothing for a comment.")


# --- what they do to the marks ----------------------------------------------------------------------------------------


def apply(
    records: Sequence[Record], changes: Sequence[Change], times: Mapping[tuple[str, str], datetime] | None = None
) -> list[Record]:
    """The records with what was decided by hand: new ones, of which each change keeps its difference and its sentence."""
    made = [_changed(record, changes, times or {}) for record in records]
    for student in {record["student"] for record in made}:
        mine = [record for record in made if record["student"] == student]
        if len(mine) > 1 and _chosen(changes, student, "counts", "best") == "last":
            if all(record["time"] for record in mine) and _comparable([instant(record["time"]) for record in mine]):
                for place, record in enumerate(sorted(mine, key=lambda r: (instant(r["time"]), r["file"]), reverse=True)):
                    record["place"] = place
            else:
                mine[0]["look"].append("it is not known which hand-in was the last, so the best counts; see times.csv.")
    return made


def _changed(record: Record, changes: Sequence[Change], times: Mapping[tuple[str, str], datetime]) -> Record:
    record = copy.deepcopy(record) | {"changes": [], "look": [], "late": None}
    student = record["student"]
    mine = [change for change in changes if change.student in ("", student)]
    mine.sort(key=lambda change: bool(change.student))  # what is said of one student comes after what is said of all
    results = {result["id"]: result for result in record["questions"]}
    for result in results.values():
        result["changes"] = []
    for change in (change for change in mine if change.kind == "out of"):
        _weigh(results[change.question], change)
    for change in (change for change in mine if change.question in results and change.kind != "out of"):
        result = results[change.question]
        _note(result, change, result["points"])
        result["points"] = round(sum(part["points"] for part in (result, result["changes"][-1])), 2)
        result["by hand"] = result.get("by hand", False) or change.kind == "set"
    before = sum(result["points"] for result in record["questions"])
    time = times.get((student, record["file"])) or times.get((student, "")) or record.get("submitted")
    record["time"] = time.isoformat() if isinstance(time, datetime) else time or ""
    _late(record, mine, before)
    for change in (change for change in mine if change.question == "total"):
        _note(record, change, before + sum(one["points"] for one in record["changes"]))
        record["by hand"] = record.get("by hand", False) or change.kind == "set"
    return record


def _weigh(result: Record, change: Change) -> None:
    """The question counts another number of points, or none."""
    old, points = result["out_of"], result["points"]
    result["out_of"], result["points"] = change.value, round(points * change.value / old, 2) if old else 0.0
    says = f"Counts {written(change.value)} points instead of {written(old)}: {change.reason}" if change.value else change.reason
    result["changes"].append({"points": round(result["points"] - points, 2), "says": says})


def _note(target: Record, change: Change, points: float) -> None:
    """Keep the difference that a change makes to these points, and what is said of it."""
    if change.kind == "comment":
        target["changes"].append({"points": 0, "says": change.reason})
        return
    after = change.value if change.kind == "set" else points + change.value
    says = f"Changed by hand from {written(points)} to {written(after)} points: {change.reason}"
    target["changes"].append({"points": round(after - points, 2), "says": says})


def _late(record: Record, mine: Sequence[Change], points: float) -> None:
    """How many days late a hand-in is, and what that costs."""
    deadline = _chosen(mine, record["student"], "deadline", None)
    if deadline is None:
        return
    try:
        late = (instant(record["time"]) - deadline).total_seconds() / 86_400
    except (TypeError, ValueError):  # no time, or one with a time zone and one without
        record["look"].append(
            "no time is known that could be compared with the deadline, so it counts as in time; see times.csv."
        )
        return
    days = max(0, math.ceil(late))
    free = min(days, _chosen(mine, record["student"], "days", 0))
    record["late"] = days
    cost = next((change for change in mine if change.kind == "cost"), None)
    if days == 0 or cost is None:
        return
    share = min(1.0, (days - free) * cost.value / 100)
    granted = f", {written(free)} of them granted" if free else ""
    reason = f": {cost.reason}" if cost.reason else ""
    says = f"{_days(days)} late{granted}, at {written(cost.value)} % of the points a day{reason}"
    record["changes"].append({"points": -round(points * share, 2), "says": says})


def _chosen(changes: Sequence[Change], student: str, kind: str, default: Any) -> Any:
    """What holds for a student: what is said of them, or else what is said of all."""
    for who in (student, ""):
        for change in changes:
            if change.kind == kind and change.student == who:
                return change.value
    return default


def _comparable(times: Sequence[datetime]) -> bool:
    return len({time.tzinfo is None for time in times}) == 1


def _days(n: int) -> str:
    return f"{n} day" if n == 1 else f"{n} days"


def written(points: float) -> str:
    """Points as people write them: 3, 2.5."""
    return f"{round(points, 2):g}"
