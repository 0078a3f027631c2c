"""The questions of the exercises: one file an exercise, one place for all that checking and grading need.

A file `qNN_name.py` has a tuple `QUESTIONS`. A question says how its inputs are drawn, what the right answer is, how
close is close enough, and which mistakes it can name. A mistake is recognised by its numbers: the wrong function is
evaluated on the same inputs, so that all that is needed from a student is data. What is said of each mistake stands in
`qNN_name.toml` beside it, under the question's id and the mistake's name.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
import tomllib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gencourse.grading.inside import harness

Inputs = Mapping[str, np.ndarray]
"""Argument names, in order, and their values."""

Drawn = Mapping[str, ArrayLike]
"""The same as a question's author writes it: numbers and lists will do."""


@dataclass(frozen=True)
class Hint:
    """A mistake that shows in the numbers of an experiment's answer, and the sentence that names it.

    Attributes:
        says: what is wrong; a sentence.
        mended: the answer without the mistake. If that is good enough, and twice as good at least, the sentence is true.
        when: of the inputs and the answer: whether the mistake is there. In place of `mended`.
    """

    says: str
    mended: Callable[[np.ndarray], np.ndarray] | None = None
    when: Callable[[Inputs, np.ndarray], Any] | None = None

    def fits(self, measure: Measure, inputs: Inputs, answer: np.ndarray) -> bool:
        """Whether an answer that is not good enough has this mistake."""
        try:
            if self.mended is not None:
                reached, mended = (measure.statistic(inputs, numbers) for numbers in (answer, self.mended(answer)))
                return bool(mended <= measure.at_most and mended <= reached / 2)
            return self.when is not None and bool(self.when(inputs, answer))
        except np.linalg.LinAlgError:  # no root, no inverse: then this is not what was mistaken
            return False


@dataclass(frozen=True)
class Measure:
    """How an experiment is judged: a statistic of the answer, computed by the grader on data that it drew.

    Attributes:
        name: of the statistic, as in "NAME is 2.345 nats".
        statistic: of all inputs, hidden ones too, and the answer: one number, the smaller the better. It must be proper:
            no answer without the right idea may score well.
        at_most: what earns the points. Measured: above what the reference reaches on all of many seeds, below what the
            mistakes and all trivial answers reach.
        shape: of the answer, given the inputs.
        says: where to look if it is missed; a sentence.
        unit: such as `" nats"`.
        hints: mistakes that it can name, the most special first; where none fits, `says` is said.
        reads: the part of the answer that counts, all of it by default: its numbers must be finite.
    """

    name: str
    statistic: Callable[[Inputs, np.ndarray], float]
    at_most: float
    shape: Callable[[Inputs], tuple[int, ...]]
    says: str
    unit: str = ""
    hints: tuple[Hint, ...] = ()
    reads: Callable[[np.ndarray], np.ndarray] = lambda answer: answer


@dataclass(frozen=True)
class Check:
    """One part of a question that earns points of its own.

    Attributes:
        name: as it stands in a report.
        points: for all of it; there is nothing between all and none.
        draw: makes the inputs.
        gradients: if there are any, these gradients of the answer are compared in place of the answer itself.
        rtol, atol: an answer is right within `atol + rtol * |right answer|`.
        needs: another check, without which this one earns nothing: for properties that trivial answers have too.
        measure: judges an experiment. The inputs whose names begin with "_" are for it alone, the function does not get them.
        of: another check, whose inputs and answer are measured here again, against a stricter bound.
    """

    name: str
    points: int
    draw: Callable[[np.random.Generator], Drawn]
    gradients: tuple[str, ...] = ()
    rtol: float = 3e-5
    atol: float = 3e-5
    needs: str = ""
    measure: Measure | None = None
    of: str = ""

    def given(self, inputs: Inputs) -> Inputs:
        """What the student's function gets."""
        return {name: array for name, array in inputs.items() if not name.startswith("_")} if self.measure else inputs

    @property
    def compares(self) -> tuple[str, ...]:
        """The entries of an answer that must be right."""
        return tuple(f"gradient of {name}" for name in self.gradients) or ("value",)


