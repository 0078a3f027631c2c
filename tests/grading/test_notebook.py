"""Which code of a hand-in is run: read as data, whatever the file is, within limits."""

import ast
import gc
import io
import json
import os
import subprocess
import sys
import time
import warnings
import zipfile

import pytest
import toy_exercise
from toy_exercise import IMPORTS, KL_RIGHT, SCALED_RIGHT

from gencourse.grading import notebook
from gencourse.grading.notebook import Cell, Unreadable, without_magics

ASKED = ("kl", "scaled")


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("x = 1\n", "x = 1\n"),
        ("%matplotlib inline\nx = 1", "pass\nx = 1"),
        ("if a:\n    !ls -la | grep 'x\n    x = 1", "if a:\n    pass\n    x = 1"),
        ("!pip install a \\\n  b \\\n  c\nx = 1", "pass\n\n\nx = 1"),
        ("files = !ls\nx = %pwd", "files = []\nx = None"),
        ("np.log?\n?np.log\nnp.log??", "pass\npass\npass"),
        ("x = y?\na[0]?\nf(\n  1)?", "pass\npass\npass\n"),
        ("d['k'] = !ls\na, b = !ls | grep '(\nx = 1", "d['k'] = []\npass\nx = 1"),
        ("%time HALF = 0.5\n%time f(x\n%prun -l 5 f(x)\n%timeit x = 1", "HALF = 0.5\npass\npass\npass"),
        ("y = (10\n% 3)", "y = (10\n% 3)"),  # a remainder, not a magic
        ("%time x\ny = (10\n% 3)", "x\ny = (10\n% 3)"),
        ("%pwd\ny = 10 \\\n% 3\nz = 'a\\\n%b'", "pass\ny = 10 \\\n% 3\nz = 'a\\\n%b'"),
        ('s = """\n%no magic\n!none\n"""', 's = """\n%no magic\n!none\n"""'),
        ('%pwd\ns = """\n%no \\""" magic?\n!none\n"""  # what?\nt = "a\\"?"\n?t', None),
        ("\n%%time\nx = 1", "\n\nx = 1"),
        ("%%capture out\nx = 1", "\nx = 1"),
        ("%%bash\nrm -rf /", ""),
        ("%%writefile a.py\nx = 1", ""),
        ("def f(:\n    pass", "def f(:\n    pass"),  # an error stays the student's
        ("x = 1\r\n%time\r\n", "x = 1\npass\n"),
        ("    def f(x):\n        return x\n    y = 1", "def f(x):\n    return x\ny = 1"),
        (">>> def f(x):\n...     return x\n... \n>>> f(1)", "def f(x):\n    return x\n\nf(1)"),
        ("In [1]: def f(x):\n   ...:     return x\n   ...:\nIn [12]: y = f(1)", "def f(x):\n    return x\n\ny = f(1)"),
        ("def f(x):\n    ...\n%pwd", "def f(x):\n    ...\npass"),  # no prompt
    ],
)
def test_a_cell_is_read_as_a_notebook_reads_it_line_for_line(source, made):
    if made is None:
        made = source.replace("%pwd", "pass").replace("?t", "pass")
    assert without_magics(source) == made
    if made:
        assert made.count("\n") == source.replace("\r\n", "\n").count("\n")


