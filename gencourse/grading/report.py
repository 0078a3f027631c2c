"""What grading gives: `grades.csv`, `students.csv`, `report.html`, `what-if.html`, a page and a JSON file for each student.

All are functions of the records alone: no dates, no times, sorted, so that the same grading gives the same bytes. Names, cells
and messages are students' text: it is escaped in HTML, and in the CSV it cannot become a formula.
"""

from __future__ import annotations

import csv
import html
import io
import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gencourse import checkpoint
from gencourse.grading import handins, similar
from gencourse.grading.check import SAID
from gencourse.grading.notebook import Notebook
from gencourse.grading.overrides import written
from gencourse.grading.questions import Question

Record = dict[str, Any]

COLUMNS = ("student", "id", "file", "counts", "question", "check", "status", "points", "out of", "mistake", "says", "sandbox")
UNSAFE = "graded without a sandbox: a hostile hand-in may have written its marks itself."
_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--page:#fff;--line:#d9dee6;--soft:#f1f4f8;--bar:#3b6ea5;--ok:#176b3a;--no:#a3341f;
--link:#0b57a4}
@media(prefers-color-scheme:dark){:root{--ink:#e3e8ef;--page:#14181f;--line:#39424f;--soft:#222934;--bar:#6ea3dc;--ok:#6cc795;
--no:#f2937f;--link:#8cbcf2}}
body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:var(--ink);background:var(--page);
overflow-wrap:anywhere}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:1.6rem 0 .3rem}a{color:var(--link)}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:normal}
td.n,th.n{text-align:right;white-space:nowrap}td.free{overflow-wrap:anywhere;min-width:6rem}
.ok{color:var(--ok)}.no{color:var(--no)}.note{background:var(--soft);padding:.6rem .9rem}
.checks td:nth-child(1){width:1.2rem}.checks td:nth-child(2){width:10rem}.checks td:nth-child(3){width:4.5rem}
code,pre{font:.9em ui-monospace,monospace}pre{white-space:pre-wrap}svg{max-width:100%;height:auto;fill:var(--ink)}
.bar{fill:var(--bar)}.rest{fill:var(--line)}.axis{stroke:var(--ink)}
@media(max-width:34rem){.wide{display:none}td.n,th.n{white-space:normal}.checks td.n{white-space:nowrap}
.checks td:nth-child(2){width:5rem}td,th{padding-right:.5rem}svg text{font-size:19px}}
"""


def write(records: Sequence[Record], questions: Sequence[Question], out: Path) -> None:
    """Write all of it; each file is whole or not changed.

    Raises:
        OSError: in one sentence, if the disk is full or cannot be written.
    """
    students = by_student(records)
    given = similar.published(questions[0].id.split(".")[0].zfill(2))
    checkpoint.write_atomically(out / "grades.csv", grades(students).encode("utf-8-sig"))  # as spreadsheets expect it
    checkpoint.write_atomically(out / "students.csv", one_row_each(students).encode("utf-8-sig"))
    results = {}
    for hand_ins in students:
        name = handins.file_name(hand_ins[0]["student"])
        results[name] = gradescope(hand_ins[0])
        checkpoint.write_atomically(out / "feedback" / f"{name}.html", feedback(hand_ins, questions).encode())
        checkpoint.write_json(out / "gradescope" / f"{name}.json", results[name])
    for name in _written(out / "results.json") - results.keys():  # of hand-ins that were withdrawn; no other file is touched
        for path in (out / "feedback" / f"{name}.html", out / "gradescope" / f"{name}.json"):
            path.unlink(missing_ok=True)
    checkpoint.write_json(out / "results.json", {"exercise": questions[0].id.split(".")[0], "students": results})
    checkpoint.write_atomically(out / "what-if.html", what_if(students, questions, given).encode())
    checkpoint.write_atomically(out / "report.html", report(students, questions, given).encode())


def _written(path: Path) -> set[str]:
    """The students that an earlier run has written pages for."""
    try:
        students = json.loads(path.read_text(encoding="utf-8"))["students"]
        return {name for name in students if handins.file_name(name) == name}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def summary(records: Sequence[Record], out: Path) -> list[str]:
    """What the instructor reads in the terminal at the end."""
    students = by_student(records)
    blank = [hand_ins[0]["name"] for hand_ins in students if total(hand_ins[0]) is None]
    where = f"marks in {out / 'grades.csv'}, the class in {out / 'report.html'}"
    lines = [f"{number(len(records), 'hand-in')} of {number(len(students), 'student')}; {where}"]
    if blank:
        lines.append(f"NOT GRADED, grade again: {', '.join(blank)}")
    if look := len(_attention(students)):
        lines.append(f"{number(look, 'student')} to look at yourself: the page about the class says why")
    if any(not record["sandbox"] for record in records):
        lines.append(f"Every mark here was {UNSAFE}")
    return lines


def by_student(records: Sequence[Record]) -> list[list[Record]]:
    """The hand-ins of each student, the one that counts first: the best, or the last where the instructor says so.

    Of those among which the best is sought, one that is not graded yet comes first.
    """
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[record["student"]].append(record)

    def order(record: Record) -> tuple:
        points = total(record)
        return record.get("place", 0), points is not None, -(points or 0), record["file"]

    names = sorted(found, key=lambda student: (found[student][0]["name"].lower(), student))
    return [sorted(found[student], key=order) for student in names]


def total(record: Record) -> float | None:
    """The points of a hand-in, with what was changed by hand; None if any of it could not be graded."""
    if not record.get("by hand") and any(map(_open, record["questions"])):
        return None
    points = sum(result["points"] for result in record["questions"]) + sum(c["points"] for c in record.get("changes", ()))
    return round(points, 2)


def out_of(record: Record) -> float:
    """The points that there are."""
    return sum(question["out_of"] for question in record["questions"])


def anonymous(records: Sequence[Record], secret: bytes) -> list[Record]:
    """The same with codes in place of names, ids that tell names, and names of files."""
    made = []
    for hand_ins in by_student(records):
        for n, record in enumerate(sorted(hand_ins, key=lambda r: r["file"]), start=1):
            code = handins.code(record["student"], record["id"], secret)
            hidden = {"student": code, "file": f"hand-in {n}"}
            hidden |= {"name": record["id"]} if code == record["student"] else {"name": code, "id": "", "platform": ""}
            made.append(record | hidden)
    return made


def _open(result: Record) -> bool:
    """Whether part of a question could not be graded, and nobody has decided it by hand."""
    return not result.get("by hand") and any(part["status"] == "grader_error" for part in result["checks"])


# --- grades.csv -------------------------------------------------------------------------------------------------------


def grades(students: Sequence[Sequence[Record]]) -> str:
    """The table as CSV: for each hand-in a row `total`, then a row for each check."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for hand_ins in students:
        for i, record in enumerate(hand_ins):
            about = [safe(record["name"]), safe(record.get("id", "")), safe(record["file"]), "no" if i else "yes"]
            shut_in = "bubblewrap" if record["sandbox"] else "NONE"
            points = total(record)
            status = "grader_error" if points is None else "graded"
            table.writerow(
                [*about, "total", "", status, _blank(points), written(out_of(record)), "", safe(record["says"]), shut_in]
            )
            for change in record.get("changes", ()):
                table.writerow([*about, "total", "", "changed", written(change["points"]), "", "", safe(change["says"]), shut_in])
            for question in record["questions"]:
                for part in question["checks"]:
                    given = None if part["status"] == "grader_error" else part["points"]
                    row = [question["id"], part["name"], part["status"], _blank(given), part["out_of"], part["mistake"]]
                    table.writerow([*about, *row, safe(part["says"]), shut_in])
                for change in question.get("changes", ()):
                    row = [question["id"], "", "changed", written(change["points"]), "", ""]
                    table.writerow([*about, *row, safe(change["says"]), shut_in])
    return text.getvalue()


