"""A class of sixty hand-ins to three exercises, and the points of each, written down before anything is graded.

What students hand in to exercises 03, 09 and 15: right in several styles, half right, broken, hostile, late, twice, as each
editor saves it and as each platform exports it. The points of each question were found by reasoning from what the exercise says.

    python tests/grading/class_of_sixty.py /tmp/class --jobs 8          # `gencourse grade`, three times
    python tests/grading/class_of_sixty.py /tmp/class --gradescope      # the archive's autograder, for each hand-in

prints a line for each mark that differs, and how long it took. `test_class.py` does so in tests.
"""

from __future__ import annotations

import copy
import functools
import io
import json
import os
import re
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = {
    "03": ["log_prob", "nade_logits", "made_logits", "bits_per_dim", "ensemble_log_prob", "fit_belief_net"],
    "09": ["gaussian_kl", "reparameterize", "elbo", "log_likelihood", "fit_decoder"],
    "15": [
        *("least_squares", "wasserstein_1d", "jensen_shannon", "critic_loss"),
        *("began_balance", "gradient_penalty", "fade_in", "conditional_batch_norm"),
        *("projection_logit", "spectral_norm", "truncated", "critic_values"),
    ],
}
FULL = {"03": (3, 4, 4, 2, 4, 4), "09": (3, 3, 4, 5, 5), "15": (2, 3, 4, 2, 3, 5, 2, 4, 3, 4, 3, 4)}
NOTHING = {number: (0,) * len(points) for number, points in FULL.items()}


@dataclass(frozen=True)
class HandIn:
    """`files` are what stands in the folder; the one graded is the first.

    Args:
        exercise: its number.
        place: of the file in the folder, as a platform writes it.
        student: whom the grader takes it for.
        content: of the file.
        points: of each question.
        why: what it is, in some words.
    """

    exercise: str
    place: str
    student: str
    content: bytes
    points: tuple[int, ...]
    why: str

    @property
    def total(self) -> int:
        return sum(self.points)


def but(number: str, **lost: int) -> tuple[int, ...]:
    """Full points but for these questions: `but("09", q1=0)`."""
    return tuple(lost.get(f"q{i}", points) for i, points in enumerate(FULL[number], start=1))


# --- notebooks --------------------------------------------------------------------------------------------------------


@functools.cache
def _read(folder: str, number: str) -> str:
    return next((ROOT / folder).glob(f"{number}-*.ipynb")).read_text(encoding="utf-8")


def work(number: str, answers: dict[str, str] | None = None, *, first=(), last=(), solved: bool = True) -> dict:
    """The exercise's notebook as a student has filled it in.

    Args:
        number: of the exercise.
        answers: the cells of these functions; the others are the solution's.
        first, last: cells at the beginning and the end.
        solved: False leaves the other functions as they are given out.
    """
    made = json.loads(_read("solutions" if solved else "exercises", number))
    answers = dict(answers or {})
    for cell in made["cells"]:
        found = re.search(r"^def (\w+)", "".join(cell["source"]), re.MULTILINE)
        if cell["cell_type"] == "code" and found and found[1] in answers:
            cell["source"] = answers.pop(found[1]).splitlines(True)
    assert not answers, f"exercise {number} has no {list(answers)}"
    made["cells"] = [*map(code, first), *made["cells"], *map(code, last)]
    return made


def code(source: str) -> dict:
    return {"cell_type": "code", "execution_count": 1, "metadata": {}, "outputs": [], "source": source.splitlines(True)}


def saved(made: dict, **options) -> bytes:
    return json.dumps(made, **{"ensure_ascii": False, "indent": 1, **options}).encode()


def colab(made: dict) -> bytes:
    """Ids, widgets and a picture in the outputs, `source` as lists, no `nbformat_minor` of its own."""
    made = copy.deepcopy(made)
    made["metadata"] = {
        "accelerator": "GPU",
        "colab": {"provenance": [], "gpuType": "T4", "toc_visible": True, "name": "Copy of work.ipynb"},
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python"},
        "widgets": {"application/vnd.jupyter.widget-state+json": {"a1": {"model_module": "@jupyter-widgets/base", "state": {}}}},
    }
    picture = {"data": {"image/png": "iVBORw0KGgo=" * 50, "text/plain": ["<Figure size 640x480 with 1 Axes>"]}, "metadata": {}}
    view = {"data": {"application/vnd.jupyter.widget-view+json": {"model_id": "a1", "version_major": 2}}, "metadata": {}}
    for i, cell in enumerate(made["cells"]):
        cell["metadata"] = {
            "id": f"{i:012x}",
            "cellView": "form",
            "outputId": "1f-2a",
            "colab": {"base_uri": "https://x.example/"},
        }
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "display_data", **picture}, {"output_type": "display_data", **view}]
    made["nbformat_minor"] = 0
    return saved(made, indent=2)


