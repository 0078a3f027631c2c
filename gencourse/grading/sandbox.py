"""The place where a student's code runs: one fresh process for each submission, shut in by bubblewrap.

In it there is the interpreter, its packages and the folder `inside`, all read-only; a small `/tmp`; no network; no other process;
no file of the grader's, no submission, no solution. What holds it:

- namespaces of its own for processes, network, mounts, IPC and host name; no user namespaces inside;
- no capability, no new privileges; started by root, a user of its own for each worker, so that no limit is shared;
- limits on memory, processor time, file sizes, descriptors and threads; no second process can be started at all, so that
  the limit on a process is the limit on the submission;
- a filter on system calls (`inside/worker.py`), on x86-64 and ARM processors; elsewhere the other limits remain, and a
  submission's memory is limited for each of its processes.

Started by an ordinary user, the worker runs under that user in a user namespace, where the number of threads is limited from
Linux 5.14 on; all else holds. `Worker(..., sandbox=False)` is the same without bubblewrap: it can
read what its user can read. On macOS, where students try their own notebooks, it has no limit but the clock.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import gencourse
from gencourse.grading.inside import protocol
from gencourse.grading.inside.clock import Clock

COURSE = Path(__file__).parents[1]
INSIDE = Path(__file__).parent / "inside"
INSTALL = "sudo apt-get install bubblewrap"
_TEMPORARY = 64 * 2**20  # bytes in /tmp
_PATIENCE = 20.0  # how much longer than its own time a submission may wait for a processor
_START = 120.0  # seconds to start and import torch on a loaded machine; no student's code runs before it is done
_TEARDOWN = 30.0
_FIRST_USER = 0x70000000  # far above the users of a machine
_ENVIRONMENT = {
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "USER": "student",
    "LOGNAME": "student",
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "MPLBACKEND": "agg",
    "TORCHDYNAMO_DISABLE": "1",  # a compiled function is the function itself: no compiler can be started
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
}


class DidNotStart(Exception):
    """The sandbox failed before any student's code ran: no fault of the student's."""


class Stopped(Exception):
    """A student's code was stopped, or stopped by itself: `status` is timeout, memory or error; the text is a sentence."""

    def __init__(self, status: str, says: str) -> None:
        super().__init__(says)
        self.status, self.says = status, says


