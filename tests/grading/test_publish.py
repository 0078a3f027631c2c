"""The students' edition: no answers in it, and `check` says there what it says here."""

import ast
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from wheels import install, run

import gencourse
from gencourse.grading import mutants, publish, questions
from gencourse.grading.check import assess
from gencourse.grading.inside import harness
from gencourse.grading.questions.stored import StoredQuestion
from gencourse.grading.release import BEGIN, END
from gencourse.grading.selftest import trivial

judging = importlib.import_module("gencourse.grading.check")  # the package's `check` is the function
ROOT = Path(__file__).parents[2]
EXERCISES = re.findall(r"- file: exercises/(\d\d)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))

SHOWN = ("07: def _velocity(", "13: def _kl(")
"""What exercises give and chapters show as well: formulas that a mistake needs, and that no question of the exercise asks for."""


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


def test_no_page_for_instructors_is_there_and_no_page_links_what_is_not(edition):
    for page in publish.FOR_INSTRUCTORS:
        assert (ROOT / f"{page}.md").exists() and not (edition / f"{page}.md").exists()
    pages = sorted(edition.glob("book/*.md"))
    assert len(pages) > 5
    lost = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not target.startswith("http") and not (page.parent / target).exists()
    ]
    assert not lost, lost


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


GIVING_AWAY = {
    *("softplus", "logaddexp", "logsigmoid", "log_expit", "log_softmax", "softmax", "logsumexp", "log1p", "expm1"),
    *("conv2d", "conv_transpose2d", "linear_sum_assignment", "wasserstein_distance", "grad", "backward", "log_det", "slogdet"),
}
"""What answers are made of, and judges do without: by a table of probabilities, stored numbers, the library's own functions."""


def judges(number):
    module = importlib.import_module(f"{questions.__name__}.{questions.module_name(number)}")
    return ast.parse(Path(module.__file__).read_text(encoding="utf-8")), ast.parse(publish.judging(module, module.QUESTIONS)[0])


@pytest.mark.parametrize("number", EXERCISES)
def test_no_judge_calls_what_answers_are_made_of(number):
    _, judge = judges(number)
    called = [node.func for node in ast.walk(judge) if isinstance(node, ast.Call)]
    assert not {getattr(function, "attr", getattr(function, "id", "")) for function in called} & GIVING_AWAY


def expressions(tree, least=9):
    """All that are long enough to tell, names aside, and each one's text."""
    telling = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Compare, ast.Subscript)
    counted = (*telling, ast.Name, ast.Attribute, ast.Constant)
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, telling) and sum(isinstance(part, counted) for part in ast.walk(node)) >= least:
            names = dict.fromkeys(part.id for part in ast.walk(node) if isinstance(part, ast.Name))
            found.setdefault(ast.dump(Renamed(names).visit(ast.parse(ast.unparse(node)))), ast.unparse(node))
    return found


def test_no_judge_has_an_expression_of_an_answer():
    """Of any exercise: of a solution, of a reference or a mistake, of what draws the inputs."""
    answers, judging_ones = {}, {}
    for number in EXERCISES:
        tree, judge = judges(number)
        named = set(publish._defined(judge))
        for statement in (s for s in tree.body if not publish._binds(s) & named):
            answers |= {key: f"{number}: {text}" for key, text in expressions(statement).items()}
        judging_ones |= {key: f"{number}: {text}" for key, text in expressions(judge).items()}
    for part in solved():
        answers |= expressions(ast.parse("def f():\n" + textwrap.indent(textwrap.dedent(part), " ")))
    assert len(answers) > 1000
    assert len(judging_ones) > 50
    assert not {f"{judging_ones[key]}  as in  {answers[key]}" for key in judging_ones.keys() & answers.keys()}


def test_the_search_would_find_an_expression_under_other_names():
    theirs = expressions(ast.parse("def f(mu, v):\n    return 0.5 * (v.exp() + mu**2 - 1 - v).sum(-1)\n"))
    mine = expressions(ast.parse("half = 0.5 * (s.exp() + m**2 - 1 - s).sum(-1)"))
    other = expressions(ast.parse("half = 0.5 * (m.exp() + m**2 - 1 - s).sum(-1)"))
    assert theirs.keys() == mine.keys() != other.keys()


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


EXPERIMENTS = """
import numpy as np
from gencourse.grading import check, questions
for number in questions.exercises():
    question = questions.of_exercise(number)[-1]
    shape = question.checks[0].measure.shape
    check(question.id, lambda *given: np.zeros(shape(dict(zip(question.arguments, given)))))
"""


def test_experiments_are_measured_with_nothing_else_on_the_path(edition, tmp_path):
    status, output, error = alone(edition, tmp_path, "-c", EXPERIMENTS)
    assert status == 0, error
    lines = output.splitlines()
    assert len(lines) == len(EXERCISES)
    for number, line in zip(EXERCISES, lines, strict=True):
        question = questions.of_exercise(number)[-1]
        assert line.startswith(f"{question.id}: not yet (0/{question.points} points): ")
        assert re.search(r" is -?\d+\.\d{3}\b.* or less is wanted; ", line), line


