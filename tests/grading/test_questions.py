"""What every question is held to. What is its own stands in `test_qNN_*`; `gencourse selftest` tries more draws."""

import re
import sys
import tomllib
from dataclasses import replace
from decimal import Decimal, getcontext
from pathlib import Path

import nbformat
import numpy as np
import pytest
import toy_exercise
from question_tests import assert_full_points, ids

from gencourse.grading import grade, questions
from gencourse.grading.check import assess, collect
from gencourse.grading.inside import harness
from gencourse.grading.questions import Hint, told
from gencourse.grading.selftest import trivial
from tools import pages

ROOT = Path(__file__).parents[2]
EVERY = [question for number in questions.exercises() for question in questions.of_exercise(number)]
EXPERIMENTS = [question for question in EVERY if any(check.measure for check in question.checks)]
FORMULAS = [question for question in EVERY if question not in EXPERIMENTS]


@pytest.mark.parametrize("question", FORMULAS, **ids)
def test_the_reference_has_full_points(question):
    assert_full_points(question, question.reference, 20)


@pytest.mark.parametrize("question", FORMULAS, **ids)
def test_each_mistake_loses_points_and_is_called_by_its_name(question, monkeypatch):
    run, known = harness.run, {}

    def remembering(function, inputs, gradients=(), *, dtype="float32", **options):
        """Every mistake is compared with every other: run each once."""
        key = function, id(inputs), gradients, dtype
        if key not in known:
            known[key] = run(function, inputs, gradients, dtype=dtype, **options | {"twice": True})
        return known[key]

    monkeypatch.setattr(harness, "run", remembering)
    for seed in range(5):
        known.clear()
        inputs, truths = question.draw(seed), {}
        for name, function in question.mistakes.items():
            got = assess(question, inputs, collect(question, function, inputs), truths=truths)
            assert got.points < got.out_of, name
            assert got.sentence.endswith(f": {question.says[name]}"), name
            assert name in [part.mistake for part in got.checks]


@pytest.mark.parametrize("question", EVERY, **ids)
def test_mistakes_are_many_and_sentences_are_short_and_distinct(question):
    assert len(question.mistakes) >= 8
    assert len(set(question.says.values())) == len(question.mistakes)
    for says in question.says.values():
        assert says.count(". ") == 0
        assert says.endswith((".", "?"))
        assert len(says) < 220


@pytest.mark.parametrize("question", EVERY, **ids)
def test_what_is_drawn_can_be_held_in_float32(question):
    """So that the reference, in float64, sees the same numbers as the student."""
    for inputs in question.draw(0).values():
        assert all(array.dtype == np.float32 for array in inputs.values())
        assert tuple(name for name in inputs if not name.startswith("_")) == question.arguments
    assert all(isinstance(array, np.ndarray) and array.dtype == np.float64 for array in question.example.values())


def test_draws_depend_on_the_seed_and_on_the_check_alone():
    question = questions.get("9.1")
    a, b, other = question.draw(2**200 + 1), question.draw(2**200 + 1), question.draw(2**200 + 2)
    assert all(np.array_equal(a["values"][name], b["values"][name]) for name in a["values"])
    assert not np.array_equal(a["values"]["mu"], other["values"]["mu"])
    assert not np.array_equal(a["values"]["mu"][0, 0], a["gradients"]["mu"][0, 0])


class Always:
    """Equal to everything, as in an attack on graders that compare objects."""

    def __eq__(self, other):
        return True

    def __array__(self, *_, **__):
        return np.ones(5)


class Float(float):
    def __eq__(self, other):
        return True


ODD = {
    "sum of the first input": lambda *a: a[0].sum(-1),
    "sum of the second input": lambda *a: a[1].sum(-1),
    "all inputs": lambda *a: list(a),
    "equal to everything": lambda *a: Always(),
    "float equal to everything": lambda *a: Float(1.0),
    "empty list": lambda *a: [],
    "text": lambda *a: "right",
}


@pytest.mark.parametrize("question", EVERY, **ids)
def test_an_answer_without_thought_has_no_points(question):
    for seed in range(2 if question in EXPERIMENTS else 5):
        inputs, truths = question.draw(seed), {}
        for name, function in {**trivial(question), **ODD}.items():
            answers = collect(question, function, inputs)
            assert assess(question, inputs, answers, explain=False, truths=truths).points == 0, f"{name}, draw {seed}"