def one_row_each(students: Sequence[Sequence[Record]]) -> str:
    """A row for each student: who, the points of each question and in all, days late."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    ids = [result["id"] for result in students[0][0]["questions"]] if students else []
    table.writerow(["student", "id", "platform", "file", *ids, "points", "out of", "days late"])
    for record, *_ in students:
        who = [safe(record.get(name, "")) for name in ("name", "id", "platform", "file")]
        points = ["" if _open(result) else written(result["points"]) for result in record["questions"]]
        table.writerow([*who, *points, _blank(total(record)), written(out_of(record)), _blank(record.get("late"))])
    return text.getvalue()


def safe(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    text = handins.printable(text, 1000)
    return f"'{text}" if text.lstrip(" '\"")[:1] in ("=", "+", "-", "@", "\t", "\r", "|", "%") else text


def _blank(points: float | None) -> str:
    return "" if points is None else written(points)


# --- feedback, one page a student -------------------------------------------------------------------------------------


def feedback(hand_ins: Sequence[Record], questions: Sequence[Question]) -> str:
    """The page for a student: what was right, and the sentence that helps where it was not."""
    record = hand_ins[0]
    points = total(record)
    lines = [f"<p><b>{'Not graded yet' if points is None else written(points)} of {written(out_of(record))} points</b></p>"]
    lines += _changes(record)
    if len(hand_ins) > 1:
        others = ", ".join(f"{_escaped(r['file'])} ({_blank(total(r)) or 'not graded'})" for r in hand_ins[1:])
        lines.append(f"<p class=note>You handed in more than once. {_escaped(record['file'])} counts; the others: {others}.</p>")
    if not record["sandbox"]:
        lines.append(f"<p class=note>This was {UNSAFE}</p>")
    if record["says"]:
        lines.append(f"<p class=note>{_escaped(record['file'])}: {_escaped(record['says'])}</p>")
        for result in record["questions"]:
            lines += [line.replace("<p class=note>", f"<p class=note>{result['id']}: ") for line in _changes(result)]
    else:
        for question, result in zip(questions, record["questions"], strict=True):
            lines += _about(question, result)
        troubles = [f"<li>{_cell(error)}</li>" for error in record["cells"]]
        if troubles:
            lines += ["<h2>While your notebook ran from top to bottom</h2>", "<ul>", *troubles, "</ul>"]
        lines += [f"<p class=note>{_escaped(note)}</p>" for note in record["notes"]]
    return _page(f"Exercise {questions[0].id.split('.')[0].zfill(2)}: {record['name']}", lines)


def _about(question: Question, result: Record) -> list[str]:
    given = "" if _open(result) else f"{written(result['points'])} of "
    points = f"{given}{written(result['out_of'])} points" if result["out_of"] or result["points"] else "does not count"
    lines = [f"<h2>{question.id} {_escaped(question.title)}: {points}</h2>", *_changes(result)]
    parts = result["checks"]
    if len({(part["status"], part["says"]) for part in parts}) == 1 and parts[0]["status"] != "ok" and parts[0]["says"]:
        lines.append(f'<p class="no">{_escaped(_sentence(parts[0]["says"]))}</p>')
    else:
        lines.append("<table class=checks>")
        for part in parts:
            right = part["status"] == "ok"
            said = (f"right: {part['says']}" if part["says"] else "right") if right else _sentence(part["says"])
            mark = "✓" if right else "✗"
            lines.append(
                f'<tr><td class="{"ok" if right else "no"}">{mark}</td><td>{_escaped(part["name"])}</td>'
                f"<td class=n>{part['points']} of {part['out_of']}</td><td class=free>{_escaped(said)}</td></tr>"
            )
        lines.append("</table>")
    return lines + [f"<p class=note>{_escaped(note)}</p>" for note in result.get("notes", ())]


def _changes(target: Record) -> list[str]:
    """What was decided by hand of a question, or of the whole."""
    return [f"<p class=note>{_escaped(change['says'])}</p>" for change in target.get("changes", ())]


def _cell(error: Record) -> str:
    if "type" not in error:
        return f"Cell {error['cell']}: {_escaped(error['message'])}"
    line = f", line {error['line']}" if error["line"] else ""
    code = f" (<code>{_escaped(error['code'])}</code>)" if error["code"] else ""
    return f"Cell {error['cell']}{line}{code}: {_escaped(error['type'])}: {_escaped(error['message'])}"


# --- results.json -----------------------------------------------------------------------------------------------------


def gradescope(record: Record) -> Record:
    """A hand-in's results in the format that Gradescope reads."""
    tests = []
    for question in record["questions"]:
        for part in question["checks"]:
            test = {"name": f"{question['id']} {part['name']}", "max_score": part["out_of"], "visibility": "visible"}
            if part["status"] != "grader_error":
                test |= {"score": part["points"], "status": "passed" if part["status"] == "ok" else "failed"}
            tests.append({**test, "output": _sentence(part["says"] or "right."), "output_format": "text"})
    notes = [f"{result['id']}: {note}" for result in record["questions"] for note in result.get("notes", ())]
    notes += [
        f"{result['id']}{'' if result['out_of'] else ' does not count'}: {one['says']}"
        for result in record["questions"]
        for one in result.get("changes", ())
    ]
    notes += [one["says"] for one in record.get("changes", ())]
    says = " ".join([record["says"], *([] if record["says"] else record["notes"]), *notes]).strip()
    says += "" if record["sandbox"] else f" Note: {UNSAFE}"
    result: Record = {"output": says.strip(), "output_format": "text", "tests": tests}
    points = total(record)
    return result if points is None else {"score": points, **result}


