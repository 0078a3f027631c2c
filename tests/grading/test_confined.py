"""What the sandbox holds back on every kind of machine: as root and as an ordinary user, however the course is installed."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import toy_exercise

import gencourse
from gencourse.grading import grade, sandbox
from gencourse.grading.sandbox import DidNotStart, Worker

ROOT = Path(__file__).parents[2]
MEMORY = 2**29


def run(one, source):
    return one.request({"do": "cell", "cell": 1, "source": source, "only definitions": 0}, 60)["errors"]


def said(one, expression):
    (error,) = run(one, f"raise ValueError({expression})")
    return error["message"]


@pytest.mark.parametrize("below", ["", "lib/python3.11/dist-packages", "src/course-main"])
def test_no_answer_is_within_reach_wherever_the_course_is_installed(below, tmp_path, monkeypatch):
    prefix = tmp_path / "prefix"
    package = prefix / below / "gencourse"
    shutil.copytree(
        Path(gencourse.__file__).parent / "grading", package / "grading", ignore=shutil.ignore_patterns("__pycache__")
    )
    (package.parent / "solutions").mkdir()
    (package.parent / "solutions" / "09.ipynb").write_text("the reference")
    (prefix / "other.py").write_text("in reach")
    packages = [*sandbox._packages(True), str(prefix)]
    monkeypatch.setattr(sandbox, "_packages", lambda _: packages)
    monkeypatch.setattr(sandbox, "_bound", sandbox._bound.__wrapped__)
    monkeypatch.setattr(sandbox, "_courses", sandbox._courses.__wrapped__)
    with Worker(0, [], MEMORY) as one:
        run(
            one,
            f"import os\nfiles = [f for _, _, fs in os.walk('/packages/{len(packages) - 1}') for f in fs]",
        )
        assert said(one, "files") == "['other.py']"
    (prefix / "hand-ins").mkdir()
    for places in ((prefix / "hand-ins", tmp_path / "out"), (tmp_path / "hand-ins", prefix / "out")):
        with pytest.raises(ValueError, match="which students' code can read"):
            grade.grade(places[0], "09", places[1])


def test_of_the_folder_that_the_interpreter_is_in_its_libraries_alone_are_shown(tmp_path, monkeypatch):
    """Somebody has put it into their home, beside keys and marks."""
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    python = shutil.copy2(os.path.realpath(sys.executable), home / "bin")
    (home / "lib").symlink_to(Path(sys.base_prefix) / "lib")
    for name in (".ssh/key", "marks/09/secret", "bin/other"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("a secret")
    monkeypatch.setattr(sandbox, "_interpreter", lambda: python)
    monkeypatch.setattr(sandbox, "_bound", sandbox._bound.__wrapped__)
    monkeypatch.setattr(sandbox, "_courses", functools.cache(sandbox._courses.__wrapped__))
    with Worker(0, [], MEMORY) as one:
        run(one, "import os")
        assert said(one, f"[sorted(os.listdir({str(home)!r})), os.listdir({str(home / 'bin')!r})]") == str(
            [["bin", "lib"], [Path(python).name]]
        )
    assert sandbox.reaches(home / "marks") is None
    assert sandbox.reaches(home / "lib" / "python3" / "hand-ins") is not None


def test_without_a_sandbox_nothing_runs_as_root(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "_is_root", lambda: True)
    monkeypatch.setattr(sandbox, "_readable_by_all", lambda: False)
    with pytest.raises(DidNotStart, match=r"not run as root.*such as /usr/bin/python3\.$"):
        Worker(0, [], MEMORY, sandbox=False)
    (tmp_path / "ada.ipynb").write_bytes(toy_exercise.HONEST)
    with pytest.raises(ValueError, match="not run as root"):
        grade.grade(tmp_path, "09", tmp_path / "out", shut_in=False)


def test_right_answers_that_cannot_be_loaded_are_not_a_zero(monkeypatch):
    """`scaled` builds on a wrong `kl`, and the course that the trusted worker sees has no exercise 90."""
    uses = "def scaled(x, a):\n    return a * (x ** 2).mean() + 0 * kl(x[None] ** 2 + 1, x[None] ** 2 + 1).sum() * 0 + 1\n"
    wrong = toy_exercise.notebook("import numpy as np", "def kl(p, q):\n    return p.sum(1)\n", uses)
    with pytest.raises(DidNotStart, match=r"right answers: .*no reference of \['90\.1', '90\.2'\]"):
        grade.grade_notebook(wrong, toy_exercise.QUESTIONS, {"90.1": 1, "90.2": 1}, slot=0, limits=grade.Limits(30, MEMORY))


MAPS = """
import mmap, os, threading
def mapped(fd, flags):
    try:
        mmap.mmap(fd, 2**32, flags, 3)
        return "mapped"
    except OSError as error:
        return error.errno
