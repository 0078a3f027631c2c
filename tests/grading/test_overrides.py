"""What an instructor decides by hand: read in one place, applied in one order, and every difference accounted for."""

import contextlib
import csv
import io

import numpy as np
import pytest
import toy_exercise
from test_report import record

from gencourse.grading import overrides, report
from gencourse.grading.overrides import Person

EVERY = toy_exercise.QUESTIONS
PEOPLE = [
    Person("ada", "Ada", code="c0de"),
    Person("moodle-4711", "Wei Zhang", "4711"),
    Person("moodle-4712", "Wei Zhang", "4712"),
    Person("öz", "ÖZ"),
]


def changes(tmp_path, *rows):
    path = tmp_path / "changes.csv"
    path.write_text("student,question,points,reason\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return overrides.read_changes(path, PEOPLE, EVERY)


def changed(tmp_path, *rows, of=None, times=None):
    of = of or [record("ada", (2, 2))]
    return overrides.apply(of, changes(tmp_path, *rows), times)


@pytest.mark.parametrize(
    ("rows", "points"),
    [
        ([], 4),
        (["ada,90.1,3,A slip of the pen."], 5),
        (["Ada,90.1,add 0.5,Half right."], 4.5),
        (["c0de,90.1,-1,Copied."], 3),
        (["ada,90.1,,Well done."], 4),
        (["*,90.1,drop,Two readings."], 2),
        (["*,90.1,of 6,Longer than thought."], 6),  # 2 of 3 points become 4 of 6
        (["*,90.1,of 6,Longer.", "ada,90.1,5,In the new points."], 7),
        (["*,90.2,add 1,For all.", "ada,90.2,add 1,And for you."], 6),
        (["ada,90.1,0,No.", "*,90.1,3,All get it."], 2),  # what is said of one comes after what is said of all
        (["ada,total,add 1,Found an error."], 5),
        (["ada,total,5,Oral examination."], 5),
        (["ada,total,5,Oral examination.", "*,90.1,drop,No."], 5),
        (["öz,90.1,0,Somebody else."], 4),
    ],
)
def test_each_kind_of_row_does_what_it_says_and_all_differences_add_up(tmp_path, rows, points):
    (made,) = changed(tmp_path, *rows)
    assert report.total(made) == points
    table = list(csv.DictReader(io.StringIO(report.grades([[made]]))))
    assert float(table[0]["points"]) == points == sum(float(row["points"]) for row in table[1:])


def test_a_reason_stands_in_the_feedback_even_of_what_could_not_be_read(tmp_path):
    unreadable = record("ada", (0, 0), says="this is a link.")
    made = changed(tmp_path, 'ada,90.1,2,"Shown to me, <b>on paper</b>."', "ada,total,,Come and see me.", of=[unreadable])
    page = report.feedback(made, EVERY)
    assert "Changed by hand from 0 to 2 points: Shown to me, &lt;b&gt;on paper&lt;/b&gt;." in page
    assert "Come and see me." in page
    assert "2 of 5 points" in page
    assert "Changed by hand" in report.gradescope(made[0])["output"]


def test_a_mark_by_hand_takes_the_place_of_one_that_could_not_be_made(tmp_path):
    failed = record("ada", (0, 2))
    failed["questions"][0]["checks"][0]["status"] = "grader_error"
    assert report.total(failed) is None
    assert report.total(changed(tmp_path, "ada,90.1,,Wait.", of=[failed])[0]) is None
    assert report.total(changed(tmp_path, "ada,90.1,3,By eye.", of=[failed])[0]) == 5
    assert report.total(changed(tmp_path, "ada,total,4,By eye.", of=[failed])[0]) == 4


DEADLINE = ["*,deadline,2026-11-30 23:59,", "*,late,10%,as the syllabus says"]


@pytest.mark.parametrize(
    ("submitted", "rows", "points", "days"),
    [
        ("2026-11-30 23:59", [], 4, 0),
        ("2026-12-01 00:00", [], 3.6, 1),
        ("2026-12-02 23:59", [], 3.2, 2),
        ("2026-12-31 12:00", [], 0, 31),
        ("2026-12-02 12:00", ["ada,late,1,of five"], 3.6, 2),
        ("2026-12-02 12:00", ["ada,deadline,2026-12-03 23:59,ill"], 4, 0),
        ("2026-12-02 12:00", ["ada,total,add 1,A bonus is not cut."], 4.2, 2),
        ("2026-12-02 12:00", ["ada,90.1,3,What is changed is cut."], 4, 2),
        ("2026-12-02 12:00", ["ada,total,4,The last word."], 4, 2),
    ],
)
def test_days_late_cost_their_share_of_the_points(tmp_path, submitted, rows, points, days):
    times = {("ada", ""): overrides.instant(submitted)}
    (made,) = changed(tmp_path, *DEADLINE, *rows, times=times)
    assert (report.total(made), made["late"]) == (pytest.approx(points), days)
    if days == 1:
        assert "1 day late, at 10 % of the points a day: as the syllabus says" in report.feedback([made], EVERY)


def test_without_a_time_it_counts_as_in_time_and_the_instructor_is_told(tmp_path):
    for submitted in ("", "2026-12-24T10:00:00+01:00"):
        made = changed(tmp_path, *DEADLINE, of=[record("ada", (2, 2), submitted=submitted)])
        assert report.total(made[0]) == 4
        assert "no time is known" in report.report(report.by_student(made), EVERY)
    made = changed(tmp_path, *DEADLINE, of=[record("ada", (2, 2), submitted="2026-12-01T10:00:00")])
    assert report.total(made[0]) == pytest.approx(3.6)


def test_best_or_last_counts(tmp_path):
    two = [record("ada", (3, 2), "a.ipynb"), record("ada", (0, 2), "b.ipynb")]
    times = {("ada", name): overrides.instant(f"2026-11-{day}") for name, day in (("a.ipynb", 20), ("b.ipynb", 21))}

    def counts(*rows, times=times):
        (hand_ins,) = report.by_student(changed(tmp_path, *rows, of=two, times=times))
        return hand_ins[0]["file"], " ".join(hand_ins[0]["look"] + hand_ins[1]["look"])

    assert counts() == ("a.ipynb", "")
    assert counts("*,counts,last,") == ("b.ipynb", "")
    assert counts("*,counts,last,", "ada,counts,best,agreed") == ("a.ipynb", "")
    file, look = counts("*,counts,last,", times={("ada", "b.ipynb"): times["ada", "b.ipynb"]})
    assert file == "a.ipynb"
    assert "not known which hand-in was the last" in look


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("adda,90.1,2,x", "there is no student 'adda'; is it 'ada'?"),
        (",90.1,2,x", "there is no student ''."),
        ("Wei Zhang,90.1,2,x", "'Wei Zhang' are 2 students; write which: moodle-4711, moodle-4712."),
        ("ada,90.7,2,x", "there is no question '90.7'; write 90.1, 90.2, total, late, deadline or counts."),
        ("ada,90.1,two,x", "'two' is no number of points"),
        ("ada,90.1,nan,x", "'nan' is no number of points"),
        ("ada,90.1,1e3,x", "'1e3' is no number of points"),
        ("ada,90.1,1001,x", "'1001' is not between 0 and 1000."),
        ("ada,90.1,2,", "there is no reason; the student reads it."),
        ("ada,90.1,drop,x", "'drop' is for a question and everybody, the student *."),
        ("*,total,of 3,x", "'of 3' is for a question and everybody, the student *."),
        ("*,deadline,30.11.2026,", "'30.11.2026' is no time; write it as 2026-11-30 23:59."),
        ("*,late,10,", "'10' is no share of the points; write 10% for a tenth off for each day begun."),
        ("ada,late,-1,", "'-1' is not between 0 and 1000."),
        ("*,counts,first,", "'first' cannot count; write best or last."),
        ("ada,90.1,2,x, y", 'line 2: 5 fields where there are 4 columns; put a text with commas between "quotation marks".'),
    ],
)
def test_a_row_that_cannot_be_understood_is_named_in_one_sentence(tmp_path, row, says):
    with pytest.raises(ValueError) as caught:
        changes(tmp_path, row)
    assert str(caught.value).startswith(f"{tmp_path / 'changes.csv'}, line 2: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_bad_row_has_its_sentence_and_what_is_said_twice_is_one(tmp_path):
    with pytest.raises(ValueError) as caught:
        changes(tmp_path, "ada,90.1,2,x", "", "bob,90.1,2,x", "ada,90.1,3,x", "ada,90.1,add 1,fine")
    lines = str(caught.value).splitlines()
    assert [line.partition("changes.csv, ")[2][:6] for line in lines] == ["line 4", "line 5"]
    assert "line 2 says something of '90.1' for 'ada' already." in lines[1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_tables_are_read_as_spreadsheets_write_them(tmp_path, encoding):
    path = tmp_path / "changes.csv"
    path.write_bytes('Student;Question;Points;Reason\r\nöz;90.1;2,5;"a; b"\r\n\r\n'.encode(encoding))
    (change,) = overrides.read_changes(path, PEOPLE, EVERY)
    assert (change.student, change.kind, change.value, change.reason) == ("öz", "set", 2.5, "a; b")
    path.write_bytes("Student\tQuestion\tPoints\tReason\r\nada\t90.2\t1\tGrüße\r\n".encode("utf-16"))
    assert overrides.read_changes(path, PEOPLE, EVERY)[0].reason == "Grüße"
    path.write_text("student,points\n")
    with pytest.raises(ValueError, match="line 1: there is no column 'question'"):
        overrides.read_changes(path, PEOPLE, EVERY)
    path.write_text("")
    with pytest.raises(ValueError, match="line 1: there is no column 'student'"):
        overrides.read_changes(path, PEOPLE, EVERY)


def test_times_are_read_for_a_student_or_a_file(tmp_path):
    path = tmp_path / "times.csv"
    path.write_text("student,file,submitted\n4711,,2026-11-30 10:00\nada,a.ipynb,2026-11-30T10:00:00Z\nada,b.ipynb,2026-12-01\n")
    found = overrides.read_times(path, PEOPLE)
    assert set(found) == {("moodle-4711", ""), ("ada", "a.ipynb"), ("ada", "b.ipynb")}
    path.write_text("student,submitted\nada,2026-11-30\nada,2026-12-01\nbob,x\nada,Monday\n")
    with pytest.raises(ValueError) as caught:
        overrides.read_times(path, PEOPLE)
    assert [line.partition("times.csv, ")[2][:6] for line in str(caught.value).splitlines()] == ["line 3", "line 4", "line 5"]


def test_gradescopes_own_time_is_read():
    assert overrides.instant("2026-11-24 10:15:30.000000000 Z").isoformat() == "2026-11-24T10:15:30+00:00"


def test_a_dropped_question_is_out_of_the_class_page_and_a_weight_is_said(tmp_path):
    made = changed(tmp_path, "*,90.1,drop,Two readings.", "*,90.2,of 5,Longer.")
    assert "90.1 The KL" not in report.report([made], EVERY)
    page = report.feedback(made, EVERY)
    assert "The KL divergence of two distributions: does not count</h2>\n<p class=note>Two readings.</p>" in page
    assert "Counts 5 points instead of 2: Longer." in page


def test_a_quotation_mark_that_is_not_closed_loses_no_row_in_silence(tmp_path):
    with pytest.raises(ValueError, match="is a quotation mark not closed"):
        changes(tmp_path, 'ada,90.1,2,"Well', "öz,90.1,2,Done.")


def test_whatever_bytes_are_in_a_table_there_is_a_sentence(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "changes.csv"
    parts = [*(c.encode() for c in ',;\t"\n*+-%.0 9aé'), b"student,question,points,reason\n", b"ada,90.1,", b"\0", b"\xff", b"\r"]
    for _ in range(400):
        path.write_bytes(b"".join(parts[i] for i in rng.integers(len(parts), size=rng.integers(60))))
        with contextlib.suppress(ValueError):
            overrides.read_changes(path, PEOPLE, EVERY)