# --- the class ---------------------------------------------------------------------------------------------------------


def report(students: Sequence[Sequence[Record]], questions: Sequence[Question], given: Notebook | None = None) -> str:
    """The page for the instructor: how the class did, what was most missed, what to look at by hand."""
    counting = [hand_ins[0] for hand_ins in students]
    scores = [points for record in counting if (points := total(record)) is not None]
    most = math.ceil(max(map(out_of, counting), default=0))
    lines = []
    if any(not record["sandbox"] for record in counting):
        lines.append(f"<p class=note>Some or all hand-ins were {UNSAFE}</p>")
    handed_in = number(sum(map(len, students)), "hand-in")
    count = f"{number(len(students), 'student')}, {handed_in}, {number(len(scores), 'student')} with marks"
    middle = f"; mean {statistics.mean(scores):.1f}, median {statistics.median(scores):g} of {most}" if scores else ""
    lines.append(f"<p>{count}{middle}.</p>")
    attention = _attention(students)
    if attention:
        lines.append(f'<p class=note><a href="#look">{number(len(attention), "student")} to look at yourself</a>, below.</p>')
    lines += ["<h2>Points</h2>", _histogram(scores, most), "<h2>Questions, the most missed first</h2>", "<table>"]
    lines.append("<tr><th>Question</th><th class=n>full points</th><th class=n>mean</th><th class=wide></th><th>if not</th></tr>")
    asked = [(i, question) for i, question in enumerate(questions) if counting[0]["questions"][i]["out_of"]]
    lines += [row for _, row in sorted(_missed(question, i, counting) for i, question in asked)]
    lines += ["</table>", "<h2>The commonest named mistakes</h2>", *_mistakes(counting)]
    lines += ["<h2 id=look>To look at yourself</h2>", *(["<ul>", *attention, "</ul>"] if attention else ["<p>Nothing.</p>"])]
    lines += ["<h2>Nearly the same code</h2>", *_alike(students, questions, given)]
    lines += ["<h2>Everybody</h2>", *_everybody(students, questions)]
    return _page(f"Exercise {questions[0].id.split('.')[0].zfill(2)}: the class", lines)


