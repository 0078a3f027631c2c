"""The guide's term, played through: its commands and tables as they stand, with a small exercise in the place of exercise 09."""

import csv
import dataclasses
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import toy_exercise
from toy_exercise import HONEST, IMPORTS, KL_RIGHT, SCALED_RIGHT, notebook

from gencourse import cli
from gencourse.grading import questions, report

ROOT = Path(__file__).parents[2]
SMALL = tuple(
    dataclasses.replace(question, id=id, function=function)
    for question, id, function in (
        (toy_exercise.KL, "9.1", "kl"),
        (toy_exercise.SCALED, "9.2", "scaled"),
        (toy_exercise.SCALED, "9.4", "fourth"),
    )
)
FOURTH = SCALED_RIGHT.replace("scaled", "fourth")
HANDED_IN = {
    "ada.ipynb": notebook(IMPORTS, KL_RIGHT.replace("p / q", "q / p"), SCALED_RIGHT),
    "bo (1).ipynb": notebook(IMPORTS, KL_RIGHT, SCALED_RIGHT, FOURTH),
    "cem.ipynb": b"",
    "Wei Zhang_4711_assignsubmission_file/work.ipynb": notebook(IMPORTS, KL_RIGHT, FOURTH),
    "Wei Zhang_4712_assignsubmission_file/work.ipynb": HONEST,
    "zhangwei_81234_900001_work.ipynb": notebook(IMPORTS, "def kl(p, q):\n    return 1 / 0", SCALED_RIGHT),
}


