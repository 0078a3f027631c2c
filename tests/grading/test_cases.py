"""The fifty cases, graded as one class, eight at a time, each with an honest hand-in beside it and right after it.

Cases 48 to 50 are about the grader itself and stand in test_grade.py and test_report.py.
"""

import csv
import html
import os
import subprocess

import pytest
import toy_exercise
from hand_ins import CASES, FULL

from gencourse.grading import handins, questions, report, sandbox
from gencourse.grading.conversation import Limits
from gencourse.grading.grade import grade


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The folder, the records by student, and what was written about them."""
    top = tmp_path_factory.mktemp("cases")
    folder, out = top / "hand-ins", top / "out"
    folder.mkdir()
    for case in CASES:
        if callable(case.make):
            case.make(folder, case.student)
        else:
            (folder / f"{case.student}.ipynb").write_bytes(case.make.replace(b"@folder@", str(folder).encode()))
        (folder / f"{case.student}-honest.ipynb").write_bytes(toy_exercise.HONEST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(questions, "of_exercise", lambda number: toy_exercise.QUESTIONS)
        patch.setenv("GENCOURSE_TEST_SECRET", "of the grader")
        before = set(processes())
        records = grade(folder, "90", out, jobs=8, limits=Limits(15, memory=2**29), secret=b"0123456789abcdef")
        report.write(records, toy_exercise.QUESTIONS, out)
    return folder, out, {one[0]["student"]: one[0] for one in report.by_student(records)}, set(processes()) - before


def processes():
    """The processes of this machine that run under one of our workers' users, or are a sandbox of ours."""
    listed = subprocess.run(["ps", "-eo", "pid=,uid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
    mine = sandbox.worker_user(0)
    for line in listed.splitlines():
        pid, uid, parent, name = line.split(None, 3)
        if mine <= int(uid) < mine + 512 or (name == "bwrap" and int(parent) == os.getpid()):
            yield pid


def test_all_fifty_are_here_but_those_about_the_grader_itself():
    assert {case.number for case in CASES} == set(range(1, 48))
    assert len({case.student for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.student)
def test_each_hand_in_scores_what_it_must(case, graded):
    _, out, records, _ = graded
    record = records[case.student.casefold()]
    assert record["questions"][0]["checks"][0]["status"] == case.status
    assert report.total(record) == case.points
    page = (out / "feedback" / f"{handins.file_name(record['student'])}.html").read_text()
    read = (page + html.unescape(page)).casefold()
    for proof in case.proof:
        assert proof.casefold() in read
    for text in case.absent:
        assert text not in page


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.student)
def test_the_honest_hand_in_beside_it_has_full_marks(case, graded):
    record = graded[2][f"{case.student}-honest".casefold()]
    assert report.total(record) == FULL
    assert record["cells"] == record["notes"] == []


def test_every_hand_in_has_a_row_and_nothing_is_a_formula(graded):
    folder, out, _, _ = graded
    with open(out / "grades.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    totals = [row for row in rows if row["question"] == "total"]
    assert len(totals) == sum(1 for _ in folder.iterdir()) + 1  # one student has handed in two
    assert {row["status"] for row in totals} == {"graded"}
    assert not [cell for row in rows for cell in row.values() if cell[:1] in ("=", "+", "-", "@")]
    assert {row["sandbox"] for row in rows} == {"bubblewrap"}


def test_nothing_is_left_and_nothing_got_out(graded):
    folder, out, _, left = graded
    assert left == set()
    assert not (folder / "pickled").exists()
    assert not list(folder.parents[0].glob("escaped*")) + list(folder.parents[1].glob("escaped*"))
    assert {path.name for path in out.iterdir()} == {
        *("feedback", "gradescope", "grades.csv", "records", "report.html", "results.json", "students.csv", "what-if.html")
    }


def test_no_feedback_shows_anything_of_ours(graded):
    for page in (graded[1] / "feedback").iterdir():
        text = page.read_text()
        assert "Traceback" not in text
        for word in ("harness", "gencourse/grading", str(graded[1]), "dirichlet"):
            assert word not in text, page.name
