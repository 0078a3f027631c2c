"""The archive: complete, private, and it grades, in a folder that looks like the service's container."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gencourse.grading import gradescope, sandbox

ROOT = Path(__file__).parents[2]


def test_the_same_archive_from_the_same_sources_and_its_limits_said(tmp_path):
    secret = b"0123456789abcdef"
    one, two = (gradescope.archive("09", tmp_path / name, secret).read_bytes() for name in ("a.zip", "b.zip"))
    assert one == two
    with zipfile.ZipFile(tmp_path / "a.zip") as zipped:
        names = set(zipped.namelist())
        modes = {info.filename: stat.S_IMODE(info.external_attr >> 16) for info in zipped.infolist()}
        assert {"README.txt", "setup.sh", "run_autograder", "secret", "gencourse/grading/inside/worker.py"} <= names
        assert not [name for name in names if "solution" in name or "__pycache__" in name]
        assert (modes["setup.sh"], modes["run_autograder"], modes["secret"]) == (0o755, 0o755, 0o600)
        readme = " ".join(zipped.read("README.txt").decode().split())
        assert "What is weaker than `gencourse grade`" in readme
        for name in ("setup.sh", "run_autograder"):
            subprocess.run(["bash", "-n"], input=zipped.read(name), check=True)
    with pytest.raises(ValueError, match="no exercise '77'"):
        gradescope.archive("77", tmp_path / "c.zip")


@pytest.mark.parametrize(("new_enough", "python"), [(True, "python3"), (False, "python3.11")])
def test_the_environment_is_made_with_a_python_that_is_new_enough(tmp_path, new_enough, python):
    """The set-up script, with commands in the place of the container's that write down how they were called."""
    for name in ("apt-get", "chmod", "pip", "python3", "python3.11"):
        code = f"[ $1 != -c ] || exit {int(not new_enough)}\n" if name == "python3" else ""
        (tmp_path / name).write_text(f'#!/bin/sh\n{code}echo {name} "$@" >> {tmp_path}/log\n')
        (tmp_path / name).chmod(0o755)
    script = gradescope.SETUP.replace("/opt/grader/bin/pip", "pip")
    subprocess.run(["/bin/bash", "-c", script], env={"PATH": str(tmp_path)}, check=True)
    log = (tmp_path / "log").read_text().splitlines()
    assert f"{python} -m venv /opt/grader" in log
    assert any(line.startswith("apt-get install") and line.endswith(f"{python} {python}-venv") for line in log)
    assert log[-1] == "chmod 700 /autograder/source"


def results(tmp_path, changed):
    """What the service gets for a solution with these changes; the archive's own copy of the package does the grading.

    It is unpacked where the service would, with the same rights. As root the interpreter has to be one that all may read.
    """
    base = tmp_path / "autograder"
    for name in ("source", "submission", "results"):
        (base / name).mkdir(parents=True)
    with zipfile.ZipFile(gradescope.archive("09", tmp_path / "a.zip")) as zipped:
        zipped.extractall(base / "source")
    (base / "source").chmod(0o700)
    made = next((ROOT / "solutions").glob("09-*.ipynb")).read_text()
    for old, new in changed.items():
        assert old in made
        made = made.replace(old, new)
    (base / "submission" / "work.ipynb").write_text(made)
    (base / "submission_metadata.json").write_text(json.dumps({"users": [{"email": "ada@example.org", "id": 1}]}))
    script = f"from pathlib import Path; from gencourse.grading import gradescope as g; g.main('09', Path({str(base)!r}))"
    path = os.pathsep.join([str(base / "source"), *(place for place in sys.path if place.endswith("-packages"))])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    subprocess.run([interpreter(), "-c", script], env=environment, cwd="/", check=True)
    return json.loads((base / "results" / "results.json").read_text())


def interpreter():
    """This one, or where it is root's alone another of the same version."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = sys.executable if not sandbox.root_problem() else shutil.which(version, path="/usr/bin:/usr/local/bin")
    return found or pytest.skip(f"there is no {version} here that all users may read")


def test_it_grades_what_is_handed_in(tmp_path):
    result = results(tmp_path, {})
    assert result["score"] == 20
    assert sum(test["max_score"] for test in result["tests"]) == 20
    assert {test["status"] for test in result["tests"]} == {"passed"}
    assert not re.search(r"sandbox|NONE", json.dumps(result))


def test_a_wrong_earlier_answer_is_replaced_by_the_right_one_here_too(tmp_path):
    """As root, too, with the sources out of the worker's reach: the same marks as `gencourse grade` gives (test_grade.py)."""
    result = results(tmp_path, {"0.5 * (log_var.exp()": "0.7 * (log_var.exp()"})
    assert result["score"] == 17


def test_it_does_not_run_a_students_code_as_root(tmp_path, monkeypatch):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "secret").write_text("0123456789abcdef")
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission" / "work.ipynb").write_bytes(b"{}")
    monkeypatch.setattr(sandbox, "root_problem", lambda: "not as root.")
    with pytest.raises(SystemExit, match="not as root"):
        gradescope.main("09", tmp_path)
    assert json.loads((tmp_path / "results" / "results.json").read_text()) == {"output": "Not graded: not as root."}
