"""The sandbox holds, ends when it must, and one that does not start is nobody's zero."""

import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

from gencourse.grading import sandbox
from gencourse.grading.inside import worker
from gencourse.grading.sandbox import DidNotStart, Stopped, Worker

MEMORY = 2**29


def run(one, source, seconds=20):
    return one.request({"do": "cell", "cell": 1, "source": source, "only definitions": False}, seconds)["errors"]


def said(one, expression):
    """The value of an expression in the worker, as text."""
    (error,) = run(one, f"raise ValueError({expression})")
    return error["message"]


@pytest.fixture(scope="module")
def shut_in():
    with Worker(0, ["numpy"], MEMORY) as one:
        run(one, "import os, sys, ctypes, resource, threading, pathlib")
        yield one


def test_there_is_a_sandbox_on_this_machine():
    assert sandbox.problem() == ""


def test_it_has_no_rights_and_its_own_user(shut_in):
    status = "dict(line.split(':\\t') for line in pathlib.Path('/proc/self/status').read_text().splitlines())"
    assert said(shut_in, f"[{status}[k] for k in ('CapEff', 'CapPrm', 'CapAmb', 'NoNewPrivs', 'Seccomp')]") == str(
        ["0000000000000000"] * 3 + ["1", "2"]
    )
    assert int(said(shut_in, "os.getuid()")) != os.getuid() or os.getuid() != 0
    assert said(shut_in, "[p for p in os.listdir('/proc') if p.isdigit() and int(p) > 2]") == "[]"
    assert said(shut_in, "[os.access(p, os.W_OK) for p in ('/', '/usr', '/worker', '/packages/0', '/dev', '/tmp')]") == str(
        [False] * 5 + [True]
    )


def test_of_the_course_it_sees_one_folder(shut_in):
    """Neither questions nor answers are anywhere in its file system, under whatever name the course is installed."""
    files = sorted(path.name for path in sandbox.INSIDE.iterdir())
    assert said(shut_in, "sorted(os.listdir('/worker'))") == str(files)
    run(shut_in, "import re\nwalk = [(at, files) for at, _, files in os.walk('/') if not at.startswith('/proc')]")
    run(shut_in, r"question = re.compile(r'q\d\d_\w+\.\w+').fullmatch")
    assert int(said(shut_in, "sum(len(files) for _, files in walk)")) > 1000
    assert said(shut_in, "[(at, name) for at, files in walk for name in files if question(name)]") == "[]"


def test_two_workers_share_no_user_no_files_and_no_descriptor():
    with Worker(0, [], MEMORY) as a, Worker(1, [], MEMORY) as b:
        for one in (a, b):
            run(one, "import os, pathlib")
        if os.getuid() == 0:
            assert said(a, "os.getuid()") != said(b, "os.getuid()")
        run(a, "pathlib.Path('/tmp/a').write_text('a')")
        assert said(b, "os.listdir('/tmp')") == "[]"
        assert len(eval(said(a, "os.listdir('/proc/self/fd')"))) == 3 + 1 + 1  # the connection, and the one that lists


def test_the_filter_lets_threads_and_local_sockets_through_and_refuses_the_rest(shut_in):
    run(
        shut_in,
        "import socket, mmap\nheld = []\n"
        "thread = threading.Thread(target=held.append, args=(1,))\nthread.start(); thread.join()\n"
        "pair = socket.socketpair()\nspace = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE)\n"
        "def refused(f, *a):\n    try: f(*a)\n    except OSError as e: return e.errno\n",
    )
    assert said(shut_in, "held") == "[1]"
    calls = "[refused(os.fork), refused(os.execv, '/bin/true', ['true']), refused(os.memfd_create, 'x')]"
    assert said(shut_in, calls) == "[1, 1, 1]"
    assert said(shut_in, "refused(socket.socket, socket.AF_INET), refused(socket.socket, socket.AF_NETLINK, 3)") == "(1, 1)"
    assert said(shut_in, "refused(mmap.mmap, -1, 4096)") == "12"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_a_program_whose_jumps_stay_inside(machine):
    program = worker.call_filter(machine)
    steps = list(struct.iter_unpack("HBBI", program))
    for at, (code, yes, no, _) in enumerate(steps):
        if code & 7 == 5:
            assert at + 1 + max(yes, no) < len(steps)
    assert steps[-1] == (6, 0, 0, 0x7FFF0000)
    assert worker.call_filter("pdp11") is None


def test_signals_that_are_ignored_and_threads_do_not_keep_it_alive():
    one = Worker(0, [], MEMORY)
    first = one._init
    begun = time.monotonic()
    source = "import signal, threading, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: time.sleep(1)"
    with pytest.raises(Stopped, match=r"after 0\.5 seconds") as stopped:
        run(one, source, 0.5)
    assert stopped.value.status == "timeout"
    assert time.monotonic() - begun < 5
    with pytest.raises(OSError):  # the handle is closed, since the process has gone
        signal.pidfd_send_signal(first, 0)
    assert one._process.returncode is not None


