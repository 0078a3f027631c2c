"""What is written about a class: escaped, complete, whole or not at all."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import toy_exercise

from gencourse.grading import handins, report
from gencourse.grading.conversation import refused

ROOT = Path(__file__).parents[2]
EVERY = toy_exercise.QUESTIONS


def result(question, points, says="", mistake="", status=None):
    left = points
    parts = []
    for check in question.checks:
        given = min(left, check.points)
        left -= given
        ok = given == check.points
        parts.append({"name": check.name, "status": status or ("ok" if ok else "wrong"), "points": given, "out_of": check.points})
        parts[-1] |= {"says": "" if ok else says, "mistake": "" if ok else mistake}
    first = next((part["status"] for part in parts if part["status"] != "ok"), "ok")
    return {"id": question.id, "status": first, "points": points, "out_of": question.points, "sentence": "", "checks": parts}


def record(name, points, file=None, **other):
    made = {
        "student": name.casefold(),
        "name": name,
        "file": file or f"{name}.ipynb",
        "says": "",
        "cells": [],
        "notes": [],
        "id": "",
        "platform": "",
    }
    results = [result(q, n, "p and q have changed places.", "swapped") for q, n in zip(EVERY, points, strict=True)]
    return {**made, "sandbox": True, "questions": results, **other}


def rows(records):
    return list(csv.DictReader(io.StringIO(report.grades(report.by_student(records)), newline="")))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "'=1", '"=1', "|calc", "%0A=1"])
def test_no_text_becomes_a_formula(text):
    (row,) = (row for row in rows([record(text, (3, 2))]) if row["question"] == "total")
    assert row["student"] == "'" + text
    assert report.safe("ada = bo") == "ada = bo"
    assert report.safe("\t=1\r\n=2") == "?=1??=2"


def test_points_add_up_and_every_check_has_its_row():
    table = rows([record("bo", (2, 0)), record("ada", (3, 2))])
    assert [(r["student"], r["question"], r["check"], r["status"], r["points"]) for r in table] == [
        ("ada", "total", "", "graded", "5"),
        ("ada", "90.1", "values", "ok", "2"),
        ("ada", "90.1", "zero at p = q", "ok", "1"),
        ("ada", "90.2", "values", "ok", "2"),
        ("bo", "total", "", "graded", "2"),
        ("bo", "90.1", "values", "ok", "2"),
        ("bo", "90.1", "zero at p = q", "wrong", "0"),
        ("bo", "90.2", "values", "wrong", "0"),
    ]
    assert {r["out of"] for r in table if r["question"] == "total"} == {"5"}


def test_of_two_hand_ins_the_better_counts_unless_one_is_not_graded():
    two = [record("ada", (0, 2), "a.ipynb"), record("Ada", (3, 2), "b.ipynb")]
    assert [(r["file"], r["counts"]) for r in rows(two) if r["question"] == "total"] == [("b.ipynb", "yes"), ("a.ipynb", "no")]
    failed = record("ada", (0, 0), "c.ipynb", questions=[refused(q, "grader_error", "not graded") for q in EVERY])
    first = report.by_student([*two, failed])[0][0]
    assert report.total(first) is None
    assert "Not graded yet" in report.feedback([failed], EVERY)


def test_gradescopes_format():
    said = report.gradescope(record("ada", (2, 2)))
    assert said["score"] == 4
    assert sum(test["max_score"] for test in said["tests"]) == 5
    assert [test["status"] for test in said["tests"]] == ["passed", "failed", "passed"]
    assert {test["output_format"] for test in said["tests"]} == {"text"}
    json.dumps(said)


def test_the_class_page_counts(tmp_path):
    students = [record("ada", (3, 2)), record("bo", (0, 2)), record("cem", (0, 0)), record("dee", (0, 2))]
    page = report.report(report.by_student(students), EVERY)
    assert "4 students, 4 hand-ins, 4 students with marks; mean 2.2, median 2 of 5." in page
    assert "<title>Number of students by points: 1 with 0, 2 with 2, 1 with 5.</title>" in page
    assert page.index("90.1 The KL") < page.index("90.2 The mean of squares")  # the most missed first
    assert "<td class=n>1 of 4</td>" in page
    assert "<td class=n>3</td><td>90.1 swapped</td><td>P and q have changed places.</td>" in page
    assert '<td class=free><a href="feedback/bo.html">bo</a></td><td class=n>0</td><td class=n>2</td><td class=n>2</td>' in page
    assert "1 student to look at yourself" in page
    assert "cem.ipynb: no points for anything; is it the notebook of this exercise?" in page
    assert "to look at yourself" not in report.report(report.by_student([students[0], students[1]]), EVERY)
    assert report.report(
        report.by_student([record("x", (0, 0), questions=[refused(q, "grader_error", "") for q in EVERY])]), EVERY
    )


def test_what_needs_a_person_is_said_at_the_top_and_who_has_no_marks_comes_first():
    stopped = record("ada", (0, 2), cells=[{"cell": 4, "status": "timeout", "message": "stopped after 10 seconds"}])
    slow = record("bo", (0, 2))
    slow["questions"][0] = result(EVERY[0], 0, "the time was over", status="timeout")
    blank = record("zoe", (0, 0), questions=[refused(q, "grader_error", "") for q in EVERY], says="not graded: no room")
    students = report.by_student([stopped, slow, record("cem", (3, 2)), record("dee", (3, 2)), record("dee", (0, 2), "2"), blank])
    page = report.report(students, EVERY)
    assert '<a href="#look">4 students to look at yourself</a>' in page
    look = page[page.index("<h2 id=look>") : page.index("<h2>Everybody")]
    assert [line.split(".html")[0].rpartition("/")[2] for line in look.splitlines() if line[:4] == "<li>"] == [
        *("zoe", "ada", "bo", "dee")
    ]
    for says in (
        "cell 4: stopped after 10 seconds",
        "bo.ipynb: 90.1: the time was over",
        "2 hand-ins; dee.ipynb counts, the best.",
    ):
        assert says in look
    assert "<td class=n></td><td class=n></td><td class=n>not graded</td>" in page


def test_what_an_experiment_reached_is_said_where_it_is_good():
    good = record("ada", (3, 2))
    good["questions"][1]["checks"][0]["says"] = "the loss is 1.234 nats."
    page = report.feedback([good], EVERY)
    assert '<td class="ok">✓</td><td>values</td><td class=n>2 of 2</td><td class=free>right: the loss is 1.234 nats.</td>' in page
    assert 'class="no"' not in page


def test_what_students_write_is_text_in_every_page(tmp_path):
    evil = "<script>alert(1)</script>\"'&"
    cell = {"cell": 3, "status": "error", "type": evil, "message": evil, "line": 1, "code": evil}
    one = record(evil, (0, 0), f"{evil}.ipynb", cells=[cell], notes=[evil])
    one["questions"][0]["checks"][0]["says"] = evil
    report.write([one, record(evil, (0, 0), "2.ipynb", says=evil, words=evil)], EVERY, tmp_path)
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) == 3
    for page in pages:
        text = page.read_text()
        assert "<script" not in text
        assert "&lt;script&gt;" in text
        assert "default-src 'none'" in text


def test_a_full_disk_leaves_the_earlier_marks_and_one_sentence(tmp_path):
    """A real limit on the size of files, which the kernel enforces in the middle of the write."""
    script = """
