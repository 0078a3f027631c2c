"""Grading as a whole: seeds, follow-through, retries, going on after a kill, the same bytes again."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import toy_exercise
from hand_ins import FORGED, frames
from toy_exercise import HONEST, IMPORTS, KL_RIGHT, SCALED_RIGHT, notebook

from gencourse.grading import conversation, grade, handins, questions, report, sandbox
from gencourse.grading.conversation import Limits
from gencourse.grading.sandbox import DidNotStart

ROOT = Path(__file__).parents[2]
LIMITS = Limits(12, memory=2**29)
SECRET = b"a secret of some length"


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    real = questions.of_exercise
    monkeypatch.setattr(questions, "of_exercise", lambda number: toy_exercise.QUESTIONS if number == "90" else real(number))


def graded(folder, out, **options):
    records = grade.grade(folder, "90", out, **{"jobs": 2, "limits": LIMITS, "secret": SECRET, **options})
    report.write(records, toy_exercise.QUESTIONS, out)
    return records


def written(out):
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file() and "records" not in p.parts}


def test_inputs_depend_on_secret_student_and_question_and_on_nothing_else():
    seeds = {grade.seed(s, who, q) for s in (b"a", b"b") for who in ("ada", "bo") for q in ("9.1", "9.2")}
    assert len(seeds) == 8
    assert grade.seed(b"a", "ada", "9.1") == grade.seed(b"a", "ada", "9.1")
    assert max(seeds) > 2**240


def test_names_are_taken_out_of_what_is_put_around_them(tmp_path):
    for name in ("ada (1).ipynb", "ADA-09.ipynb", "bo.zip", ".hidden.ipynb", "notes.txt", "bo_LATE_12_345_09-x.ipynb"):
        (tmp_path / name).write_bytes(b"")
    for folder in ("Cem Öz_4711_assignsubmission_file", "out", "__MACOSX", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "Cem Öz_4711_assignsubmission_file" / "x.ipynb").write_bytes(HONEST)
    (tmp_path / "Cem Öz_4711_assignsubmission_file" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "Cem Öz_4711_assignsubmission_file" / ".ipynb_checkpoints" / "x.ipynb").write_bytes(HONEST)
    os.symlink("/etc", tmp_path / "empty" / "linked")
    found = handins.find(tmp_path, "09", leave_out=tmp_path / "out")
    assert [(one.student, one.path.name) for one in found] == [
        ("ada", "ADA-09.ipynb"),
        ("ada", "ada (1).ipynb"),
        ("bo", "bo.zip"),
        ("canvas-12", "bo_LATE_12_345_09-x.ipynb"),
        ("empty", "empty"),
        ("moodle-4711", "x.ipynb"),
        ("notes", "notes.txt"),
    ]
    names = [handins.file_name(name) for name in ("ada", "cem öz", "..", "a/b", "-rf", "x" * 300, "学生")]
    assert len(set(names)) == 7
    assert names[0] == "ada"
    assert all(name[0] not in ".-" and "/" not in name and len(name) < 100 for name in names)


def test_the_same_grading_gives_the_same_bytes_and_another_secret_other_inputs(tmp_path):
    folder = tmp_path / "hand-ins"
    folder.mkdir()
    (folder / "ada.ipynb").write_bytes(HONEST)
    odd = "class A: pass\ndef scaled(x, a):\n    raise ValueError(f'{A()} {x} {set(\"abc\")}')\n"
    (folder / "bo.ipynb").write_bytes(notebook(IMPORTS, KL_RIGHT.replace("p / q", "q / p"), odd))
    first = graded(folder, tmp_path / "one")
    graded(folder, tmp_path / "two", jobs=1)
    assert written(tmp_path / "one") == written(tmp_path / "two")
    assert "0x..." in (tmp_path / "one" / "feedback" / "bo.html").read_text()
    other = graded(folder, tmp_path / "three", secret=b"another secret, as long")
    assert report.total(other[0]) == report.total(first[0]) == 5
    assert other[1]["questions"][1]["sentence"] != first[1]["questions"][1]["sentence"]  # it shows the inputs


def test_a_sandbox_that_does_not_start_is_tried_again_and_never_a_zero(tmp_path, monkeypatch):
    (tmp_path / "hand-ins").mkdir()
    (tmp_path / "hand-ins" / "ada.ipynb").write_bytes(HONEST)
    fails = []
    real = conversation.Worker

    def sometimes(*args):
        if fails and fails.pop():
            raise DidNotStart("no room for it")
        return real(*args)

    monkeypatch.setattr(conversation, "Worker", sometimes)
    monkeypatch.setattr(conversation, "_PAUSE", 0.0)
    fails[:] = [True] * 3
    (record,) = graded(tmp_path / "hand-ins", tmp_path / "out")
    assert report.total(record) is None
    assert {part["status"] for q in record["questions"] for part in q["checks"]} == {"grader_error"}
    assert "ada,,ada.ipynb,yes,total,,grader_error,,5," in (tmp_path / "out" / "grades.csv").read_text(encoding="utf-8-sig")
    assert "no room for it" in (tmp_path / "out" / "report.html").read_text()
    assert report.summary([record], tmp_path)[1] == "NOT GRADED, grade again: ada"
    assert "score" not in json.loads((tmp_path / "out" / "gradescope" / "ada.json").read_text())
    fails[:] = [True] * 2
    (record,) = graded(tmp_path / "hand-ins", tmp_path / "out")  # nothing is kept of what failed
    assert report.total(record) == 5
    assert fails == []


def test_the_time_that_workers_take_to_start_is_not_the_students(monkeypatch):
    """Five starts of a second each, and three seconds for the notebook: what is right has its points."""
    started = []
    real = conversation.Worker

    def slow(*args):
        started.append(1)
        time.sleep(1.0)
        return real(*args)

    monkeypatch.setattr(conversation, "Worker", slow)
    content = notebook(IMPORTS + "import os", "os._exit(1)", "def kl(p, q):\n    os._exit(1)\n", SCALED_RIGHT)
    seeds = {"90.1": 1, "90.2": 1}
    record = grade.grade_notebook(content, toy_exercise.QUESTIONS, seeds, slot=0, limits=Limits(3, memory=2**29))
    assert [result["points"] for result in record["questions"]] == [0, 2]
    assert record["questions"][0]["checks"][0]["says"] == "your code ended the process (exit code 1)."
    assert len(started) >= 4


def test_a_notebooks_time_is_bounded_and_what_is_said_of_it_does_not_depend_on_the_clock():
    content = notebook(IMPORTS, *["import time\ntime.sleep(9)\n"] * 40, KL_RIGHT, SCALED_RIGHT)
    record = grade.grade_notebook(content, toy_exercise.QUESTIONS, {"90.1": 1, "90.2": 1}, slot=0, limits=Limits(1.2, 2**29))
    over = "{}: the cells before it took more than the 1.2 seconds that all have together."
    stopped = "stopped after {} seconds; is there a loop that does not end?"
    left = over.format("left to its definitions")
    assert {error["message"] for error in record["cells"]} == {stopped.format(0.2), stopped.format(0.02), left}
    assert [result["points"] for result in record["questions"]] == [3, 2]  # they are definitions
    endless = "class A:\n    while True: pass\n"
    content = notebook(IMPORTS, *[endless] * 90, KL_RIGHT, SCALED_RIGHT)
    record = grade.grade_notebook(content, toy_exercise.QUESTIONS, {"90.1": 1, "90.2": 1}, slot=0, limits=Limits(1.2, 2**29))
    assert over.format("not tried") in {error["message"] for error in record["cells"]}
    says = {(p["status"], p["says"].split(";")[0]) for q in record["questions"] for p in q["checks"]}
    assert says == {("timeout", "kl is not defined"), ("timeout", "scaled is not defined")}


def test_all_that_a_hand_in_does_is_bounded_together_and_what_it_has_earned_is_kept(monkeypatch):
    """Cells just below what is slow, a statement that is repeated, calls that end the process: each as much as it may."""
    started, spent = [], []

    class Counted(conversation.Worker):
        def __init__(self, *args):
            started.append(1)
            super().__init__(*args)

        def request(self, *args):
            try:
                return super().request(*args)
            finally:
                spent.append(self.used)

    monkeypatch.setattr(conversation, "Worker", Counted)
    limits = Limits(1.2, memory=2**29)
    almost = "import os, time\ntime.sleep(0.015)\n"
    repeated = "x = fails()\n", "def fails():\n    time.sleep(0.1)\n    return nothing\n"
    kills = "def scaled{}(*_):\n    time.sleep(0.15)\n    os._exit(1)\n"
    cells = [KL_RIGHT, *[almost] * 40, *repeated, *map(kills.format, range(6))]
    more = [dataclasses.replace(toy_exercise.SCALED, id=f"90.{n}", function=f"scaled{n}") for n in range(6)]
    every = [toy_exercise.KL, *more]
    record = grade.grade_notebook(notebook(IMPORTS, *cells), every, {q.id: 1 for q in every}, slot=0, limits=limits)
    assert [result["points"] for result in record["questions"]] == [3, 0, 0, 0, 0, 0, 0]
    assert len(started) <= 12
    assert sum(spent) <= limits.whole + limits.step  # one request may begin just before the end


def test_a_cell_that_answers_for_the_worker_is_told_in_a_sentence_of_ours():
    content = notebook(IMPORTS, frames(FORGED + "forged(errors=5)\n"), KL_RIGHT, SCALED_RIGHT)
    record = grade.grade_notebook(content, toy_exercise.QUESTIONS, {"90.1": 1, "90.2": 1}, slot=0, limits=LIMITS)
    assert record["cells"] == [{"cell": 3, "status": "error", "message": "something else than an answer arrived from your code."}]
    assert [result["points"] for result in record["questions"]] == [3, 2]


def test_a_fault_of_the_grader_is_no_zero_either(tmp_path, monkeypatch):
    (tmp_path / "hand-ins").mkdir()
    (tmp_path / "hand-ins" / "ada.ipynb").write_bytes(HONEST)

    def broken(*_):
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(grade, "judge", broken)
    (record,) = graded(tmp_path / "hand-ins", tmp_path / "out")
    assert report.total(record) is None
    assert "ZeroDivisionError: of ours" in record["says"]


def test_without_bubblewrap_it_refuses_with_the_line_that_installs_it(tmp_path, monkeypatch):
    (tmp_path / "ada.ipynb").write_bytes(HONEST)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match=r"sudo apt-get install bubblewrap\n.*--unsafe-no-sandbox"):
        graded(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out" / "grades.csv").exists()
    monkeypatch.setattr(sandbox, "root_problem", lambda: "")
    (record,) = graded(tmp_path, tmp_path / "out", shut_in=False)
    assert report.total(record) == 5
    rows = (tmp_path / "out" / "grades.csv").read_text(encoding="utf-8-sig").splitlines()[1:]
    assert all(row.endswith(",NONE") for row in rows)
    for name in ("feedback/ada.html", "report.html", "results.json"):
        assert "graded without a sandbox" in (tmp_path / "out" / name).read_text()


def test_killed_half_way_it_goes_on_with_what_it_has(tmp_path, monkeypatch):
    folder = tmp_path / "hand-ins"
    folder.mkdir()
    for n in range(12):
        slow = f"import time\ntime.sleep(0.2)\nn = {n}\n"
        (folder / f"s{n:02d}.ipynb").write_bytes(notebook(IMPORTS + slow, KL_RIGHT, SCALED_RIGHT))
    whole = tmp_path / "whole"
    graded(folder, whole)
    script = (
        "import sys; sys.path.insert(0, 'tests/grading')\nfrom pathlib import Path\nimport toy_exercise\n"
        "from gencourse.grading import questions\nfrom gencourse.grading.conversation import Limits\n"
        "from gencourse.grading.grade import grade\nquestions.of_exercise = lambda n: toy_exercise.QUESTIONS\n"
        f"grade(Path(sys.argv[1]), '90', Path(sys.argv[2]), jobs=2, limits=Limits(12, 2**29), secret={SECRET!r})\n"
    )
    out = tmp_path / "killed"
    with subprocess.Popen([sys.executable, "-c", script, folder, out], cwd=ROOT, start_new_session=True) as grader:
        while len(list(out.glob("records/*.json"))) < 4:
            assert grader.poll() is None
            time.sleep(0.01)
        grader.kill()
    kept = len(list(out.glob("records/*.json")))
    assert 4 <= kept < 12
    started = []
    real = conversation.Worker
    monkeypatch.setattr(conversation, "Worker", lambda *args: started.append(1) or real(*args))
    graded(folder, out)
    assert len(started) == 12 - kept
    assert written(out) == written(whole)


def test_the_secret_is_made_once_and_kept_to_the_owner(tmp_path):
    first = grade._own_secret(tmp_path)
    assert first == grade._own_secret(tmp_path)
    assert len(first) == 64
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0
    (tmp_path / "short").write_text("short\n")
    with pytest.raises(ValueError, match="shorter than 16"):
        grade.read_secret(tmp_path / "short")
    with pytest.raises(FileNotFoundError, match="openssl rand"):
        grade.read_secret(tmp_path / "none")


EARLIER_WRONG = {
    "0.5 * (log_var.exp() + mu**2 - 1 - log_var).sum(1)": "0.7 * (log_var.exp() + mu**2 - 1 - log_var).sum(1)",
}


def solution(number, changed):
    path = next((ROOT / "solutions").glob(f"{number}-*.ipynb"))
    made = json.loads(path.read_text())
    for cell in made["cells"]:
        text = "".join(cell["source"])
        for old, new in changed.items():
            text = text.replace(old, new)
        cell["source"] = text
    return json.dumps(made).encode()


def grade_09(content):
    every = questions.of_exercise("09")
    record = grade.grade_notebook(content, every, {q.id: 5 for q in every}, slot=0, limits=Limits(60))
    return record, [result["points"] for result in record["questions"]]


def test_a_question_that_builds_on_a_wrong_one_keeps_its_own_points_and_the_feedback_says_so():
    record, points = grade_09(solution("09", EARLIER_WRONG))
    assert points == [0, 3, 4, 5, 5]  # gradients through the earlier answer included
    assert record["questions"][2]["notes"] == [
        "Your function builds on 9.1. With the right answer to 9.1 in place of yours it earns 4 more points."
    ]
    # An error of its own is still an error.
    record, points = grade_09(solution("09", {**EARLIER_WRONG, "return log_lik - gaussian_kl": "return log_lik + gaussian_kl"}))
    assert points == [0, 3, 0, 5, 5]
    assert "notes" not in record["questions"][2]


def test_right_answers_of_any_kind_of_number_have_full_marks():
    changed = {
        "return 0.5 * (log_var.exp() + mu**2 - 1 - log_var).sum(1)": "return [0.5 * (s.exp() + m**2 - 1 - s).sum()"
        " for m, s in zip(mu, log_var)]",
        "return mu +": "return torch.nn.Parameter(torch.ones(())) * mu +",
        "return log_lik - gaussian_kl(mu, log_var)": "return (log_lik - torch.stack(gaussian_kl(mu, log_var))).double()",
        "return log_weights.logsumexp(0) - torch.tensor(float(len(eps))).log()": "import numpy as np\n"
        "    return [np.float64(v.item()) for v in log_weights.logsumexp(0) - torch.tensor(float(len(eps))).log()]",
    }
    record, points = grade_09(solution("09", changed))
    assert points == [3, 3, 4, 5, 5], [result["sentence"] for result in record["questions"]]


def test_the_oracle_answers_for_earlier_questions_only():
    every = questions.of_exercise("09")
    oracle = conversation.Oracle(every, 0, Limits(60), True)
    inputs = {"mu": sandbox.protocol.packed(np.ones((2, 3))), "log_var": sandbox.protocol.packed(np.zeros((2, 3)))}
    assert oracle({"ask": "gaussian_kl", "inputs": inputs}) == {}
    assert oracle._worker is None
    oracle.allowed = {"gaussian_kl"}
    value = sandbox.protocol.unpacked(oracle({"ask": "gaussian_kl", "inputs": inputs})["value"])
    assert value.tolist() == [1.5, 1.5]
    for asked in ({"ask": "elbo", "inputs": inputs}, {"ask": "gaussian_kl", "inputs": [1]}, {"ask": ["x"], "inputs": {}}):
        assert oracle(asked) == {}
    wide = {"mu": sandbox.protocol.packed(np.ones((400_000, 1))), "log_var": sandbox.protocol.packed(np.ones((1, 400_000)))}
    assert oracle({"ask": "gaussian_kl", "inputs": wide}).keys() == set()  # 1.3 TB, in the sandbox, not here
    oracle.close()
