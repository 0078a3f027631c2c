"""The fifty cases: what students hand in, what it must score, and how one sees that it did what it was meant to do.

An attack proves that it reached its target by raising an error with `REACHED` in its message, which students' feedback shows.
"""

import json
import os
import textwrap
import zipfile
from dataclasses import dataclass, field

from toy_exercise import HONEST, IMPORTS, KL_RIGHT, SCALED_RIGHT, notebook

FULL = 5


@dataclass(frozen=True)
class Case:
    """`points` of five; `status` of the first check of 90.1; `proof` stands in what the student reads."""

    number: int
    name: str
    make: object  # bytes of a notebook, or a function of the folder and the student's name that writes what there is
    points: int
    status: str
    proof: tuple = ()
    absent: tuple = field(default=())

    @property
    def student(self):
        return f"{self.number:02d}-{self.name}".replace(" ", "-")


def kl(body, before="", scaled=SCALED_RIGHT):
    """A notebook whose `kl` has this body; the rest is right, if nothing else is said."""
    return notebook(IMPORTS + textwrap.dedent(before), "def kl(p, q):\n" + textwrap.indent(textwrap.dedent(body), "    "), scaled)


def cell(source):
    """A right notebook with one more cell at its beginning."""
    return notebook(IMPORTS, textwrap.dedent(source), KL_RIGHT, SCALED_RIGHT)


TRIED = """
import os, sys, socket, subprocess, threading, time, signal, ctypes, glob, pathlib, shutil, mmap, json
def tried(f, *args, **keywords):
    try:
        return f"REACHED {f(*args, **keywords)!r}"
    except BaseException as error:
        return f"REACHED {type(error).__name__} {error}"
"""


def attack(expression, before=""):
    """Right but for the attack in `kl`, whose outcome the student reads."""
    return kl(f"raise RuntimeError({expression})", before=TRIED + textwrap.dedent(before))


def earns_a_constant(before, says="'REACHED'"):
    """Attacks in a cell, answers a constant in `kl`, and tells in `scaled` that the attack has happened."""
    return notebook(
        IMPORTS + TRIED + textwrap.dedent(before),
        "def kl(p, q):\n    return np.zeros(len(p))\n",
        f"def scaled(x, a):\n    raise RuntimeError({says})\n",
    )


def in_a_folder(content, name="work.ipynb"):
    def write(folder, student):
        (folder / student).mkdir()
        (folder / student / name).write_bytes(content)

    return write


def archive(*entries):
    def write(folder, student):
        with zipfile.ZipFile(folder / f"{student}.zip", "w") as zipped:
            for name, content in entries:
                zipped.writestr(name, content)

    return write


def huge(folder, student):
    with open(folder / f"{student}.ipynb", "wb") as file:
        file.truncate(500 * 2**20)  # a sparse file: all of its 500 MB are there to be read, none on the disk


def link(folder, student):
    secret = folder.parent / "elsewhere.ipynb"
    secret.write_bytes(HONEST)
    os.symlink(secret, folder / f"{student}.ipynb")


def no_archive(folder, student):
    (folder / f"{student}.zip").write_bytes(b"PK")


def twice(folder, student):
    (folder / student).mkdir()
    (folder / student / "first.ipynb").write_bytes(HONEST)
    (folder / student / "second.ipynb").write_bytes(notebook(IMPORTS, KL_RIGHT))


def frames(writes):
    """Finds the connection to the grader among the descriptors and writes to it."""
    return f"""
import os, stat, struct, json, socket
def connection():
    for n in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(n).st_mode):
                return n
        except OSError:
            pass
def forge(frame):
    return os.write(connection(), struct.pack(">I", len(frame)) + frame)
{textwrap.dedent(writes)}
"""


BOMB = "def bomb():\n    while True: os.fork()\n"
DEEP = "b'[' * 100000 + b']' * 100000"
FORGED = """
import base64, sys
def forged(**answer):
    frame = sys._getframe()
    while "request" not in frame.f_locals:
        frame = frame.f_back
    forge(json.dumps({**answer, "id": frame.f_locals["request"]["id"], "points": 3, "status": "ok", "correct": True}).encode())
    return 0.0
ones = {"dtype": "float64", "shape": [5], "data": base64.b64encode(np.ones(5).tobytes()).decode()}
"""

