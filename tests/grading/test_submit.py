"""What a student is told before handing in, and that nothing of the notebook is lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import toy_exercise
from toy_exercise import HONEST, IMPORTS, SCALED_RIGHT, notebook

from gencourse.grading import notebook as notebooks
from gencourse.grading import questions
from gencourse.grading.submit import submit

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.setattr(questions, "of_exercise", lambda number: toy_exercise.QUESTIONS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exercises").mkdir()
    return tmp_path / "exercises" / "90-toy.ipynb"


def test_a_right_notebook_is_told_so_and_written_whole(here):
    made = json.loads(HONEST)
    made["cells"][2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 10**6}]
    made["metadata"] = {"author": "Ada", "colab": {}}
    here.write_text(json.dumps(made))
    lines = submit("90", name="Ada Lovelace")
    assert lines == [
        "✓ 90.1: correct (3/3 points).",
        "✓ 90.2: correct (2/2 points).",
        "2 of 2 questions answered; 5 of 5 points on these inputs.",
        "It runs from top to bottom.",
        "Hand in this file: Ada Lovelace-90.ipynb",
    ]
    written = json.loads(Path("Ada Lovelace-90.ipynb").read_text())
    for before, after in zip(made["cells"], written["cells"], strict=True):
        assert after == {**before, **({"outputs": []} if before["cell_type"] == "code" else {})}
    assert written["metadata"] == made["metadata"]
    assert json.loads(here.read_text()) == made  # the student's own file is as it was


def test_what_is_missing_or_fails_is_said_and_the_file_is_written_all_the_same(here):
    here.write_bytes(notebook(IMPORTS, "plot(", "1 / 0", SCALED_RIGHT.replace("a *", "2 * a *")))
    lines = submit("90", name="../ada")
    assert lines[0] == "✗ 90.1: kl is not defined; cell 3, line 1 (plot() raised SyntaxError: '(' was never closed."
    assert lines[1].startswith("✗ 90.2: not yet (0/2 points)")
    assert "It does not run from top to bottom: cell 3 (plot(): SyntaxError: '(' was never closed" in lines
    assert "It does not run from top to bottom: cell 4 (1 / 0): ZeroDivisionError: division by zero" in lines
    assert lines[-1] == "Hand in this file: _ada-90.ipynb"
    assert [cell.source for cell in notebooks.parse(Path("_ada-90.ipynb").read_bytes())][2] == "1 / 0"


def test_which_notebook_is_one_sentence(here):
    with pytest.raises(FileNotFoundError, match=r"no notebook 90-\*\.ipynb here or in exercises/"):
        submit("90")
    here.write_text("oops")
    with pytest.raises(ValueError, match=r"exercises/90-toy\.ipynb: this is not a notebook"):
        submit("90")
    Path("90-mine.ipynb").write_bytes(HONEST)
    with pytest.raises(ValueError, match="more than one"):
        submit("90")
    with pytest.raises(FileNotFoundError, match=r"no notebook nothing\.ipynb"):
        submit("90", Path("nothing.ipynb"))
    assert submit("90", Path("90-mine.ipynb"), name="ada")[-1] == "Hand in this file: ada-90.ipynb"


def test_what_was_handed_in_is_graded_as_it_was_checked(tmp_path):
    """With the command, as a student and an instructor would, on a real exercise."""
    solution = next((ROOT / "solutions").glob("09-*.ipynb"))
    run = [sys.executable, "-m", "gencourse.cli"]
    told = subprocess.run(
        [*run, "submit", "9", "--notebook", solution, "--name", "ada", "--out", "handed-in"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert told.stdout.splitlines()[-1] == "Hand in this file: handed-in/ada-09.ipynb"
    assert "15 of 15 points" in told.stdout
    graded = subprocess.run(
        [*run, "grade", "handed-in", "--exercise", "9", "--out", "out"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert graded.stdout == "1 hand-ins of 1 students; marks in out/grades.csv, the class in out/report.html\n"
    assert "1/1" in graded.stderr  # the progress bar
    assert "ada,ada-09.ipynb,yes,total,,graded,15,15,,,bubblewrap" in (tmp_path / "out" / "grades.csv").read_text()
