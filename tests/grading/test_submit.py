"""What a student is told before handing in, and that nothing of the notebook is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import toy_exercise
from toy_exercise import HONEST, IMPORTS, KL_RIGHT, SCALED_RIGHT, notebook

from gencourse.grading import conversation, questions, sandbox
from gencourse.grading import notebook as notebooks
from gencourse.grading.submit import submit

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    real = questions.of_exercise
    monkeypatch.setattr(questions, "of_exercise", lambda number: toy_exercise.QUESTIONS if number == "90" else real(number))
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


def test_the_notebook_of_another_exercise_is_refused_before_it_is_run(here, monkeypatch):
    """By the questions that it asks `check` for, and by its functions."""
    refused = r"other\.ipynb is the notebook of exercise 09, not of 90; hand it in by `gencourse submit 09`\."
    other = [
        "%matplotlib inline",
        'check("9.1")\ncheck("9.2", sample)',
        "def gaussian_kl(mu, log_var): ...",
        "print(check('90'), 7)",
    ]
    Path("other.ipynb").write_bytes(notebook(IMPORTS, *other))
    with monkeypatch.context() as nothing_is_run:
        nothing_is_run.setattr(conversation, "Worker", None)
        with pytest.raises(ValueError, match=refused):
            submit("90", Path("other.ipynb"), name="ada")
        with pytest.raises(ValueError, match="is the notebook of exercise 03, not of 04"):
            submit("4", next((ROOT / "solutions").glob("03-*.ipynb")))
    assert not Path("ada-90.ipynb").exists()
    for mine in ('result = check("90.2")', KL_RIGHT):
        Path("other.ipynb").write_bytes(notebook(IMPORTS, *other[:-1], mine))
        assert submit("90", Path("other.ipynb"), name="ada", out=here.parent)[-1].startswith("Hand in this file: ")
    Path("other.ipynb").write_bytes(notebook("1 + 1"))  # of no exercise
    assert "0 of 2 questions answered; 0 of 5 points on these inputs." in submit("90", Path("other.ipynb"), out=here.parent)


OF_LINUX_ALONE = [
    *((os, name) for name in ("pidfd_open", "setresuid", "setresgid")),
    (signal, "pidfd_send_signal"),
]


def test_on_macos_it_is_tried_without_what_linux_alone_has(here, monkeypatch, tmp_path):
    """Both processes believe that they are on macOS, and what macOS lacks is not there."""
    beside = tmp_path / "beside"
    shutil.copytree(sandbox.INSIDE, beside)
    (beside / "worker.py").rename(beside / "real.py")
    (beside / "worker.py").write_text(
        "import os, runpy, sys\nsys.platform = 'darwin'\nsys.modules['resource'] = None\n"
        "del os.setresuid, os.setresgid, os.setgroups\n"
        "runpy.run_path(os.path.join(os.path.dirname(__file__), 'real.py'), run_name='__main__')\n"
    )
    monkeypatch.setattr(sandbox, "INSIDE", beside)
    monkeypatch.setattr(sys, "platform", "darwin")
    for module, name in OF_LINUX_ALONE:
        monkeypatch.delattr(module, name)
    ends = "import os\nif os.path.exists('/'):\n    os._exit(3)\n"
    here.write_bytes(notebook(IMPORTS, KL_RIGHT, SCALED_RIGHT, "import sys\nraise ValueError(sys.platform)", ends))
    assert submit("90", name="ada") == [
        "✓ 90.1: correct (3/3 points).",
        "✓ 90.2: correct (2/2 points).",
        "2 of 2 questions answered; 5 of 5 points on these inputs.",
        "It does not run from top to bottom: cell 5 (raise ValueError(sys.platform)): ValueError: darwin",
        "It does not run from top to bottom: cell 6: raised an error: your code ended the process (exit code 3).",
        "Hand in this file: ada-90.ipynb",
    ]


def test_on_windows_the_file_is_written_and_nothing_is_run(here, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(conversation, "_PAUSE", 0.0)
    monkeypatch.setattr(subprocess, "Popen", None)
    for module, name in [*OF_LINUX_ALONE, (os, "geteuid"), (os, "setgroups")]:
        monkeypatch.delattr(module, name)
    here.write_bytes(HONEST)
    assert submit("90", name="ada") == [
        "Your notebook was not tried here (on Windows, notebooks are not run); `check` in it asks the same questions.",
        "Hand in this file: ada-90.ipynb",
    ]
    assert notebooks.parse(Path("ada-90.ipynb").read_bytes()) == notebooks.parse(HONEST)
    here.write_text("oops")
    with pytest.raises(ValueError, match="this is not a notebook"):
        submit("90")


def test_it_can_be_imported_where_there_is_no_linux():
    script = (
        "import os, select, signal, sys, torch\n"
        "for name in ('resource', 'fcntl', 'pwd', 'grp'): sys.modules[name] = None\n"
        "del os.pidfd_open, os.geteuid, os.fork, os.setresuid, select.poll, signal.pidfd_send_signal, signal.SIGKILL\n"
        "import gencourse.grading.submit, gencourse.grading.inside.worker\nprint('imported')\n"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "imported\n"


def test_a_note_on_a_question_stands_beneath_it(here, monkeypatch):
    from gencourse.grading import grade

    real = grade.grade_notebook

    def noted(*args, **options):
        record = real(*args, **options)
        record["questions"][0]["notes"] = ["Your function builds on 90.0."]
        return record

    monkeypatch.setattr(grade, "grade_notebook", noted)
    here.write_bytes(HONEST)
    assert submit("90", name="ada")[:3] == [
        "✓ 90.1: correct (3/3 points).",
        "  Your function builds on 90.0.",
        "✓ 90.2: correct (2/2 points).",
    ]


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
    assert "20 of 20 points" in told.stdout
    graded = subprocess.run(
        [*run, "grade", "handed-in", "--exercise", "9", "--out", "out"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert graded.stdout == "1 hand-in of 1 student; marks in out/grades.csv, the class in out/report.html\n"
    assert "1/1" in graded.stderr  # the progress bar
    assert "ada,,ada-09.ipynb,yes,total,,graded,20,20,,,bubblewrap" in (tmp_path / "out" / "grades.csv").read_text()
