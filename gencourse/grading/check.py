"""`check("9.1")`: one sentence on a student's function, which names the mistake where it is one that we know."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gencourse.grading import questions
from gencourse.grading.inside import harness
from gencourse.grading.questions import Check, Inputs, Measure, Question

SAID = {
    "ok": "right",
    "wrong": "not right",
    "error": "raised an error",
    "timeout": "took too long",
    "memory": "needed too much memory",
    "missing": "not attempted",
    "unreadable": "could not be read",
    "grader_error": "not graded",
}
"""What a status means, in a few words."""


@dataclass(frozen=True)
class CheckResult:
    """How one check went: `status` is ok, wrong, error, missing, timeout or memory.

    `says` is the sentence that helps, and `mistake` the name of the mistake, where it is one of the question's own.
    """

    name: str
    status: str
    points: int
    out_of: int
    says: str = ""
    mistake: str = ""


@dataclass(frozen=True)
class Result:
    """How a question went. `sentence` is what the student reads; `status` is that of the first check that failed."""

    id: str
    status: str
    points: int
    out_of: int
    sentence: str
    checks: tuple[CheckResult, ...] = ()

    def _ipython_display_(self) -> None:
        """Show nothing: `check` has printed the sentence."""


def check(id: str, function: Callable | None = None, *, seed: int | None = None) -> Result:
    """Try your function on random inputs and print one sentence on how it went.

    Args:
        id: the question, `"9.1"`.
        function: what to check; by default the function of the question's name where `check` is called.
        seed: draws the same inputs again; by default they are new each time.
    """
    try:
        question = questions.get(id if isinstance(id, str) else str(id))
    except ValueError as error:
        result = Result(str(id), "missing", 0, 0, f"{error}")
    else:
        caller = sys._getframe(1)
        found = function if function is not None else {**caller.f_globals, **caller.f_locals}.get(question.function)
        result = _check(question, found, int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]))
    print(result.sentence)
    return result


def _check(question: Question, function: Any, seed: int) -> Result:
    name = question.function
    if function is None:
        return _refused(question, "missing", f"not attempted yet: run the cell that defines {name} first.")
    if not callable(function):
        kind = type(function).__name__
        return _refused(question, "wrong", f"{name} is not a function but of type {kind}; run the cell that defines it again.")
    inputs = question.draw(seed)
    try:
        return assess(question, inputs, collect(question, function, inputs))
    except KeyboardInterrupt:
        return _refused(question, "timeout", "interrupted while your function ran; is there a loop that takes too long?")


def collect(question: Question, function: Callable, inputs: Mapping[str, Inputs]) -> dict[str, dict[str, Any]]:
    """The function's answers to every check and to the example, as plain data: all that `assess` needs."""
    answers = {
        check.name: harness.run(function, check.given(inputs[check.name]), check.gradients, **question.calling(check))
        for check in question.checks
        if not check.of
    }
    # What is said of an experiment is its number: no need to train on the example as well.
    return {**answers, "example": {} if question.seconds else harness.run(function, question.example, **question.calling())}


def assess(
    question: Question,
    inputs: Mapping[str, Inputs],
    answers: Mapping[str, Mapping[str, Any]],
    *,
    explain: bool = True,
    truths: dict[str, dict[str, Any]] | None = None,
) -> Result:
    """Judge the answers to the checks of a question; data in, data out.

    An answer may be `{"stopped": (status, sentence)}` in place of what `harness.run` says: the call did not come back. Without
    `explain` there are points, but no sentence on what is wrong, which takes most of the time. In `truths` the right answers to
    these inputs are kept from one call to the next, by whoever judges many answers.
    """
    if all(answers[check.of or check.name].get("untouched") for check in question.checks):
        return _refused(question, "missing", "not attempted yet.")
    truths = {} if truths is None else truths
    parts = tuple(_judge(question, check, inputs[check.of or check.name], answers, explain, truths) for check in question.checks)
    right = {part.name for part in parts if part.status == "ok"}
    parts = tuple(_alone(check, part, right) for check, part in zip(question.checks, parts, strict=True))
    points, out_of = sum(part.points for part in parts), question.points
    first = next((part for part in parts if part.status != "ok"), None)
    if first is None:
        number = next((f" {part.says[0].upper()}{part.says[1:]}" for part in parts if part.says), "")  # an experiment's
        return Result(question.id, "ok", points, out_of, f"{question.id}: correct ({points}/{out_of} points).{number}", parts)
    verdict = f'partly right ({points}/{out_of} points; not "{first.name}")' if points else f"not yet ({points}/{out_of} points)"
    return Result(question.id, first.status, points, out_of, f"{question.id}: {verdict}: {first.says}", parts)