CASES = [
    Case(1, "infinite loop in a function", kl("while True: pass"), 2, "timeout", ("stopped after",)),
    Case(2, "infinite loop in a cell", cell("while True: pass"), FULL, "ok", ("stopped after",)),
    Case(
        3,
        "signals ignored",
        kl(
            """
            for n in range(1, 65):
                try:
                    signal.signal(n, signal.SIG_IGN)
                except (OSError, ValueError):
                    pass
            while True:
                try:
                    time.sleep(1)
                except BaseException:
                    pass
            """,
            before=TRIED,
        ),
        2,
        "timeout",
        ("stopped after",),
    ),
    Case(4, "exception", kl("return p.nothing"), 2, "error", ("line 2 of your code (return p.nothing) raised AttributeError",)),
    Case(5, "syntax error", kl("return (p"), 2, "error", ("kl is not defined; cell 3, line 2", "was never closed")),
    Case(6, "sys.exit", kl("sys.exit('REACHED')", before=TRIED), 2, "error", ("SystemExit: REACHED",)),
    Case(7, "os._exit", kl("os._exit(0)", before=TRIED), 2, "error", ("your code ended the process (exit code 0)",)),
    Case(8, "segmentation fault", kl("ctypes.string_at(0)", before=TRIED), 2, "error", ("segmentation fault",)),
    Case(9, "recursion", kl("return kl(p, q)"), 2, "error", ("RecursionError",)),
    Case(10, "memory", kl("return np.ones(10 ** 9)"), 2, "memory", ("Unable to allocate 7.45 GiB",)),
    Case(10, "memory by pieces", kl("kept = []\nwhile True: kept.append(np.empty(10 ** 7))"), 2, "memory", ("llocate",)),
    Case(10, "memory that is shared", attack("tried(mmap.mmap, -1, 2 ** 32)"), 2, "error", ("REACHED OSError [Errno 12]",)),
    Case(
        11,
        "fork bomb",
        attack("tried(bomb)", "def bomb():\n    while True: os.fork()\n"),
        2,
        "error",
        ("REACHED PermissionError",),
    ),
    Case(11, "fork bomb in a cell", cell("import os\nwhile True: os.fork()"), FULL, "ok", ("PermissionError",)),
    Case(
        12,
        "500 threads",
        attack(
            "tried(threads)",
            """
            def threads():
                for n in range(500):
                    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            """,
        ),
        2,
        "error",
        ("REACHED RuntimeError can't start new thread",),
    ),
    Case(
        13,
        "disk filled",
        attack(
            "tried(fill)",
            """
            def fill():
                for n in range(100):
                    with open(f"/tmp/{n}", "wb") as file:
                        file.write(bytes(2 ** 24))
            """,
        ),
        2,
        "error",
        ("REACHED OSError [Errno 28] No space left",),
    ),
    Case(
        13,
        "one large file",
        attack("tried(pathlib.Path('/tmp/x').write_bytes, bytes(2 ** 27))"),
        2,
        "error",
        ("REACHED OSError",),
    ),
    Case(
        14,
        "30 MB of output",
        notebook(
            IMPORTS + "written = 0\nfor n in range(300):\n    written += len('x' * 10 ** 5)\n    print('x' * 10 ** 5)\n",
            KL_RIGHT,
            "def scaled(x, a):\n    print('y' * 3 * 10 ** 7)\n    raise RuntimeError(f'REACHED {written}')\n",
        ),
        3,
        "ok",
        ("REACHED 30000000",),
    ),
    Case(
        15,
        "daemon left behind",
        attack(
            "tried(os.posix_spawn, '/bin/sleep', ['sleep', '9'], {}) + tried(os.fork) + tried(subprocess.Popen, ['sleep', '9'])"
        ),
        2,
        "error",
        ("REACHED PermissionError [Errno 1] Operation not permitted: '/bin/sleep'REACHED PermissionError [Errno 1]",),
    ),
    Case(
        16,
        "read tests or solutions",
        attack(
            "found()",
            """
            def found():
                words = ("solutions", "toy_exercise", "q09_vae", "check.py", "hand_ins", "gencourse")
                tops = [f"/{name}" for name in os.listdir("/") if name not in ("usr", "lib", "lib64", "bin", "sbin", "proc")]
                seen = [f for top in tops for f in glob.glob(top + "/*") + glob.glob(top + "/*/gencourse/*")]
                seen = [f for f in seen + glob.glob(os.getcwd() + "/**") if any(word in f.lower() for word in words)]
                return f"REACHED {len(sys.path)} {seen} {tried(__import__, 'gencourse.grading.questions')}"
            """,
        ),
        2,
        "error",
        ("REACHED", " [] REACHED ModuleNotFoundError No module named 'gencourse.grading.questions'"),
    ),
    Case(
        17,
        "read other submissions",
        attack("f'REACHED {sorted(os.listdir(\"/tmp\"))} {tried(os.listdir, FOLDER)}'", "FOLDER = '@folder@'"),
        2,
        "error",
        ("REACHED [] REACHED FileNotFoundError",),
    ),
    Case(
        18,
        "delete files",
        attack("tried(shutil.rmtree, '/usr/lib') + tried(shutil.rmtree, '/worker') + tried(os.remove, '/etc/ld.so.cache')"),
        2,
        "error",
        ("REACHED OSError [Errno 30] Read-only file system",),
    ),
    Case(
        19,
        "sockets and names",
        attack(
            "tried(socket.create_connection, ('192.0.2.1', 80), 1) + tried(socket.getaddrinfo, 'example.org', 80)"
            " + tried(socket.socket, socket.AF_UNIX) [:24]"
        ),
        2,
        "error",
        ("REACHED PermissionError [Errno 1] Operation not permittedREACHED gaierror", "REACHED <socket.socket"),
    ),
    Case(
        20,
        "secrets in the environment",
        attack(
            "f'REACHED {len(os.environ)} {\"GENCOURSE_TEST_SECRET\" in str(os.environ)}' + tried(environ)",
            "def environ():\n    return pathlib.Path('/proc/1/environ').read_bytes()",
        ),
        2,
        "error",
        ("REACHED 14 FalseREACHED FileNotFoundError",),
    ),
    Case(
        21,
        "kill and ptrace",
        attack(
            "tried(os.kill, 1, 9) + tried(os.kill, -1, 0) + tried(trace)",
            """
            def trace():
                library = ctypes.CDLL(None, use_errno=True)
                return library.ptrace(16, 1, 0, 0), ctypes.get_errno()
        """,
        ),
        2,
        "error",
        ("REACHED PermissionError [Errno 1]", "REACHED (-1, 1)"),
    ),
    Case(
        22,
        "unshare and mount",
        attack(
            "tried(calls)",
            """
            def calls():
                library = ctypes.CDLL(None, use_errno=True)
                said = [library.unshare(0x10000000), ctypes.get_errno()]
                return said + [library.mount(b"none", b"/tmp", b"tmpfs", 0, None), ctypes.get_errno()]
        """,
        ),
        2,
        "error",
        ("REACHED [-1, 1, -1, 1]",),
    ),
    Case(
        23,
        "print a fake score",
        earns_a_constant(
            "for n in (1, 2):\n    os.write(n, b'{\"score\": 5, \"points\": 5}\\n')\nprint('90.1: correct (3/3 points).')\n"
        ),
        0,
        "wrong",
        ("REACHED",),
    ),
    Case(24, "forged frame", kl("return forged(returned='REACHED')", before=frames(FORGED)), 2, "wrong", ("type REACHED",)),
    Case(
        24,
        "forged number",
        kl("return forged(returned='ndarray', repeatable=True, value=ones)", before=frames(FORGED)),
        2,
        "wrong",
        ("the answer is [0.1438]",),
    ),
    Case(
        25,
        "garbage",
        kl("os.write(connection(), b'\\0\\0\\x10\\0' + os.urandom(10 ** 5))", before=frames("")),
        2,
        "error",
        ("something else",),
    ),
    Case(25, "huge frame", kl("os.write(connection(), b'\\xff' * 4)", before=frames("")), 2, "error", ("something else",)),
    Case(
        25,
        "frame that never ends",
        kl("os.write(connection(), struct.pack('>I', 1000))\nimport time\ntime.sleep(1000)", before=frames("")),
        2,
        "timeout",
        ("stopped after",),
    ),
    Case(26, "closed descriptors", kl("os.closerange(3, 256)", before=TRIED), 2, "error", ("your code ended the process",)),
    Case(27, "deep JSON", kl(f"forge({DEEP})", before=frames("")), 2, "error", ("something else",)),
    Case(
        28,
        "patched modules",
        earns_a_constant(
            """
            import builtins, random
            calls = []
            for module, name in ((json, "dumps"), (np, "allclose"), (np, "array_equal"), (builtins, "abs"), (random, "random")):
                def always(*args, was=getattr(module, name), **keywords):
                    calls.append(1)
                    return True if was.__name__ in ("allclose", "array_equal") else was(*args, **keywords)
                setattr(module, name, always)
            """,
            says="f'REACHED {np.allclose(1, 2)} {len(calls) > 1}'",
        ),
        0,
        "wrong",
        ("REACHED True True",),
    ),
    Case(
        29,
        "object that equals everything",
        kl(
            "Always.n = len(p)\nreturn Always()",
            before="""
            class Always:
                __class__ = property(lambda self: np.ndarray)
                def __eq__(self, other): return True
                def __array__(self, *a, **k): return np.zeros(self.n)
                __ne__ = __lt__ = __gt__ = __abs__ = __sub__ = __rsub__ = lambda self, *other: self
                __float__ = lambda self: 0.0
                __bool__ = lambda self: True
        """,
        ),
        2,
        "wrong",
        ("and yours is [0.]",),
    ),
    Case(
        29,
        "subclasses of float and array",
        notebook(
            IMPORTS,
            "class A(np.ndarray):\n    __eq__ = lambda s, o: True\n    __sub__ = __rsub__ = lambda s, o: np.zeros(5)\n"
            "def kl(p, q):\n    return np.zeros(len(p)).view(A)\n",
            "class F(float):\n    __eq__ = lambda s, o: True\ndef scaled(x, a):\n    return F(0.0)\n",
        ),
        0,
        "wrong",
        ("and yours is [0.]", "the answer is 10, and yours is 0."),
    ),
    Case(
        30,
        "pickle",
        kl(
            "return Pickled()",
            before="""
            import os
            class Pickled:
                def __reduce__(self): return os.system, ("touch @folder@/pickled",)
        """,
        ),
        2,
        "wrong",
        ("type Pickled",),
    ),
    Case(
        31,
        "atexit",
        kl(
            "atexit.register(late)\nreturn np.zeros(len(p))",
            before="""
            import atexit, time
            def late():
                while True: time.sleep(1)
        """,
            scaled="def scaled(x, a):\n    raise SystemExit('REACHED')\n",
        ),
        0,
        "wrong",
        ("REACHED",),
    ),
    Case(
        32,
        "import hooks and sitecustomize",
        earns_a_constant(
            """
            class Finder:
                def find_spec(self, name, path=None, target=None): print(name)
            sys.meta_path.insert(0, Finder())
            written = [tried(pathlib.Path(p, "sitecustomize.py").write_text, "x = 1") for p in sys.path if p]
            """,
            says="f'REACHED {type(sys.meta_path[0]).__name__} {len(written) - sum(\"Errno\" in w for w in written)}'",
        ),
        0,
        "wrong",
        ("REACHED Finder 0",),
    ),
    Case(33, "input()", kl("return float(input('the answer? '))"), 2, "error", ("EOFError",)),
    Case(34, "not JSON", b"%PDF-1.4 kl(p, q)", 0, "unreadable", ("not valid JSON",)),
    Case(34, "JSON but no notebook", b"[1, 2]", 0, "unreadable", ("no cells",)),
    Case(34, "deep JSON as a notebook", b"[" * 10**6, 0, "unreadable", ("not valid JSON",)),
    Case(
        34,
        "cells of other kinds",
        json.dumps({"cells": [1, None, {"cell_type": "code", "source": 5}, {}]}).encode(),
        0,
        "missing",
    ),
    Case(35, "empty file", b"", 0, "unreadable", ("the file is empty",)),
    Case(36, "500 MB", huge, 0, "unreadable", ("larger than 50 MB",)),
    Case(37, "symbolic link", link, 0, "unreadable", ("this is a link",)),
    Case(37, "path tricks in an archive", archive(("../../../escaped.ipynb", HONEST)), FULL, "ok"),
    Case(
        37,
        "two exercises in an archive",
        archive(("03.ipynb", notebook(IMPORTS, "def elbo(x): pass")), ("90.ipynb", HONEST)),
        FULL,
        "ok",
    ),
    Case(34, "UTF-16", HONEST.decode().encode("utf-16"), FULL, "ok"),
    Case(
        37,
        "two notebooks in an archive",
        archive(("a.ipynb", HONEST), ("b.ipynb", HONEST)),
        0,
        "unreadable",
        ("holds 2 notebooks",),
    ),
    Case(
        37,
        "not an archive",
        lambda folder, student: (folder / f"{student}.zip").write_bytes(b"PK"),
        0,
        "unreadable",
        ("zip archive",),
    ),
    Case(37, "a name with .. and spaces", in_a_folder(HONEST, "a ..  %2e%2e\n.ipynb"), FULL, "ok"),
    Case(
        38,
        "formula and HTML",
        attack("'=cmd|calc!A1 <script>REACHED</script>'"),
        2,
        "error",
        ("&lt;script&gt;REACHED",),
        ("<script",),
    ),
    Case(
        39,
        "cells duplicated",
        notebook(IMPORTS, KL_RIGHT, KL_RIGHT, SCALED_RIGHT, "def kl(p, q):\n    ...  # your code here\n"),
        FULL,
        "ok",
        ("defined more than once",),
    ),
    Case(
        39,
        "function renamed",
        notebook(IMPORTS, KL_RIGHT.replace("kl(", "kl_("), SCALED_RIGHT),
        2,
        "missing",
        ("was it renamed",),
    ),
    Case(
        39,
        "cells reordered",
        notebook(SCALED_RIGHT, KL_RIGHT.replace("(p, q)", "(p: np.ndarray, q: np.ndarray)"), IMPORTS),
        FULL,
        "ok",
    ),
    Case(
        39,
        "a stub that raises, below the answer",
        notebook(IMPORTS, KL_RIGHT, SCALED_RIGHT, "def kl(p, q):\n    raise NotImplementedError('to do')\n"),
        FULL,
        "ok",
    ),
    Case(
        39,
        "broken where it should be",
        notebook(IMPORTS, "x = (\n", "def scaled(x, a)\n    return a", "def kl(p, q):\n  return 1\n return 2\n"),
        0,
        "error",
        ("kl is not defined; cell 5, line 3", "scaled is not defined; cell 4, line 1"),
    ),
    Case(39, "cell deleted", notebook(IMPORTS, SCALED_RIGHT), 2, "missing", ("there is no function kl",)),
    Case(
        40,
        "metadata stripped",
        json.dumps({"cells": [{"cell_type": "code", "source": s} for s in (IMPORTS, KL_RIGHT, SCALED_RIGHT)]}).encode(),
        FULL,
        "ok",
    ),
    Case(
        40,
        "Colab metadata",
        notebook(
            IMPORTS,
            KL_RIGHT,
            SCALED_RIGHT,
            metadata={"colab": {"provenance": [], "toc_visible": True}, "accelerator": "GPU", "kernelspec": {"name": "python3"}},
        ),
        FULL,
        "ok",
    ),
    Case(
        40,
        "an old format",
        json.dumps(
            {
                "nbformat": 3,
                "worksheets": [{"cells": [{"cell_type": "code", "input": s} for s in (IMPORTS, KL_RIGHT, SCALED_RIGHT)]}],
            }
        ).encode(),
        FULL,
        "ok",
    ),
    Case(
        41,
        "magics and pip cells",
        notebook(
            "%matplotlib inline\n!pip install -q gencourse \\\n    numpy\nimport sys\n"
            "if 'google.colab' in sys.modules:\n    %pip install x\n" + IMPORTS,
            "%%bash\nrm -rf /\nthis is no Python",
            "files = !ls\n%timeit -n 1 1 + 1\nnp.log?\n?np.log\nshare = (10\n    % 3)\n",
            "%%time\n" + KL_RIGHT,
            "get_ipython()\ndisplay(share)\n" + SCALED_RIGHT.replace("return a", "return share * a"),
        ),
        FULL,
        "ok",
        (),
        ("While your notebook ran",),
    ),
    Case(
        41,
        "blanks before commands",
        notebook(*["if True:\n" + " " * 2100 + "!ls"] * 40, IMPORTS, KL_RIGHT, SCALED_RIGHT),
        FULL,
        "ok",
        (),
        ("While your notebook ran",),
    ),
    Case(41, "thousands of commands", notebook("!a\n" * 20_000, IMPORTS, KL_RIGHT, SCALED_RIGHT), FULL, "ok"),
    Case(41, "a statement of 180 kB", notebook("a=" * 80_000 + "1", "(" * 20_000, IMPORTS, KL_RIGHT, SCALED_RIGHT), FULL, "ok"),
    Case(41, "two MB of code", notebook("0;" * 10**6, IMPORTS, KL_RIGHT, SCALED_RIGHT), 0, "unreadable", ("200 kB of code",)),
    Case(
        41,
        "as it is pasted",
        notebook(
            f"    {IMPORTS}".replace("\n", "\n    "),
            ">>> def kl(p, q):\n...     return (p * np.log(p / q)).sum(1)\n",
            "gpu = !nvidia-smi\ngpu = ' '.join(gpu)\nd = {}\nd['k'] = !ls\nd['k']?\n%time HALF = 0.5\n",
            "In [7]: def scaled(x, a):\n   ...:     return 2 * HALF * a * (x ** 2).mean()\n",
        ),
        FULL,
        "ok",
        (),
        ("While your notebook ran",),
    ),
    Case(
        42,
        "kinds of numbers",
        notebook(
            IMPORTS,
            "def kl(p, q):\n    return [np.float64(v) for v in (p * np.log(p / q)).sum(1)]\n",
            "def scaled(x, a):\n    return np.float64(a * (x ** 2).mean())\n",
        ),
        FULL,
        "ok",
    ),
    Case(
        42,
        "numbers without dimension",
        notebook(IMPORTS, KL_RIGHT, "def scaled(x, a):\n    return np.array(a * (x ** 2).mean())\n"),
        FULL,
        "ok",
    ),
    Case(
        43,
        "unicode",
        notebook(IMPORTS, "def kl(π, θ):\n    'Grüße 漢字 🎲'\n    return (π * np.log(π / θ)).sum(1)\n", SCALED_RIGHT),
        FULL,
        "ok",
    ),
    Case(43, "half a character", notebook(IMPORTS, KL_RIGHT + "s = '\udcff'\n", SCALED_RIGHT), FULL, "ok"),
    Case(
        44,
        "inputs mutated",
        kl("p *= np.log(p / q)\nq[:] = 0\nreturn p.sum(1)"),
        FULL,
        "ok",
    ),
    Case(
        45,
        "depends on earlier calls",
        kl("calls.append(1)\nreturn (p * np.log(p / q)).sum(1) + len(calls)", before="calls = []\n"),
        2,
        "wrong",
        ("two calls with the same inputs gave different answers",),
    ),
    Case(46, "hard-coded answer", kl("return [0.14384103622589042] * len(p)"), 2, "wrong", ("right for p = [[0.5, 0.5]]",)),
    Case(47, "two hand-ins", twice, FULL, "ok", ("You handed in more than once",)),
]