def told(
    id: str,
    name: str,
    *,
    mended: Callable[[np.ndarray], np.ndarray] | None = None,
    when: Callable[[Inputs, np.ndarray], Any] | None = None,
) -> Hint:
    """The hint that says what is said of the mistake `name` of question `id`, which thus is written once.

    Raises:
        ValueError: if nothing is said of a mistake of this name.
    """
    says = sentences(id)
    if name not in says:
        raise ValueError(f"{id}: a hint names the mistake {name!r}, of which nothing is said; there are: {', '.join(says)}.")
    return Hint(says[name], mended, when)


def alike(
    function: Callable, truth: str, statistic: Callable[[Inputs, np.ndarray], float], at_most: float
) -> Callable[[Inputs, np.ndarray], bool]:
    """For a hint's `when`: whether an answer and that of a wrong function are the same but for `at_most`.

    The statistic measures an answer against the hidden input `truth`. Here the wrong answer stands in its place, so that it is
    no matter how the student came there, nor whether all numbers are the same.
    """

    last: dict[bytes, np.ndarray] = {}  # to the same inputs; several checks and many answers ask for it

    def when(inputs: Inputs, answer: np.ndarray) -> bool:
        given = {name: array for name, array in inputs.items() if not name.startswith("_")}
        drawn = b"".join(array.tobytes() for array in given.values())
        if drawn not in last:
            last.clear()
            last[drawn] = harness.run(function, given, twice=False)["value"]
        return statistic({**inputs, truth: last[drawn]}, answer) <= at_most

    return when


def is_one_step(numbers: np.ndarray, gradient: np.ndarray) -> bool:
    """Whether numbers are a first step from 0: along the loss's gradient there, as plain descent goes, or its signs, as Adam."""
    known = np.abs(gradient) > 1e-5 * np.abs(gradient).max()  # the sign of the others is a matter of rounding
    for along, largest, rounding in ((gradient, np.inf, 1e-4), (np.sign(gradient), 0.5, 1e-3)):
        size = -(numbers * along)[known].sum() / (along[known] ** 2).sum()
        off = np.abs(numbers + size * along)[known].max()
        if 0 < size < largest and off <= rounding * size * np.abs(along).max():
            return True
    return False


