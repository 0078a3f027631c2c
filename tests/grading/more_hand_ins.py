"""Cases beyond the fifty: notebooks as editors and platforms really write them, and attacks that the fifty leave out.

`HONEST` run in a notebook, and earn what they would earn there. `HOSTILE` cost themselves what they break, and nobody else.
An attack proves that it reached its target by `REACHED` in what the student reads, as in `hand_ins.py`.
"""

import io
import json
import os
import socket
import stat
import textwrap
import zipfile
from dataclasses import dataclass

from hand_ins import FORGED, FULL, TRIED, archive, attack, cell, earns_a_constant, frames, in_a_folder, kl
from toy_exercise import HONEST as RIGHT
from toy_exercise import IMPORTS, KL_RIGHT, SCALED_RIGHT, cells, notebook

KL, SCALED = 3, 2  # points


@dataclass(frozen=True)
class More:
    """What it is, what it earns and with which status of the first check; `file` is written as it stands, as `student`'s."""

    name: str
    make: object  # bytes of a notebook, or a function of the folder and the student's name that writes what there is
    points: int = FULL
    status: str = "ok"
    proof: tuple = ()
    file: str = ""
    whose: str = ""
    quiet: bool = False  # nothing is said of any cell

    @property
    def student(self):
        return self.whose or self.name.replace(" ", "-").lower()


def sources(*texts):
    """Code cells of these sources, as they are."""
    return [{"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": text} for text in texts]


def written(all_cells, **other):
    return json.dumps({"cells": all_cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **other}).encode()


def each(change, *texts, **other):
    """A notebook in which each code cell is changed by a function of its place and itself."""
    made = cells(*(texts or (IMPORTS, KL_RIGHT, SCALED_RIGHT)))
    return written([one if one["cell_type"] != "code" else {**one, **change(i, one)} for i, one in enumerate(made)], **other)


def around(*texts):
    """Right answers, with these cells between."""
    first, *rest = texts
    return notebook(IMPORTS, textwrap.dedent(first), KL_RIGHT, *map(textwrap.dedent, rest), SCALED_RIGHT)


def uses_half(*texts):
    """Answers that need HALF, which these cells define as right code does."""
    body = "def kl(p, q):\n    return 2 * HALF * (p * np.log(p / q)).sum(1)\n"
    return notebook(IMPORTS, *map(textwrap.dedent, texts), body, SCALED_RIGHT)


# --- honest, as editors and platforms write them ----------------------------------------------------------------------

COLAB = "https://colab.research.example/#scrollTo=a1"
WIDGET = {
    "data": {"application/vnd.jupyter.widget-view+json": {"model_id": "a1", "version_major": 2}},
    "output_type": "display_data",
}
NBGRADER = {"grade": False, "grade_id": "cell-kl", "locked": False, "schema_version": 3, "solution": True, "task": False}