CELLS = [
    "    x=1\n    y=2",
    "\n\n    x=1\n  y=2",
    ">>> x=1\n>>> y",
    "In [1]: x=1\n   ...: y=2",
    "x = y?",
    "a[0]?",
    "a.b?\nx=1",
    "d['k'] = !ls",
    "x,y = !ls",
    "%time H=.5",
    "%time f(\n1)",
    "if 1:\n    %time x=1\n",
    "if 1:\n    !ls\nelse:\n    !cd",
    "for i in y:\n  x = !ls {i}\n",
    "x = [\n!ls\n]",
    "s='''\n!a\n'''\n!b",
    "!ls \\\n-l\nx=1",
    "%matplotlib inline\nimport a\n%load_ext autoreload\n%autoreload 2",
    "x = 3 % 2\n%pwd",
    "f(x)?\n",
    "print('a?')\n!x",
    "a = b if c else d?\n",
    "# comment?\n!ls",
    "x = 1 # what?\n!ls",
    'x = "a\\\n!b"\n!ls',
    "f'{x!r}'\n!ls",
    "x != 1\n!ls",
    "%%time\nx=1",
    "%%capture\n!ls\nx=1",
    "  %%time\nx=1",
    "!!ls\nx=1",
    "?x\n??y",
    "x?;",
    "%time",
    "%prun x",
    "%timeit -n1 x",
    "@dec\ndef f():\n  pass\n%pwd",
    "x = {\n 'a': 1,\n}\n%pwd",
    "def f():\n    '''doc\n    %x\n    '''\n    !ls\n    return 1",
    "x = lambda: !ls",
    "x: list = !ls",
    "x += !ls",
    "async def f():\n  !ls",
    "if x: !ls",
    "x = !ls; y = 1",
    "a = %env X\n",
    "\ta=1\n\tb=2",
    "...\n%pwd",
    ">>> ...\n!ls",
    "y = 5\n>>> x = 1\n",
]


@pytest.mark.parametrize("source", CELLS)
def test_what_ipython_reads_is_read(source):
    """IPython's own transformation of a cell is the judge."""
    transformed = pytest.importorskip("IPython.core.inputtransformer2").TransformerManager().transform_cell
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(transformed(source))
        except SyntaxError:  # what it cannot read either is the student's error
            return
        ast.parse(without_magics(source))


def grows_with_length(made, work):
    """Eight times the text takes less than 25 times the processor's time: 8 are expected, of the square 64, of the cube 512.

    The least of five is compared, and the collector of unreachable objects, which has its own schedule, is off.
    """
    took = {50: [], 400: []}
    texts = {n: made(n) for n in took}
    gc.disable()
    try:
        for _ in range(5):
            for n, text in texts.items():
                before = time.process_time()
                work(text)
                took[n].append(time.process_time() - before)
    finally:
        gc.enable()
    return min(took[400]) < 25 * min(took[50]) + 0.02


@pytest.mark.parametrize(
    "made",
    [
        lambda n: "if True:\n" + " " * 100 * n + "!ls",
        lambda n: "if True:\n" + " " * 100 * n + "a,a = b",
        lambda n: "!a\n" * 25 * n,
        lambda n: "x(\n" * 25 * n + "!a",
        lambda n: "0;" * 50 * n + "?",
        lambda n: "'\\'" * 30 * n,
        lambda n: "a=" + "= " * 50 * n,
        lambda n: "   ...:" * 15 * n,
    ],
)
def test_the_work_grows_with_the_length_and_no_faster(made):
    assert grows_with_length(made, without_magics)


@pytest.mark.parametrize(
    "made", [lambda n: "def kl():0\n" * 20 * n + KL_RIGHT, lambda n: "def kl(:\n" * 20 * n, lambda n: "x=[a]\n" * 20 * n]
)
def test_so_does_the_work_on_a_whole_notebook(made):
    assert grows_with_length(made, lambda source: notebook.examined(toy_exercise.notebook(source), ASKED))


def test_what_takes_long_to_read_takes_this_process_nothing(monkeypatch):
    """Notebooks that took the grader from half a minute to days: all together, some hundredths of a second of its time."""
    blank = toy_exercise.notebook(*["if True:\n" + " " * 2100 + "!ls"] * 40, IMPORTS, KL_RIGHT, SCALED_RIGHT)
    assert notebook.read(blank, ASKED).defined == {"kl": [43], "scaled": [44]}
    before = time.process_time()
    for source in (" " * 100_000 + "!ls", "!a\n" * 20_000, "0;" * 90_000, "a=" * 90_000 + "1", "(" * 190_000):
        notebook.read(toy_exercise.notebook(IMPORTS, source, KL_RIGHT), ASKED)
    with pytest.raises(Unreadable, match="200 kB of code"):
        notebook.read(toy_exercise.notebook("0;" * 10**6), ASKED)
    with pytest.raises(Unreadable, match="2000 cells"):
        notebook.read(toy_exercise.notebook(*["0"] * 2001), ASKED)
    assert time.process_time() - before < 1
    monkeypatch.setattr(notebook, "__file__", __file__)
    with pytest.raises(Unreadable, match="nested too deeply, or needs too much memory"):
        notebook.read(b"", ASKED)