@pytest.mark.parametrize("question", EXPERIMENTS, **ids)
def test_each_check_of_an_experiment_is_stricter_than_the_one_before(question):
    bounds = [check.measure.at_most for check in question.checks]
    assert bounds == sorted(bounds, reverse=True)


# --- what belongs to a question ----------------------------------------------------------------------------------------


def amiss(question, cells):
    """What "Add a question" in CONTRIBUTING.md asks of the solution's cells and is not there, a sentence each."""
    number = question.id.split(".")[0].zfill(2)
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    heading = rf"^## {re.escape(question.id)} {re.escape(question.title)} \({question.points} points, \d+ minutes\)$"
    _, *under = re.split(heading, text, maxsplit=1, flags=re.MULTILINE)
    table = re.findall(r"^\| (.*?) \|", re.split(r"^## ", under[0], flags=re.MULTILINE)[0], re.MULTILINE) if under else []
    arguments = r"[^,]*,\s*".join(question.arguments)
    row = rf"^\| {re.escape(question.id)} \| {re.escape(question.title)} \| {question.points} \|"
    expected = {
        f"no heading '## {question.id} {question.title} ({question.points} points, ... minutes)'": bool(under),
        f"no row '| {question.id} | {question.title} | {question.points} |' in its first table": re.search(
            row, text, re.MULTILINE
        ),
        f"no table beneath its heading with a row for each of {', '.join(question.arguments)} and for what it returns": (
            all(any(f"`{name}`" in first for first in table) for name in question.arguments) and "returns" in table
        ),
        f"no function {question.function}({', '.join(question.arguments)})": re.search(
            rf"^def {question.function}\(\s*{arguments}\b", code, re.MULTILINE
        ),
        f'no check("{question.id}")': f'check("{question.id}")' in code,
    }
    return [f"solutions/{number}-*.ipynb has {says}" for says, there in expected.items() if not there]


def solution(number):
    (path,) = (ROOT / "solutions").glob(f"{number}-*.ipynb")
    return nbformat.read(path, as_version=4).cells


def named_in_tests(question):
    """Whether the exercise's own tests name a question, so that right answers by other routes are tried."""
    module = next(
        m for m in sys.modules.values() if any(value is question for value in vars(m).values()) and ".questions.q" in m.__name__
    )
    name = next(name for name, value in vars(module).items() if value is question)
    path = ROOT / "tests" / "grading" / f"test_{module.__name__.rpartition('.')[2]}.py"
    return re.search(rf"\b{name}\b", path.read_text(encoding="utf-8")) is not None


@pytest.mark.parametrize("question", EVERY, **ids)
def test_nothing_of_a_question_was_forgotten(question):
    found = amiss(question, solution(question.id.split(".")[0].zfill(2)))
    assert not found, "; ".join(found)
    assert named_in_tests(question), f"{question.id}: try right answers by other routes in tests/grading/test_qNN_name.py"
    on_the_map = {number for row in pages.table()["rows"] for number in row.get("exercise", [])}
    assert question in EXPERIMENTS or question.id in on_the_map, f"{question.id} stands in no row of book/lecture_map.toml"


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (
            "## 9.2 A sample",
            "## 9.2 The sample",
            "no heading '## 9.2 A sample that lets the gradient through (3 points, ... minutes)'",
        ),
        ("(3 points, 5 minutes)", "(2 points, 5 minutes)", "no heading '## 9.2"),
        (
            "| 9.2 | A sample that lets the gradient through | 3 |",
            "",
            "no row '| 9.2 | A sample that lets the gradient through | 3 |'",
        ),
        (
            "| `eps` | `(B, latent)` | standard normal noise |",
            "",
            "no table beneath its heading with a row for each of mu, log_var, eps",
        ),
        ("| returns | `(B, latent)` | the sample `z` |", "", "no table beneath its heading"),
        ("def reparameterize(", "def reparametrise(", "no function reparameterize(mu, log_var, eps)"),
        ("log_var: torch.Tensor, eps: torch.Tensor", "eps: torch.Tensor, log_var: torch.Tensor", "no function reparameterize(mu"),
        ('check("9.2")', 'check("9.3")', 'no check("9.2")'),
    ],
    ids=lambda value: value[:30],
)
def test_what_was_forgotten_of_a_question_is_named(before, after, says):
    cells = solution("09")
    assert sum(before in cell.source for cell in cells)
    for cell in cells:
        cell.source = cell.source.replace(before, after)
    assert any(says in sentence for sentence in amiss(questions.get("9.2"), cells))