HONEST = [
    More(
        "Colab with its drive and a form",
        each(
            lambda i, one: {
                "metadata": {"id": f"x{i}", "cellView": "form", "colab": {"base_uri": COLAB}, "outputId": "1f"},
                "outputs": [
                    {**WIDGET, "metadata": {}},
                    {"output_type": "stream", "name": "stdout", "text": ["Mounted at /content"]},
                ],
            },
            IMPORTS,
            '#@title Set up { display-mode: "form" }\nfrom google.colab import drive\ndrive.mount("/content/drive")\n'
            '%cd /content/drive/MyDrive\nHALF = 0.5 #@param {type:"slider", min:0, max:1}\n',
            KL_RIGHT.replace("return (", "return 2 * HALF * ("),
            SCALED_RIGHT,
            metadata={
                "accelerator": "GPU",
                "colab": {"provenance": [{"file_id": "1a", "timestamp": 1}], "gpuType": "T4"},
                "widgets": {"application/vnd.jupyter.widget-state+json": {"a1": {"model_name": "HTMLModel", "state": {}}}},
            },
            nbformat_minor=0,
        ),
    ),
    More(
        "a form with many fields",
        uses_half(
            "# @title Which? { run: \"auto\" }\nkind = 'gauss' # @param ['gauss', 'laplace']\n"
            "# @markdown ---\nHALF = 0.5 # @param {type: 'number'}\n# @markdown A day\nday = '' # @param\n"
        ),
        quiet=True,
    ),
    More(
        "Colab's userdata and files",
        uses_half(
            """
            from google.colab import files, userdata
            uploaded = files.upload()
            token = userdata.get('HF_TOKEN')
            !wget -q https://data.example/digits.npz -O /content/digits.npz
            import torchvision.datasets as datasets
            HALF = 0.5
            """
        ),
    ),
    More(
        "VS Code",
        each(
            lambda i, one: {
                "source": "".join(one["source"]).replace("\n", "\r\n"),
                "id": f"W{i}sZmlsZQ==",
                "metadata": {"vscode": {"languageId": "python"}, "scrolled": True},
            },
            IMPORTS,
            "#%%\n# ruff: noqa\n" + KL_RIGHT.replace("(p, q)", "(p, q):  # type: ignore", 1).replace("ignore:", "ignore"),
            SCALED_RIGHT,
            metadata={"kernelspec": {"display_name": ".venv (3.11)", "language": "python"}, "orig_nbformat": 4},
        ),
        quiet=True,
    ),
    More(
        "JupyterLab with attachments and errors in outputs",
        each(
            lambda i, one: {
                "id": f"{i:08x}",
                "metadata": {"jp-MarkdownHeadingCollapsed": True, "editable": True, "slideshow": {"slide_type": ""}, "tags": []},
                "outputs": [
                    {"output_type": "error", "ename": "NameError", "evalue": "x", "traceback": ["\x1b[31mNameError\x1b[0m: x"]},
                    {"output_type": "execute_result", "execution_count": 3, "data": {"text/html": ["<script>alert(1)</script>"]}},
                ],
            }
        ),
        quiet=True,
    ),
    More(
        "Kaggle",
        each(
            lambda i, one: {"metadata": {"_uuid": "8f28", "_cell_guid": "b1", "trusted": True, "execution": {"iopub.busy": "1"}}},
            "# This Python 3 environment comes with many helpful analytics libraries installed\n"
            "import numpy as np # linear algebra\nimport os\nfor dirname, _, filenames in os.walk('/kaggle/input'):\n"
            "    for filename in filenames:\n        print(os.path.join(dirname, filename))\n",
            IMPORTS + "os.chdir('/kaggle/working')\nSEED = 1\n",
            KL_RIGHT,
            SCALED_RIGHT + "np.savez('/kaggle/working/submission.npz', x=SEED)\n",
            metadata={"kaggle": {"accelerator": "nvidiaTeslaT4", "dataSources": [], "isGpuEnabled": True}},
        ),
    ),
    More(
        "Deepnote",
        each(
            lambda i, one: {
                "source": "".join(one["source"]),
                "metadata": {"cell_id": f"0000{i}", "deepnote_cell_type": "code", "block_group": "a", "source_hash": "9c"},
            },
            IMPORTS,
            "_dntk.execute_sql('SELECT 1', 'SQL_A', audit_sql_comment='')\nHALF = 0.5",
            KL_RIGHT.replace("return (", "return 2 * HALF * ("),
            SCALED_RIGHT,
            metadata={"deepnote": {}, "deepnote_execution_queue": [], "deepnote_notebook_id": "3f"},
        ),
    ),
    More(
        "Databricks",
        each(
            lambda i, one: {
                "metadata": {
                    "application/vnd.databricks.v1+cell": {"cellMetadata": {}, "inputWidgets": {}, "title": "", "nuid": "1"}
                }
            },
            "%md\n# Exercise 90\nIt's *markdown* (here: a cell of code",
            "%pip install gencourse\ndbutils.library.restartPython()\n",
            "%python\n" + IMPORTS,
            "%sql\nSELECT * FROM digits LIMIT 10;",
            "dbutils.widgets.text('seed', '1')\nspark.range(3)\n" + KL_RIGHT,
            "%python\n" + SCALED_RIGHT + "display(scaled(np.ones(3), 2.0))\n",
            metadata={"application/vnd.databricks.v1+notebook": {"language": "python", "widgets": {}}},
        ),
    ),
    More(
        "CoCalc",
        each(
            lambda i, one: {
                "metadata": {"cocalc": {"last_runtime": {"at": 1}}, "collapsed": False},
                "execution_count": 3 * i + 1,
            },
            metadata={"kernelspec": {"cocalc": {"priority": 10}, "name": "python3-system"}},
        ),
        quiet=True,
    ),
    More(
        "SageMaker and Azure",
        each(
            lambda i, one: {"metadata": {"nteract": {"transient": {"deleting": False}}, "gather": {"logged": 1}}},
            IMPORTS,
            "import sagemaker, boto3\nrole = sagemaker.get_execution_role()\n%load_ext autotime\nHALF = 0.5",
            KL_RIGHT.replace("return (", "return 2 * HALF * ("),
            SCALED_RIGHT,
            metadata={
                "kernelspec": {"name": "conda_pytorch_p310"},
                "microsoft": {"host": {"AzureML": {}}},
                "nteract": {"version": "1"},
            },
        ),
    ),
    More(
        "nbgrader",
        each(
            lambda i, one: {"metadata": {"deletable": False, "nbgrader": {**NBGRADER, "grade_id": f"cell-{i}"}}},
            IMPORTS,
            KL_RIGHT.replace("    return", "    # YOUR CODE HERE\n    return") + "    raise NotImplementedError()\n",
            "### BEGIN HIDDEN TESTS\nassert kl(np.ones((1, 1)), np.ones((1, 1)))[0] == 1\n### END HIDDEN TESTS",
            SCALED_RIGHT,
        ),
    ),
    More(
        "a course platform with lines to fill in",
        notebook(
            IMPORTS,
            "# UNQ_C1 (UNIQUE CELL IDENTIFIER, DO NOT EDIT)\n# GRADED FUNCTION: kl\n"
            "def kl(p, q):\n    ### START CODE HERE ###\n"
            "    ratio = np.log(p / q)   # (≈ 1 line)\n    total = None\n"
            "    total = (p * ratio).sum(axis=-1)\n    ### END CODE HERE ###\n    return total\n",
            "from test_utils import *\nkl_test(kl)\n" + SCALED_RIGHT,
        ),
    ),
    More(
        "another autograder's cells",
        around(
            "# Initialize Otter\nimport otter\ngrader = otter.Notebook('lab09.ipynb')\nHALF = 0.5\n",
            "grader.check('q1')",
            "grader.export(pdf=False, force_save=True, run_tests=True)",
        ),
    ),
    More(
        "a text notebook turned into one",
        notebook(
            "# -*- coding: utf-8 -*-\n# ---\n# jupyter:\n#   jupytext:\n# ---\n# %%\n" + IMPORTS,
            "# + [markdown]\n# kl\n# -\n" + KL_RIGHT,
            SCALED_RIGHT,
        ),
        quiet=True,
    ),
    More(
        "format 4.0 without ids",
        each(lambda i, one: {"metadata": {"collapsed": True, "trusted": False}}, nbformat_minor=0),
        quiet=True,
    ),
    More("format 4.5 with ids that repeat", each(lambda i, one: {"id": "same"}), quiet=True),
    More(
        "a format of the future",
        each(lambda i, one: {"language": "python", "io": []}, nbformat=5, nbformat_minor="rc1"),
        quiet=True,
    ),
    More(
        "format 3 with headings and prompts",
        json.dumps(
            {
                "metadata": {"name": "", "signature": "sha256:0"},
                "nbformat": 3,
                "worksheets": [
                    {"cells": [{"cell_type": "heading", "level": 1, "source": ["Exercise"]}], "metadata": {}},
                    {
                        "cells": [
                            {
                                "cell_type": "code",
                                "collapsed": False,
                                "input": s.splitlines(True),
                                "language": "python",
                                "prompt_number": 1,
                            }
                            for s in (IMPORTS, KL_RIGHT, SCALED_RIGHT)
                        ]
                    },
                ],
            }
        ).encode(),
        quiet=True,
    ),
    More("one string for each cell", each(lambda i, one: {"source": "".join(one["source"])}), quiet=True),
    More(
        "a list of lines without their ends",
        each(lambda i, one: {"source": [s.rstrip("\n") + "\n" for s in one["source"]]}),
        quiet=True,
    ),
    More(
        "no source at all",
        written([{"cell_type": "code"}, {"cell_type": "code", "source": None}, *cells(IMPORTS, KL_RIGHT, SCALED_RIGHT)]),
        quiet=True,
    ),
    More("a byte order mark and Windows line ends", b"\xef\xbb\xbf" + RIGHT.replace(b"}, {", b"},\r\n{"), quiet=True),
    More("a byte order mark in a cell", notebook(IMPORTS, "\ufeff" + KL_RIGHT, SCALED_RIGHT), quiet=True),
    More(
        "line ends of an old Macintosh", each(lambda i, one: {"source": "".join(one["source"]).replace("\n", "\r")}), quiet=True
    ),
    More("a form feed and tabs", notebook(IMPORTS, "\x0c\n" + KL_RIGHT.replace("    ", "\t"), SCALED_RIGHT), quiet=True),
    More("UTF-32 and its mark", RIGHT.decode().encode("utf-32"), quiet=True),
    More(
        "NaN and infinity in metadata",
        each(lambda i, one: {"metadata": {"loss": float("nan"), "best": float("inf")}}),
        quiet=True,
    ),
    More(
        "twenty megabytes of outputs",
        each(lambda i, one: {"outputs": [{"output_type": "display_data", "data": {"image/png": "A" * 7 * 10**6}}]}),
        quiet=True,
    ),
    More("data in a cell", around(f"DATA = {[i / 7 for i in range(7000)]}"), quiet=True),
    More(
        "a cell indented as a whole",
        notebook(IMPORTS, textwrap.indent(KL_RIGHT, "    "), textwrap.indent(SCALED_RIGHT, "\t")),
        quiet=True,
    ),
    More(
        "copied from a terminal",
        notebook(
            ">>> import numpy as np\n>>> from gencourse.grading import check",
            ">>> def kl(p, q):\n...     return (p * np.log(p / q)).sum(1)\n...\n>>> HALF = 0.5\n",
            "In [2]: def scaled(x, a):\n   ...:     return 2 * HALF * a * (x ** 2).mean()\n   ...:\n\n"
            "In [3]: y = scaled(np.ones(3), 2.0)\n",
        ),
        quiet=True,
    ),
    More(
        "every kind of install line",
        uses_half(
            """
            !pip install -q torch torchvision --index-url https://download.example/whl/cu121 && echo "it's done"
            !{sys.executable} -m pip install numpy
            %pip install --quiet "gencourse @ git+https://git.example/gencourse"
            %conda install -y -c conda-forge numpy
            !apt-get -qq install tree > /dev/null; nvidia-smi || true
            import sys
            if "google.colab" in sys.modules:
                !pip install x \\
                    y
            else:
                %cd ..
            HALF = 0.5
            """
        ),
        quiet=True,
    ),
    More(
        "every kind of magic",
        uses_half(
            """
            %load_ext autoreload
            %autoreload 2
            %matplotlib widget
            %config InlineBackend.figure_format = 'retina'
            %env CUDA_VISIBLE_DEVICES=0
            %load_ext tensorboard
            %tensorboard --logdir runs
            %run helpers.ipynb
            %timeit -n 1 sum(range(10))
            %xmode Verbose
            out = %sx ls
            here = !pwd
            np.log?
            HALF = 0.5
            """
        ),
        quiet=True,
    ),
    More(
        "cells of other languages",
        around(
            "%%html\n<b>kl</b>",
            "%%javascript\nalert('x');",
            "%%latex\n$\\log p$",
            "%%R\nx <- 1",
            "%%sh\nls",
            "%%script false\nx =",
        ),
    ),
    More(
        "cells that only hide or time",
        notebook("%%capture --no-stderr\n" + IMPORTS, "%%time\n" + KL_RIGHT, "%%capture out\n!pip install x\n" + SCALED_RIGHT),
        quiet=True,
    ),
    More(
        "waiting at the top level",
        uses_half("import asyncio\nasync def half():\n    await asyncio.sleep(0)\n    return 0.5\n", "HALF = await half()"),
        quiet=True,
    ),
    More(
        "a loop that waits at the top level",
        uses_half(
            "async def halves():\n    yield 0.5\n",
            "async for HALF in halves():\n    pass\nasync with __import__('contextlib').nullcontext():\n    HALF = HALF\n",
        ),
        quiet=True,
    ),
    More(
        "where am I",
        uses_half(
            """
            try:
                import google.colab
                IN_COLAB = True
            except ImportError:
                IN_COLAB = False
            import os, sys
            ON_KAGGLE = 'KAGGLE_KERNEL_RUN_TYPE' in os.environ
            shell = type(get_ipython()).__name__ if 'get_ipython' in globals() else ''
            if IN_COLAB:
                from google.colab import drive
                drive.mount('/content/drive')
            if __name__ == '__main__':
                HALF = 0.5
            """
        ),
        quiet=True,
    ),
    More(
        "pictures and progress bars",
        uses_half(
            """
            import matplotlib.pyplot as plt
            from tqdm.notebook import tqdm, trange
            for i in trange(3):
                plt.plot([i, i])
            """,
            """
            from IPython.display import clear_output, display, HTML
            clear_output(wait=True); display(HTML('<b>loss</b>')); plt.show()
            HALF = 0.5
            """,
            "plt.savefig('/content/loss.png')\nplt.close('all')\n",
        ),
    ),
    More(
        "the end in the middle",
        uses_half("import sys\nHALF = 0.5\nsys.exit()", "exit()", "quit()", "raise SystemExit(0)", "raise KeyboardInterrupt"),
    ),
    More(
        "check is another name now", notebook(IMPORTS, KL_RIGHT, "check = {'90.1': True}\ndel check\nprint = 5\n", SCALED_RIGHT)
    ),
    More(
        "functions of other kinds",
        notebook(
            IMPORTS,
            "from functools import partial\ndef general(power, p, q, *, base=np.e):\n"
            "    return (p * np.log(p / q)).sum(1) * power\n"
            "kl = partial(general, 1)\n",
            "class Scaled:\n    def __call__(self, x, a=1.0, /, *rest, **more):\n"
            "        return a * (x ** 2).mean()\nscaled = Scaled()\n",
        ),
        quiet=True,
    ),
    More(
        "a lambda and a decorator",
        notebook(
            IMPORTS,
            "kl = lambda p, q: np.array([sum(a * np.log(a / b) for a, b in zip(*rows)) for rows in zip(p, q)])",
            "import functools\ndef logged(f):\n    @functools.wraps(f)\n    def inner(*args, **kw):\n        print(args)\n"
            "        return f(*args, **kw)\n"
            "    return inner\n\n@logged\n" + SCALED_RIGHT,
        ),
        quiet=True,
    ),
    More(
        "the newest syntax",
        notebook(
            "from __future__ import annotations\n" + IMPORTS,
            "def kl(p: np.ndarray | Unknown, q: list[Unknown]) -> Unknown:\n    match p.ndim:\n        case 2:\n"
            "            return (y := p * np.log(p / q)).sum(1)\n",
            SCALED_RIGHT,
        ),
        1 * SCALED + KL,
        quiet=False,
    ),
    More(
        "warnings are errors",
        around("import warnings\nwarnings.simplefilter('error')\nnp.seterr(all='raise')\nnp.random.seed(0)"),
        quiet=True,
    ),
    More(
        "wide letters are the same letters",
        notebook(IMPORTS, KL_RIGHT.replace("kl(", "ｋｌ("), SCALED_RIGHT.replace("scaled", "𝐬caled")),
        quiet=True,
    ),
    More(
        "a letter of another alphabet",
        notebook(IMPORTS, KL_RIGHT.replace("kl(", "кl("), SCALED_RIGHT),
        SCALED,
        "missing",
        ("there is no function kl",),
    ),
    More(
        "blanks from a web page",
        notebook(IMPORTS, KL_RIGHT.replace("    return", "\u00a0\u00a0\u00a0 return"), "s = “quoted”\n", SCALED_RIGHT),
        SCALED,
        "error",
        ("kl is not defined; cell 3", "U+00A0"),
    ),
    More(
        "two exercises that ask for a function of one name",
        notebook(
            *(IMPORTS, KL_RIGHT, 'check("90.1")', SCALED_RIGHT, 'check("90.2")'),
            *(
                "def kl(x):\n    return x\n",
                'check("4.2")',
                "def scaled(x):\n    ...\n",
                "def other():\n    return 1",
                'check("4.3")',
            ),
        ),
        quiet=True,
    ),
    More("thirteen hundred cells", notebook(IMPORTS, *["x = 1"] * 1300, KL_RIGHT, SCALED_RIGHT), quiet=True),
]

