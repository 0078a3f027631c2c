"""The students' edition: no answers in it, and `check` says there what it says here."""

import ast
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gencourse.grading import mutants, publish, questions
from gencourse.grading.check import assess
from gencourse.grading.inside import harness
from gencourse.grading.questions.stored import StoredQuestion
from gencourse.grading.release import BEGIN, END
from gencourse.grading.selftest import trivial

judging = importlib.import_module("gencourse.grading.check")  # the package's `check` is the function
ROOT = Path(__file__).parents[2]
EXERCISES = [path.name[:2] for path in sorted((ROOT / "solutions").glob("[0-9][0-9]-*.ipynb"))]

SHOWN = ("13: def _kl(",)
"""What chapters show as well: formulas that a mistake needs, and that no question of the exercise asks for."""


@pytest.fixture(scope="module")
def edition(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("published") / "edition"
    publish.publish(out)
    return out


def loaded(path):
    """A file of questions as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stored(edition, number):
    """An exercise's questions as the edition has them."""
    return loaded(edition / "gencourse" / "grading" / "questions" / f"{questions.module_name(number)}.py").QUESTIONS


class Here:
    """A question with its functions, each of which is asked once for each kept draw."""

    def __init__(self, question):
        self.question, self.known = question, {}

    def __getattr__(self, name):
        return getattr(self.question, name)

    def wrong(self, mistake, inputs, check):
        key = mistake, check.name, inputs.draw
        if key not in self.known:
            self.known[key] = self.question.wrong(mistake, inputs, check)
        return self.known[key]


class Once:
    """Judges an answer to a check once for each kept draw, of which the draws of a question are put together."""

    def __init__(self):
        self.judge, self.truths, self.known = judging._judge, {}, {}

    def __call__(self, question, check, inputs, answers, explain, truths):
        key = isinstance(question, StoredQuestion), check.name, inputs.draw
        if key not in self.known:
            self.known[key] = self.judge(question, check, inputs, answers, explain, self.truths.setdefault(key, {}))
        return self.known[key]


def answers_to(question, kept, draws, train):
    """Answers by name, each by check and kept draw, and on the example: by hand, without thought, made by machine."""
    own = [check for check in question.checks if not check.of]
    by_hand = {"reference": question.reference, **question.mistakes} if train or not question.seconds else {}
    found = {name: (lambda check, draw, f=f: f, True) for name, f in {**by_hand, **trivial(question)}.items()}
    if not question.seconds:
        full = [{check.name: kept.stored(check.name, draw) for check in own} for draw in draws]
        for made in (*mutants.styles(question, full), *mutants.mutants(question, full), *mutants.naive(question, full)):
            found[f"made: {made.name}"] = (made.function, made.twice)
    for name, (function, twice) in found.items():
        answers = {}
        for check in own:
            options = question.calling(check) | ({} if check.measure else {"twice": twice})
            for place, draw in enumerate(draws):
                inputs = check.given(kept.stored(check.name, draw))
                answers[check.name, draw] = harness.run(function(check, place), inputs, check.gradients, **options)
        example = {} if question.seconds else harness.run(function(own[0], 0), question.example, **question.calling())
        yield name, answers, example


def mixed(answers, shape, draws, count):
    """Answers to an experiment between two of those that there are, for each draw in turn."""
    rng, own = np.random.default_rng(0), next(iter(answers.values()))
    (check,) = {check for check, _ in own}
    for place in range(count):
        key = check, draws[place % len(draws)]
        usable = [every[key] for every in answers.values() if np.shape(every[key].get("value")) == shape]
        usable = [answer for answer in usable if np.isfinite(answer["value"]).all()]
        a, b = rng.choice(len(usable), 2)
        share = rng.choice([0.02, 0.1, 0.5])
        value = (1 - share) * usable[a]["value"] + share * usable[b]["value"]
        yield {key: {**usable[a], "value": value}}


def compared(edition, number, seeds, monkeypatch, most=None, share=1, train=False):
    """How many verdicts there are and how many of them are the same sentences, over these draws of the edition.

    Of the kept draws at most `most` are asked for, of the answers every `share`-th.
    """
    count = 0
    for question, kept in zip(questions.of_exercise(number), stored(edition, number), strict=True):
        once, here = Once(), Here(question)
        monkeypatch.setattr(judging, "_judge", once)
        draws = range(kept.draws)[:most]
        tried = {}
        for place, (name, answers, example) in enumerate(answers_to(question, kept, draws, train)):
            if place % share:
                continue
            tried[name] = answers
            once.known.clear()
            for seed in seeds:
                inputs = kept.draw(seed)
                if all(given.draw in draws for given in inputs.values()):
                    own = {check: answers[check, given.draw] for check, given in inputs.items()} | {"example": example}
                    with np.errstate(all="ignore"):
                        assert assess(kept, inputs, own) == assess(here, inputs, own), (question.id, name, seed)
                    count += 1
        if question.seconds:
            own = question.checks[0]
            shape = own.measure.shape(kept.stored(own.name, 0))
            for answer in mixed(tried, shape, draws, len(seeds)):
                ((check, draw),) = answer
                inputs, own = {check: kept.stored(check, draw)}, {check: answer[check, draw], "example": {}}
                once.known.clear()
                with np.errstate(all="ignore"):
                    assert assess(kept, inputs, own) == assess(here, inputs, own), (question.id, draw)
                count += 1
    return count


def test_check_says_there_what_it_says_here(edition, monkeypatch):
    assert compared(edition, "15", range(40), monkeypatch, most=3, share=6) > 200


@pytest.mark.weekly
@pytest.mark.parametrize("number", EXERCISES)
def test_check_says_there_what_it_says_here_on_200_draws(edition, number, monkeypatch):
    count = compared(edition, number, range(200), monkeypatch, train=True)
    print(f"\n{number}: {count} verdicts, all the same")
    assert count > 200 * 40 * (len(questions.of_exercise(number)) - 1)


def test_the_inputs_vary_and_are_those_of_the_course(edition):
    for question, kept in zip(questions.of_exercise("09"), stored(edition, "09"), strict=True):
        for draw in range(kept.draws):
            for check, inputs in question.draw(draw).items():
                given = kept.stored(check, draw)
                assert all(np.array_equal(given[name], array) for name, array in inputs.items())
        for check in kept.given:
            assert {kept.draw(seed)[check].draw for seed in range(200)} == set(range(kept.draws))


@pytest.mark.parametrize("number", EXERCISES)
def test_there_are_two_hundred_draws_of_every_question(edition, number):
    for kept in stored(edition, number):
        assert kept.draws == publish.EXPERIMENT_DRAWS if kept.seconds else kept.draws ** len(kept.given) >= 200


# --- nothing that answers ---------------------------------------------------------------------------------------------


class Renamed(ast.NodeTransformer):
    """Local names become their places, so that a copy under other names is the same."""

    def __init__(self, local):
        self.local = {name: f"_{place}" for place, name in enumerate(local)}

    def visit_Name(self, node):
        return ast.Name(self.local.get(node.id, node.id), node.ctx)


def body_of(function, least):
    """A function's or lambda's body, without names of its own and docstring; None if it is too short to tell."""
    body = [ast.Return(function.body)] if isinstance(function, ast.Lambda) else function.body
    body = [part for part in body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]
    inner = [node for part in body for node in ast.walk(part)]
    if len(inner) < least:
        return None
    arguments = [argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)]
    local = [node.id for node in inner if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    renamed = Renamed(dict.fromkeys(arguments + local))
    return "\n".join(ast.dump(renamed.visit(ast.parse(ast.unparse(part)))) for part in body)


def bodies(tree, least=20):
    """Of all functions, and each one's text."""
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda))
    return {body: ast.unparse(node) for node in functions if (body := body_of(node, least))}


