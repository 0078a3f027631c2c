"""`gencourse selftest`: for authors, whether an exercise's questions mark what they should, on many draws of the inputs.

The reference has full marks, every mistake loses points, and what takes no thought has none at all: constants, NaN, nothing, an
input handed back, random numbers. Beside what the question's author thought of stand mutants and styles made by machine, see
`gencourse.grading.mutants`. Judged by the `assess` that grades.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gencourse.grading import mutants, questions
from gencourse.grading.check import assess
from gencourse.grading.conversation import Conversation, Limits, reference_source
from gencourse.grading.inside import harness
from gencourse.grading.mutants import Made
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
        seeds: how many draws. An experiment, which trains something, has a twentieth of them.
        through_worker: also send the reference through a sandboxed worker, as grading does.

    Raises:
        ValueError: if there is no such exercise.
    """
    every = questions.of_exercise(number)
    lines = [f"{'question':10}{'answer':54}{'points':>12}   {seeds} draws"]
    passed = True
    for question in every:
        for says, well in _rows(question, seeds):
            lines.append(f"{question.id:10}{says}")
            passed &= well
    if through_worker:
        passed &= _through_worker(number, every, seeds, lines)
    lines.append("all is as it should be" if passed else "NOT as it should be: see WRONG above")
    return lines, passed


def _rows(question: Question, seeds: int) -> Iterator[tuple[str, bool]]:
    """A line for each answer, and whether it has the points that it should have."""
    experiment = any(check.measure for check in question.checks)
    count = -(-seeds // 20) if experiment else seeds
    # Mutants take arguments from another draw, so there are two at least.
    draws = [question.draw(seed) for seed in range(max(count, 2))]
    truths: list[dict] = [{} for _ in range(count)]

    def asked(answer: Made) -> list[tuple[int, ...]]:
        """For each draw the points for each check."""
        with np.errstate(all="ignore"):
            return [_points(question, answer, draws[place], place, truths[place]) for place in range(count)]

    def row(answer: Made, least: int, most: int, steady: bool = False) -> tuple[str, bool]:
        judged = [check for check in question.checks if answer.gradients or not check.gradients]
        lost = question.points - sum(check.points for check in judged)
        points = [sum(draw) for draw in asked(answer)]
        low, high = min(points), max(points)
        well = max(0, least - lost) <= low and high <= most and (low == high or not steady)
        expected = "the same on every draw" if steady else f"{most - lost}" if least == most else f"at most {most}"
        span = f"{low}" if low == high else f"{low} to {high}"
        verdict = "" if well else f"   WRONG: {expected} expected"
        return f"{answer.name[:53]:54}{f'{span} of {question.points}':>12}{verdict}", well

    full = question.points
    yield row(_by_hand("reference", question.reference), full, full)
    for name, function in question.mistakes.items():
        yield row(_by_hand(f"mistake: {name}", function), 0, full - 1)
    for name, function in trivial(question).items():
        yield row(_by_hand(f"trivial: {name}", function), 0, 0)
    for made in mutants.styles(question, draws):
        yield row(made, full, full)
    for made in mutants.mutants(question, draws):
        yield row(replace(made, name=f"mutant: {made.name}"), 0, full - 1)
    for made in mutants.naive(question, draws):
        yield row(made, 0, full, steady=True)
    for fault in mutants.monotonous(question, draws):
        yield f"WRONG: {fault}", False
    if len(question.mistakes) < 8 and not experiment:
        yield f"WRONG: {len(question.mistakes)} mistakes are named; at least 8 are wanted", False


def _by_hand(name: str, function: Callable) -> Made:
    return Made(name, lambda check, draw: function)


def _points(question: Question, answer: Made, inputs: Mapping[str, Inputs], draw: int, truths: dict) -> tuple[int, ...]:
    """What an answer earns, check by check."""
    given = {
        check.name: harness.run(
            answer.function(check, draw),
            check.given(inputs[check.name]),
            check.gradients,
            **question.calling(check) | {"twice": answer.twice},
        )
        for check in question.checks
        if not check.of
    }
    result = assess(question, inputs, {**given, "example": {}}, explain=False, truths=truths)
    return tuple(part.points for part in result.checks)


def _through_worker(number: str, every: tuple[Question, ...], seeds: int, lines: list[str]) -> bool:
    """The reference's answers, asked from the worker: arrays survive the way there and back."""
    passed = True
    with Conversation([Cell(1, reference_source(every))], every, 0, Limits(600.0), shut_in=True, trusted=True) as conversation:
        for question in every:
            points = []
            for seed in range(seeds):
                inputs: Mapping[str, Inputs] = question.draw(seed)
                points.append(assess(question, inputs, conversation.answers(question, inputs)).points)
            well = min(points) == question.points
            passed &= well
            said = f"{min(points)} of {question.points}"
            lines.append(f"{question.id:10}{'reference in the sandbox':54}{said:>12}{'' if well else '   WRONG'}")
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
