"""The worker: runs a student's cells and calls their functions, inside the sandbox.

It is started as a script, with the files of its folder beside it and nothing else of this package, and speaks over the one
socket whose descriptor it is given. It first gives up its rights: another user, limits on memory, processes and
files, and a filter that refuses the system calls which no exercise needs. Only then does it read a student's code. There
is nothing in this process that a student must not see, and what it answers has to be the right numbers.
"""

from __future__ import annotations
import __future__

import ast
import asyncio
import builtins
import contextlib
import ctypes
import functools
import importlib
import inspect
import linecache
import os
import platform
import signal
import socket
import struct
import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

Json = dict[str, Any]
clock: Any = None  # the module of that name, which stands beside this file

# --- giving up rights -------------------------------------------------------------------------------------------------


def confine(setup: Json) -> None:
    """Become another user, if asked to, and set the limits. None of it can be undone."""
    if setup["uid"] is not None:
        os.setgroups([])
        os.setresgid(setup["uid"], setup["uid"], setup["uid"])
        os.setresuid(setup["uid"], setup["uid"], setup["uid"])
    if setup["limits"]:
        import resource
    for name, value in setup["limits"].items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is not None:
            _, hard = resource.getrlimit(kind)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))


# Per architecture: its name for the filter, and numbers of system calls.
_CALLS: dict[str, tuple[int, dict[str, list[int]]]] = {
    "x86_64": (
        0xC000003E,
        {
            "clone": [56],
            "clone3": [435],
            "mmap": [9],
            "socket": [41],
            # Processes: fork, vfork, execve, execveat, ptrace, process_vm_readv, process_vm_writev, pidfd_getfd.
            "processes": [57, 58, 59, 322, 101, 310, 311, 438],
            # Memory that no limit counts: shmget, memfd_create, memfd_secret; queues: msgget, semget, mq_open.
            "memory": [29, 319, 447, 68, 64, 240],
            # Namespaces and mounts: unshare, setns, mount, umount2, pivot_root, chroot, open_by_handle_at, the new mount calls.
            "mounts": [272, 308, 165, 166, 155, 161, 304, 428, 429, 430, 431, 432, 442],
            # Keys, bpf, perf_event_open, userfaultfd, io_uring, kernel modules, kexec, reboot, swap, quota.
            "kernel": [248, 249, 250, 321, 298, 323, 425, 426, 427, 175, 313, 176, 246, 169, 167, 179],
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "clone": [220],
            "clone3": [435],
            "mmap": [222],
            "socket": [198],
            "processes": [221, 281, 117, 270, 271, 438],
            "memory": [194, 279, 447, 186, 190, 180],
            "mounts": [97, 268, 40, 39, 41, 51, 265, 428, 429, 430, 431, 432, 442],
            "kernel": [217, 218, 219, 280, 241, 282, 425, 426, 427, 105, 273, 106, 104, 142, 224, 60],
        },
    ),
}
_EPERM, _ENOMEM, _ENOSYS = 1, 12, 38
_CLONE_THREAD, _AF_UNIX = 0x10000, 1
_MAP_SHARED, _MAP_GROWSDOWN = 0x1, 0x100  # no limit counts what these map


