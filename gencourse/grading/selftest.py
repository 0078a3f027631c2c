"""`gencourse selftest`: for authors, whether an exercise's questions mark what they should, on many draws of the inputs.

The reference has full marks, every mistake loses points, and what takes no thought has none at all: constants, NaN, nothing, an
input handed back, random numbers. Judged by the `assess` that grades.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gencourse.grading import questions
from gencourse.grading.check import assess, collect
from gencourse.grading.conversation import Conversation, Limits, reference_source
from gencourse.grading.notebook import Cell
from gencourse.grading.questions import Inputs, Question


def trivial(question: Question) -> dict[str, Callable]:
    """Functions that take no thought, by name. Some know the shape of the answer."""
    library = question.library

    def made(fill: Callable[[tuple[int, ...]], np.ndarray]) -> Callable:
        def answer(*inputs: Any) -> Any:
            given = {name: np.asarray(_plain(value)) for name, value in zip(question.arguments, inputs, strict=True)}
            with np.errstate(all="ignore"):
                shape = _shape(question, given)
            return _as(library, fill(shape))

        return answer

    rng = np.random.default_rng(0)
    functions: dict[str, Callable] = {
        "nothing": lambda *inputs: None,
        "one number, 0": lambda *inputs: 0.0,
        "one number, 1": lambda *inputs: 1.0,
        "NaN": made(lambda shape: np.full(shape, np.nan)),
        "infinity": made(lambda shape: np.full(shape, np.inf)),
        "zeros": made(np.zeros),
        "ones": made(np.ones),
        "minus ones": made(lambda shape: -np.ones(shape)),
        "random numbers": made(lambda shape: rng.standard_normal(shape)),
        "the same random numbers": made(lambda shape: np.random.default_rng(1).standard_normal(shape)),
        "the same uniform numbers": made(lambda shape: np.random.default_rng(1).random(shape)),
    }
    for place, name in enumerate(question.arguments):
        functions[f"{name} handed back"] = lambda *inputs, place=place: inputs[place]
    return functions


def selftest(number: str, seeds: int = 20, *, through_worker: bool = False) -> tuple[list[str], bool]:
    """The table, line by line, and whether all is as it should be.

    Args:
        number: of the exercise, `"09"`.
        seeds: how many draws.
        through_worker: also send the reference through a sandboxed worker, as grading does.

    Raises:
        ValueError: if there is no such exercise.
    """
    every = questions.of_exercise(number)
    lines = [f"{'question':10}{'answer':42}{'points':>12}   {seeds} draws"]
    passed = True
    for question in every:
        rows = [("reference", question.reference, question.points, question.points)]
        rows += [(f"mistake: {m.name}", m.function, 0, question.points - 1) for m in question.mistakes]
        rows += [(f"trivial: {name}", function, 0, 0) for name, function in trivial(question).items()]
        for name, function, least, most in rows:
            points = [_points(question, function, seed) for seed in range(seeds)]
            well = least <= min(points) and max(points) <= most
            passed &= well
            span = f"{min(points)}" if min(points) == max(points) else f"{min(points)} to {max(points)}"
            verdict = "" if well else f"   WRONG: {most if least == most else f'at most {most}'} expected"
            lines.append(f"{question.id:10}{name[:41]:42}{f'{span} of {question.points}':>12}{verdict}")
        if len(question.mistakes) < 8 and not any(check.measure for check in question.checks):
            passed = False
            lines.append(f"{question.id:10}WRONG: {len(question.mistakes)} mistakes are named; at least 8 are wanted")
    if through_worker:
        passed &= _through_worker(number, every, seeds, lines)
    lines.append("all is as it should be" if passed else "NOT as it should be: see WRONG above")
    return lines, passed


def _points(question: Question, function: Callable, seed: int) -> int:
    inputs = question.draw(seed)
    return assess(question, inputs, collect(question, function, inputs), explain=False).points


def _through_worker(number: str, every: tuple[Question, ...], seeds: int, lines: list[str]) -> bool:
    """The reference's answers, asked from the worker: arrays survive the way there and back."""
    passed = True
    with Conversation([Cell(1, reference_source(number))], every, 0, Limits(600.0), shut_in=True, trusted=True) as conversation:
        for question in every:
            points = []
            for seed in range(seeds):
                inputs: Mapping[str, Inputs] = question.draw(seed)
                points.append(assess(question, inputs, conversation.answers(question, inputs)).points)
            well = min(points) == question.points
            passed &= well
            said = f"{min(points)} of {question.points}"
            lines.append(f"{question.id:10}{'reference in the sandbox':42}{said:>12}{'' if well else '   WRONG'}")
    return passed


def _shape(question: Question, given: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """The shape of the right answer to these inputs: what a student reads in the question."""
    measures = [check.measure for check in question.checks if check.measure]
    if measures:
        return measures[0].shape(given)
    result = question.reference(*(_as(question.library, array) for array in given.values()))
    return np.shape(_plain(result))


def _plain(value: Any) -> Any:
    return value.detach().numpy() if hasattr(value, "detach") else value


def _as(library: str, array: np.ndarray) -> Any:
    if library == "numpy":
        return np.asarray(array, dtype=float)
    import torch

    return torch.tensor(np.asarray(array), dtype=torch.float32)
