"""What platforms import: the columns they look for, names from which they find the student, and nothing of anybody else."""

import csv
import io
import zipfile

import pytest
import toy_exercise
from test_report import record

from gencourse.grading import handins, lms, report

EVERY = toy_exercise.QUESTIONS


def class_of(folder, *names):
    """Records of the hand-ins with these names, as `grade` makes them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    about = ("student", "name", "file", "id", "platform", "submitted")
    return [record("x", (3, n % 3)) | {key: getattr(h, key) for key in about} for n, h in enumerate(handins.find(folder, "90"))]


def written(out, name):
    return list(csv.DictReader(io.StringIO((out / "import" / name).read_text(encoding="utf-8"))))


def test_canvas_finds_students_and_submissions(tmp_path):
    names = [
        "zhangwei_81234_900001_work.ipynb",
        "zhangwei_LATE_81999_900002_my_work.ipynb",
        "anon_Ab1xY_900003_work.ipynb",
        "ada.zip",
    ]
    records = class_of(tmp_path / "in", *names)
    assert len(lms.write(records, EVERY, tmp_path)) == 2
    rows = written(tmp_path, "canvas.csv")
    assert list(rows[0]) == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Exercise 90"]
    assert (rows[0]["Student"], rows[0]["Exercise 90"]) == ("Points Possible", "5")
    assert [(row["Student"], row["ID"], row["Exercise 90"]) for row in rows[1:]] == [
        ("Ab1xY", "ab1xy", "3"),
        ("zhangwei", "81234", "4"),
        ("zhangwei", "81999", "5"),
    ]
    with zipfile.ZipFile(tmp_path / "import" / "canvas-feedback.zip") as zipped:
        assert zipped.namelist() == [
            "anon_Ab1xY_900003_feedback.html",
            "zhangwei_81234_900001_feedback.html",
            "zhangwei_LATE_81999_900002_feedback.html",
        ]
        assert b"<b>4 of 5 points</b>" in zipped.read("zhangwei_81234_900001_feedback.html")


def test_moodle_finds_participants(tmp_path):
    names = ["Wei Zhang_4711_assignsubmission_file/a/work.ipynb", "Wei Zhang_4712_assignsubmission_file_/work.ipynb"]
    records = class_of(tmp_path / "in", *names, "=Öz_4713_assignsubmission_file_my_work.ipynb")
    records[1]["questions"][0]["checks"][0]["status"] = "grader_error"
    lms.write(records, EVERY, tmp_path)
    rows = written(tmp_path, "moodle.csv")
    assert {"Identifier", "Full name", "Grade", "Maximum grade", "Last modified (grade)"} == set(rows[0])
    assert [(row["Identifier"], row["Full name"], row["Grade"]) for row in rows] == [
        ("Participant 4713", "'=Öz", "5"),
        ("Participant 4711", "Wei Zhang", "3"),
        ("Participant 4712", "Wei Zhang", ""),  # could not be graded: never a zero
    ]
    with zipfile.ZipFile(tmp_path / "import" / "moodle-feedback.zip") as zipped:
        names = zipped.namelist()
    assert sorted(names) == [
        "=Öz_4713_assignsubmission_file_feedback.html",
        "Wei Zhang_4711_assignsubmission_file/feedback.html",
        "Wei Zhang_4712_assignsubmission_file_/feedback.html",
    ]
    # As Moodle takes such a name apart: the id second, then the plug-in that made the folder.
    assert {tuple(name.split("/")[0].split("_", 4)[1:4]) for name in names} == {
        (str(n), "assignsubmission", "file") for n in (4711, 4712, 4713)
    }


def test_what_fits_no_platform_leaves_nothing_and_the_same_marks_the_same_bytes(tmp_path):
    records = class_of(tmp_path / "in", "12-77 - Wei Zhang - Nov 24, 2026 1015 AM/work.ipynb")
    (archive,) = lms.write(records, EVERY, tmp_path)
    with zipfile.ZipFile(archive) as zipped:
        assert zipped.namelist() == ["12-77 - Wei Zhang - Nov 24, 2026 1015 AM/feedback.html"]
    before = archive.read_bytes()
    assert lms.write(records, EVERY, tmp_path)[0].read_bytes() == before
    assert lms.write([record("ada", (3, 2))], EVERY, tmp_path) == []
    assert not archive.exists()


def marks(folder, exercise, *students):
    """A folder of marks: name, id, platform and points of 90.1 for each student."""
    records = [
        record(
            name, (points, 2), f"{name}{id}.ipynb", student=f"{platform}-{id}" if id else name.lower(), id=id, platform=platform
        )
        for name, id, platform, points in students
    ]
    for one in records:
        one["late"] = one["questions"][0]["points"]
    report.write(records, EVERY, folder)
    text = (folder / "results.json").read_text().replace('"exercise": "90"', f'"exercise": "{exercise}"')
    (folder / "results.json").write_text(text)
    return folder


def joined(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


def test_a_gradebook_joins_by_lasting_ids_or_by_names(tmp_path):
    one = marks(tmp_path / "3", "3", ("Ada", "", "", 3), ("zhangwei", "81234", "canvas", 0), ("zhangwei", "81999", "canvas", 2))
    two = marks(tmp_path / "9", "9", ("ada", "", "", 0), ("zhangwei", "81999", "canvas", 3), ("Bo", "4711", "moodle", 2))
    three = marks(tmp_path / "13", "13", ("Bo", "5000", "moodle", 3))
    lines = lms.gradebook([two, one, three], tmp_path / "book.csv")
    assert lines == [f"4 students, 3 exercises; {tmp_path / 'book.csv'}"]
    assert joined(tmp_path / "book.csv") == [
        ("ada", "", "5", "2", "", "7", "15", "3"),
        ("Bo", "5000", "", "4", "5", "9", "15", "5"),
        ("zhangwei", "81234", "2", "", "", "2", "15", "0"),
        ("zhangwei", "81999", "4", "5", "", "9", "15", "5"),
    ]


def test_a_gradebook_never_joins_two_people_of_one_name(tmp_path):
    one = marks(tmp_path / "3", "3", ("Wei Zhang", "4711", "moodle", 3), ("Wei Zhang", "4712", "moodle", 0))
    two = marks(tmp_path / "9", "9", ("Wei Zhang", "4999", "moodle", 3))
    lines = lms.gradebook([one, two], tmp_path / "book.csv")
    assert "Wei Zhang is the name of several students; their rows are not joined" in lines[1]
    assert [row[1:4] for row in joined(tmp_path / "book.csv")] == [("4711", "5", ""), ("4712", "2", ""), ("4999", "", "5")]


def test_folders_that_cannot_be_joined_are_refused(tmp_path):
    one = marks(tmp_path / "a", "3", ("Ada", "", "", 3))
    with pytest.raises(ValueError, match="there are no marks in"):
        lms.gradebook([one, tmp_path / "none"], tmp_path / "book.csv")
    with pytest.raises(ValueError, match="second folder of exercise 03"):
        lms.gradebook([one, marks(tmp_path / "b", "3", ("Ada", "", "", 3))], tmp_path / "book.csv")
