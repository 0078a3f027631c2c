"""What a student reads: one sentence, their own line, and nothing of ours."""

import functools
import inspect
import re
import sys
import types
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import toy_exercise

from gencourse.grading import check, questions
from gencourse.grading.check import assess, collect
from gencourse.grading.inside import harness

ROOT = Path(__file__).parents[2]


def right(mu, log_var):
    return 0.5 * (log_var.exp() + mu**2 - 1 - log_var).sum(1)


def sentence(source: str, capsys) -> str:
    """What check("9.1") prints in a notebook whose one cell is `source`."""
    namespace = {"torch": torch, "np": np, "check": check}
    exec(compile(source, "cell.py", "exec"), namespace)
    exec('check("9.1")', namespace)
    said = capsys.readouterr().out
    assert said.endswith("\n")
    assert said.count("\n") == 1
    return said.rstrip("\n")


def test_infinity_is_no_fault_where_it_is_the_answer():
    """A distribution that is zero where the other is not has an infinite divergence from it."""

    def divergence(p, q):
        return torch.where(p > 0, p * (p / q).log(), 0.0).sum(1)

    def said(function):
        return {part.name: part.says for part in check("2.1", function).checks}["zeros"]

    found = said(lambda p, q: torch.stack([divergence(p, q), 1.3 * divergence(q, p)], 1))
    assert "infinite" not in found
    assert "the answer is" in found
    finite = said(lambda p, q: torch.stack([divergence(p, q).clamp(max=50), 1.01 * divergence(q, p).clamp(max=50)], 1))
    assert finite == "some of your numbers are finite where the answer is infinite."
    assert "infinite" in said(lambda p, q: torch.stack([divergence(p, q), divergence(q, p) / (p.sum(1) - p.sum(1))], 1))


def test_right_answers_are_told_so_and_shown_once(capsys):
    result = check("9.1", right)
    assert capsys.readouterr().out == "9.1: correct (3/3 points).\n"
    assert (result.status, result.points, result.out_of) == ("ok", 3, 3)
    assert result._ipython_display_() is None  # what IPython calls in place of repr


def test_the_function_is_found_where_check_is_called(capsys):
    gaussian_kl = right  # noqa: F841
    assert check("9.1").status == "ok"
    assert check("9.2").sentence == "9.2: not attempted yet: run the cell that defines reparameterize first."