def test_a_question_is_found_without_the_other_exercises(monkeypatch):
    """`check` in a notebook need not wait for them."""
    looked_at, real = [], questions.of_exercise
    monkeypatch.setattr(questions, "of_exercise", lambda number: looked_at.append(number) or real(number))
    assert questions.get("9.4").title == "The log-likelihood by importance sampling"
    assert looked_at == ["09"]


# --- the sentences ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", questions.exercises())
def test_sentences_are_said_of_questions_that_there_are(number):
    (path,) = Path(questions.__file__).parent.glob(f"q{number}_*.toml")
    assert list(tomllib.loads(path.read_text(encoding="utf-8"))) == [question.id for question in questions.of_exercise(number)]


def test_a_mistake_and_its_sentence_belong_together():
    kl = toy_exercise.KL
    told_of = r"^90\.1: each mistake has a function, and a sentence in the exercise's \.toml; there is "
    with pytest.raises(ValueError, match=told_of + r"no sentence for 'half'\.$"):
        replace(kl, mistakes={**kl.mistakes, "half": kl.reference})
    with pytest.raises(ValueError, match=told_of + r"no function for 'half', 'sign'\.$"):
        replace(kl, says={**kl.says, "sign": "it is negative.", "half": "it is twice as much."})
    with pytest.raises(ValueError, match=told_of + r"no sentence for 'mean'; no function for 'means'\.$"):
        replace(kl, says={name.replace("mean", "means"): says for name, says in kl.says.items()})
    with pytest.raises(ValueError, match=r"^77\.1: .* no sentence for 'bits', 'mean', 'swapped'\.$"):
        replace(kl, id="77.1", says={})
    with pytest.raises(ValueError, match=r"^9\.5: a hint names the mistake 'no bais', of which nothing is said; .*no bias"):
        told("9.5", "no bais")
    assert told("9.5", "no bias") == Hint(questions.get("9.5").says["no bias"])


def test_a_corrected_sentence_grades_anew(monkeypatch, tmp_path):
    """What a record is kept under depends on every file of the grader, the sentences among them."""
    (tmp_path / "questions").mkdir()
    (tmp_path / "inside").mkdir()
    files = [tmp_path / name for name in ("grade.py", "inside/harness.py", "questions/q09.py", "questions/q09.toml")]
    for path in files:
        path.write_text("as it was")
    monkeypatch.setattr(grade, "_HERE", tmp_path)
    codes = {grade._code.__wrapped__()}
    for path in files:
        path.write_text("as it is now")
        codes.add(grade._code.__wrapped__())
    assert len(codes) == 1 + len(files)
    (tmp_path / "notes.txt").write_text("no matter")
    assert grade._code.__wrapped__() in codes


def test_the_divergence_of_pixels_is_exact_for_sure_ones_too():
    """Against 50 digits; where both logits are the same it is 0."""
    true, own = np.meshgrid([-300.0, -40.0, -1.5, 0.0, 0.3, 60.0, 250.0], [-200.0, -37.0, -0.2, 2.0, 45.0, 300.0])
    getcontext().prec = 50
    one = Decimal(1)

    def probabilities(logit):
        e = (-Decimal(logit)).exp()
        return one / (1 + e), e / (1 + e)

    for t, o, kl in zip(true.flat, own.flat, questions.pixels_kl(true, own).flat, strict=True):
        exact = sum(p * (p / q).ln() for p, q in zip(probabilities(t), probabilities(o), strict=True))
        assert kl == pytest.approx(float(exact), rel=1e-12)
    assert (questions.pixels_kl(true, true) == 0).all()
