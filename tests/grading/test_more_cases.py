"""The cases beyond the fifty, counted, and graded as one class; among the hostile ones an honest hand-in every few."""

import html

import pytest
import toy_exercise
from hand_ins import CASES, FULL
from more_hand_ins import HONEST, HOSTILE

from gencourse.grading import grade, handins, questions, report
from gencourse.grading.conversation import Limits

ids = {"ids": lambda case: case.name.replace(" ", "-")}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The records by student, and the folder of what was written about them."""
    top = tmp_path_factory.mktemp("more")
    folder, out = top / "hand-ins", top / "out"
    folder.mkdir()
    for i, case in enumerate([*HONEST, *HOSTILE]):
        if callable(case.make):
            case.make(folder, case.student)
        else:
            (folder / (case.file or f"{case.student}.ipynb")).write_bytes(case.make)
        if i % 8 == 0:
            (folder / f"honest {i}.ipynb").write_bytes(toy_exercise.HONEST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(questions, "of_exercise", lambda number: toy_exercise.QUESTIONS)
        records = grade.grade(folder, "90", out, jobs=8, limits=Limits(15, memory=2**29), secret=b"0123456789abcdef")
        report.write(records, toy_exercise.QUESTIONS, out)
    return {one[0]["student"]: one[0] for one in report.by_student(records)}, out


def test_there_are_more_than_forty_beyond_the_fifty():
    names = [case.name for case in [*HONEST, *HOSTILE]]
    assert len(set(names)) == len(names) >= 100
    assert len(HONEST) >= 40 and len(HOSTILE) >= 60
    assert not {case.student for case in CASES} & {case.student for case in [*HONEST, *HOSTILE]}


@pytest.mark.parametrize("case", HONEST, **ids)
def test_what_is_right_in_a_notebook_is_right_here(case, graded):
    holds(case, graded)


@pytest.mark.parametrize("case", HOSTILE, **ids)
def test_what_is_hostile_costs_itself_what_it_breaks(case, graded):
    holds(case, graded)


def holds(case, graded):
    records, out = graded
    record = records[handins.printable(case.student)]
    assert record["questions"][0]["checks"][0]["status"] == case.status, record["questions"]
    assert report.total(record) == case.points, record["questions"]
    page = (out / "feedback" / f"{handins.file_name(record['student'])}.html").read_text()
    read = (page + html.unescape(page)).lower()  # a sentence begins with a capital letter there
    for proof in case.proof:
        assert proof.lower() in read, record
    if case.quiet:
        assert record["cells"] == [], record["cells"]
    assert "<script" not in page and "<img" not in page and "Traceback" not in page


def test_the_honest_ones_among_them_have_full_marks(graded):
    among = {student: record for student, record in graded[0].items() if student.startswith("honest ")}
    assert len(among) == -(-len([*HONEST, *HOSTILE]) // 8)
    for record in among.values():
        assert report.total(record) == FULL
        assert record["cells"] == record["notes"] == []