import resource, signal, sys
sys.path.insert(0, "tests/grading")
from pathlib import Path
from gencourse.grading import handins, report
import test_report
out = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    report.write([test_report.record(f"s{n}", (3, 2)) for n in range(400)], test_report.EVERY, out)
except OSError as error:
    print(f"{error.strerror}|{error.filename}")
"""
    report.write([record("ada", (3, 2))], EVERY, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True, cwd=ROOT)
    message, _, name = done.stdout.strip().partition("|")
    assert "no room on the disk" in message
    assert "the earlier file is untouched" in message
    assert name == str(tmp_path / "grades.csv")
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"says": "this is a link."}, "this is a link."),
        ({"type": "ModuleNotFoundError", "message": "No module named 'pandas'"}, "cell 2: ModuleNotFoundError: No module named"),
        ({"type": "AssertionError", "message": "Torch not compiled with CUDA enabled"}, "compiled with CUDA"),
        ({"type": "ZeroDivisionError", "message": "division by zero"}, None),
    ],
)
def test_who_may_have_lost_points_to_the_machine_is_listed(other, says):
    cells = [{"cell": 2, "status": "error", "line": 1, "code": "", **other}] if "type" in other else []
    made = record("ada", (0, 2), cells=cells, says=other.get("says", ""))
    page = report.report(report.by_student([made]), EVERY)
    assert (says or "to look at yourself") in page if says else "to look at yourself" not in page


def test_a_name_that_a_failed_cell_should_have_defined_is_listed():
    made = record("ada", (0, 2))
    made["questions"][0]["checks"][0]["says"] = "line 2 of your code raised NameError: name 'LR' is not defined."
    assert "NameError" not in report.report(report.by_student([made]), EVERY).partition("To look at yourself")[2]
    made["cells"] = [{"cell": 2, "status": "error", "type": "OSError", "message": "", "line": 1, "code": ""}]
    assert "NameError" in report.report(report.by_student([made]), EVERY).partition("To look at yourself")[2]


def test_there_is_a_row_for_each_student(tmp_path):
    ada = record("Wei Zhang", (3, 2), student="moodle-4711", id="4711", platform="moodle")
    report.write([ada, record("bo", (0, 2), "1"), record("bo", (0, 0), "2")], EVERY, tmp_path)
    lines = (tmp_path / "students.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines == [
        "student,id,platform,file,90.1,90.2,points,out of,days late",
        "bo,,,1,0,2,2,5,",
        "Wei Zhang,4711,moodle,Wei Zhang.ipynb,3,2,5,5,",
    ]
    assert {row["id"] for row in rows([ada])} == {"4711"}


def test_what_was_withdrawn_has_no_page_any_more(tmp_path):
    report.write([record("ada", (3, 2)), record("bo", (3, 2))], EVERY, tmp_path)
    (tmp_path / "feedback" / "mine.html").write_text("of the instructor")
    report.write([record("ada", (3, 2))], EVERY, tmp_path)
    assert [path.name for path in sorted(tmp_path.glob("*/*"))] == ["ada.html", "mine.html", "ada.json"]
    (tmp_path / "results.json").write_text('{"students": {"../report": {}, "mine": 1}}')
    report.write([record("ada", (3, 2))], EVERY, tmp_path)
    assert (tmp_path / "report.html").exists()
    (tmp_path / "results.json").write_text("[")
    report.write([record("ada", (3, 2))], EVERY, tmp_path)


def test_what_is_said_of_a_question_reaches_gradescope_too():
    made = record("ada", (3, 2), notes=["Cell 3 begins with %%bash, so it was left out."])
    made["questions"][1]["notes"] = ["Your function builds on 90.1."]
    assert (
        report.gradescope(made)["output"] == "Cell 3 begins with %%bash, so it was left out. 90.2: Your function builds on 90.1."
    )


def test_anonymous_reports_have_no_name_in_them(tmp_path):
    made = [
        record("Ada Lovelace", (3, 2)),
        record("Ada Lovelace", (0, 2), "Ada Lovelace (1).ipynb"),
        record("Wei Zhang", (3, 2), student="moodle-4711", id="4711", platform="moodle"),
        record("Wei Zhang", (3, 2), student="gradescope-wei@zhang.org", id="wei@zhang.org", platform="gradescope"),
    ]
    hidden = report.anonymous(made, b"a secret")
    report.write(hidden, EVERY, tmp_path)
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        text = path.name + path.read_text(encoding="utf-8-sig")
        assert not re.search("lovelace|wei|zhang", text, re.IGNORECASE), path
    code = handins.code("ada lovelace", "", b"a secret")
    mail = handins.code("gradescope-wei@zhang.org", "wei@zhang.org", b"a secret")
    assert {one["student"] for one in hidden} == {code, "moodle-4711", mail}
    assert code != handins.code("ada lovelace", "", b"another secret")
    assert [report.total(one[0]) for one in report.by_student(hidden)] == [5, 5, 5]