"""
THREADS = """
import threading
made, end = 0, threading.Event()
while made < 200:
    try: threading.Thread(target=end.wait, daemon=True).start()
    except RuntimeError: break
    made += 1
end.set()
"""
FOUND = "[mapped(-1, 0x21), mapped(-1, 0x122), os.path.exists('/dev/zero'), os.listdir('/proc/1'), 20 < made < 64]"


def test_shared_and_growing_memory_threads_and_the_first_process():
    with Worker(0, [], MEMORY) as one:
        run(one, MAPS)
        run(one, THREADS)
        assert said(one, FOUND) == "[12, 12, False, [], True]"


def test_the_same_for_an_ordinary_user():
    """The whole sandbox, started by nobody."""
    python = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin")
    if not sandbox._is_root() or shutil.which("setpriv") is None or python is None:
        pytest.skip("needs to be root, setpriv and an interpreter that all may read")
    script = (
        "import sys; sys.path[:0] = sys.argv[1:]\nfrom gencourse.grading.sandbox import Worker\n"
        f"with Worker(0, [], 2**29) as one:\n    ask = lambda s: one.request(dict([('do', 'cell'), ('cell', 1), "
        f"('source', s), ('only definitions', 0)]), 60)['errors']\n"
        f"    ask({MAPS!r}); ask({THREADS!r})\n    print(ask('raise ValueError(' + {FOUND!r} + ')')[0]['message'])\n"
    )
    packages = [place for place in sys.path if place.endswith("-packages")]
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run([*user, python, "-c", script, str(ROOT), *packages], capture_output=True, text=True, cwd="/")
    assert done.stdout.strip() == "[12, 12, False, [], True]", done.stderr


def test_memory_without_bubblewrap():
    with Worker(0, [], MEMORY, sandbox=False, own=True) as one:
        run(one, MAPS)
        assert said(one, "[mapped(os.open('/dev/zero', os.O_RDWR), 1), mapped(-1, 0x122)]") == "[12, 12]"


def test_processor_time_is_limited():
    with Worker(0, [], MEMORY, seconds=3) as one:
        run(one, "import resource")
        assert said(one, "resource.getrlimit(resource.RLIMIT_CPU)") == "(3, 3)"


TORCH = """
import torch
from torch.utils.data import DataLoader, TensorDataset
data = TensorDataset(torch.arange(6.0))
@torch.compile
def twice(x):
    return 2 * x
"""


def test_what_a_gpu_or_workers_would_do_is_done_here_or_said_clearly():
    with Worker(0, ["torch"], 2 * 2**30) as one:
        assert run(one, TORCH) == []
        assert said(one, "[twice(x).tolist() for (x,) in DataLoader(data, 3, num_workers=2, persistent_workers=True)]") == (
            "[[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]"
        )
        for line in ("torch.ones(2).cuda()", "torch.ones(2).to('cuda')", "torch.cuda.get_device_name(0)"):
            (error,) = run(one, line)
            assert error["message"].startswith("grading has no GPU: write device = "), line
        run(
            one,
            "torch.set_default_device('cuda')\ntorch.set_default_dtype(torch.bfloat16)\n"
            "def f(x):\n    return x + torch.ones(3)\n",
        )
        inputs = {"x": sandbox.protocol.packed([1 / 3, 1.0, 2.0])}
        call = {"do": "call", "function": "f", "inputs": inputs, "gradients": ["x"], "options": {}}
        answer = one.request(call, 60)
        assert sandbox.protocol.unpacked(answer["value"])[1:].tolist() == [2.0, 3.0]
        assert sandbox.protocol.unpacked(answer["gradient of x"]).tolist() == [1.0, 1.5, 2.0]