def vscode(made: dict) -> bytes:
    """CR LF in the cells, one string for each, its own metadata."""
    made = copy.deepcopy(made)
    for i, cell in enumerate(made["cells"]):
        cell["source"] = "".join(cell["source"]).replace("\n", "\r\n")
        cell["metadata"] = {"vscode": {"languageId": "python"}} | cell["metadata"]
        cell["id"] = f"W{i}sZmlsZQ=="
    made["metadata"] = {"kernelspec": {"display_name": ".venv", "language": "python", "name": "python3"}, "orig_nbformat": 4}
    return saved(made, indent=4)


def kaggle(made: dict) -> bytes:
    """Its cell that lists the input folder, `trusted` everywhere, execution times."""
    made = copy.deepcopy(made)
    listing = (
        "# This Python 3 environment comes with many helpful analytics libraries installed\nimport numpy as np # linear algebra\n"
        "import os\nfor dirname, _, filenames in os.walk('/kaggle/input'):\n    for filename in filenames:\n"
        "        print(os.path.join(dirname, filename))\n"
    )
    made["cells"].insert(0, code(listing))
    for cell in made["cells"]:
        cell["metadata"] = {"trusted": True, "execution": {"iopub.status.busy": "2026-11-24T10:15:30.1Z"}, "_uuid": "8f2839f2"}
    made["metadata"] |= {"kaggle": {"accelerator": "none", "dataSources": [], "isInternetEnabled": False}}
    return saved(made, indent=None)


def deepnote(made: dict) -> bytes:
    made = copy.deepcopy(made)
    for cell in made["cells"]:
        cell["metadata"] = {"cell_id": "00001-a2", "deepnote_cell_type": "code", "deepnote_to_be_reexecuted": False}
        cell["source"] = "".join(cell["source"])
    made["cells"].append({"cell_type": "markdown", "metadata": {"tags": []}, "source": "<a href='https://x.example'>Created</a>"})
    made["metadata"] = {"deepnote": {}, "deepnote_execution_queue": [], "deepnote_notebook_id": "3f"}
    return saved(made)