def test_memory_is_bounded_in_the_process_that_reads():
    code = """
import resource
from gencourse.grading import notebook
try:
    notebook.read(b'{"cells": [' + b"{}," * 14_000_000 + b"{}]}", ["gaussian_kl"])
except notebook.Unreadable as error:
    print(error, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, sep="|")
"""  # in a process of its own, which has no other children
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=3000)
    says, most = done.stdout.split("|")
    assert "too much memory" in says and int(most) < 1.1 * 2**20  # kB


def test_the_last_definition_counts_but_an_empty_one_never_replaces_one_that_is_filled():
    stub = '@decorated\ndef f(x):\n    """Doc."""\n    ...  # your code here\n\ny = 1'
    raised = 'def f(x):\n    raise NotImplementedError("later")'
    made = notebook.examined(toy_exercise.notebook("def f(x):\n    return 1", "def f(x):\n    return 2", stub, raised), ["f"])
    assert made.defined == {"f": [2, 3]}
    assert [cell.source for cell in made.cells][2:] == ["\n\n\n\n\ny = 1", "\n"]
    assert notebook.runnable([Cell(7, stub)], ["f"])[0].source == stub
    assert notebook.runnable([Cell(1, "def g():\n    pass"), Cell(2, "def g():\n    return 1")], ["f"])[0].source


def test_of_two_exercises_in_one_notebook_each_has_the_function_that_it_checks():
    first, second = "def f(x):\n    return 1", "def f(x):\n    return 2"
    cells = [first, 'check("3.1")', "def g(x):\n    return f(x)", second, 'for id in "4.2", "4.3":\n    print(check("4.2"))']
    for exercise, where, gone in (("3", [2], [5]), ("4", [5], [2]), ("5", [2, 5], []), ("", [2, 5], [])):
        made = notebook.examined(toy_exercise.notebook(*cells), ["f"], exercise)
        assert made.defined == {"f": where, "g": [4]}
        assert [cell.number for cell in made.cells if not cell.source.strip()] == gone
    written_later = [*cells, "def f(x):\n    return 3"]  # nothing is checked beneath it
    assert notebook.examined(toy_exercise.notebook(*written_later), ["f"], "3").defined["f"] == [2, 7]
    empty = [first, 'check("3.1")', "def f(x):\n    ...", 'check("4.2")']
    assert notebook.examined(toy_exercise.notebook(*empty), ["f"], "4").defined["f"] == [4]


def test_uses_follows_the_notebooks_own_functions():
    cells = ["def a(x):\n    return helper(x)", "def helper(x):\n    return b(x) + np.pi\ndef b(x):\n    return a(x)"]
    made = notebook.examined(toy_exercise.notebook(*cells), ["a", "b", "nothing"])
    assert made.uses == {"a": ["b"], "b": ["a"], "nothing": []}


def test_the_cell_that_should_have_defined_a_function_is_known():
    broken = "x = 1\n\ndef scaled (x, a):\n    return a *"
    made = notebook.examined(toy_exercise.notebook("def scaled_(x:", KL_RIGHT, broken, "def kl("), ASKED)
    assert (made.defined, made.attempted) == ({"kl": [3]}, {"scaled": [4]})


def test_cells_that_are_no_python_are_named():
    made = notebook.examined(toy_exercise.notebook("%%time\nx = 1", "%%writefile a.py\nx = 1", "\n%%bash\nls"), ASKED)
    assert made.left_out == [(3, "%%writefile"), (4, "%%bash")]