def call_filter(machine: str) -> bytes | None:
    """The seccomp filter as a BPF program; None for a machine that it is not written for.

    Refused: new processes (threads are allowed), other programs, sockets other than local ones, and what `_CALLS` lists.
    """
    if machine not in _CALLS:
        return None
    architecture, calls = _CALLS[machine]
    program: list[tuple[int, int, int, int]] = []
    load, equal, at_least, anded, give = 0x20, 0x15, 0x35, 0x54, 0x06

    def refuse(error: int) -> tuple[int, int, int, int]:
        return give, 0, 0, 0x00050000 | error

    allow, number, argument = (give, 0, 0, 0x7FFF0000), 0, lambda i: 16 + 8 * i  # low halves: both machines are little-endian
    program += [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, 0x80000000)]  # another architecture's calls: ended
    program += [(load, 0, 0, number), (at_least, 0, 1, 0x40000000), refuse(_ENOSYS)]
    (clone,), (clone3,), (mmap,), (sock,) = calls["clone"], calls["clone3"], calls["mmap"], calls["socket"]
    program += [(equal, 0, 1, clone3), refuse(_ENOSYS)]  # its arguments cannot be seen; the C library falls back to clone
    for call in (number for kind in ("processes", "memory", "mounts", "kernel") for number in calls[kind]):
        program += [(equal, 0, 1, call), refuse(_EPERM)]
    program += [(equal, 0, 5, clone), (load, 0, 0, argument(0)), (anded, 0, 0, _CLONE_THREAD)]
    program += [(equal, 0, 1, 0), refuse(_EPERM), allow]
    program += [(equal, 0, 5, mmap), (load, 0, 0, argument(3)), (anded, 0, 0, _MAP_SHARED | _MAP_GROWSDOWN)]
    program += [(equal, 1, 0, 0), refuse(_ENOMEM), allow]
    program += [(equal, 0, 3, sock), (load, 0, 0, argument(0)), (equal, 1, 0, _AF_UNIX), refuse(_EPERM), allow]
    return b"".join(struct.pack("HBBI", *step) for step in program)


def forbid_calls() -> bool:
    """Install the filter for this process and all its threads; False where there is none."""
    program = call_filter(platform.machine())
    if sys.platform != "linux" or program is None:
        return False
    library = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HP", len(program) // 8, ctypes.addressof(held)))
    no_new_privileges, set_seccomp, by_program, zero = 38, 22, ctypes.c_ulong(2), ctypes.c_ulong(0)
    library.prctl(no_new_privileges, ctypes.c_ulong(1), zero, zero, zero)
    return library.prctl(set_seccomp, by_program, header, zero, zero) == 0


# --- a student's cells ------------------------------------------------------------------------------------------------

_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_ASSIGNS = (ast.Assign, ast.AnnAssign, ast.AugAssign)


class TooSlow(BaseException):
    """A statement has had its time; not an `Exception`, so that a student's `except` lets it through."""


class Shell:
    """What `get_ipython()` gives: lines that time a statement run it, everything else does nothing and says so."""

    def __init__(self, names: Json) -> None:
        self._names = names

    def run_line_magic(self, name: str, line: str = "", *_: Any, **__: Any) -> None:
        """`%time x = 1` defines x here as there."""
        if name in ("time", "prun"):
            exec(line, self._names)

    def run_cell_magic(self, name: str, line: str = "", cell: str = "") -> None:
        """A cell that is only timed or hidden is run."""
        if name in ("time", "capture", "prun"):
            exec(cell, self._names)

    def getoutput(self, *_: Any, **__: Any) -> list[str]:
        """The output of a command, which is not run."""
        return []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: print(f"get_ipython().{name} does nothing where notebooks are graded.")


class Failed(NamedTuple):
    """A statement that failed: where, and what the names it defines stood for then."""

    cell: int
    filename: str
    statement: ast.stmt
    flags: int
    before: Json