def _judge(
    question: Question,
    check: Check,
    inputs: Inputs,
    answers: Mapping[str, Mapping[str, Any]],
    explain: bool,
    truths: dict[str, dict[str, Any]],
) -> CheckResult:
    answer = answers[check.of or check.name]
    if "stopped" in answer:
        status, says = answer["stopped"]
        return CheckResult(check.name, status, 0, check.points, says)
    if "error" in answer:
        status = "memory" if _out_of_memory(answer["error"]) else "error"
        return CheckResult(check.name, status, 0, check.points, _error_sentence(question, answer["error"]))
    if check.measure is not None:
        return _measured(question, check, check.measure, inputs, answer, explain)
    if check.name not in truths:
        truths[check.name] = question.right(inputs, check)
    truth = truths[check.name]
    if _shape(answer) == _shape(truth) and _equal(check, answer, truth):
        return CheckResult(check.name, "ok", check.points, check.points)
    if not explain:
        return CheckResult(check.name, "wrong", 0, check.points)
    says = _unusable(question, answer)
    mistake = "" if says else _known(question, check, inputs, answer)
    says = says or (question.says[mistake] if mistake else _unknown(question, check, truth, answer, answers["example"]))
    return CheckResult(check.name, "wrong", 0, check.points, says, mistake)


def _alone(check: Check, part: CheckResult, right: set[str]) -> CheckResult:
    """A property that trivial answers have too earns its points beside a right value only."""
    if not check.needs or part.status != "ok" or check.needs in right:
        return part
    return CheckResult(check.name, "wrong", 0, check.points, f'"{check.name}" counts as soon as "{check.needs}" is right.')


def _measured(question: Question, check: Check, measure: Measure, inputs: Inputs, answer: Mapping, explain: bool) -> CheckResult:
    """An experiment's answer: no numbers are right or wrong, but a statistic of them is good enough or not."""
    says, shape = _unusable(question, answer), measure.shape(inputs)
    if not says and answer["value"].shape != shape:
        says = (
            f"your answer has shape {_written(answer['value'].shape)}, where {question.returns}, here {_written(shape)}, belongs."
        )
    if not says and not np.isfinite(measure.reads(answer["value"])).all():
        says = "some of your numbers are NaN or infinite."
    if not says:
        reached = measure.statistic(inputs, answer["value"])
        says = f"{measure.name} is {_figure(reached)}{measure.unit}"
        if np.isfinite(reached) and reached <= measure.at_most:
            return CheckResult(check.name, "ok", check.points, check.points, f"{says}.")
        if not explain:
            return CheckResult(check.name, "wrong", 0, check.points)
        with np.errstate(all="ignore"):
            hint = next((hint.says for hint in measure.hints if hint.fits(measure, inputs, answer["value"])), measure.says)
        says += f", and {_figure(measure.at_most)} or less is wanted; {hint}"
    return CheckResult(check.name, "wrong", 0, check.points, says)


def _known(question: Question, check: Check, inputs: Inputs, answer: Mapping) -> str:
    """The name of the mistake that gives the same wrong numbers on the same inputs; none if there is none."""
    if np.isnan(answer["value"]).all():
        return ""  # there are many ways to get there
    for mistake in question.mistakes:
        wrong = question.wrong(mistake, inputs, check)
        # A cut gradient looks like that of a formula without the term, so the values must agree as well.
        if _close(check, answer.get("value"), wrong.get("value")) and _equal(check, answer, wrong):
            return mistake
    return ""


def _unusable(question: Question, answer: Mapping) -> str:
    """What is wrong with an answer that holds no numbers, or not the same ones twice."""
    wanted = f"a tensor of shape {question.returns}"
    if "value" not in answer:
        kind = answer.get("returned")
        if kind in ("NoneType", "ellipsis"):
            return f"your function returned nothing; does it end in `return`, with {wanted}?"
        return f"your function returned a value of type {kind}, where {wanted} of real numbers belongs."
    if not answer.get("repeatable"):
        return "two calls with the same inputs gave different answers; use only the random numbers that are passed in."
    return ""