def test_any_version_any_metadata_and_any_encoding_give_the_same_cells():
    sources = [cell.source for cell in notebook.parse(toy_exercise.HONEST)]
    assert len(sources) == 5
    sources.append("s = 'Grüße'")
    bare = json.dumps({"cells": [{"cell_type": "code", "source": s.splitlines(True)} for s in sources]}, ensure_ascii=False)
    old = json.dumps({"worksheets": [{"cells": [{"cell_type": "code", "input": s} for s in sources]}]}).encode()
    written = [bare.encode(encoding) for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252")]
    for content in (old, *written):
        assert [cell.source for cell in notebook.parse(content)] == sources
        assert [cell.source for cell in notebook.read(content).cells] == sources


def test_files_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.ipynb")
    os.symlink("/etc/passwd", tmp_path / "link.ipynb")
    for name, says in (("pipe.ipynb", "not an ordinary file"), ("link.ipynb", "a link"), ("none.ipynb", "cannot be read")):
        with pytest.raises(Unreadable, match=says):
            notebook.read_bytes(tmp_path / name)
    with pytest.raises(Unreadable, match="not an ordinary file"):
        notebook.read_bytes(tmp_path)


def zipped(*entries, kind=zipfile.ZIP_DEFLATED):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", kind) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return held.getvalue()


def test_an_archive_that_unpacks_to_gigabytes_is_refused():
    bomb = zipped(("bomb.ipynb", bytes(60 * 2**20)))
    assert len(bomb) < 10**5
    with pytest.raises(Unreadable, match="larger than 50 MB"):
        notebook.read(bomb)
    with pytest.raises(Unreadable, match="kB of code"):
        notebook.parse(toy_exercise.notebook("x" * 201_000))


def test_of_several_notebooks_in_an_archive_the_one_with_the_answers_counts():
    other = toy_exercise.notebook(IMPORTS, "def elbo(x):\n    return x")
    found = notebook.read(zipped(("03.ipynb", other), ("09/work.ipynb", toy_exercise.HONEST), ("__MACOSX/._x.ipynb", b"")), ASKED)
    assert found == notebook.read(toy_exercise.HONEST, ASKED)
    for second in (toy_exercise.HONEST, toy_exercise.HONEST + b" "):
        with pytest.raises(Unreadable, match="holds 2 notebooks"):
            notebook.read(zipped(("a.ipynb", second), ("b.ipynb", toy_exercise.HONEST)), ASKED)
    with pytest.raises(Unreadable, match="holds no notebooks"):
        notebook.read(zipped(("a.txt", b"")), ASKED)


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_with_one_damaged_byte_is_unreadable_and_nothing_else(kind):
    """Wherever the damage is: in a name, in the compressed data, in the sums that check it."""
    whole = zipped(("work.ipynb", json.dumps({"cells": [], "filler": list(range(300))})), kind=kind)
    refused = 0
    for place in range(30, len(whole) - 30, 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                notebook.examined(bytes(damaged))
            except (Unreadable, MemoryError):
                refused += 1
    assert refused > (len(whole) - 60) / 3 / 2


def test_what_is_compared_is_what_the_code_does_and_not_its_names():
    one = "def f(x, a):\n    'Doc.'\n    total = (x * a).sum(1)\n    return total / x.shape[1] + 1"
    two = "# mine\ndef f(weights, b):\n    c = (weights * b).sum(1)\n\n    return c / weights.shape[1] + 1"
    first, second, third = (notebook.examined(toy_exercise.notebook(s)).prints for s in (one, two, one.replace("* a", "- a")))
    assert first == second
    assert len(set(first) - set(third)) == 1


def test_what_stands_beneath_what_if_is_kept_as_text():
    made = json.loads(toy_exercise.notebook(KL_RIGHT, "elbo(1000)"))
    text = {"cell_type": "markdown", "source": "## What if? (no points)\n\nMore samples?"}
    made["cells"] += [text, {"cell_type": "markdown", "source": "The gap <b>stays</b>."}, made["cells"][2]]
    made["cells"] += [{"cell_type": "markdown", "source": "# Notes"}, {"cell_type": "markdown", "source": "mine"}]
    words = notebook.examined(json.dumps(made).encode()).words
    assert words == "## What if? (no points)\n\nMore samples?\n\nThe gap <b>stays</b>.\n\nelbo(1000)"
