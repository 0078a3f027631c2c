"""What one statement, one cell or one slow line costs: itself, and nothing that stands beside it."""

import pytest
import toy_exercise
from toy_exercise import SCALED_RIGHT, notebook

from gencourse.grading import grade
from gencourse.grading.conversation import Limits

LIMITS = Limits(30, memory=2**29)
SEEDS = {"90.1": 1, "90.2": 1}
HALF_KL = "def kl(p, q):\n    return 2 * HALF * (p * np.log(p / q)).sum(1)\n"


def graded(*cells, limits=LIMITS, **options):
    record = grade.grade_notebook(notebook(*cells), toy_exercise.QUESTIONS, SEEDS, slot=0, limits=limits, **options)
    return record, [result["points"] for result in record["questions"]]


FIRST = {
    "colab": "from google.colab import drive\ndrive.mount('/content/drive')\n%cd /content/drive/MyDrive",
    "a package that is not there": "import pandas as pd\nframe = pd.DataFrame()",
    "wandb": "import wandb\nwandb.init(project='vae')",
    "torchvision": "import torchvision\nfrom torchvision import transforms",
    "a GPU's name": "import torch\nprint(torch.cuda.get_device_name(0))",
    "a GPU that must be there": "import torch\nassert torch.cuda.is_available()",
    "a picture saved": "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.savefig('/content/loss.png')",
    "a line magic as scripts write it": "get_ipython().run_line_magic('matplotlib', 'inline')",
    "the course's version": "import gencourse\nassert gencourse.__version__.split('.')\nprint(gencourse.__version__)",
    "the points of a check": "assert check('90.1').points == 3\nassert check('90.2').points == check('90.2').out_of == 2",
    "an assertion": "assert False, 'no GPU'",
    "a folder": "import os\nos.chdir('/content')",
    "a file": "open('/content/loss.txt', 'w').write('1')",
    "a program": "import subprocess\nsubprocess.run(['nvidia-smi'])",
    "a question": "name = input('Your name? ')",
    "waiting": "import asyncio\nawait asyncio.sleep(0)",
    "an end": "import sys\nsys.exit()",
    "a function from below": "scale = below(1)",
}


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_a_statement_that_fails_takes_nothing_of_its_cell_with_it(first):
    cell = f"import numpy as np\nfrom gencourse.grading import check\n{first}\nHALF = 0.5  #@param\n{HALF_KL}"
    record, points = graded(cell, SCALED_RIGHT, "def below(x):\n    return x\n")
    assert points == [3, 2], [result["sentence"] for result in record["questions"]]


def test_what_scripts_make_of_magics_fails_nowhere():
    record, points = graded(
        "import gencourse, numpy as np\nfrom gencourse.grading import check\nshell = get_ipython()\nshell.system('ls')\n"
        "files = shell.getoutput('ls')\nshell.run_line_magic('time', 'HALF = 0.5')\nfiles.append(HALF)\n"
        "shell.run_cell_magic('capture', '', 'KEPT = 1')\nassert KEPT == 1\nprint(gencourse.__version__)\n"
        "assert check('90.1').points == 3 and check('90.1').status == 'ok'",
        HALF_KL,
        SCALED_RIGHT,
    )
    assert record["cells"] == []
    assert points == [3, 2]


def test_what_failed_is_repeated_in_order_when_what_it_needs_is_there():
    record, points = graded(
        "import numpy as np\nquarter = half(1) * half(1)\nHALF = 2 * quarter\nHALF *= once(1)",
        HALF_KL,
        "def half(x):\n    return one(x) / 2\n",
        "ONE = one(1)\ndef one(x):\n    return x",
        "def once(x):\n    return ONE\n",
        SCALED_RIGHT,
    )
    assert record["cells"] == []
    assert points == [3, 2]


def test_what_was_given_a_meaning_since_it_failed_keeps_it():
    _, points = graded("import numpy as np\nHALF = below(9)\nHALF = 0.5", HALF_KL, "def below(x):\n    return x\n", SCALED_RIGHT)
    assert points == [3, 2]


SLOW = "import time\nfrom time import sleep\nsleep({})\n"
BRIEF = Limits(6, memory=2**29)  # a second for one cell, a tenth for one that is not slow


def messages(record):
    return {error["cell"]: error["message"] for error in record["cells"]}


@pytest.mark.parametrize("seconds", [0.95, 9])
def test_any_number_of_slow_cells_costs_themselves_and_nothing_else(seconds):
    """They may stand anywhere, and what a training's cell defines before and after the training counts."""
    slow = [SLOW.format(seconds)] * 7
    halves = f"QUARTER = 0.25\nsleep({seconds})\nHALF = 2 * QUARTER\n"
    _, points = graded("import numpy as np", *slow, halves, HALF_KL, *slow, SCALED_RIGHT, limits=BRIEF)
    assert points == [3, 2]


def test_a_slow_cell_is_named_where_it_counts_no_more():
    ends = "import os\ndef kl(p, q):\n    os._exit(1)\n"
    slow = "from time import sleep\nx = [1]\nsleep(0.5)\nx.append(2)\n"
    record, points = graded("import numpy as np", slow, SLOW.format(9), ends, SCALED_RIGHT, limits=BRIEF)
    assert points == [0, 2]
    assert messages(record) == {
        3: "slow: it takes more than 0.1 seconds, so where the notebook had to be run again only its definitions counted.",
        4: "stopped after 1 seconds; is there a loop that does not end?",
    }


def test_what_cannot_be_interrupted_is_ended_and_its_cell_left_to_what_is_plain():
    """First as a whole, then with assignments that call something, then with those that do not."""
    stuck = "import re\nHALF = 0.5\nr = re.match('(a|aa)+$', 'a' * 60 + 'b')\nr = re.match('(a|aa)+$', 'a' * 60 + 'c')\n"
    record, points = graded("import numpy as np", stuck + HALF_KL, SCALED_RIGHT, limits=BRIEF)
    assert points == [3, 2]
    assert messages(record) == {3: "stopped after 1 seconds; is there a loop that does not end?"}


def test_time_for_calls_is_apart_from_time_for_cells():
    slow = "def scaled(x, a):\n    sleep(0.9)\n    return a * (x ** 2).mean()\n"
    _, points = graded("import numpy as np\nHALF = 0.5", *[SLOW.format(0.95)] * 8, HALF_KL, slow, limits=BRIEF)
    assert points == [3, 0]  # two calls of it are more than a step
    slow = slow.replace("0.9", "0.3")
    _, points = graded("import numpy as np\nHALF = 0.5", *[SLOW.format(0.95)] * 8, HALF_KL, slow, limits=BRIEF)
    assert points == [3, 2]