@pytest.mark.parametrize(
    "body", ["...", "pass", "'''Doc.'''", "'''Doc.'''\n    ...  # your code here", "return None", "return ..."]
)
def test_an_untouched_cell_is_not_attempted(capsys, body):
    assert sentence(f"def gaussian_kl(mu, log_var):\n    {body}", capsys) == "9.1: not attempted yet."


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "def helper(m):\n    return m / nothing\ndef gaussian_kl(mu, log_var):\n    return helper(mu)",
            "line 2 of your code raised NameError: name 'nothing' is not defined.",
        ),
        (
            "def gaussian_kl(mu, log_var):\n\n    return mu @ log_var",
            "line 3 of your code raised RuntimeError: mat1 and mat2 shapes",
        ),
        (
            "def gaussian_kl(mu):\n    return mu",
            "calling gaussian_kl(mu, log_var) raised TypeError: gaussian_kl() takes 1 positional",
        ),
        ("def gaussian_kl(mu, log_var):\n    raise SystemExit", "line 2 of your code raised SystemExit."),
        ("def gaussian_kl(mu, log_var):\n    return gaussian_kl(mu, log_var)", "line 2 of your code raised RecursionError"),
        ("def gaussian_kl(mu, log_var):\n    raise ValueError('one\\n  two')", "raised ValueError: one."),
        ("def gaussian_kl(mu, log_var):\n    y = mu.sum(1)", "your function returned nothing; does it end in `return`"),
        (
            "def gaussian_kl(mu, log_var):\n    return str(mu)",
            "a value of type str, where a tensor of shape (B,) of real numbers belongs.",
        ),
        ("def gaussian_kl(mu, log_var):\n    return mu.sum(1), 1", "a value of type tuple, where"),
        (
            "def gaussian_kl(mu, log_var):\n    return mu.sum(1) + 1j",
            "a value of type Tensor, where a tensor of shape (B,) of real numbers",
        ),
        ("def gaussian_kl(mu, log_var):\n    return mu[:, :1]", "your answer has shape (5, 1), where (B,), here (5,), belongs."),
        ("def gaussian_kl(mu, log_var):\n    return 0.5", "one number for the whole batch, where (B,) belongs."),
        ("def gaussian_kl(mu, log_var):\n    return mu.sum(1) * float('nan')", "some of your numbers are NaN"),
        ("def gaussian_kl(mu, log_var):\n    return 1e39 * mu.sum(1)", "some of your numbers are infinite"),
        (
            "def gaussian_kl(mu, log_var):\n    return torch.randn(len(mu))",
            "two calls with the same inputs gave different answers",
        ),
        (
            "def gaussian_kl(mu, log_var):\n    return 3 * (log_var.exp() + mu**2 - 1 - log_var).sum(1)",
            "your numbers are 6 times the right ones",
        ),
        (
            "def gaussian_kl(mu, log_var):\n    return 5 + 0.5 * (log_var.exp() + mu**2 - 1 - log_var).sum(1)",
            "all off by the same amount, +5.",
        ),
        (
            "def gaussian_kl(mu, log_var):\n    return 0.5 * (log_var.exp() + mu**3 - 1 - log_var).sum(1)",
            "right for mu = [[1., 0.]], log_var = [[0., 1.]], but wrong for random inputs",
        ),
        (
            "def gaussian_kl(mu, log_var):\n    return (mu**4).sum(1)",
            "for mu = [[1., 0.]], log_var = [[0., 1.]] the answer is [0.8591], and yours is [1.].",
        ),
        (
            "def gaussian_kl(mu, log_var):\n    return (0.5 * (log_var.exp() + mu.detach()**2 - 1 - log_var)).sum(1)",
            "no gradient arrives at mu;",
        ),
        (
            "def gaussian_kl(mu, log_var):\n    y = log_var.exp()\n"
            "    s = (y + mu**2 - 1 - log_var).sum(1) / 2\n    y.mul_(2)\n    return s",
            "computing the gradient of your answer raised RuntimeError",
        ),
        (
            "def gaussian_kl(mu, log_var):\n    return 0.4999 * (log_var.exp() + mu**2 - 1 - log_var).sum(1)",
            "right to about 4 digits only; is a constant rounded",
        ),
        (
            "def gaussian_kl(mu, log_var):\n    return (0.5 * (log_var.exp() + mu**2 - 1 - log_var)).sum(1).half()",
            "digits only; is a constant rounded, or the precision too low?",
        ),
        (
            "def gaussian_kl(mu, log_var):\n    y = torch.where(mu > 9, (mu.abs() + 9 - mu.abs() - 9).sqrt(), mu) - mu\n"
            "    return 0.5 * (y + log_var.exp() + mu**2 - 1 - log_var).sum(1)",
            "your values are finite, but the derivative with respect to mu has NaN or infinite numbers; in torch.where",
        ),
        (
            "@torch.no_grad()\ndef gaussian_kl(mu, log_var):\n    y = mu + 1\n    return y + nothing",
            "line 4 of your code raised NameError",
        ),
        ("@torch.no_grad()\ndef gaussian_kl(mu, log_var):\n    ...", "not attempted yet."),
        ("gaussian_kl = 3", "gaussian_kl is not a function but of type int"),
        ("def gaussian_kl(mu, log_var):\n    raise KeyboardInterrupt", "interrupted while your function ran"),
    ],
)
def test_an_answer_that_cannot_be_right_gets_its_own_sentence(capsys, source, says):
    said = sentence(source, capsys)
    assert says in said
    assert "gencourse" not in said
    assert "/" not in re.sub(r"\(\d/\d points", "", said)  # no path


BARE = """
def bare(function):  # does not say what it wraps

    def inner(*inputs):
        return function(*inputs)

    return inner
"""


@pytest.mark.parametrize(
    "source",
    [
        "@bare\ndef gaussian_kl(mu, log_var):\n    return mu + nothing",
        "@bare\n@torch.no_grad()\ndef gaussian_kl(mu, log_var): return mu + nothing",
        "def kl(mu, log_var, k):\n\n    return mu + nothing\ngaussian_kl = functools.partial(kl, k=2)",
        "class KL(torch.nn.Module):\n    def forward(self, mu, log_var): return mu + nothing\ngaussian_kl = KL()",
        "def log(x):\n    return x\ndef kl(x): return log(x) + nothing\ngaussian_kl = lambda mu, log_var: bare(kl)(mu)",
    ],
    ids=["a decorator that hides the function", "two decorators", "partial", "a module", "a helper"],
)
def test_the_line_is_the_notebooks_beneath_whatever_stands_in_other_files(source, monkeypatch, capsys):
    """A notebook's cells share the namespace of `__main__`, where students work as in the grader."""
    elsewhere: dict = {}
    exec(compile(BARE, "elsewhere.py", "exec"), elsewhere)
    notebook = types.ModuleType("__main__")
    notebook.__dict__.update(torch=torch, functools=functools, bare=elsewhere["bare"])
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    exec(compile(source, "cell.py", "exec"), notebook.__dict__)
    line = 1 + next(number for number, text in enumerate(source.splitlines()) if "nothing" in text)
    said = check("9.1", notebook.gaussian_kl).sentence
    assert said == f"9.1: not yet (0/3 points): line {line} of your code raised NameError: name 'nothing' is not defined."