def _histogram(scores: Sequence[float], most: int) -> str:
    count = Counter(math.floor(points + 0.5) for points in scores)
    most = max([most, *count])
    width, height, high = 640, 160, max([*count.values(), 1])
    step = width / (most + 1)
    bars = []
    for points in range(most + 1):
        tall = 120 * count[points] / high
        x = points * step
        bars.append(f'<rect x="{x + 1:.1f}" y="{130 - tall:.1f}" width="{step - 2:.1f}" height="{tall:.1f}" class="bar"/>')
        if count[points]:
            bars.append(f'<text x="{x + step / 2:.1f}" y="{126 - tall:.1f}" text-anchor="middle">{count[points]}</text>')
        if most <= 30 or points % 5 == 0:
            bars.append(f'<text x="{x + step / 2:.1f}" y="146" text-anchor="middle">{points}</text>')
    said = ", ".join(f"{count[p]} with {p}" for p in sorted(count)) or "none"
    return (
        f'<svg viewBox="0 -14 {width} {height + 8}" role="img" font-size="11" xmlns="http://www.w3.org/2000/svg">'
        f"<title>Number of students by points: {said}.</title>{''.join(bars)}"
        f'<path d="M0 130H{width}" class="axis"/></svg>'
    )


def _missed(question: Question, place: int, counting: Sequence[Record]) -> tuple[tuple, str]:
    results = [record["questions"][place] for record in counting if not _open(record["questions"][place])]
    n = len(results)
    most = counting[0]["questions"][place]["out_of"]
    full = sum(result["points"] >= result["out_of"] for result in results)
    mean = sum(result["points"] for result in results) / n if n else 0.0
    bar = min(100 * mean / most, 100.0)
    why = Counter(result["status"] for result in results if result["status"] != "ok")
    common = ", ".join(f"{SAID[status]} ({k})" for status, k in sorted(why.items(), key=lambda item: (-item[1], item[0]))[:3])
    row = (
        f"<tr><td>{question.id} {_escaped(question.title)}</td><td class=n>{full} of {n}</td>"
        f"<td class=n>{mean:.1f} of {written(most)}</td>"
        f'<td class=wide><svg viewBox="0 0 100 12" width="100" height="12" role="img"><title>{bar:.0f} % of the points</title>'
        f'<rect width="100" height="12" class="rest"/><rect width="{bar:.1f}" height="12" class="bar"/></svg></td>'
        f"<td>{common or '-'}</td></tr>"
    )
    return (bar, place), row


