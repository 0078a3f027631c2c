"""The questions of the exercises: one file an exercise, one place for all that checking and grading need.

A file `qNN_name.py` has a tuple `QUESTIONS`. A question says how its inputs are drawn, what the right answer is, how
close is close enough, and which mistakes it can name. A mistake is recognised by its numbers: the wrong function is
evaluated on the same inputs, so that all that is needed from a student is data.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Inputs = Mapping[str, np.ndarray]
"""Argument names, in order, and their values."""


@dataclass(frozen=True)
class Check:
    """One part of a question that earns points of its own.

    Attributes:
        name: as it stands in a report.
        points: for all of it; there is nothing between all and none.
        draw: makes the inputs.
        gradients: if there are any, these gradients of the answer are compared in place of the answer itself.
        rtol, atol: an answer is right within `atol + rtol * |right answer|`.
    """

    name: str
    points: int
    draw: Callable[[np.random.Generator], Inputs]
    gradients: tuple[str, ...] = ()
    rtol: float = 1e-4
    atol: float = 1e-4

    @property
    def compares(self) -> tuple[str, ...]:
        """The entries of an answer that must be right."""
        return tuple(f"gradient of {name}" for name in self.gradients) or ("value",)


@dataclass(frozen=True)
class Mistake:
    """A wrong function that students write, and the sentence that helps: what is wrong, and where to look."""

    name: str
    says: str
    function: Callable


@dataclass(frozen=True)
class Question:
    """A function that the student writes.

    Attributes:
        id: such as `"9.1"`.
        title: what it computes.
        function: the name that the student's function has.
        returns: the shape of its answer in letters, `"(B,)"`.
        reference: the right function; it is evaluated in float64.
        example: fixed inputs, small enough for one sentence.
        checks: in the order in which a student wants to know.
        mistakes: the wrong functions it can name.
    """

    id: str
    title: str
    function: str
    returns: str
    reference: Callable
    example: Inputs
    checks: tuple[Check, ...]
    mistakes: tuple[Mistake, ...]

    @property
    def points(self) -> int:
        """For the whole question."""
        return sum(check.points for check in self.checks)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of the function's arguments, in order."""
        return tuple(self.example)

    def draw(self, seed: int) -> dict[str, Inputs]:
        """The inputs of every check, by its name: a function of `seed` (0 or more, of any size), the question and the check."""
        return {c.name: c.draw(np.random.default_rng([seed, zlib.crc32(f"{self.id} {c.name}".encode())])) for c in self.checks}


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
    every = {question.id: question for number in exercises() for question in of_exercise(number)}
    if id in every:
        return every[id]
    near = difflib.get_close_matches(str(id), every, n=1, cutoff=0.3)
    hint = f'; did you mean "{near[0]}"?' if near else f"; there are: {', '.join(every)}."
    raise ValueError(f"there is no question {id!r}{hint}")


def _modules() -> dict[str, str]:
    found = (re.fullmatch(r"q(\d\d)_\w+", module.name) for module in pkgutil.iter_modules(__path__))
    return {match[1]: match[0] for match in found if match}
