"""Questions whose right and wrong answers are numbers: what the students' edition has in place of reference functions.

`gencourse publish` evaluates each check on a few draws of its inputs and keeps, in one file an exercise, those inputs, the
right answers and those of every named mistake. `check` then says what it says elsewhere, and no function is there to be read.

A draw of a question is one of the kept draws for each of its checks, each by itself, as checks are drawn elsewhere too: fifteen
for either of two checks are 225 draws of the question.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gencourse.grading.questions import Check, Inputs, Measure, Question

KINDS = ("single", "double")
"""The arrays of a file that hold numbers: in float32 where that is exact, else in float64."""


class Numbers:
    """The arrays in a file, by name."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            self.about = json.loads(file["about"].tobytes())
            self._places: dict[str, tuple[int, int, list[int]]] = self.about.pop("places")
            self._kinds = [file[kind] for kind in KINDS]

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> np.ndarray:
        kind, start, shape = self._places[name]
        return self._kinds[kind][start : start + int(np.prod(shape))].astype(float).reshape(shape)


def place(id: str, check: str, draw: int, what: str) -> str:
    """The name under which something about one draw of one check is kept."""
    return f"{id}/{check}/{draw}/{what}"


class Given(dict):
    """A check's inputs, and which of its draws they are."""

    def __init__(self, inputs: Inputs, draw: int) -> None:
        super().__init__(inputs)
        self.draw = draw


@dataclass(frozen=True)
class StoredQuestion(Question):
    """A question that looks its answers up; its reference and mistakes cannot be called.

    Attributes:
        numbers: the file.
        given: for each check the names of its inputs, in order.
        draws: how many there are of each check.
    """

    numbers: Any = None
    given: Mapping[str, list[str]] = field(default_factory=dict)
    draws: int = 0

    @property
    def evaluates(self) -> bool:
        """False: there is no function that answers other inputs."""
        return False

    def draw(self, seed: int) -> dict[str, Inputs]:
        """The inputs of every check: for each one of its stored draws, which one is a matter of `seed`."""
        which = np.random.default_rng(seed).integers(self.draws, size=len(self.given))
        return {check: self.stored(check, int(draw)) for check, draw in zip(self.given, which, strict=True)}

    def stored(self, check: str, draw: int) -> Given:
        """A check's inputs in its draw of this number."""
        names = self.given[check]
        return Given({n: self.numbers[place(self.id, check, draw, f"given {n}")].astype(np.float32) for n in names}, draw)

    def right(self, inputs: Inputs, check: Check | None = None) -> dict[str, Any]:
        """The right answer, as `Question.right` says it."""
        if check is None:
            return {"value": self.numbers[f"{self.id}/example"]}
        return self._answer("right", check, inputs)

    def wrong(self, mistake: str, inputs: Inputs, check: Check) -> dict[str, Any]:
        """The answer of a mistake; nothing, if it has none to these inputs."""
        return self._answer(f"wrong {mistake}", check, inputs)

    def _answer(self, what: str, check: Check, inputs: Inputs) -> dict[str, Any]:
        if not isinstance(inputs, Given):
            raise ValueError(f"{self.id}: right answers are stored for the inputs that `draw` gives, and for no others.")
        names = {key: place(self.id, check.name, inputs.draw, f"{what}: {key}") for key in ("value", *check.compares)}
        return {key: self.numbers[name] for key, name in names.items() if name in self.numbers}


def _not_here(*inputs: Any) -> Any:
    raise ValueError("this edition of the course has no reference functions: right and wrong answers are numbers in it.")


def load(path: Path, measures: Mapping[str, Mapping[str, Measure]]) -> tuple[Question, ...]:
    """The questions of an exercise.

    Args:
        path: of the file with the numbers.
        measures: what judges experiments, by question and check.
    """
    numbers = Numbers(path)
    return tuple(_question(said, numbers, measures.get(said["id"], {})) for said in numbers.about["questions"])


def _question(said: dict[str, Any], numbers: Numbers, measures: Mapping[str, Measure]) -> Question:
    checks = tuple(
        Check(**check | {"gradients": tuple(check["gradients"])}, draw=_not_here, measure=measures.get(check["name"]))
        for check in said["checks"]
    )
    mistakes: dict[str, Callable] = dict.fromkeys(said["mistakes"], _not_here)
    return StoredQuestion(**said | {"checks": checks, "mistakes": mistakes}, reference=_not_here, numbers=numbers)


def alike(
    name: str, truth: str, statistic: Callable[[Inputs, np.ndarray], float], at_most: float
) -> Callable[[Inputs, np.ndarray], bool]:
    """As `gencourse.grading.questions.alike`; the wrong function's answer is the hidden input `name`."""
    return lambda inputs, answer: statistic({**inputs, truth: inputs[name].astype(float)}, answer) <= at_most