def pixels_kl(true: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The KL divergence of each pixel that is 1 or 0, between the distributions that two logits say: of their shape, nats."""
    from scipy.special import expit, rel_entr

    true, own = true.clip(-700, 700), own.clip(-700, 700)  # beyond, both probabilities are 0 or 1 to the computer
    return rel_entr(expit(true), expit(own)) + rel_entr(expit(-true), expit(-own))


@dataclass(frozen=True)
class Question:
    """A function that the student writes.

    Attributes:
        id: such as `"9.1"`.
        title: what it computes.
        function: the name that the student's function has.
        returns: the shape of its answer in letters, `"(B,)"`.
        reference: the right function; it is evaluated in float64.
        example: fixed inputs, small enough for one sentence; whatever numbers they are given as, they are arrays.
        checks: in the order in which a student wants to know.
        mistakes: the wrong functions that students write, by name.
        says: the sentence that helps with each mistake: what is wrong, and where to look. By default `sentences(id)`.
        seconds: for one call; None for the grader's own limit. An experiment trains something and says how long.
        library: what the inputs are, "torch" tensors or "numpy" arrays.
        harmless: names of mutants made by machine that do no harm, and why: `{"x from another draw": "its shape counts alone"}`.

    Raises:
        ValueError: if a mistake has no sentence, or a sentence no mistake.
    """

    id: str
    title: str
    function: str
    returns: str
    reference: Callable
    example: Mapping[str, Any]
    checks: tuple[Check, ...]
    mistakes: Mapping[str, Callable]
    says: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    library: str = "torch"
    harmless: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        says = self.says or sentences(self.id)
        lacking = {"sentence": self.mistakes.keys() - says.keys(), "function": says.keys() - self.mistakes.keys()}
        if any(lacking.values()):
            which = "; ".join(f"no {what} for {', '.join(map(repr, sorted(names)))}" for what, names in lacking.items() if names)
            raise ValueError(f"{self.id}: each mistake has a function, and a sentence in the exercise's .toml; there is {which}.")
        object.__setattr__(self, "says", says)
        object.__setattr__(self, "example", {name: np.array(value, dtype=float) for name, value in self.example.items()})

    @property
    def points(self) -> int:
        """For the whole question."""
        return sum(check.points for check in self.checks)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of the function's arguments, in order."""
        return tuple(self.example)

    def calling(self, check: Check | None = None) -> dict[str, Any]:
        """How `harness.run` calls the function, beyond its defaults. A training is not repeated to see if it is the same."""
        options: dict[str, Any] = {} if self.library == "torch" else {"library": self.library}
        return options | ({"twice": False} if check is not None and check.measure else {})

    @property
    def evaluates(self) -> bool:
        """Whether there is a function that answers all inputs, and not only those that were drawn."""
        return True

    def right(self, inputs: Inputs, check: Check | None = None) -> dict[str, Any]:
        """The right answer to a check's inputs, or without a check to the example, as `harness.run` says it."""
        options = self.calling(check) | {"dtype": "float64", "twice": False}
        return harness.run(self.reference, inputs, check.gradients if check else (), **options)

    def wrong(self, mistake: str, inputs: Inputs, check: Check) -> dict[str, Any]:
        """What a mistake answers to a check's inputs, as `harness.run` says it."""
        return harness.run(self.mistakes[mistake], inputs, check.gradients, **self.calling(check) | {"twice": False})

    def draw(self, seed: int) -> dict[str, Inputs]:
        """The inputs of every check, by its name: a function of `seed` (0 or more, of any size), the question and the check."""
        own = (check for check in self.checks if not check.of)
        drawn = {c.name: c.draw(np.random.default_rng([seed, zlib.crc32(f"{self.id} {c.name}".encode())])) for c in own}
        # Numbers that float32 holds exactly: the reference, in float64, sees the same inputs as the student.
        return {c: {name: np.asarray(array, dtype=np.float32) for name, array in inputs.items()} for c, inputs in drawn.items()}


def exercises() -> list[str]:
    """The numbers of the exercises that there are, `["09", ...]`."""
    return sorted(_modules())


def of_exercise(number: str) -> tuple[Question, ...]:
    """The questions of an exercise, `"09"`, in order.

    Raises:
        ValueError: if there is no such exercise.
    """
    modules = _modules()
    if number not in modules:
        raise ValueError(f"there is no exercise {number!r}; there are: {', '.join(sorted(modules))}.")
    return importlib.import_module(f"{__name__}.{modules[number]}").QUESTIONS


def get(id: str) -> Question:
    """The question `"9.1"`.

    Raises:
        ValueError: if there is none; the nearest is suggested.
    """
    number = str(id).partition(".")[0].zfill(2)
    for question in of_exercise(number) if number in _modules() else ():
        if question.id == id:
            return question
    every = [question.id for number in exercises() for question in of_exercise(number)]
    near = difflib.get_close_matches(str(id), every, n=1, cutoff=0.3)
    hint = f'; did you mean "{near[0]}"?' if near else f"; there are: {', '.join(every)}."
    raise ValueError(f"there is no question {id!r}{hint}")


def sentences(id: str) -> Mapping[str, str]:
    """What is said of each mistake of the question `"9.1"`, by name; nothing if it has no sentences."""
    return _of_file(id.split(".")[0].zfill(2)).get(id, {})


@cache
def _of_file(number: str) -> Mapping[str, Mapping[str, str]]:
    """By question, then by mistake."""
    path = Path(__file__).with_name(f"{_modules().get(number)}.toml")
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def module_name(number: str) -> str:
    """The name of an exercise's file, `"q09_vae"`."""
    return _modules()[number]


def _modules() -> dict[str, str]:
    found = (re.fullmatch(r"q(\d\d)_\w+", module.name) for module in pkgutil.iter_modules(__path__))
    return {match[1]: match[0] for match in found if match}