def test_the_sandbox_ends_with_the_grader():
    script = (
        "from gencourse.grading.sandbox import Worker\n"
        "one = Worker(0, [], 2**29)\nprint(one._process.pid, flush=True)\nimport time\ntime.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as grader:
        pid = int(grader.stdout.readline())
        os.kill(pid, 0)
        grader.kill()
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("it is still there")


@pytest.mark.parametrize(
    ("source", "status", "says"),
    [
        ("import os\nos._exit(3)", "error", "exit code 3"),
        ("import os\nos.abort()", "error", "aborted"),
        ("import os\nos.kill(os.getpid(), 9)", "memory", "killed"),
        ("import os\nos.closerange(3, 99)\nimport time\ntime.sleep(9)", "error", "closed the connection"),
    ],
)
def test_why_it_ended(source, status, says):
    one = Worker(0, [], MEMORY)
    with pytest.raises(Stopped, match=says) as stopped:
        run(one, source)
    assert stopped.value.status == status


def test_what_does_not_start_is_told_apart(monkeypatch):
    with pytest.raises(DidNotStart, match="nothing_of_that_name"):
        Worker(0, ["nothing_of_that_name"], MEMORY)
    with pytest.raises(DidNotStart):
        Worker(0, ["torch"], 2**20)
    monkeypatch.setattr(sandbox, "_bubblewrap", lambda *_: ["false"])
    with pytest.raises(DidNotStart):
        Worker(0, [], MEMORY)
    monkeypatch.setattr(sandbox, "_bubblewrap", lambda *_: ["/nowhere/bwrap"])
    with pytest.raises(DidNotStart, match="No such file"):
        Worker(0, [], MEMORY)


def test_without_bubblewrap_the_same_worker_runs_with_the_same_filter():
    with Worker(0, [], MEMORY, sandbox=False, own=True) as one:
        run(one, "import os")
        run(one, "def refused(f):\n    try: f()\n    except OSError as e: return e.errno\n")
        assert said(one, "refused(os.fork)") == "1"
        assert "secret" not in said(one, "sorted(os.environ)").lower()


def test_the_line_of_an_error_is_the_notebooks_beneath_a_decorator_of_another_file(shut_in):
    elsewhere = "elsewhere = {}\nexec('def bare(f):\\n\\n    return lambda: f()', elsewhere)\n"
    assert run(shut_in, f"{elsewhere}@elsewhere['bare']\ndef kl():\n    return nothing") == []
    call = {"do": "call", "function": "kl", "inputs": {}, "gradients": [], "options": {"library": "numpy"}}
    error = shut_in.request(call, 20)["error"]
    assert (error["type"], error["line"], error["code"]) == ("NameError", 5, "return nothing")


ASKS = "def kl(p, q):\n    {before}\n    for i in range(10):\n        earlier(p)\n    return p"


class Slowly:
    """Answers, and takes a while for it in which it computes nothing."""

    used = 0.0

    def __call__(self, asked):
        time.sleep(0.05)
        return {"value": asked["inputs"]["x"]}


@pytest.mark.parametrize(("before", "least", "most"), [("pass", 0.0, 0.5), ("import time; time.sleep(0.6)", 0.5, 1.1)])
def test_what_a_function_waits_for_an_earlier_answer_is_not_its_own_time(before, least, most, shut_in, monkeypatch):
    """Neither until somebody hears what it asks, nor until it has the answer: a second, together. What it sleeps itself is."""
    real = sandbox.protocol.wait

    def late(*args):
        time.sleep(0.05)
        real(*args)

    run(shut_in, ASKS.format(before=before))
    shut_in.request({"do": "replace", "given": {"earlier": ["x"]}}, 20)
    monkeypatch.setattr(sandbox.protocol, "wait", late)
    call = {"do": "call", "function": "kl", "gradients": [], "options": {"library": "numpy", "twice": False}}
    inputs = {name: sandbox.protocol.packed([0.5]) for name in "pq"}
    assert shut_in.request({**call, "inputs": inputs}, 20, Slowly())["returned"] == "ndarray"
    assert least <= shut_in.used < most


def test_the_course_is_a_stand_in_for_students_and_real_for_the_reference(shut_in):
    run(shut_in, "from gencourse.grading import check\nresult = check('9.1')")
    assert said(shut_in, "result.points, hasattr(__import__('gencourse').grading, 'questions')") == "(0, False)"
    with Worker(1, ["torch"], 2 * 2**30, trusted=True) as one:
        assert run(one, "from gencourse.grading.questions import get\nx = get('9.1').points") == []
        assert said(one, "x") == "3"


def test_this_machine_is_one_that_the_filter_is_written_for():
    assert platform.machine() in worker._CALLS
    assert socket.AF_UNIX == worker._AF_UNIX