@pytest.mark.weekly
@pytest.mark.parametrize("number", EXERCISES)
def test_a_solved_notebook_is_right_with_nothing_else_on_the_path(edition, number, tmp_path):
    (source,) = (ROOT / "solutions").glob(f"{number}-*.ipynb")
    cells = [cell for cell in json.loads(source.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    code = "\n".join(re.sub(r"(?m)^(\s*)[%!].*", r"\1pass", "".join(cell["source"])) for cell in cells)
    (tmp_path / "solved.py").write_text(f"import matplotlib\nmatplotlib.use('agg')\n{code}\n", encoding="utf-8")
    status, output, error = alone(edition, tmp_path, tmp_path / "solved.py")
    assert status == 0, error
    for question in questions.of_exercise(number):
        assert f"{question.id}: correct ({question.points}/{question.points} points)." in output, output


def test_its_command_submits_and_does_not_grade(edition, tmp_path):
    (source,) = (edition / "exercises").glob("09-*.ipynb")
    status, output, error = alone(edition, tmp_path, "-m", "gencourse", "submit", "09", "--notebook", source, "--name", "ada")
    assert status == 0, error
    assert "0 of 5 questions answered" in output
    assert (tmp_path / "ada-09.ipynb").is_file()
    status, _, error = alone(edition, tmp_path, "-m", "gencourse", "grade", "x", "--exercise", "09", "--out", "y")
    assert status == 2 and "No such command" in error


def test_all_of_the_library_is_in_a_wheel(edition):
    """What setuptools takes besides Python are files of the kinds that pyproject.toml names."""
    kinds = tomllib.loads((edition / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    for path in (edition / "gencourse").rglob("*"):
        if path.is_file() and path.suffix != ".py":
            assert any(path.match(kind) for kind in kinds["gencourse"]), path
        assert not path.is_dir() or (path / "__init__.py").is_file() or not list(path.glob("*.py")), path


@pytest.mark.weekly
def test_installed_it_checks_and_has_nothing_more(edition, tmp_path):
    """As a student installs it: nothing but the edition's files is there, and their compiled copies."""
    shutil.copytree(edition, tmp_path / "edition")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path)
    run(*pip, tmp_path / "edition")
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("gencourse/")}
    assert packed == {path.relative_to(edition).as_posix() for path in (edition / "gencourse").rglob("*") if path.is_file()}
    home = tmp_path / "home"
    install(wheel, home)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "GENCOURSE", "VIRTUAL_ENV"))}
    output = run(home / "bin" / "python", "-c", PROGRAM, cwd=tmp_path, env=kept | {"OMP_NUM_THREADS": "1"})
    file, first, second, _ = output.splitlines()
    assert Path(file).is_relative_to(home)
    assert first.startswith("9.1: not yet (0/3 points): ")
    assert second == "9.2: correct (3/3 points)."
    (package,) = home.glob("lib/python*/site-packages/gencourse")
    sources = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {f"gencourse/{name}" for name in sources} == packed
    for path in package.rglob("*.pyc"):
        assert (path.parent.parent / f"{path.name.split('.')[0]}.py").is_file()


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


def test_a_package_without_its_clone_says_where_to_go(tmp_path):
    shutil.copytree(
        Path(gencourse.__file__).parent, tmp_path / "site" / "gencourse", ignore=shutil.ignore_patterns("__pycache__")
    )
    status, _, error = alone(tmp_path / "site", tmp_path, "-m", "gencourse", "publish", "out")
    assert status != 0
    assert "Traceback" not in error
    assert "run `make book` in a clone" in " ".join(error.split())
    assert not (tmp_path / "out").exists()


def test_what_lies_about_is_left_out(tmp_path):
    """Copies that editors make of a file of questions, drafts of pages, pages that the book does not have."""
    name = questions.module_name("09")
    kept = [
        *("gencourse/__init__.py", "gencourse/grading/check.py", "gencourse/grading/questions/stored.py"),
        *(f"gencourse/grading/questions/{name}.toml", "book/09-vae.ipynb", "book/notation.md", "book/_static/a.css"),
    ]
    left = [
        *(f"gencourse/grading/questions/{name}.py", f"gencourse/grading/questions/.ipynb_checkpoints/{name}-checkpoint.py"),
        *("gencourse/grading/questions/old/answers.py", "gencourse/grading/questions/answers.py", "gencourse/.answers.py"),
        *("gencourse/.ipynb_checkpoints/x-checkpoint.py", "gencourse/__pycache__/x.cpython-311.pyc", "gencourse/x.py.orig"),
        *("book/09-vae-solved.ipynb", "book/.ipynb_checkpoints/09-vae-checkpoint.ipynb", "book/_static/.hidden"),
        *("solutions/09-vae.ipynb", "tests/x.py", ".git/config", ".env", "gencourse/grading/mutants.py"),
    ]
    for file in (*kept, *left):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("")
    found = [path.as_posix() for path in publish._files(tmp_path, ["09"], ["book/09-vae", "book/notation", "exercises/09-vae"])]
    assert sorted(found) == sorted([*kept, "book/references.bib", "LICENSE", "pyproject.toml"])


def test_files_that_git_does_not_know_are_named(tmp_path):
    files = [Path("gencourse/known.py"), Path("gencourse/answers.py")]
    (tmp_path / "gencourse").mkdir()
    for path in files:
        (tmp_path / path).write_text("")
    assert publish._untracked(tmp_path, files) == []  # no repository: nobody knows
    for command in (("init", "--quiet"), ("add", "gencourse/known.py")):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    assert publish._untracked(tmp_path, files) == files[1:]


def test_notebooks_install_from_where_the_edition_stands(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "write_questions", lambda *_: None)
    (tmp_path / "elsewhere").mkdir()  # empty, so it may be used
    publish.publish(tmp_path / "elsewhere", "https://example.org/course/")
    for path in (tmp_path / "elsewhere" / "exercises").glob("*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert "github.com/gencourse" not in text and "git+https://example.org/course" in text