# --- hostile ----------------------------------------------------------------------------------------------------------


def bare(name, content, kind=zipfile.ZIP_DEFLATED, **about):
    """An archive with one entry, of which something is as no program writes it."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", kind) as zipped:
        entry = zipfile.ZipInfo(name)
        for key, value in about.items():
            setattr(entry, key, value)
        zipped.writestr(entry, content)
    return held.getvalue()


def encrypted():
    made = bytearray(bare("work.ipynb", RIGHT))
    made[6] |= 1  # the flag of an entry, and the same in the directory
    made[made.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(made)


def lying():
    """Sixty megabytes of which both headers say that they are a hundred bytes."""
    made = bytearray(bare("work.ipynb", bytes(60 * 2**20)))
    small = (100).to_bytes(4, "little")
    made[22:26] = small
    at = made.rindex(b"PK\x01\x02")
    made[at + 24 : at + 28] = small
    return bytes(made)


def packed(content):
    return lambda folder, student: (folder / f"{student}.zip").write_bytes(content() if callable(content) else content)


def pipe(folder, student):
    os.mkfifo(folder / f"{student}.ipynb")


def unix_socket(folder, student):
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(folder)  # a socket's path may have a hundred letters
        try:
            made.bind(f"{student}.ipynb")
        finally:
            os.chdir(here)


def folder_like_a_notebook(folder, student):
    (folder / f"{student}.ipynb").mkdir()
    (folder / f"{student}.ipynb" / "work.ipynb").write_bytes(RIGHT)


def empty_folder(folder, student):
    (folder / student / "deep" / "deeper").mkdir(parents=True)


def linked_folder(folder, student):
    (folder.parent / "outside").mkdir(exist_ok=True)
    (folder.parent / "outside" / "work.ipynb").write_bytes(RIGHT)
    os.symlink(folder.parent / "outside", folder / student)


def deep(levels, inside="1"):
    return (
        json.dumps({"cells": cells(IMPORTS, KL_RIGHT, SCALED_RIGHT), "metadata": 0})
        .replace('"metadata": 0', f'"metadata": {"[" * levels}{inside}{"]" * levels}')
        .encode()
    )


AHEAD = frames(
    """
    frames = [json.dumps({"id": n, "returned": "ndarray", "repeatable": True, "value": 0}).encode() for n in range(1, 40)]
    for frame in frames:
        forge(frame)
    """
)
NEXT = frames(FORGED.replace('["request"]["id"]', '["request"]["id"] + 1'))
PROWL = """
import gc, inspect
def prowl():
    names, frame = set(), sys._getframe()
    while frame is not None:
        names |= set(frame.f_locals) | set(frame.f_globals)
        frame = frame.f_back
    held = {key for one in gc.get_objects() if isinstance(one, dict) and "inputs" in one for key in one}
    ours = {"truth", "right", "reference", "mistakes", "tolerance", "secret", "seed"}
    return f"REACHED {'inputs' in held} {sorted(ours & (names | held))}"