def _unknown(question: Question, check: Check, truth: Mapping, answer: Mapping, example: Mapping) -> str:
    """What can be said of a mistake that is not in the list."""
    value, right = answer["value"], truth["value"]
    if not value.shape and right.shape:
        return f"your answer is one number for the whole batch, where {question.returns} belongs."
    if value.shape != right.shape:
        return f"your answer has shape {_written(value.shape)}, where {question.returns}, here {_written(right.shape)}, belongs."
    astray = ~np.isfinite(value) & (value != right)  # a right answer may be infinite
    if astray.any():
        what = "NaN" if np.isnan(value).any() else "infinite"
        return f"some of your numbers are {what}; look for a logarithm or a square root of zero or less, or an overflow."
    if not np.isfinite(right).all():
        if (np.isfinite(value) & ~np.isfinite(right)).any():
            return "some of your numbers are finite where the answer is infinite."
        value, right = value[np.isfinite(right)], right[np.isfinite(right)]
    if check.gradients:
        lost = [name for name in check.gradients if not np.isfinite(answer[f"gradient of {name}"]).all()]
        if lost:
            return (
                f"your values are finite, but the derivative with respect to {' and '.join(lost)} has NaN or infinite numbers; "
                "in torch.where, for instance, an infinite or NaN slope on the side that is not taken comes through as NaN."
            )
        dead = [name for name in check.gradients if not answer[f"gradient of {name}"].any()]
        if dead:
            return (
                f"no gradient arrives at {' and '.join(dead)}; something between it and the answer cuts the graph, such as "
                "detach, .data, .item(), NumPy, torch.no_grad or a tensor made anew."
            )
        off = [name for name in check.gradients if not _close(check, answer[f"gradient of {name}"], truth[f"gradient of {name}"])]
        return f"the derivative of your answer with respect to {' and '.join(off)} is not the right one."
    error = _largest(value - right) / _largest(right) if _largest(right) else np.inf
    if error < 0.005:
        return f"right to about {-np.log10(error):.0f} digits only; is a constant rounded, or the precision too low?"
    with np.errstate(divide="ignore", invalid="ignore"):
        factor, shift = value / right, value - right
        same_factor = right.size > 1 and value.any() and np.ptp(factor) < 1e-3
    if same_factor:
        return f"your numbers are {factor.mean():.4g} times the right ones, every one of them."
    if right.size > 1 and np.ptp(shift) < 1e-3:
        return f"your numbers are all off by the same amount, {shift.mean():+.4g}."
    expected = question.right(question.example)["value"]
    given = ", ".join(f"{name} = {_numbers(array)}" for name, array in question.example.items())
    if "value" not in example or example["value"].shape != expected.shape:
        return f"for {given} the answer is {_numbers(expected)}."
    if _close(check, example["value"], expected):
        return f"right for {given}, but wrong for random inputs{' with several rows' if right.size > 1 else ''}."
    return f"for {given} the answer is {_numbers(expected)}, and yours is {_numbers(example['value'])}."


def _out_of_memory(error: Mapping[str, Any]) -> bool:
    return error["type"] == "MemoryError" or ("DefaultCPUAllocator" in error["message"] and "memory" in error["message"])


def _error_sentence(question: Question, error: Mapping[str, Any]) -> str:
    what = f"{error['type']}: {error['message']}" if error["message"] else error["type"]
    what += "" if what.endswith((".", "!", "?")) else "."
    if error["during"] == "gradient":
        return f"computing the gradient of your answer raised {what}"
    if error["line"] is None:
        return f"calling {question.function}({', '.join(question.arguments)}) raised {what}"
    code = f" ({error['code']})" if error["code"] else ""
    return f"line {error['line']} of your code{code} raised {what}"


def _refused(question: Question, status: str, says: str) -> Result:
    parts = tuple(CheckResult(check.name, status, 0, check.points, says) for check in question.checks)
    return Result(question.id, status, 0, question.points, f"{question.id}: {says}", parts)


def _shape(answer: Mapping) -> tuple[int, ...] | None:
    return answer["value"].shape if "value" in answer else None


def _equal(check: Check, answer: Mapping, other: Mapping) -> bool:
    return all(_close(check, answer.get(key), other.get(key)) for key in check.compares)


def _close(check: Check, value: Any, other: Any) -> bool:
    if not isinstance(value, np.ndarray) or not isinstance(other, np.ndarray) or value.shape != other.shape:
        return False
    return np.allclose(value, other, rtol=check.rtol, atol=check.atol, equal_nan=True)


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array).max(initial=0))


def _figure(number: float) -> str:
    """A statistic as it is read: three decimals, and of what has diverged the order of magnitude."""
    return f"{number:.3f}" if not abs(number) >= 1e6 else f"{number:.2e}"


def _written(shape: tuple[int, ...]) -> str:
    return f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(map(str, shape))})"


def _numbers(array: np.ndarray) -> str:
    if not np.ndim(array):
        return f"{float(array):.4g}"
    return np.array2string(np.asarray(array), precision=4, separator=", ", suppress_small=True).replace("\n", "")