@pytest.fixture(scope="module")
def term(tmp_path_factory):
    """The folder in which the guide's blocks were run, with what each command printed."""
    folder = tmp_path_factory.mktemp("term")
    page = (ROOT / "book" / "grading-a-class.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(sh|text)\n(.*?)```", page.partition("## Who is who")[0], re.DOTALL)
    shutil.copytree(ROOT / "solutions", folder / "solutions")
    for name, content in HANDED_IN.items():
        (folder / "handed-in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "handed-in" / name).write_bytes(content)
    tables, before = ["changes.csv", "times.csv"], []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TQDM_DISABLE", "1")
        patch.setattr(questions, "of_exercise", lambda number: SMALL)
        for kind, block in blocks:
            if kind == "text":
                (folder / "marks" / "09" / tables.pop(0)).write_text(block, encoding="utf-8")
                continue
            if (folder / "marks").exists() and not before:
                before = rows(folder / "marks" / "09" / "students.csv")
            program, *arguments = block.split()
            assert program == "gencourse"
            patch.setattr(sys, "argv", ["gencourse", *arguments])
            with pytest.raises(SystemExit) as ended:
                cli.main()
            assert not ended.value.code, block
    assert tables == []
    return folder, before


def rows(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_the_marks_are_those_that_the_tables_ask_for(term):
    folder, before = term
    who = [(row["student"], row["id"]) for row in before]
    assert who == [("ada", ""), ("bo", ""), ("cem", ""), ("Wei Zhang", "4711"), ("Wei Zhang", "4712"), ("zhangwei", "81234")]
    assert [row["points"] for row in before] == ["2", "7", "0", "5", "5", "2"]
    after = rows(folder / "marks" / "09" / "students.csv")
    assert [(row["student"], row["id"]) for row in after] == who
    # Ada has 2.5 for 9.1; Bo's 5 are a day late; Cem's total is set; the first Wei has a point more; the second's day is granted.
    assert [row["points"] for row in after] == ["4.5", "4.5", "4", "4", "5", "2"]
    assert [row["days late"] for row in after] == ["0", "1", "0", "0", "1", "0"]
    assert {row["out of"] for row in after} == {"5"}
    assert {row["9.4"] for row in after} == {"0"}


def test_reasons_are_in_the_feedback_and_survive_the_regrade(term):
    folder, _ = term
    for name, says in (
        ("ada", "Changed by hand from 0 to 2.5 points: Right but for a slip of the pen."),
        ("moodle-4711", "A derivation worth reading, thank you."),
        ("cem", "Shown to me on paper, before the deadline."),
        ("bo", "1 day late, at 10 % of the points a day: as the syllabus says"),
        ("moodle-4712", "1 day late, 1 of them granted"),
        ("canvas-81234", "does not count</h2>\n<p class=note>The text gave two readings.</p>"),
    ):
        page = (folder / "marks" / "09" / "feedback" / f"{name}.html").read_text()
        assert says in page, name
    theirs, again = (
        {path.relative_to(top): path.read_bytes() for path in top.rglob("*") if path.is_file()}
        for top in (folder / "marks" / "09", folder / "again")
    )
    own = {Path("secret"), Path("changes.csv"), Path("times.csv")}
    assert {name: content for name, content in theirs.items() if name not in own} == again


def test_the_import_files_hold_the_new_marks(term):
    folder = term[0] / "marks" / "09" / "import"
    assert [(row["Identifier"], row["Grade"]) for row in rows(folder / "moodle.csv")] == [
        ("Participant 4711", "4"),
        ("Participant 4712", "5"),
    ]
    assert [(row["ID"], row["Exercise 09"]) for row in rows(folder / "canvas.csv")] == [("", "5"), ("81234", "2")]
    for platform, name in (
        ("moodle", "Wei Zhang_4711_assignsubmission_file/feedback.html"),
        ("canvas", "zhangwei_81234_900001_feedback.html"),
    ):
        with zipfile.ZipFile(folder / f"{platform}-feedback.zip") as zipped:
            assert name in zipped.namelist()


def test_the_gradebook_has_everybody(term):
    made = rows(term[0] / "gradebook.csv")
    assert [(row["student"], row["id"], row["points"]) for row in made] == [
        ("ada", "", "4.5"),
        ("bo", "", "4.5"),
        ("cem", "", "4"),
        ("Wei Zhang", "4711", "4"),
        ("Wei Zhang", "4712", "5"),
        ("zhangwei", "81234", "2"),
    ]


def test_anonymous_pages_name_nobody_and_codes_may_stand_in_the_tables(term, monkeypatch, capsys):
    folder = term[0]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(questions, "of_exercise", lambda number: SMALL)
    command = ["gencourse", "grade", "handed-in", "--exercise", "09", "--out", "marks/09", "--anonymous"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):
        cli.main()
    out = folder / "marks" / "09"
    codes = {row["name"]: row["code"] for row in rows(out / "names.csv")}
    assert set(codes) == {"ada", "bo", "cem", "Wei Zhang", "zhangwei"}
    for path in [out / "students.csv", out / "grades.csv", out / "report.html", *out.glob("feedback/*")]:
        assert not re.search(r"\bada\b|\bbo\b|\bcem\b|wei", path.read_text(encoding="utf-8-sig"), re.IGNORECASE), path
    table = out / "changes.csv"
    table.write_text(table.read_text().replace("ada,9.1", f"{codes['ada']},9.1"))
    with pytest.raises(SystemExit):
        cli.main()
    assert next(row["points"] for row in rows(out / "students.csv") if row["student"] == codes["ada"]) == "4.5"
    table.write_text(table.read_text() + "dora,9.1,2,Who?\n")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "line 9: there is no student 'dora'" in capsys.readouterr().err


def test_the_guide_explains_every_status_and_every_option(capsys, monkeypatch):
    page = (ROOT / "book" / "grading-a-class.md").read_text(encoding="utf-8")
    table = page.partition("| `status` | Meaning |")[2].partition("\n\n")[0]
    said = {word for line in table.splitlines() for word in re.findall(r"`(\w+)`", line.split("|")[1] if "|" in line else "")}
    assert said == {*report.SAID, "changed", "graded"}
    monkeypatch.setattr(sys, "argv", ["gencourse", "grade", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help", "--exercise", "--out"}
    assert options == set(re.findall(r"--[a-z][a-z-]+", page)) - {"--all", "--privileged", "--url", "--exercise", "--out"}