def _mistakes(counting: Sequence[Record]) -> list[str]:
    named: dict[tuple[str, str], set[str]] = defaultdict(set)
    says: dict[tuple[str, str], str] = {}
    for record in counting:
        for question in record["questions"]:
            for part in question["checks"]:
                if part["mistake"]:
                    named[question["id"], part["mistake"]].add(record["student"])
                    says[question["id"], part["mistake"]] = part["says"]
    if not named:
        return ["<p>None was recognised.</p>"]
    ordered = sorted(named, key=lambda key: (-len(named[key]), key))[:12]
    rows = [
        f"<tr><td class=n>{len(named[id, name])}</td><td>{id} {_escaped(name)}</td>"
        f"<td>{_escaped(_sentence(says[id, name]))}</td></tr>"
        for id, name in ordered
    ]
    return ["<table><tr><th class=n>students</th><th>mistake</th><th>what they read</th></tr>", *rows, "</table>"]


def _attention(students: Sequence[Sequence[Record]]) -> list[str]:
    """An entry for each student whose marks a person should look at, those without marks first."""
    first: list[str] = []
    then: list[str] = []
    for hand_ins in students:
        why = [f"{record['file']}: {text}" for record in hand_ins for text in [*_doubts(record), *record.get("look", ())]]
        if len(hand_ins) > 1:
            rule = "the last" if "place" in hand_ins[0] else "the best"
            why.append(f"{len(hand_ins)} hand-ins; {hand_ins[0]['file']} counts, {rule}.")
        if why:
            entry = f"<li>{_linked(hand_ins[0])}: {'<br>'.join(map(_escaped, why))}</li>"
            (first if total(hand_ins[0]) is None else then).append(entry)
    return first + then