class Answers(Protocol):
    """Whoever answers what a worker asks in its turn; `used` are the seconds that it has computed for that so far."""

    used: float

    def __call__(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer, as a frame."""
        ...


def problem() -> str:
    """Why there is no sandbox on this machine, in one sentence that says what to do; "" if there is."""
    if sys.platform != "linux":
        return "students' code is run in bubblewrap, which needs Linux; grade in a Linux container or virtual machine."
    if shutil.which("bwrap") is None:
        return f"students' code is run in bubblewrap, which is not installed; install it: {INSTALL}"
    tried = subprocess.run(
        [*_bubblewrap(), "--", "/usr/bin/env", "true"], capture_output=True, text=True, env={}, stdin=subprocess.DEVNULL
    )
    if tried.returncode == 0:
        return ""
    said = (tried.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    return f"bubblewrap (version 0.8 or newer: {INSTALL}) does not work on this machine ({said}); grading as root may help."


def root_problem() -> str:
    """Why students' code cannot be run without a sandbox here, in one sentence; "" if it can: it never runs as root."""
    if not _is_root() or _readable_by_all():
        return ""
    return (
        f"students' code is not run as root, and no other user can read the interpreter {_interpreter()}; use one that every "
        "user can read, such as /usr/bin/python3."
    )


def reaches(place: Path) -> Path | None:
    """The folder that students' code can read in the sandbox and that holds this place; None if none does."""
    place = place.resolve()
    return next((folder for folder in _bound() if place.is_relative_to(folder)), None)


def worker_user(slot: int) -> int:
    """The user that a worker of this grader runs under, where root grades: shared with no other worker of the machine."""
    return _FIRST_USER + os.getpid() % 2**20 * 512 + slot % 512


class Worker:
    """One sandboxed process. `request` talks to it; `close` ends it and waits until nothing of it is left.

    `used` are the seconds, by its `Clock`, that the last request took.

    Args:
        slot: which of the workers that run at the same time this is, from 0 on.
        imports: the packages that are loaded before the student's code.
        memory: bytes of private memory.
        sandbox: False for a process without bubblewrap.
        trusted: for the course's own code instead of a student's, which then may import the course.
        points: what `check` says that a question has, by its id; it says so to every function.
        own: the code is that of the user who starts it, so without a sandbox it may run as root.
        seconds: of processor time, in all.

    Raises:
        DidNotStart: if it did not start.
    """

    def __init__(
        self,
        slot: int,
        imports: Iterable[str],
        memory: int,
        sandbox: bool = True,
        trusted: bool = False,
        points: Mapping[str, int] | None = None,
        own: bool = False,
        seconds: int = 3600,
    ) -> None:
        if sys.platform == "win32":
            raise DidNotStart("on Windows, notebooks are not run")
        if not sandbox and not own and (refusal := root_problem()):
            raise DidNotStart(refusal)
        uid = worker_user(slot) if _is_root() and (sandbox or _readable_by_all()) else None
        mine, theirs = socket.socketpair()
        if sys.platform == "linux":
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._connection = mine
        self._requests = 0
        self.used = 0.0
        self._init: int | None = None  # the sandbox's first process
        self._status_end, status_end = os.pipe()
        packages = _packages(sandbox)
        command = [*_bubblewrap(status_end, packages, trusted), "--", _interpreter()] if sandbox else [sys.executable]
        script = "/worker/worker.py" if sandbox else str(INSIDE / "worker.py")
        try:
            self._process = subprocess.Popen(
                [*command, "-S", "-s", "-P", script, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_ENVIRONMENT,
                cwd="/",
                pass_fds=(theirs.fileno(), status_end),
                start_new_session=True,
            )
        except OSError as error:
            mine.close()
            os.close(self._status_end)
            raise DidNotStart(str(error)) from None
        finally:
            theirs.close()
            os.close(status_end)
        limits: dict[str, int] = {}
        if sys.platform == "linux":  # elsewhere most of them cannot be set
            limits = {
                "DATA": memory,
                "AS": max(12 * 2**30, 2 * memory),  # torch maps its libraries; what it maps is not what it uses
                "FSIZE": _TEMPORARY,
                "NOFILE": 256,
                "CORE": 0,
                "MEMLOCK": 2**16,
                "CPU": seconds,
                **({"NPROC": 64} if uid is not None or (sandbox and _counts_apart()) else {}),
            }
        inside = [f"/packages/{i}" for i, _ in enumerate(packages)] if sandbox else list(packages)
        inside += [("/course" if sandbox else str(COURSE.parent))] if trusted else []
        setup: dict[str, Any] = {"uid": uid, "limits": limits, "packages": inside, "imports": list(imports), "trusted": trusted}
        setup |= {"version": gencourse.__version__, "points": dict(points or {})}
        deadline = time.monotonic() + _START
        try:
            if sandbox:
                self._init = self._first_process(deadline)
            frame = json.dumps(setup).encode()
            self._connection.settimeout(_START)
            self._connection.sendall(struct.pack(">I", len(frame)) + frame)
            self._pid = self._sender(deadline)
            if not protocol.receive(self._connection, deadline).get("ready"):
                raise protocol.ProtocolError
        except (OSError, EOFError, TimeoutError, protocol.ProtocolError) as error:
            said = self._end()
            raise DidNotStart(said or f"{type(error).__name__}: {error}") from None
        except BaseException:
            self._end()
            raise

    def request(self, message: Mapping[str, Any], seconds: float, asked: Answers | None = None) -> dict[str, Any]:
        """The worker's answer to one request. Before it answers it may ask in its turn; `asked` answers, in the worker's time.

        Raises:
            Stopped: if there is none within `seconds` by its clock, or what came is no answer. The worker is closed then.
        """
        self._requests += 1
        seconds = max(seconds, 0.05)
        clock, latest = Clock(self._pid), time.monotonic() + _PATIENCE * seconds
        before = asked.used if asked else 0.0

        def used() -> float:
            return clock() + (asked.used - before if asked else 0.0)

        def left() -> float:
            return min(seconds - used(), latest - time.monotonic())

        try:
            protocol.send(self._connection, {**message, "id": self._requests}, latest)
            answer = self._hear(clock, left)
            while asked is not None and "ask" in answer:
                if left() <= 0:
                    raise TimeoutError
                said = asked(answer)
                clock.answers()
                protocol.send(self._connection, said, latest)
                answer = self._hear(clock, left)
        except TimeoutError:
            self._end()
            raise Stopped("timeout", f"stopped after {seconds:.3g} seconds; is there a loop that does not end?") from None
        except (EOFError, ConnectionError):
            raise self._ended() from None
        except protocol.ProtocolError:
            answer = {}
        finally:
            self.used = min(used(), seconds)
        if answer.get("id") != self._requests:
            self._end()
            raise Stopped("error", "something else than an answer arrived from your code.")
        return answer

    def _hear(self, clock: Clock, left: Callable[[], float]) -> dict[str, Any]:
        """What it says next. The clock looks before that is read, since to be read wakes a sender that waits for an answer."""
        protocol.wait(self._connection, left)
        clock.heard()
        return protocol.receive(self._connection, left)

    def close(self) -> None:
        """End it, and wait until nothing of it is left."""
        self._end()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _first_process(self, deadline: float) -> int:
        """A handle on the first process inside, from bubblewrap's own report; the kernel ends all others with it."""
        said = b""
        while b"\n" not in said:  # it arrives in pieces
            ready, _, _ = select.select([self._status_end], [], [], max(0, deadline - time.monotonic()))
            part = os.read(self._status_end, 4096) if ready else b""
            if not part:
                raise EOFError
            said += part
        return os.pidfd_open(json.loads(said.splitlines()[0])["child-pid"])

    def _sender(self, deadline: float) -> int:
        """The number of the worker's process outside of the sandbox, which the kernel puts beside what it sends."""
        if sys.platform != "linux":
            return self._process.pid
        self._connection.settimeout(max(0.01, deadline - time.monotonic()))
        _, beside, _, _ = self._connection.recvmsg(1, socket.CMSG_SPACE(12), socket.MSG_PEEK)
        if not beside:
            raise EOFError
        return struct.unpack("iII", beside[0][2])[0]

    def _ended(self) -> Stopped:
        """It has closed the connection: why?"""
        try:
            code = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._end()
            return Stopped("error", "your code closed the connection over which it is asked for answers.")
        self._end()
        number = code - 128 if code > 128 else -code if code < 0 else 0
        if number == signal.SIGKILL:
            return Stopped("memory", "the process was killed; does it need too much memory?")
        if number:
            try:
                name = (signal.strsignal(number) or "").lower() or f"signal {number}"
            except ValueError:
                name = f"signal {number}"
            return Stopped("error", f"your code ended the process ({name}).")
        return Stopped("error", f"your code ended the process (exit code {code}).")

    def _end(self) -> str:
        """Kill, wait for the teardown, close all descriptors; what bubblewrap said on standard error."""
        if self._status_end < 0:
            return ""
        if self._init is not None:
            _kill_and_wait(self._init)
            os.close(self._init)
        if self._process.poll() is None:
            if self._init is None:
                self._process.kill()
            try:
                self._process.wait(timeout=_TEARDOWN)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._connection.close()
        os.close(self._status_end)
        self._status_end = -1
        said = b""
        if self._process.stderr is not None:
            os.set_blocking(self._process.stderr.fileno(), False)
            said = self._process.stderr.read(4000) or b""
            self._process.stderr.close()
        return said.decode(errors="replace").strip().splitlines()[-1] if said.strip() else ""


def _kill_and_wait(init: int) -> None:
    try:
        signal.pidfd_send_signal(init, signal.SIGKILL)
    except ProcessLookupError:
        return
    waiting = select.poll()
    waiting.register(init, select.POLLIN)
    waiting.poll(_TEARDOWN * 1000)  # readable when it has gone, and with it every process of its namespace


def _bubblewrap(status: int | None = None, packages: list[str] | None = None, trusted: bool = False) -> list[str]:
    """The command line, up to the program to run."""
    command = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    command += ["--die-with-parent", "--new-session", "--hostname", "worker"]
    if _is_root():
        command += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]  # given up in the worker
    else:
        command += ["--unshare-user", "--disable-userns"]
    command += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib64", "lib32", "sbin"):
        path = Path("/") / name
        if path.is_symlink():
            command += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            command += ["--ro-bind", str(path), str(path)]
    for folder in ("/etc", "/dev", "/packages", "/worker"):  # bubblewrap would make them for its own user alone
        command += ["--perms", "0755", "--dir", folder]
    for path in map(Path, ("/etc/ld.so.cache", "/etc/alternatives")):
        if path.exists():
            command += ["--ro-bind", str(path), str(path)]
    for device in ("null", "urandom", "random"):  # and no zero, which mapped is memory
        command += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    # Nothing of the first process, which runs under the same user as the worker and without its limits.
    command += ["--proc", "/proc", "--tmpfs", "/proc/1", "--remount-ro", "/proc/1"]
    command += ["--perms", "1777", "--size", str(_TEMPORARY), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    if packages is not None:
        for place in _interpreters_own():
            for above in reversed(place.parents[:-1]):
                command += ["--perms", "0755", "--dir", str(above)]
            command += ["--ro-bind", str(place), str(place)]
        for i, folder in enumerate(packages):
            command += ["--ro-bind", folder, f"/packages/{i}"]
        shown = {str(place): str(place) for place in (Path("/usr"), *_interpreters_own())}
        shown |= {folder: f"/packages/{i}" for i, folder in enumerate(packages)}
        for place in _courses():
            for folder, name in shown.items():
                if place.is_relative_to(folder):
                    masked = str(Path(name) / place.relative_to(folder))
                    command += ["--tmpfs", masked, "--remount-ro", masked]
        command += ["--ro-bind", str(INSIDE), "/worker"]
        if trusted:
            command += ["--perms", "0755", "--dir", "/course", "--ro-bind", str(COURSE), "/course/gencourse"]
    if status is not None:
        command += ["--json-status-fd", str(status)]
    return [*command, "--remount-ro", "/"]


@functools.cache
def _bound() -> list[Path]:
    """The folders that the sandbox shows."""
    return [Path("/usr"), *_interpreters_own(), *map(Path, _packages(True))]


def _interpreters_own() -> list[Path]:
    """The interpreter and its libraries, outside of /usr. No more of the folder that they are in: it may be somebody's home."""
    home = Path(_interpreter()).parents[1]
    libraries = [folder / name for folder in (home, Path(sys.base_prefix)) for name in ("lib", "lib64", "lib32")]
    found = dict.fromkeys([Path(_interpreter()), home / "pyvenv.cfg", *libraries])
    return [place for place in found if place.exists() and not place.is_relative_to("/usr")]


@functools.cache
def _courses() -> list[Path]:
    """Where copies of this package, and the solutions beside them, lie in what the sandbox shows: however it was installed."""
    found: set[Path] = set()
    waiting = list(_bound())
    while waiting:
        folder = waiting.pop()
        try:
            inside = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        for entry in inside:
            place = Path(entry.path)
            if entry.name == COURSE.name and (place / "grading").is_dir():
                found |= {place, *(other for other in (folder / "solutions",) if other.is_dir())}
            elif entry.name != "__pycache__":
                waiting.append(place)
    return sorted(found)


def _counts_apart() -> bool:
    """Whether a user namespace has a count of processes of its own: from Linux 5.14 on."""
    return tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (5, 14)


@functools.cache
def _packages(sandbox: bool) -> list[str]:
    """The folders that hold what students may import."""
    specs = (importlib.util.find_spec(name) for name in ("numpy", "torch", "matplotlib", "scipy", "sklearn"))
    found = (Path(place).resolve().parent for spec in specs if spec for place in spec.submodule_search_locations or ())
    return list(dict.fromkeys(str(path) for path in found))


def _interpreter() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(sys.executable)


def _is_root() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0


@functools.cache
def _readable_by_all() -> bool:
    """Whether another user could run the interpreter where it is."""
    places = [Path(_interpreter()), Path(os.__file__).resolve().parent, *map(Path, _packages(False))]
    return all(p.stat().st_mode & 0o005 == 0o005 for place in places for p in (place, *place.parents))