class Notebook:
    """The one namespace of a notebook, and what went wrong in its cells."""

    def __init__(self, harness: Any) -> None:
        self.harness = harness
        module = types.ModuleType("__main__")
        nothing = dict.fromkeys(("display", "help", "exit", "quit"), lambda *_, **__: None)  # shells have these as well
        module.__dict__.update(__builtins__=builtins, **nothing, In=[""], Out={}, _="", __="", ___="")
        sys.modules["__main__"] = module
        self.names = module.__dict__
        shell = Shell(self.names)
        self.names["get_ipython"] = lambda: shell
        self.failed: list[Failed] = []
        self.flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # what cells import from __future__ holds for those below
        self.loop: Any = None  # in which a cell waits

    def run(self, n: int, source: str, only_definitions: int, seconds: float = 1e6, quick: float = 1e6) -> Json:
        """Run a cell statement by statement; one that fails takes no other with it.

        With `only_definitions` (the cell was stopped before) functions, classes and imports are what is run of it: at 1 with the
        assignments, at 2 with those that call nothing; all but imports have to be quick. A cell that takes more than its seconds
        goes on so.

        Returns:
            `errors`, whether it was `slow`, and whether something of it was `left` out.
        """
        filename = f"cell {n}"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        try:
            statements = ast.parse(source, filename).body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return {"errors": [self._syntax(error)]}
        said: list[Json] = []
        slow, left, used = False, False, clock.Clock(os.getpid())
        for statement in statements:
            if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
                for name in statement.names:
                    self.flags |= getattr(getattr(__future__, name.name, None), "compiler_flag", 0)
            assigns = isinstance(statement, _ASSIGNS)
            plain = assigns and not (only_definitions > 1 and any(isinstance(node, ast.Call) for node in ast.walk(statement)))
            if only_definitions and not plain and not isinstance(statement, _DEFINES):
                left = True
                continue
            before = {name: self.names.get(name) for name in _targets(statement)}
            limit = (
                seconds - used() if not only_definitions else 1e6 if isinstance(statement, ast.Import | ast.ImportFrom) else quick
            )
            try:
                failure = self._execute(filename, statement, self.flags, limit)
            except TooSlow:
                if not only_definitions:
                    slow, only_definitions = True, 1
                continue
            if failure is not None:
                self.failed.append(Failed(n, filename, statement, self.flags, before))
                said.append(failure)
        return {"errors": said, "slow": slow, "left": left}

    def try_again(self, seconds: float) -> list[int]:
        """Definitions and assignments that failed, now that all cells have run: cells may stand in another order.

        What was given another meaning since then keeps it. The result are the cells that are mended.
        """
        left, used = self.failed, clock.Clock(os.getpid())
        while True:
            still = [failed for failed in left if not self._mended(failed, seconds - used())]
            if len(still) == len(left):
                break
            left = still
        return sorted({failed.cell for failed in self.failed} - {failed.cell for failed in left})

    def _mended(self, failed: Failed, seconds: float) -> bool:
        if not isinstance(failed.statement, (*_DEFINES, *_ASSIGNS)):
            return False
        if any(self.names.get(name) is not value for name, value in failed.before.items()):
            return False
        try:
            if self._execute(failed.filename, failed.statement, failed.flags, seconds) is not None:
                return False
        except TooSlow:
            return False
        for other in self.failed:  # what comes after it may change it further
            other.before.update({name: self.names.get(name) for name in failed.before if name in other.before})
        return True

    def call(self, name: str, inputs: dict, gradients: list[str], options: Json) -> Json:
        """What the harness says of one call."""
        function = self.names.get(name)
        if function is None:
            return {"absent": True}
        if not callable(function):
            return {"not callable": type(function).__name__}
        try:
            return self.harness.run(function, inputs, gradients, **options)
        except BaseException as error:
            return {"error": {**self.harness.describe(error, function), "during": "call"}}

    def replace(self, given: dict[str, list[str]], ask: Any) -> None:
        """Put functions in the place of the student's that `ask` the grader: it answers an earlier question for them."""
        for name, arguments in given.items():
            self.names[name] = _asking(name, arguments, ask)

    def pull_back(self, name: str, inputs: dict, weights: Any) -> Json:
        """The gradients of sum(weights * f(inputs)) with respect to all inputs; for the reference's functions only."""
        torch = sys.modules["torch"]
        leaves = [torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in inputs.values()]
        value = self.names[name](*leaves)
        gradients = torch.autograd.grad(value, leaves, torch.tensor(weights, dtype=torch.float64), allow_unused=True)
        pairs = zip(inputs, leaves, gradients, strict=True)
        return {f"gradient of {n}": (torch.zeros_like(x) if g is None else g).numpy() for n, x, g in pairs}

    def _execute(self, filename: str, statement: ast.stmt, flags: int, seconds: float) -> Json | None:
        """Run a statement; what went wrong.

        Raises:
            TooSlow: if it takes longer.
        """
        try:
            with _within(seconds):
                code = compile(ast.Module([statement], []), filename, "exec", flags, dont_inherit=True)
                if code.co_flags & inspect.CO_COROUTINE:  # it waits at the top level
                    self.loop = self.loop or asyncio.new_event_loop()
                    self.loop.run_until_complete(eval(code, self.names))
                else:
                    exec(code, self.names)
            return None
        except TooSlow:
            raise
        except BaseException as error:
            return self.harness.describe(error, types.FunctionType((lambda: None).__code__, self.names))

    def _syntax(self, error: BaseException) -> Json:
        line = error.lineno if isinstance(error, SyntaxError) else None
        code = (error.text or "").strip() if isinstance(error, SyntaxError) else ""
        code = code if len(code) <= 80 else f"{code[:77]}..."
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        return {"type": type(error).__name__, "message": str(message)[:200], "line": line, "code": code}