def test_the_students_line_is_shown_where_its_text_is_known(tmp_path, capsys):
    import importlib.util

    path = tmp_path / "student.py"
    path.write_text("def gaussian_kl(mu, log_var):\n    return mu.nothing\n")
    spec = importlib.util.spec_from_file_location("student", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    said = check("9.1", module.gaussian_kl).sentence
    assert "line 2 of your code (return mu.nothing) raised AttributeError" in said
    assert str(tmp_path) not in said


def test_gradients_of_numbers_in_the_wrong_place_are_wrong():
    """A weighted sum is differentiated, since a plain one is the same in whatever order the numbers stand."""
    for seed in range(5):
        assert check("9.1", lambda mu, log_var: right(mu, log_var).flip(0), seed=seed).points == 0
        assert check("9.2", lambda mu, log_var, eps: (mu + (log_var / 2).exp() * eps).roll(1, 1), seed=seed).points == 0


def test_an_answer_that_is_all_nan_is_called_after_no_mistake():
    """There are many ways to get there, and the first mistake that gives NaN would be named for all of them."""
    kl = toy_exercise.KL
    nan = {"logarithm of a negative number": lambda p, q: np.log(-p).sum(1)}
    question = replace(kl, mistakes={**nan, **kl.mistakes}, says={"logarithm of a negative number": "a minus.", **kl.says})
    inputs = question.draw(0)
    with np.errstate(invalid="ignore"):
        got = assess(question, inputs, collect(question, lambda p, q: np.full(len(p), np.nan), inputs))
    assert "some of your numbers are NaN" in got.sentence
    assert [part.mistake for part in got.checks] == ["", ""]


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([True, False, True]),
        np.array([True, False, True]),
        [True, False, True],
        [torch.tensor(True), torch.tensor(False), np.bool_(True)],
    ],
)
def test_true_and_false_are_one_and_zero(value):
    answer = harness.run(lambda: value, {})
    assert answer["value"].dtype == np.float64
    assert answer["value"].tolist() == [1.0, 0.0, 1.0]


def test_the_state_of_torch_that_a_notebook_leaves_behind_changes_no_verdict(capsys):
    """The default device is where there is one; weights of the gradients are not of the default type."""
    try:
        torch.set_default_device("meta")
        torch.set_default_dtype(torch.bfloat16)
        assert check("9.1", right).points == 3
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


def test_an_unknown_question_suggests_the_nearest(capsys):
    assert check("9.11").sentence == "there is no question '9.11'; did you mean \"9.1\"?"
    assert re.search(r"there are: .*\b9\.1, 9\.2", check("kl").sentence)
    with pytest.raises(ValueError, match=r"no exercise '77'; there are: .*\b09"):
        questions.of_exercise("77")


def test_printing_leaves_the_answer_one_sentence_and_random_state_alone(capsys):
    def talks(mu, log_var):
        print("debugging")
        return right(mu, log_var)

    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002  a student's notebook may use it
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    check("9.1", talks)
    assert capsys.readouterr().out == "9.1: correct (3/3 points).\n"
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_inputs_differ_from_call_to_call_and_come_again_with_a_seed():
    seen = []

    def watches(mu, log_var):
        seen.append(mu.detach().sum().item())
        return right(mu, log_var)

    for seed in (None, None, 5, 5):
        check("9.1", watches, seed=seed)
    first, second, third, fourth = (seen[i] for i in range(0, len(seen), len(seen) // 4))
    assert first != second != third
    assert third == fourth


def test_the_harness_stands_alone_and_returns_plain_data():
    """It is sent to a process that has torch and NumPy, and neither this package nor any answer."""
    source = inspect.getsource(harness)
    assert "gencourse" not in source
    alone = {"__name__": "alone"}
    exec(compile(source, "alone.py", "exec"), alone)
    question = questions.get("9.1")
    inputs = question.draw(0)
    answers = {c.name: alone["run"](right, inputs[c.name], c.gradients) for c in question.checks}
    answers["example"] = alone["run"](right, question.example)
    assert assess(question, inputs, answers).points == 3
    for answer in answers.values():
        assert {type(value) for value in answer.values()} <= {str, bool, np.ndarray}
        assert all(v.dtype == np.float64 for v in answer.values() if isinstance(v, np.ndarray))


def test_checking_needs_no_ipython():
    import subprocess
    import sys

    code = "import sys; sys.modules['IPython'] = None; from gencourse.grading import check; check('9.1', lambda mu, log_var: mu)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "your answer has shape (5, 3)" in done.stdout


def said_by(path: Path, capsys) -> list[str]:
    """What the checks of a notebook print; its cells run in one namespace."""
    namespace: dict = {"__name__": "__main__"}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and "google.colab" not in cell.source:
            exec(compile(cell.source, path.name, "exec"), namespace)
    return re.findall(r"^\d+\.\d+: .*$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("number", questions.exercises())
def test_every_question_is_asked_answered_and_at_first_untouched(number, capsys):
    every = questions.of_exercise(number)
    (solution,), (exercise,) = (list((ROOT / folder).glob(f"{number}-*.ipynb")) for folder in ("solutions", "exercises"))
    answers = said_by(solution, capsys)
    assert [said.partition(":")[0] for said in answers] == [q.id for q in every], f"{solution} must ask check(...) for each"
    for said, q in zip(answers, every, strict=True):
        verdict, _, number_reached = said.partition("points).")
        assert verdict == f"{q.id}: correct ({q.points}/{q.points} "
        assert bool(re.search(r" is -?\d+\.\d+", number_reached)) == any(c.measure for c in q.checks)  # an experiment's number
    assert said_by(exercise, capsys) == [f"{q.id}: not attempted yet." for q in every]
