"""A small exercise without torch, so that a class of two hundred is graded in a minute."""

import json

import numpy as np

from gencourse.grading.questions import Check, Question


def _kl(p, q):
    return (p * np.log(p / q)).sum(1)


def _pair(rng, B, n):
    p, q = rng.dirichlet(np.ones(n) + 1, (2, B))
    return {"p": p, "q": q}


def _same(rng):
    p = _pair(rng, 4, 3)["p"]
    return {"p": p, "q": p.copy()}


KL = Question(
    id="90.1",
    title="The KL divergence of two distributions",
    function="kl",
    returns="(B,)",
    reference=_kl,
    example={"p": [[0.5, 0.5]], "q": [[0.25, 0.75]]},
    checks=(
        Check("values", 2, lambda rng: _pair(rng, 5, 4), rtol=1e-6, atol=1e-9),
        Check("zero at p = q", 1, _same, rtol=1e-6, atol=1e-9, needs="values"),
    ),
    mistakes={
        "swapped": lambda p, q: _kl(q, p),
        "mean": lambda p, q: _kl(p, q) / p.shape[1],
        "bits": lambda p, q: _kl(p, q) / np.log(2),
    },
    says={
        "swapped": "p and q have changed places.",
        "mean": "you average over the outcomes; the expectation is a sum.",
        "bits": "your answer is in bits; use the natural logarithm.",
    },
    library="numpy",
)

SCALED = Question(
    id="90.2",
    title="The mean of squares, scaled",
    function="scaled",
    returns="()",
    reference=lambda x, a: a * (x**2).mean(),
    example={"x": [1.0, 3.0], "a": 2.0},
    checks=(Check("values", 2, lambda rng: {"x": rng.standard_normal(6), "a": rng.uniform(1, 2)}, rtol=1e-6, atol=1e-9),),
    mistakes={"sum": lambda x, a: a * (x**2).sum()},
    says={"sum": "you add up the squares; their mean is wanted."},
    library="numpy",
)

QUESTIONS = (KL, SCALED)

KL_RIGHT = "def kl(p, q):\n    return (p * np.log(p / q)).sum(1)\n"
SCALED_RIGHT = "def scaled(x, a):\n    return a * (x ** 2).mean()\n"
IMPORTS = "import numpy as np\nfrom gencourse.grading import check\n"


def cells(*sources):
    """Code cells, with a text cell before them."""
    code = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    text = {"cell_type": "markdown", "metadata": {}, "source": ["# Exercise 90"]}
    return [text, *({**code, "source": source.splitlines(True)} for source in sources)]


def notebook(*sources, **other):
    """The bytes of a notebook with these code cells."""
    return json.dumps({"cells": cells(*sources), "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **other}).encode()


HONEST = notebook(IMPORTS, KL_RIGHT, 'check("90.1")', SCALED_RIGHT, 'check("90.2")')