def _targets(statement: ast.stmt) -> set[str]:
    """The names that a definition or an assignment gives a meaning."""
    if isinstance(statement, _ASSIGNS):
        return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return {statement.name} if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else set()


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise `TooSlow` when this has taken so long by its clock, and again and again where it is caught."""
    used, over = clock.Clock(os.getpid()), False

    def look(*_: Any) -> None:
        left = 0.0 if over else seconds - used()
        if not over:
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.02))
        if not over and left <= 0:
            raise TooSlow

    if seconds <= 0:
        raise TooSlow
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)


def _asking(name: str, arguments: list[str], ask: Any) -> Any:
    """A function whose answers, and whose gradients, come from the grader."""
    torch: Any = sys.modules.get("torch")

    def bound(args: tuple, keywords: dict) -> list:
        values = dict(zip(arguments, args, strict=False)) | keywords
        if set(values) != set(arguments) or len(args) > len(arguments):
            raise TypeError(f"{name}() takes {', '.join(arguments)}")
        return [values[argument] for argument in arguments]

    def answer(values: list, weights: Any = None) -> list:
        said = ask(name, dict(zip(arguments, values, strict=True)), weights)
        keys = ["value"] if weights is None else [f"gradient of {argument}" for argument in arguments]
        if not all(key in said for key in keys):
            raise ValueError(f"{name} has no answer for these arguments")
        return [said[key] for key in keys]

    if torch is None:
        return lambda *args, **keywords: answer(bound(args, keywords))[0]

    class Given(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            ctx.save_for_backward(*tensors)
            (value,) = answer([t.detach().double().numpy() for t in tensors])
            return torch.from_numpy(value).to(tensors[0].dtype)

        @staticmethod
        def backward(ctx: Any, weights: Any) -> Any:
            found = answer([t.detach().double().numpy() for t in ctx.saved_tensors], weights.detach().double().numpy())
            return tuple(torch.from_numpy(g).to(t.dtype) for g, t in zip(found, ctx.saved_tensors, strict=True))

    return lambda *args, **keywords: Given.apply(*(torch.as_tensor(value) for value in bound(args, keywords)))


def stand_in_for_the_course(version: str, points: dict[str, int]) -> None:
    """`from gencourse.grading import check` works and answers as to a right function: grading is not done here."""
    course, grading = types.ModuleType("gencourse"), types.ModuleType("gencourse.grading")
    course.__path__ = grading.__path__ = []  # type: ignore[attr-defined]
    course.__version__ = version  # type: ignore[attr-defined]

    def check(id: Any = "", *_: Any, **__: Any) -> Any:
        earned = points.get(str(id), 0)
        return types.SimpleNamespace(id=str(id), status="ok", points=earned, out_of=earned, sentence="", checks=())

    grading.check = check  # type: ignore[attr-defined]
    course.grading = grading  # type: ignore[attr-defined]
    sys.modules.update({"gencourse": course, "gencourse.grading": grading})


def load_data_here() -> None:
    """A `DataLoader` with workers loads in this process: no other can be started."""
    loader = sys.modules["torch"].utils.data.DataLoader
    make = loader.__init__

    @functools.wraps(make)
    def init(self: Any, *args: Any, **options: Any) -> None:
        bound = inspect.signature(make).bind(self, *args, **options)
        bound.arguments["num_workers"] = 0
        for name in ("prefetch_factor", "persistent_workers", "multiprocessing_context", "timeout"):
            bound.arguments.pop(name, None)
        make(*bound.args, **bound.kwargs)

    loader.__init__ = init


# --- the conversation -------------------------------------------------------------------------------------------------


def main(descriptor: int) -> None:
    """Do what the grader asks until it closes the connection."""
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, 1024)
    connection = socket.socket(fileno=descriptor)
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    setup = _first_frame(connection)
    sys.path[:] = [*sys.path, *setup["packages"]]
    importlib.invalidate_caches()
    global clock
    clock = importlib.import_module("clock")
    import harness  # type: ignore[import-not-found]
    import protocol  # type: ignore[import-not-found]

    if setup["trusted"]:  # another user may not be able to read the course
        _import(setup["imports"])
    confine(setup)
    _import(setup["imports"])
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
        load_data_here()
    if not setup["trusted"]:
        stand_in_for_the_course(setup["version"], setup["points"])
    filtered = forbid_calls()
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.close(nothing)
    notebook = Notebook(harness)
    protocol.send(connection, {"id": 0, "ready": True, "filtered": filtered, "uid": os.getuid()})

    def ask(name: str, inputs: dict, weights: Any) -> dict:
        values = {key: protocol.packed(value) for key, value in inputs.items()}
        weighted = None if weights is None else protocol.packed(weights)
        protocol.send(connection, {"ask": name, "inputs": values, "weights": weighted})
        return {key: protocol.unpacked(value) for key, value in protocol.receive(connection).items()}

    while True:
        request = protocol.receive(connection)
        answer = _answer(notebook, protocol, request, ask)
        try:
            protocol.send(connection, {"id": request["id"], **answer})
        except (TypeError, ValueError):
            protocol.send(connection, {"id": request["id"], "error": _odd("something that is no data")})


def _import(names: list[str]) -> None:
    for name in names:
        importlib.import_module(name)


def _answer(notebook: Notebook, protocol: Any, request: Json, ask: Any) -> Json:
    if request["do"] == "cell":
        limits = {key: request[key] for key in ("seconds", "quick") if key in request}
        return notebook.run(request["cell"], request["source"], request["only definitions"], **limits)
    if request["do"] == "try again":
        return {"mended": notebook.try_again(request["seconds"])}
    if request["do"] == "replace":
        notebook.replace(request["given"], ask)
        return {}
    inputs = {name: protocol.unpacked(value) for name, value in request["inputs"].items()}
    if request["do"] == "pull back":
        answer = notebook.pull_back(request["function"], inputs, protocol.unpacked(request["weights"]))
    else:
        answer = notebook.call(request["function"], inputs, request["gradients"], request["options"])
    arrays = [key for key in answer if key == "value" or key.startswith("gradient of ")]
    try:
        return {**answer, **{key: protocol.packed(answer[key]) for key in arrays}}
    except Exception as error:
        return {"error": _odd(str(error)[:100])}


def _odd(what: str) -> Json:
    return {"type": "ValueError", "message": what, "line": None, "code": "", "during": "call"}


def _first_frame(connection: socket.socket) -> Json:
    import json

    def exactly(n: int) -> bytes:
        data = b""
        while len(data) < n:
            part = connection.recv(n - len(data))
            if not part:
                raise SystemExit(1)
            data += part
        return data

    return json.loads(exactly(struct.unpack(">I", exactly(4))[0]))


if __name__ == "__main__":
    with contextlib.suppress(EOFError):
        main(int(sys.argv[1]))