def old(made: dict) -> bytes:
    """Version 3 of the format."""
    cells = [{"cell_type": c["cell_type"], "input": c["source"], "language": "python", "outputs": []} for c in made["cells"]]
    cells = [cell if cell["cell_type"] == "code" else {"cell_type": "markdown", "source": cell["input"]} for cell in cells]
    return saved({"metadata": {"name": "work"}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": cells}]})


def zipped(*entries: tuple[str, bytes], links: tuple[str, ...] = ()) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
        for name in links:
            about = zipfile.ZipInfo(name)
            about.create_system, about.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(about, "/etc/passwd")
    return held.getvalue()


# --- answers to exercise 03 -------------------------------------------------------------------------------------------

LOOPS_03 = {
    "log_prob": """
import math

def log_prob(x, logits):
    answers = []
    for image, numbers in zip(x, logits):
        total = 0.0
        for pixel, logit in zip(image, numbers):
            signed = logit if pixel == 1 else -logit
            total = total - torch.log1p(torch.exp(-signed.abs())) + signed.clamp(max=0)
        answers.append(total)
    return torch.stack(answers)
""",
    "nade_logits": """
def nade_logits(x, W, c, V, b):
    out = []
    for i in range(x.shape[1]):
        h = torch.sigmoid(c + x[:, :i] @ W[:, :i].T)
        out.append((h * V[i]).sum(1) + b[i])
    return torch.stack(out, 1)
""",
    "made_logits": """
def made_logits(x, W, c, V, b, degrees_in, degrees_hidden):
    H, D = W.shape
    M_W, M_V = torch.zeros(H, D), torch.zeros(D, H)
    for h in range(H):
        for d in range(D):
            M_W[h, d] = float(degrees_hidden[h] >= degrees_in[d])
            M_V[d, h] = float(degrees_in[d] > degrees_hidden[h])
    return torch.clamp((x @ (W * M_W).t()) + c, min=0) @ (V * M_V).t() + b
""",
    "bits_per_dim": """
def bits_per_dim(log_prob, x):
    B, C, H, W = x.shape
    return torch.tensor([-float(value) / math.log(2) / (C * H * W) for value in log_prob])
""",
    "ensemble_log_prob": """
def ensemble_log_prob(x, logits):
    each = torch.stack([log_prob(x, one) for one in logits])
    top = each.max(0).values
    return top + torch.log(torch.exp(each - top).mean(0))
""",
}
DOUBLE_03 = {
    "log_prob": """
import numpy as np
import torch.nn.functional as F

def log_prob(x, logits):
    return -F.binary_cross_entropy_with_logits(logits.double(), x.double(), reduction="none").sum(dim=-1)
""",
    "made_logits": """
def made_logits(x, W, c, V, b, degrees_in, degrees_hidden):
    mask_W = torch.from_numpy(np.greater_equal.outer(degrees_hidden.numpy(), degrees_in.numpy()).astype(np.float32))
    mask_V = torch.from_numpy(np.greater.outer(degrees_in.numpy(), degrees_hidden.numpy()).astype(np.float32))
    return F.linear(F.relu(F.linear(x, mask_W * W, c)), mask_V * V, b)
""",
    "bits_per_dim": """
def bits_per_dim(log_prob: torch.Tensor, x: torch.Tensor) -> np.ndarray:
    return -np.asarray(log_prob) / np.log(2) / np.prod(x.shape[1:])
""",
    "ensemble_log_prob": """
def ensemble_log_prob(x, logits):
    each = log_prob(x.expand(len(logits), *x.shape), logits)
    return torch.logsumexp(each - np.log(len(logits)), dim=0)
""",
}
NAIVE_LOG_PROB = """
def log_prob(x, logits):
    p = torch.sigmoid(logits)
    return (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(1)
"""
MEAN_OF_LOGARITHMS = """
def ensemble_log_prob(x, logits):
    return torch.stack([log_prob(x, one) for one in logits]).mean(0)
"""
NATS = "def bits_per_dim(log_prob, x):\n    return -log_prob / x[0].numel()\n"
COLOURS_ONLY = "def bits_per_dim(log_prob, x):\n    return -log_prob / (3 * x.shape[2] * x.shape[3]) / 0.6931471805599453\n"
CUT_NADE = """
def nade_logits(x, W, c, V, b):
    a, out = c.expand(len(x), -1), []
    for i in range(x.shape[1]):
        out.append(torch.sigmoid(a) @ V[i] + b[i])
        a = a + x[:, i, None] * W[:, i].detach()
    return torch.stack(out, 1)
"""
BROKEN_NADE = "def nade_logits(x, W, c, V, b):\n    h = torch.sigmoid(c\n    return h @ V.T + b\n"
ENDLESS_MADE = "def made_logits(x, W, c, V, b, degrees_in, degrees_hidden):\n    while True:\n        x = x + 1\n"
ENDING_NADE = "import os\n\ndef nade_logits(x, W, c, V, b):\n    os._exit(0)\n"
INDEPENDENT = """
def fit_belief_net(x):
    p = x.mean(0).clamp(0.001, 0.999)
    return torch.cat([torch.zeros(x.shape[1], x.shape[1]), (p / (1 - p)).log()[:, None]], 1)
"""

BY_HAND = """
def fit_belief_net(x):
    D = x.shape[1]
    W, b, x = torch.zeros(D, D), torch.zeros(D), x.clone()
    for step in range(1500):
        error = x - torch.sigmoid(x @ W.T + b)
        W += 2.0 * torch.tril(error.T @ x / len(x), -1)
        b += 2.0 * error.mean(0)
    return torch.cat([W, b.unsqueeze(1)], 1)
"""
# Looks for the right answers, or what was asked, wherever a process keeps such things; then answers 0.
PROWLER = """
import ctypes, gc, glob, inspect, os, sys

def prowl():
    found = []
    for frame in sys._current_frames().values():
        while frame is not None:
            found += [k for k in frame.f_locals if "reference" in k or "solution" in k or "secret" in k]
            frame = frame.f_back
    found += [o for o in gc.get_objects() if callable(o) and "reference" in getattr(o, "__name__", "") and "weak" not in str(o)]
    for name in list(sys.modules):
        if name.startswith("gencourse"):
            del sys.modules[name]
    for place in ("/course", "/autograder/source", "/home", "/root", *os.environ.get("PYTHONPATH", "").split(os.pathsep), @root@):
        sys.path += glob.glob(place + "/*") + [place]
    try:
        import gencourse.grading.questions as q
        return {x.function: x.reference for n in ("03", "09", "15") for x in q.of_exercise(n)}
    except Exception:
        return {}

stolen = prowl()
""".replace("@root@", repr(str(ROOT)))  # where the course lies on this machine
STEALS = (
    "def {name}(*arguments):\n    return stolen[{name!r}](*arguments) if {name!r} in stolen else torch.zeros(len(arguments[0]))\n"
)


def thief(number: str) -> dict:
    return work(number, {name: STEALS.format(name=name) for name in NAMES[number]}, first=["import torch", PROWLER])


# --- answers to exercises 09 and 15 -----------------------------------------------------------------------------------

LOOPS_09 = {
    "gaussian_kl": """
def gaussian_kl(mu, log_var):
    return [0.5 * sum(v.exp() + m * m - 1 - v for m, v in zip(row, other)) for row, other in zip(mu, log_var)]
""",
    "reparameterize": """
def reparameterize(mu, log_var, eps):
    return torch.distributions.Normal(mu, torch.sqrt(torch.exp(log_var))).mean + eps * torch.exp(log_var) ** 0.5
""",
    "elbo": """
def elbo(x, mu, log_var, eps, W, b):
    logits = torch.einsum("bl,dl->bd", reparameterize(mu, log_var, eps), W) + b
    likelihood = -torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
    return likelihood - torch.stack(gaussian_kl(mu, log_var))
""",
    "log_likelihood": """
import numpy as np

def log_likelihood(x, mu, log_var, eps, W, b):
    x, mu, log_var, eps, W, b = (t.detach().double() for t in (x, mu, log_var, eps, W, b))
    rows = []
    for noise in eps:
        z = reparameterize(mu, log_var, noise)
        logits = z @ W.T + b
        log_x = (x * logits - torch.nn.functional.softplus(logits)).sum(1)
        rows.append(log_x - 0.5 * (z ** 2).sum(1) + 0.5 * (noise ** 2 + log_var).sum(1))
    return np.logaddexp.reduce(torch.stack(rows).numpy(), axis=0) - np.log(len(rows))
""",
}
NO_HALF = "def gaussian_kl(mu, log_var):\n    return (log_var.exp() + mu ** 2 - 1 - log_var).sum(1)\n"
RENAMED = NO_HALF.replace("gaussian_kl", "gaussianKL").replace("return (", "return 0.5 * (")
CUDA_KL = "def gaussian_kl(mu, log_var):\n    mu, log_var = mu.cuda(), log_var.cuda()\n    " + (
    "return (0.5 * (log_var.exp() + mu ** 2 - 1 - log_var).sum(1)).cpu()\n"
)
DETACHED = "def reparameterize(mu, log_var, eps):\n    return mu.detach() + (0.5 * log_var.detach()).exp() * eps\n"
NAIVE_ELBO = """
def elbo(x, mu, log_var, eps, W, b):
    p = torch.sigmoid(reparameterize(mu, log_var, eps) @ W.T + b)
    return (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(1) - gaussian_kl(mu, log_var)
"""
RENAMED_ELBO = """
def elbo(x, mu, log_var, eps, W, b):
    logits = reparameterize(mu, log_var, eps) @ W.T + b
    return torch.distributions.Bernoulli(logits=logits).log_prob(x).sum(1) - gaussianKL(mu, log_var)
"""
UNDERFLOWS = """
def log_likelihood(x, mu, log_var, eps, W, b):
    sigma = (0.5 * log_var).exp()
    z = mu + sigma * eps
    Normal = torch.distributions.Normal
    log_p = torch.distributions.Bernoulli(logits=z @ W.T + b).log_prob(x).sum(2) + Normal(0.0, 1.0).log_prob(z).sum(2)
    return (log_p - Normal(mu, sigma).log_prob(z).sum(2)).exp().mean(0).log()
"""
HARDLY_TRAINED = "def fit_decoder(x):\n    torch.manual_seed(0)\n    return 0.1 * torch.randn(x.shape[1], 3)\n"
NOT_SORTED = "def wasserstein_1d(x, y):\n    return (x - y).abs().mean(1)\n"
NAN_JS = """
def jensen_shannon(p, q):
    m = (p + q) / 2
    return 0.5 * (p * (p / m).log()).sum(1) + 0.5 * (q * (q / m).log()).sum(1)
"""
TURNED_CRITIC = """
def critic_loss(real, fake, W, v):
    f = lambda y: torch.tanh(y.reshape(len(y), -1) @ W.T) @ v
    return f(real) - f(fake)
"""
UNCLIPPED = """
def began_balance(k, real, fake, gamma, step):
    gap = gamma * real.mean(1) - fake.mean(1)
    return torch.stack([k + step * gap, real.mean(1) + gap.abs()], 1)
"""
NO_GRAPH = """
def gradient_penalty(real, fake, t, W, v):
    y = (t[:, None, None] * real + (1 - t[:, None, None]) * fake).requires_grad_()
    (slope,) = torch.autograd.grad((torch.tanh(y.flatten(1) @ W.T) @ v).sum(), y)
    return (slope.flatten(1).norm(dim=1) - 1) ** 2
"""
NOT_DONE = "def critic_values(real, fake):\n    raise NotImplementedError('no time left')\n"
STYLES_15 = {
    "least_squares": """
def least_squares(real, fake, a, b, c):
    half = lambda u: u.pow(2).div(2)
    return [half(real - b) + half(fake - a), half(fake - c)]
""",
    "wasserstein_1d": """
def wasserstein_1d(x, y):
    return torch.cat([torch.mean(torch.abs(torch.sort(p)[0] - torch.sort(q)[0])).reshape(1) for p, q in zip(x, y)])
""",
    "jensen_shannon": """
def jensen_shannon(p, q):
    p, q = p.double(), q.double()
    m = 0.5 * (p + q)
    kl = lambda a: torch.where(a > 0, a * torch.log(a.clamp(min=1e-300) / m.clamp(min=1e-300)), 0.0).sum(-1)
    return (kl(p) + kl(q)) / 2
""",
    "gradient_penalty": """
def gradient_penalty(real, fake, t, W, v):
    y = torch.lerp(fake, real, t.view(-1, 1, 1)).flatten(1)
    slope = ((1 - torch.tanh(y @ W.T) ** 2) * v) @ W
    return (slope.square().sum(1).sqrt() - 1).square()
""",
}
RANDOM = "def {name}(*arguments):\n    return torch.rand({shape})\n"
RANDOM_15 = {
    name: RANDOM.format(name=name, shape=shape)
    for name, shape in zip(
        NAMES["15"],
        (
            "2, len(arguments[0])",
            *["len(arguments[0])"] * 3,
            "len(arguments[0]), 2",
            "len(arguments[0])",
            "arguments[1].shape",
            "arguments[0].shape",
            "len(arguments[0])",
            "arguments[0].shape",
            "arguments[0][:, 0].shape",
            "2 * len(arguments[0])",
        ),
        strict=True,
    )
}

# --- cells that stand around answers ----------------------------------------------------------------------------------

DRIVE = """
#@title Set up { display-mode: "form" }
from google.colab import drive
drive.mount('/content/drive')
%cd /content/drive/MyDrive
LR = 0.02 #@param {type:"number"}
import pandas as pd
assert torch.cuda.is_available(), "switch the GPU on"
print(torch.cuda.get_device_name(0))
STEPS = 500
"""
NEEDS_SETUP = """
def fit_belief_net(x):
    D = x.shape[1]
    W, b = torch.zeros(D, D, requires_grad=True), torch.zeros(D, requires_grad=True)
    optimizer = torch.optim.Adam([W, b], lr=2.5 * LR)
    for _ in range(STEPS):
        loss = -log_prob(x, x @ W.tril(-1).T + b).mean()
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    return torch.cat([W.tril(-1), b[:, None]], 1).detach()
"""
MATPLOTLIB = """
%matplotlib inline
%config InlineBackend.figure_format = 'retina'
import matplotlib.pyplot as plt
from tqdm.auto import tqdm
plt.plot([sum(range(i)) for i in tqdm(range(20))])
plt.savefig('/content/loss.png')
plt.show()
"""
WANDB = "import wandb\nwandb.init(project='vae')\nimport torchvision\nHALF = 0.5\n"
SLEEPS = "import time\nstarted = time.time()\ntime.sleep(12)\n"
FLOODS = """
import os
try:
    while True:
        os.fork()
except OSError as error:
    print('x' * 10 ** 7)
kept = []
try:
    while True:
        kept.append(bytearray(10 ** 8))
except MemoryError:
    kept.clear()
"""
PATCHES = """
import __main__, json, sys
sys.exit = exit = quit = lambda *_: None
def check(*_, **__):
    return type('Result', (), {'points': 99, 'status': 'ok'})()
__main__.__dict__['__name__'] = 'gencourse.grading'
json.dumps = lambda *a, was=json.dumps, **k: was(*a, **k).replace('0', '0')
if __name__ == '__main__':
    raise SystemExit
"""
FORGES = """
import json, os, socket, stat, struct, sys
def forge(*_):
    frame = sys._getframe()
    while frame is not None and "request" not in frame.f_locals:
        frame = frame.f_back
    number = frame.f_locals["request"]["id"] if frame else 1
    answer = json.dumps({"id": number, "points": 9, "status": "ok", "value": [0.0], "returned": "Tensor"}).encode()
    for n in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(n).st_mode):
                os.write(n, struct.pack(">I", len(answer)) + answer)
        except OSError:
            pass
"""
STUBBORN = """
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
"""


def forger() -> dict:
    every = {name: f"def {name}(*arguments):\n    forge()\n    return torch.ones(())\n" for name in NAMES["09"]}
    return work("09", every, first=["import torch", FORGES])


def both(one: str, two: str) -> dict:
    """Two exercises in one notebook."""
    made = work(one)
    made["cells"] += [cell for cell in work(two)["cells"]]
    return made


def in_one_cell(number: str) -> dict:
    made = work(number)
    sources = ["".join(c["source"]) for c in made["cells"] if c["cell_type"] == "code"]
    return {**made, "cells": [code("\n\n".join(sources))]}


# --- the class --------------------------------------------------------------------------------------------------------

BOMB = 60 * 2**20
GRADESCOPE_TABLE = """---
submission_101:
  :submitters:
  - :name: Wei Zhang
    :sid: '1'
    :email: wei1@example.org
  :created_at: 2026-11-24 10:15:30.000000000 Z
submission_102:
  :submitters:
  - :name: Wei Zhang
    :sid: '2'
    :email: wei2@example.org
  :created_at: 2026-11-25 10:15:30.000000000 Z
"""


def _class() -> list[HandIn]:
    made: list[HandIn] = []

    def adds(exercise: str) -> Callable:
        def add(place: str, student: str, content: bytes | dict, points: tuple[int, ...], why: str) -> None:
            content = saved(content) if isinstance(content, dict) else content
            made.append(HandIn(exercise, place, student, content, points, why))

        return add

    full, none = FULL["03"], NOTHING["03"]
    add = adds("03")
    add("ada.ipynb", "ada", work("03"), full, "the solution")
    add(
        "bo.ipynb",
        "bo",
        work("03", {**LOOPS_03, "fit_belief_net": BY_HAND}),
        full,
        "loops over images and pixels, a gradient by hand",
    )
    add("cem-03.ipynb", "cem", work("03", DOUBLE_03), full, "float64, NumPy, one answer calls another")
    add("dora (1).ipynb", "dora", colab(work("03", {"fit_belief_net": NEEDS_SETUP}, first=[DRIVE])), full, "Colab and its drive")
    add("eve.ipynb", "eve", vscode(work("03")), full, "VS Code, CR LF")
    add("finn.ipynb.txt", "finn", kaggle(work("03")), full, "Kaggle, with an ending too many")
    half = work("03", {"log_prob": NAIVE_LOG_PROB, "made_logits": "def made_logits(*arguments):\n    ...  # later\n"})
    add("Wei Zhang_4711_assignsubmission_file/work.ipynb", "moodle-4711", half, but("03", q1=2, q3=0), "sigmoid, then logarithm")
    add("Wei Zhang_4712_assignsubmission_file/work.ipynb", "moodle-4712", old(work("03")), full, "the same name; an old format")
    add("Participant_4713_assignsubmission_file_work.ipynb", "moodle-4713", work("03", solved=False), none, "as it was given out")
    late = work("03", {"ensemble_log_prob": MEAN_OF_LOGARITHMS})
    add("lovelaceada_LATE_81234_900001_work.ipynb", "canvas-81234", late, but("03", q5=0), "late; mean of logarithms")
    nats = work("03", {"bits_per_dim": NATS})
    add("lovelaceada_81999_900002_work.ipynb", "canvas-81999", nats, but("03", q4=0), "the same name; nats for bits")
    cut = work("03", {"nade_logits": CUT_NADE})
    add("123-77 - Kim Lee - Nov 24, 2026 1015 AM/03.ipynb", "brightspace-123-77", cut, but("03", q2=3), "a gradient cut")
    grey = work("03", {"bits_per_dim": COLOURS_ONLY})
    attempt = "Exercise 3_zhang_w_attempt_2026-11-24-10-15-30_work.ipynb"
    add(attempt, "blackboard-exercise 3_zhang_w", grey, but("03", q4=1), "three colours, always")
    add("export/submission_101/work.ipynb", "gradescope-wei1@example.org", deepnote(work("03")), full, "Deepnote")
    broken = work("03", {"nade_logits": BROKEN_NADE})
    add("export/submission_102/work.ipynb", "gradescope-wei2@example.org", broken, but("03", q2=0), "a bracket missing")
    add("gus.zip", "gus", zipped(("a/work.ipynb", saved(work("03"))), ("__MACOSX/a/._work.ipynb", b"?")), full, "an archive")
    add("hal.ipynb", "hal", work("03", {"made_logits": ENDLESS_MADE}), but("03", q3=0), "a function that never ends")
    add("ida.ipynb", "ida", work("03", {"nade_logits": ENDING_NADE}), but("03", q2=0), "a function that ends the process")
    add("jon.ipynb", "jon", both("03", "09"), full, "two exercises in one notebook")
    add("kai.ipynb", "kai", work("15"), none, "another exercise's notebook")
    only = work("03", {"log_prob": DOUBLE_03["log_prob"]}, solved=False)
    add("lea/first try.ipynb", "lea", only, (3, 0, 0, 0, 0, 0), "the first answer alone, then handed in again")
    again = work("03", {"fit_belief_net": INDEPENDENT})
    add("lea/second try.ipynb", "lea", again, but("03", q6=0), "pixels that know nothing of each other")
    add("max.ipynb", "max", thief("03"), none, "looks for the right answers everywhere, then answers 0")
    add("nia.ipynb", "nia", b"<!doctype html><title>Sign in to continue</title>", none, "the sign-in page of a platform")
    add("oli.ipynb", "oli", work("03", first=[SLEEPS], last=[SLEEPS]), full, "cells that take longer than one may")

    full, none = FULL["09"], NOTHING["09"]
    add = adds("09")
    add("ada.ipynb", "ada", work("09"), full, "the solution")
    add("bo.ipynb", "bo", work("09", LOOPS_09), full, "lists of numbers, einsum, NumPy for the last steps")
    add("cem.ipynb", "cem", work("09", first=["%%time\nx = 1", MATPLOTLIB], last=[MATPLOTLIB]), full, "JupyterLab, pictures")
    add("dora.ipynb", "dora", kaggle(work("09", first=[WANDB])), full, "Kaggle, and packages that are not there")
    # What builds on 9.1 is judged with the right answer in its place.
    add("eve.ipynb", "eve", work("09", {"gaussian_kl": NO_HALF}), but("09", q1=0), "no 1/2 in the KL; the rest builds on it")
    add("finn.ipynb", "finn", work("09", {"reparameterize": DETACHED}), but("09", q2=1), "no gradient through the sample")
    add("gus.ipynb", "gus", work("09", {"elbo": NAIVE_ELBO}), but("09", q3=3), "sigmoid, then logarithm")
    add("hal.ipynb", "hal", work("09", {"log_likelihood": UNDERFLOWS}), but("09", q4=3), "the mean of what underflows")
    add("ida.ipynb", "ida", work("09", {"fit_decoder": HARDLY_TRAINED}), but("09", q5=0), "a decoder that was never trained")
    add("Wei Zhang_4711_assignsubmission_file/work.ipynb", "moodle-4711", work("09"), full, "right")
    renamed = work("09", {"gaussian_kl": RENAMED, "elbo": RENAMED_ELBO})
    add(
        "Wei Zhang_4712_assignsubmission_file/w.ipynb",
        "moodle-4712",
        renamed,
        but("09", q1=0),
        "the same name; a function renamed",
    )
    add("jon.ipynb", "jon", both("03", "09"), full, "two exercises in one notebook")
    add("leebo_81234_900001_work.ipynb", "canvas-81234", saved(work("09"))[:-2000], none, "half a file")
    add("leebo_LATE_81234_900002_work-1.ipynb", "canvas-81234", work("09"), full, "late, and whole")
    add("kai.ipynb", "kai", work("09", first=[FLOODS]), full, "forks, floods and fills the memory in a cell")
    add("lea.ipynb", "lea", work("09", last=[PATCHES]), full, "redefines check, the main module and what JSON does")
    on_gpu = work("09", first=["import torch\ntorch.set_default_device('cuda')\ndevice = torch.device('cuda:0')"])
    add("max.ipynb", "max", colab(on_gpu), full, "the GPU for all that is made")
    add("nia.ipynb", "nia", colab(work("09", {"gaussian_kl": CUDA_KL})), but("09", q1=0), "a function that wants a GPU")
    add("oli.ipynb", "oli", forger(), none, "writes answers of its own to every socket")
    add("pia.ipynb", "pia", thief("09"), none, "looks for the right answers everywhere, then answers 0")
    two = zipped(("03.ipynb", saved(work("03"))), ("09.ipynb", saved(work("09"))), links=("link.ipynb.lnk", "x/link"))
    add("quin.zip", "quin", two, full, "two exercises and links in an archive")
    add("rob.zip", "rob", zipped(("rob.ipynb", b" " * BOMB)), none, "an archive of 60 kB that unpacks to 60 MB")
    add("sam.ipynb", "sam", saved(work("09")).decode().encode("utf-16"), full, "UTF-16")

    full, none = FULL["15"], NOTHING["15"]
    add = adds("15")
    add("exercise-15-ada/15-wgan.ipynb", "exercise-15-ada", work("15"), full, "GitHub Classroom; the solution")
    add("bo.ipynb", "bo", work("15", STYLES_15), full, "lists, lambdas, a gradient by hand")
    add("cem.ipynb", "cem", work("15", {"wasserstein_1d": NOT_SORTED}), but("15", q2=0), "not sorted")
    add("dora.ipynb", "dora", work("15", {"jensen_shannon": NAN_JS}), but("15", q3=2), "0 log 0")
    add("eve.ipynb", "eve", work("15", {"critic_loss": TURNED_CRITIC}), but("15", q4=0), "the sign")
    add("finn.ipynb", "finn", work("15", {"began_balance": UNCLIPPED}), but("15", q5=2), "k leaves [0, 1]")
    add("gus.ipynb", "gus", work("15", {"gradient_penalty": NO_GRAPH}), but("15", q6=3), "no create_graph")
    add("hal.ipynb", "hal", work("15", {"critic_values": NOT_DONE}), but("15", q12=0), "the last one not done")
    add("ida.ipynb", "ida", work("15", first=[STUBBORN]), full, "a cell that never ends, whatever is raised in it")
    add("jon.ipynb", "jon", in_one_cell("15"), full, "all of it in one cell")
    add("kai.ipynb", "kai", work("15", RANDOM_15), none, "random numbers")
    add(
        "lea.ipynb",
        "lea",
        work("15", {"critic_values": RANDOM_15["critic_values"]}),
        but("15", q12=0),
        "random values of a critic",
    )
    return made


CLASS = _class()


def by_student(exercise: str) -> dict[str, int]:
    """The mark of each student: of several hand-ins the best counts."""
    marks: dict[str, int] = {}
    for one in CLASS:
        if one.exercise == exercise:
            marks[one.student] = max(marks.get(one.student, 0), one.total)
    return marks


def write(top: Path, chosen: list[HandIn] | None = None) -> None:
    """The hand-ins, in a folder for each exercise."""
    for one in CLASS if chosen is None else chosen:
        path = top / one.exercise / one.place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.content)
        if one.place.startswith("export/"):
            (top / one.exercise / "export" / "submission_metadata.yml").write_text(GRADESCOPE_TABLE)


# --- graded as an instructor does -------------------------------------------------------------------------------------


def differences(folder: Path, exercise: str, out: Path) -> list[str]:
    """What `gencourse grade` gave that was not written down beforehand, hand-in by hand-in and student by student."""
    import csv

    with open(out / "grades.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        points = found.setdefault(row["file"], {})
        points[row["question"]] = points.get(row["question"], 0) + float(row["points"] or "nan")
    wrong = []
    for one in CLASS:
        if one.exercise == exercise and (folder / one.place).exists():
            got = found.get(one.place)
            wanted = {f"{int(exercise)}.{i}": points for i, points in enumerate(one.points, 1)} | {"total": one.total}
            if got != wanted:
                wrong.append(f"{exercise} {one.place} ({one.why}): {got} instead of {wanted}")
    with open(out / "students.csv", newline="", encoding="utf-8-sig") as file:
        marks = sorted(float(row["points"] or "nan") for row in csv.DictReader(file))
    if marks != sorted(mark for who, mark in by_student(exercise).items() if who in _students(folder, exercise)):
        wrong.append(f"{exercise}: students have {marks}")
    return wrong


def _students(folder: Path, exercise: str) -> set[str]:
    return {one.student for one in CLASS if one.exercise == exercise and (folder / one.place).exists()}


def interpreter() -> str | None:
    """One of this version that all users may read."""
    from gencourse.grading import sandbox

    if not sandbox.root_problem():
        return sys.executable
    places = [f"{place}/python3.{sys.version_info.minor}" for place in ("/usr/bin", "/usr/local/bin")]
    return next((place for place in places if os.access(place, os.X_OK)), None)


def environment() -> dict[str, str]:
    """For an interpreter that is not this environment's own."""
    path = os.pathsep.join([str(ROOT), *(place for place in sys.path if place.endswith("-packages"))])
    return {"PATH": os.environ["PATH"], "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "HOME": "/tmp"}


def graded(folder: Path, exercise: str, out: Path, jobs: int, user: int | None = None) -> list[str]:
    """Grade one exercise of the class with `gencourse grade`, as this user or as another."""
    command = [sys.executable, "-m", "gencourse", "grade", str(folder), "--exercise", exercise, "--out", str(out)]
    command += ["--jobs", str(jobs), "--secret-file", str(folder.parent / "secret")]
    if user is not None:
        command[0] = str(interpreter())
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
        out.mkdir(parents=True, exist_ok=True)
        os.chown(out, user, user)
    done = subprocess.run(command, env=environment(), cwd="/", capture_output=True, text=True)
    return [f"{exercise}: {done.stderr}"] if done.returncode else differences(folder, exercise, out)


# Runs a command where the checkout is not, as in the container, but for the packages of its environment.
WITHOUT_CHECKOUT = [
    *("unshare", "--mount", "sh", "-ec"),
    'held=$(mktemp -d); [ -d "$0/.venv" ] && mount --bind "$0/.venv" "$held"; mount -t tmpfs -o mode=755 none "$0"; '
    'mkdir "$0/.venv"; mount --bind "$held" "$0/.venv"; exec "$@"',
    str(ROOT),
]


def gradescoped(one: HandIn, archive: Path, base: Path) -> list[str]:
    """Grade one hand-in as Gradescope does, in a folder that looks like its container."""
    for name in ("source", "submission", "results"):
        (base / name).mkdir(parents=True)
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(base / "source")
    (base / "source").chmod(0o700)
    (base / "submission" / Path(one.place).name).write_bytes(one.content)
    (base / "submission_metadata.json").write_text(json.dumps({"users": [{"email": f"{one.student}@example.org", "id": 1}]}))
    script = (
        f"from pathlib import Path; from gencourse.grading import gradescope as g; g.main({one.exercise!r}, Path({str(base)!r}))"
    )
    around = environment()
    around["PYTHONPATH"] = around["PYTHONPATH"].replace(str(ROOT), str(base / "source"), 1)
    command = [*WITHOUT_CHECKOUT, str(interpreter()), "-c", script]
    done = subprocess.run(command, env=around, cwd="/", capture_output=True, text=True)
    if done.returncode:
        return [f"{one.exercise} {one.place}: {done.stderr}"]
    result = json.loads((base / "results" / "results.json").read_text())
    got = (result.get("score"), sum(test.get("max_score", 0) for test in result.get("tests", [])))
    wanted = (one.total, sum(FULL[one.exercise]))
    return [] if got == wanted else [f"{one.exercise} {one.place} ({one.why}): {got} instead of {wanted}"]


def main() -> None:
    import argparse
    import shutil
    import tempfile

    from gencourse.grading import gradescope

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("top", type=Path, help="a folder to write to; it is emptied")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--user", type=int, help="the number of the user who grades, such as 65534; needs root")
    parser.add_argument("--gradescope", action="store_true")
    parser.add_argument("--exercise", action="append")
    asked = parser.parse_args()
    top = asked.top.resolve()
    shutil.rmtree(top, ignore_errors=True)
    write(top / "handed-in")
    (top / "handed-in" / "secret").write_text("a secret of the class of sixty\n")
    begun, wrong = time.monotonic(), []
    if asked.gradescope:
        archives = {n: gradescope.archive(n, top / f"{n}.zip", b"0123456789abcdef") for n in FULL}
        for one in CLASS:
            if not asked.exercise or one.exercise in asked.exercise:
                with tempfile.TemporaryDirectory(dir=top) as base:
                    Path(base).chmod(0o755)
                    wrong += gradescoped(one, archives[one.exercise], Path(base))
    else:
        for number in asked.exercise or FULL:
            wrong += graded(top / "handed-in" / number, number, top / "marks" / number, asked.jobs, asked.user)
    print(*wrong, sep="\n")
    print(f"{len(CLASS)} hand-ins, {len(wrong)} differences, {time.monotonic() - begun:.0f} s")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