def code_of(path):
    """The Python in a file: itself, or a notebook's code cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return ast.parse(text)
    cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return ast.parse("\n".join(re.sub(r"(?m)^(\s*)[%!].*", r"\1pass", cell) for cell in cells))


def answering():
    """The bodies of all functions in the questions' files but those that judge: references, mistakes, and what makes them."""
    found = {}
    for number in EXERCISES:
        module = importlib.import_module(f"{questions.__name__}.{questions.module_name(number)}")
        judges = bodies(ast.parse(publish.judging(module, module.QUESTIONS)[0]))
        every = bodies(ast.parse(Path(module.__file__).read_text(encoding="utf-8")))
        found |= {body: f"{number}: {text}" for body, text in every.items() if body not in judges}
    return found


def solved():
    """What stands between the markers, in each solution."""
    for path in sorted((ROOT / "solutions").glob("[0-9][0-9]-*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                yield from re.findall(rf"{BEGIN}\n(.*?)\n\s*{END}", "".join(cell["source"]), re.DOTALL)


def test_no_file_has_a_function_that_answers(edition):
    wanted = answering()
    assert len(wanted) > 200
    files = [path for path in edition.rglob("*") if path.suffix in (".py", ".ipynb")]
    assert len(files) > 100
    hits = [(path, wanted[body]) for path in files for body in bodies(code_of(path)) if body in wanted]
    hits = [(path, text) for path, text in hits if not text.startswith(SHOWN)]
    assert not hits, "\n\n".join(f"{path.relative_to(edition)}: {text}" for path, text in hits)


def test_the_search_would_find_a_copy_under_other_names():
    copy = "def divergence(m, s):\n    'Mine.'\n    return 0.5 * (s.exp() + m**2 - 1 - s).sum(-1)\n"
    assert bodies(ast.parse(copy)).keys() <= answering().keys()
    assert bodies(ast.parse(copy))


def test_no_file_has_a_line_of_a_solution(edition):
    answers = list(solved())
    assert len(answers) > 30
    lines = {line.strip() for part in answers for line in part.splitlines() if len(line.strip()) >= 40}
    assert len(lines) > 100
    hits = []
    for path in edition.rglob("*"):
        if path.suffix in (".py", ".ipynb", ".toml", ".md", ".js", ".json"):
            text = path.read_text(encoding="utf-8")
            hits += [(path, line) for line in lines if (json.dumps(line)[1:-1] if path.suffix == ".ipynb" else line) in text]
    assert not hits, "\n".join(f"{path.relative_to(edition)}: {line}" for path, line in hits)


def test_there_is_no_code_but_source(edition):
    kinds = {path.suffix for path in edition.rglob("*") if path.is_file() and "_static" not in path.parts}
    assert kinds <= {"", ".py", ".js", ".json", ".npz", ".toml", ".typed", ".ipynb", ".md", ".bib"}
    for path in edition.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as file:  # a pickle raises
            assert all(file[name].dtype.kind in "biufU" for name in file)
    for path in (edition / "exercises").glob("*.ipynb"):
        assert BEGIN not in path.read_text(encoding="utf-8")
    assert not (edition / "solutions").exists()
    assert not (edition / "gencourse" / "grading" / "questions" / "training.py").exists()


def test_a_question_of_the_edition_has_no_reference(edition):
    question = stored(edition, "09")[0]
    for function in (question.reference, *question.mistakes.values()):
        with pytest.raises(ValueError, match="no reference functions"):
            function(1.0, 2.0)
    with pytest.raises(ValueError, match="for no others"):
        question.right(dict(question.draw(0)["values"]), question.checks[0])


def test_what_is_stored_is_no_answer_elsewhere(edition):
    """A table from inputs to right answers, made of the edition's numbers, passes `check` there and earns nothing in grading."""
    kept, question = (every[3] for every in (stored(edition, "09"), questions.of_exercise("09")))
    table = {}
    for check in kept.checks:
        for draw in range(kept.draws):
            inputs = kept.stored(check.name, draw)
            table[b"".join(array.tobytes() for array in inputs.values())] = kept.right(inputs, check)["value"]

    def looked_up(*inputs):
        found = table.get(b"".join(np.asarray(array, dtype=np.float32).tobytes() for array in inputs))
        return found if found is not None else table[next(iter(table))]

    for seed in range(10):
        for asked, points in ((kept, question.points), (question, 0)):
            inputs = asked.draw(seed + 1000)  # grading's seeds are digests, far from the first few
            assert assess(asked, inputs, judging.collect(asked, looked_up, inputs)).points == points


def test_a_judge_that_answers_is_refused(tmp_path):
    module = importlib.import_module(f"{questions.__name__}.{questions.module_name('09')}")
    text = Path(module.__file__).read_text(encoding="utf-8")
    spoiled = text.replace("    p, q = (_table(", "    _fit_vae(answer)\n    p, q = (_table(")
    assert spoiled != text
    path = tmp_path / "q09_spoiled.py"
    path.write_text(spoiled, encoding="utf-8")
    other = loaded(path)
    with pytest.raises(ValueError, match="what judges the experiment calls _fit_vae"):
        publish.judging(other, other.QUESTIONS)


# --- on its own -------------------------------------------------------------------------------------------------------

PROGRAM = """
import gencourse
from gencourse.grading import check, questions
def gaussian_kl(mu, log_var):
    return (log_var.exp() + mu**2 - 1 - log_var).sum(-1)
def reparameterize(mu, log_var, eps):
    return mu + (log_var / 2).exp() * eps
print(gencourse.__file__)
check("9.1")
check("9.2")
print(*[len(questions.of_exercise(number)) for number in questions.exercises()])
"""


def alone(edition, cwd, *command):
    """With nothing of the course but the edition on the path: status, output, error."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "GENCOURSE"))}
    env = kept | {"PYTHONPATH": str(edition), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-B", *command], cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


def test_check_works_with_nothing_else_on_the_path(edition, tmp_path):
    status, output, error = alone(edition, tmp_path, "-c", PROGRAM)
    assert status == 0, error
    file, first, second, counts = output.splitlines()
    assert Path(file).is_relative_to(edition)
    assert first == f"9.1: not yet (0/3 points): {questions.get('9.1').says['no half']}"
    assert second == "9.2: correct (3/3 points)."
    assert counts.split() == [str(len(questions.of_exercise(number))) for number in EXERCISES]


def test_its_command_submits_and_does_not_grade(edition, tmp_path):
    (source,) = (edition / "exercises").glob("09-*.ipynb")
    status, output, error = alone(edition, tmp_path, "-m", "gencourse", "submit", "09", "--notebook", source, "--name", "ada")
    assert status == 0, error
    assert "0 of 5 questions answered" in output
    assert (tmp_path / "ada-09.ipynb").is_file()
    status, _, error = alone(edition, tmp_path, "-m", "gencourse", "grade", "x", "--exercise", "09", "--out", "y")
    assert status == 2 and "No such command" in error


# --- where it may be written ------------------------------------------------------------------------------------------


def test_what_cannot_be_a_place_for_it_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "write_questions", lambda *_: pytest.fail("nothing was to be written"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    (tmp_path / "file").write_text("")
    for name in ("full", "file"):
        with pytest.raises(FileExistsError, match="not an empty folder"):
            publish.publish(tmp_path / name)
    with pytest.raises(ValueError, match="lies in the repository"):
        publish.publish(ROOT / "_build" / "edition")
    with pytest.raises(ValueError, match="made from a clone"):
        publish.publish(tmp_path / "new", root=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


def test_notebooks_install_from_where_the_edition_stands(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "write_questions", lambda *_: None)
    (tmp_path / "elsewhere").mkdir()  # empty, so it may be used
    publish.publish(tmp_path / "elsewhere", "https://example.org/course/")
    for path in (tmp_path / "elsewhere" / "exercises").glob("*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert "github.com/gencourse" not in text and "git+https://example.org/course" in text