"""
SYSCALLS = """
library = ctypes.CDLL(None, use_errno=True)
def call(*numbers):
    said = []
    for number in numbers:
        library.syscall(number, 0, 0, 0, 0, 0)
        said.append(ctypes.get_errno())
    return said
"""
PATCHED = """
import sys
harness, protocol = sys.modules["harness"], sys.modules["protocol"]
calls = []
def lie(*args, **options):
    calls.append(1)
    return {"returned": "ndarray", "repeatable": True, "value": np.zeros(5), "points": 3, "status": "ok"}
harness.run = harness._run_on_arrays = lie
harness.plain = lambda value: np.zeros(5)
harness._same = lambda *_: True
"""
ENDLESS_TEXT = "class Endless(Exception):\n    def __str__(self):\n        while True: pass\n"

HOSTILE = [
    # Time and numbers
    More("slow expression", kl("import re\nreturn re.match('(a|aa)+$', 'a' * 60 + 'b')"), SCALED, "timeout", ("stopped after",)),
    More("slow expression in a cell", cell("import re\nre.match('(a|aa)+$', 'a' * 60 + 'b')"), proof=("stopped after",)),
    More("a number of a billion digits", kl("return 7 ** (10 ** 9)"), SCALED, "timeout", ("stopped after",)),
    More("a number that is no float", kl("return 10 ** 400"), SCALED, "wrong", ("of type int",)),
    More("a number too long to print", kl("return str(10 ** 5000)"), SCALED, "error", ("ValueError: Exceeds the limit",)),
    More(
        "a list in a list in a list",
        kl("x = [1.0]\nfor _ in range(10 ** 5):\n    x = [x]\nreturn x"),
        SCALED,
        "error",
        ("RecursionError",),
    ),
    More("a list that holds itself", kl("x = []\nx.append(x)\nreturn x"), SCALED, "error", ("RecursionError",)),
    More(
        "a list that never ends",
        kl("return Endless([1.0])", before="class Endless(list):\n    def __iter__(self):\n        while True: pass\n"),
        SCALED,
        "timeout",
        ("stopped after",),
    ),
    More("a million numbers", kl("return np.zeros(600_000)"), SCALED, "error", ("600000 numbers are too many",)),
    More("eight gigabytes that are one number", kl("return np.broadcast_to(1.0, (10 ** 9,))"), SCALED, "memory", ("llocate",)),
    More("an array of objects", kl("x = np.empty(5, object)\nx[:] = 0.14\nreturn x"), SCALED, "wrong", ("of type ndarray",)),
    More("a coroutine", notebook(IMPORTS, "async " + KL_RIGHT, SCALED_RIGHT), SCALED, "wrong", ("of type coroutine",)),
    More("a generator", kl("yield (p * np.log(p / q)).sum(1)"), SCALED, "wrong", ("of type generator",)),
    More(
        "no arguments",
        notebook(IMPORTS, "def kl():\n    return 0.0\n", SCALED_RIGHT),
        SCALED,
        "error",
        ("takes 0 positional arguments",),
    ),
    More("a function of Python's own", notebook(IMPORTS, "kl = print\n", SCALED_RIGHT), SCALED, "wrong", ("returned nothing",)),
    More(
        "not a function", notebook(IMPORTS, "kl = 0.1438\n", SCALED_RIGHT), SCALED, "wrong", ("not a function but of type float",)
    ),
    # Errors
    More("an error of ten megabytes", kl("raise ValueError('REACHED ' + 'x' * 10 ** 7)"), SCALED, "error", ("REACHED xxx",)),
    More(
        "an error that fails to say what it is",
        kl("raise E()", before="class E(Exception):\n    __str__ = lambda self: 1 / 0\n"),
        SCALED,
        "error",
        ("ZeroDivisionError",),
    ),
    More(
        "an error that never says what it is", kl("raise Endless()", before=ENDLESS_TEXT), SCALED, "timeout", ("stopped after",)
    ),
    More(
        "an error with a name to be read wrong",
        kl("raise type('<b>\\u202eREACHED\\n', (Exception,), {})('=1+1')"),
        SCALED,
        "error",
        ("&lt;b&gt;?REACHED?",),
    ),
    More("a base exception", kl("raise GeneratorExit('REACHED')"), SCALED, "error", ("GeneratorExit: REACHED",)),
    More(
        "recursion without a limit",
        kl(
            "sys.setrecursionlimit(10 ** 9)\nreturn repr(Self())",
            before="import sys\nclass Self:\n    __repr__ = lambda self: repr(self)\n",
        ),
        SCALED,
        "error",
    ),
    # The process
    More("stops itself", kl("os.kill(os.getpid(), signal.SIGSTOP)", before=TRIED), SCALED, "timeout", ("stopped after",)),
    More("kills itself", kl("os.kill(os.getpid(), signal.SIGKILL)", before=TRIED), SCALED, "memory", ("was killed",)),
    More(
        "no alarm",
        cell(
            "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nsignal.setitimer = lambda *_: None\nwhile True: pass"
        ),
        proof=("stopped after",),
    ),
    More(
        "every interruption caught",
        cell("while True:\n    try:\n        while True: pass\n    except BaseException:\n        pass"),
        proof=("stopped after",),
    ),
    More(
        "a trace that sleeps",
        cell("import sys, time\nsys.settrace(lambda *_: time.sleep(5))\ndef f(): pass\nf()\n"),
        proof=("stopped after",),
    ),
    More(
        "no output left",
        cell("import sys\nsys.stdout.close()\nsys.stdout = sys.stderr = None\nimport os\nos.close(1); os.close(2)"),
    ),
    More("no modules left", cell("import sys\nsys.modules.clear()\n"), 0, "error"),
    More("no names left", notebook(IMPORTS, KL_RIGHT, SCALED_RIGHT, "del kl\nglobals().clear()\n"), 0, "missing"),
    More("a builtin gone", cell("import builtins\ndel builtins.isinstance, builtins.len\n"), proof=("ended the process",)),
    More(
        "busy threads",
        cell(
            "import hashlib, threading\nspin = lambda: hashlib.pbkdf2_hmac('sha256', b'', b'', 10 ** 9)\n"
            "for _ in range(8): threading.Thread(target=spin, daemon=True).start()\n"
        ),
        quiet=True,
    ),
    # What it may reach
    More("frames and collected objects", attack("prowl()", PROWL), SCALED, "error", ("REACHED True []",)),
    More(
        "memory of others",
        attack("tried(open, '/proc/1/mem') + tried(open, '/dev/mem') + tried(os.listdir, '/dev/shm')[:40]"),
        SCALED,
        "error",
        ("REACHED FileNotFoundError", "/dev/mem", "REACHED FileNotFoundError [Errno 2] No such"),
    ),
    More(
        "settings of the kernel",
        attack("tried(open, '/proc/sys/kernel/core_pattern', 'w') + tried(open, '/proc/sysrq-trigger', 'w')"),
        SCALED,
        "error",
        ("REACHED PermissionError",),
    ),
    More(
        "another user",
        attack("tried(os.setuid, 0) + tried(os.setgroups, [0]) + tried(os.setresuid, 0, 0, 0) + tried(os.chroot, '/tmp')"),
        SCALED,
        "error",
        ("REACHED PermissionError [Errno 1] Operation not permittedREACHED PermissionError",),
    ),
    More(
        "higher limits",
        attack("tried(resource.setrlimit, resource.RLIMIT_DATA, (2 ** 40, 2 ** 40)) + tried(os.nice, -5)", "import resource\n"),
        SCALED,
        "error",
        ("REACHED ValueError not allowed to raise maximum limit", "REACHED PermissionError"),
    ),
    More(
        "calls that no exercise needs",
        attack("f'REACHED {call(321, 425, 323, 298, 250, 319, 434 + 4)}'", SYSCALLS),
        SCALED,
        "error",
        (f"REACHED {[1] * 7}",),
    ),
    More(
        "sockets without a name",
        attack("tried(socket.socket(socket.AF_UNIX).connect, chr(0) + '/tmp/.X11-unix/X0')"),
        SCALED,
        "error",
        ("REACHED ConnectionRefusedError",),
    ),
    More(
        "a device made",
        attack("tried(os.mknod, '/tmp/zero', 0o666 | 0o20000, os.makedev(1, 5))"),
        SCALED,
        "error",
        ("REACHED PermissionError",),
    ),
    More(
        "a program in a file",
        attack(
            "tried(os.execv, '/tmp/x', ['x']) + tried(subprocess.run, ['/usr/bin/python3', '-c', '1']) + f'{os.system(\"true\")}'"
        ),
        SCALED,
        "error",
        ("REACHED PermissionError [Errno 1] Operation not permittedREACHED PermissionError",),
    ),
    # What it may say
    More("the worker's own functions replaced", earns_a_constant(PATCHED, says="f'REACHED {len(calls)}'"), 0, "wrong"),
    More("answers ahead of the questions", notebook(IMPORTS, AHEAD, KL_RIGHT, SCALED_RIGHT), proof=("something else",)),
    More(
        "an answer to the next question",
        kl("forged(returned='ndarray', repeatable=True, value=ones)\nreturn (p * np.log(p / q)).sum(1)", before=NEXT),
        SCALED,
        "error",
        ("something else",),
    ),
    More(
        "an answer with odd parts",
        kl(
            "return forged(returned=['x'] * 9, repeatable='yes', value={'dtype': 'float64', 'shape': [5, -1], 'data': 7})",
            before=frames(FORGED),
        ),
        SCALED,
        "error",
        ("something else",),
    ),
    More(
        "an answer without numbers",
        kl("return forged(absent='no', value=None, error=None)", before=frames(FORGED)),
        SCALED,
        "error",
    ),
    # Files
    More(
        "a link in an archive",
        packed(lambda: bare("work.ipynb", "/etc/passwd", create_system=3, external_attr=(stat.S_IFLNK | 0o777) << 16)),
        0,
        "unreadable",
        ("not valid JSON",),
    ),
    More("names from the root", archive(("/etc/cron.d/..\\..\\C:\\x\\work.ipynb", RIGHT)), quiet=True),
    More(
        "an archive in an archive",
        packed(lambda: bare("inner.zip", bare("work.ipynb", RIGHT))),
        0,
        "unreadable",
        ("holds no notebooks",),
    ),
    More("an encrypted archive", packed(encrypted), 0, "unreadable", ("zip archive that can be opened",)),
    More("a bomb that lies about its size", packed(lying), 0, "unreadable"),
    More(
        "twenty thousand entries",
        lambda folder, student: archive(("work.ipynb", RIGHT), *((f"{i}.txt", b"") for i in range(20_000)))(folder, student),
        quiet=True,
    ),
    More("a pipe", pipe, 0, "unreadable", ("not an ordinary file",)),
    More("a socket", unix_socket, 0, "unreadable"),
    More("a folder that is called a notebook", folder_like_a_notebook, whose="a-folder-that-is-called-a-notebook", quiet=True),
    More("an empty folder", empty_folder, 0, "unreadable", ("no notebook",)),
    More("a link to a folder", linked_folder, 0, "unreadable"),
    More("a picture of the notebook", in_a_folder(b"\x89PNG\r\n", "work.png"), 0, "unreadable", ("no notebook",)),
    More("a page of a browser", b"<!doctype html><title>Sign in</title>", 0, "unreadable", ("not valid JSON",)),
    More("a count of five thousand digits", RIGHT.replace(b"null", b"1" * 5000), 0, "unreadable", ("not valid JSON",)),
    More("cells twice", RIGHT.replace(b'{"cells"', b'{"cells": [], "cells"', 1), quiet=True),
    More("cells that are no list", json.dumps({"cells": {"0": cells(KL_RIGHT)[1]}}).encode(), 0, "unreadable", ("no cells",)),
    More("metadata nine hundred deep", deep(900), quiet=True),
    More("metadata a million deep", deep(10**6), 0, "unreadable", ("not valid JSON",)),
    More("a character that ends strings", notebook(IMPORTS, "x = 1\x00\n", KL_RIGHT, SCALED_RIGHT)),
    More("fifty thousand signs", notebook(IMPORTS, "x = " + "-" * 50_000 + "1", KL_RIGHT, SCALED_RIGHT)),
    More(
        "four hundred indentations",
        notebook(IMPORTS, "".join(" " * i + "if 1:\n" for i in range(400)) + " " * 400 + "x = 1", KL_RIGHT, SCALED_RIGHT),
    ),
    More(
        "ten thousand names that are nearly right",
        notebook(IMPORTS, "".join(f"def kl{i}():0\n" for i in range(10_000)), SCALED_RIGHT),
        SCALED,
        "missing",
        ("there is no function kl",),
    ),
    More(
        "a name of a hundred thousand letters", notebook(IMPORTS, f"def {'k' * 100_000}(): 0\n", SCALED_RIGHT), SCALED, "missing"
    ),
    More("a thousand cells that are no code", notebook(IMPORTS, *["x = ("] * 1000, KL_RIGHT, SCALED_RIGHT)),
    # Names of files, which are names of students
    *(
        More(f"the file {name!r}"[:60], RIGHT, file=f"{name}.ipynb", whose=whose, quiet=True)
        for name, whose in (
            ("-rf --no-preserve-root", "-rf --no-preserve-root"),
            ("=cmd!A1", "=cmd!a1"),
            ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
            ("a\nb", "a?b"),
            ("\u202egnp.exe", "?gnp.exe"),
            ("x" * 200, "x" * 200),
            ("学生 🎲", "学生 🎲"),
            ("$(reboot);`reboot`|reboot&", "$(reboot);`reboot`|reboot&"),
            ("CON", "con"),
            ("%2e%2e%2fetc%2fpasswd", "%2e%2e%2fetc%2fpasswd"),
            ("grades.csv", "grades.csv"),
        )
    ),
]