def _doubts(record: Record) -> list[str]:
    """Where the fault may not be the student's, or the mark says too little: each in a sentence."""
    if total(record) is None or record["says"]:
        return [record["says"] or "parts could not be graded; grade again."]
    says = []
    for error in record["cells"]:
        what = f"{error.get('type', '')}: {error['message']}" if "type" in error else error["message"]
        if "type" not in error or error["type"] in ("ModuleNotFoundError", "ImportError") or "CUDA" in what:
            says.append(f"cell {error['cell']}: {what}")
    for question in record["questions"]:
        parts = [part for part in question["checks"] if part["status"] != "ok"]
        doubtful = {part["says"] for part in parts if part["status"] in ("timeout", "memory") or "CUDA" in part["says"]}
        if record["cells"]:  # what a cell that failed should have defined
            doubtful |= {part["says"] for part in parts if "NameError" in part["says"]}
        says += [f"{question['id']}: {text}" for text in sorted(doubtful)]
    if not says and total(record) == 0:
        says.append("no points for anything; is it the notebook of this exercise?")
    return says


def _alike(students: Sequence[Sequence[Record]], questions: Sequence[Question], given: Notebook | None) -> list[str]:
    """Pairs of hand-ins to put side by side."""
    solution = similar.published(questions[0].id.split(".")[0].zfill(2), "solutions") if given else None
    found = similar.pairs([record for hand_ins in students for record in hand_ins], given, solution)
    names = {hand_ins[0]["student"]: _linked(hand_ins[0]) for hand_ins in students} | {similar.SOLUTION: similar.SOLUTION}
    rows = [f"<tr><td class=n>{100 * share:.0f} %</td><td>{names[a]}</td><td>{names[b]}</td></tr>" for share, a, b in found]
    if not rows:
        return ["<p>None.</p>"]
    said = (
        "The share of the shorter one's statements that the other has too, whatever names they use; what the exercise gives or "
        "many wrote counts little. It says nothing of why: look at both, and ask."
    )
    return [f"<p>{said}</p>", "<table>", *rows, "</table>"]


def what_if(students: Sequence[Sequence[Record]], questions: Sequence[Question], given: Notebook | None = None) -> str:
    """The answers to "What if?", which nobody grades, side by side."""
    lines = [
        f"<h2>{_linked(record)}</h2>\n<pre>{_escaped(handins.printable_lines(text))}</pre>"
        for record, text in similar.words(students, given)
    ]
    return _page(f"Exercise {questions[0].id.split('.')[0].zfill(2)}: what if?", lines or ["<p>Nobody wrote anything.</p>"])


def _everybody(students: Sequence[Sequence[Record]], questions: Sequence[Question]) -> list[str]:
    head = "".join(f"<th class=n>{question.id}</th>" for question in questions)
    lines = [f"<table><tr><th>student</th>{head}<th class=n>points</th></tr>"]
    for record, *_ in students:
        given = ["" if _open(r) else written(r["points"]) for r in record["questions"]]
        cells = "".join(f"<td class=n>{points}</td>" for points in [*given, _blank(total(record)) or "not graded"])
        lines.append(f"<tr><td class=free>{_linked(record)}</td>{cells}</tr>")
    return [*lines, "</table>"]


def _linked(record: Record) -> str:
    """The student's name, and id where there is one, as a link to the feedback."""
    id = record.get("id", "")
    name = f"{record['name']} ({id})" if id and id != record["name"] else record["name"]
    return f'<a href="feedback/{handins.file_name(record["student"])}.html">{_escaped(name)}</a>'


def number(n: int, what: str) -> str:
    """How many of them, as people say it."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _page(title: str, lines: Sequence[str]) -> str:
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{_escaped(title)}</title>"
    policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    body = "\n".join([f"<h1>{_escaped(title)}</h1>", *lines])
    return (
        f"<!doctype html>\n<html lang=en>\n<head>{head}{policy}<style>{_STYLE}</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _sentence(text: str) -> str:
    """With a capital, unless it begins with the name of a function."""
    name = " is not defined" in text or " is not a function" in text
    return text if name else text[:1].upper() + text[1:]


def _escaped(text: object) -> str:
    return html.escape(str(text))
