"""Wrong answers and right ones made by machine: all that `selftest` tries besides what a question's author thought of.

From a question's reference, its inputs and the names of its arguments alone:

- **mutants**, which must lose points on every draw: an argument taken from another draw, held at its example value, or the
  same for all rows; a reduction, a maximum or a condition that looks at the whole batch where the reference looks at one
  example; the answer rolled, averaged over its rows, or rounded to three digits;
- **naive** formulas, the reference with one stable function written out (`log(1 + exp(x))` for softplus): whether they are
  good enough is the question's to say, but it must say the same on every draw;
- **styles**, which must have full marks on every draw: float64, bools, integers, lists, NumPy, one example at a time, arguments
  changed in place.

What does not apply is left out by rule: a mutant that gives the same numbers as the reference on every draw is none. Where that
is no fault of the question's, `Question.harmless` says why.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gencourse.grading.inside import harness
from gencourse.grading.questions import Check, Inputs, Question

Draws = Sequence[Mapping[str, Inputs]]


@dataclass(frozen=True)
class Made:
    """An answer made by machine.

    Attributes:
        name: as it stands in the table.
        function: that answers a check on the draw of this place.
        twice: whether the harness calls it twice, as it calls a student's.
        gradients: False if no gradient can come through, so that checks of gradients do not count.
    """

    name: str
    function: Callable[[Check, int], Callable]
    twice: bool = False
    gradients: bool = True


def mutants(question: Question, draws: Draws) -> Iterator[Made]:
    """All that must lose points. Those that are no different from the reference on any draw are left out."""
    made = [*_arguments(question, draws), *_answers(question)]
    if question.library == "torch" and not question.seconds:
        made += _operations(question, BATCH_WIDE)
    for mutant in made:
        if mutant.name not in question.harmless and _differs(question, draws, mutant):
            yield mutant
    if question.library == "torch" and not question.seconds:
        # These are right in exact numbers, or where all examples are alike: that they are not is what the draws have to show.
        for mutant in _operations(question, ONE_FOR_ALL):
            if mutant.name not in question.harmless and _uses(question, draws, mutant):
                yield mutant


def monotonous(question: Question, draws: Draws) -> list[str]:
    """What is wrong with the draws themselves: an argument that no draw changes, inputs that come again."""
    said = []
    own = [check for check in question.checks if not check.of]
    for name in question.arguments:
        mutant = _from_elsewhere(question, draws, name)
        changed = any(mutant.function(check, draw).changed for check in own for draw in range(len(draws)))  # type: ignore[attr-defined]
        if mutant.name not in question.harmless and not changed:
            said.append(f"{name} is the same in all draws, so that an answer need not look at it")
    for check in own:
        different = len({b"".join(np.asarray(a).tobytes() for a in draw[check.name].values()) for draw in draws})
        if different < 0.9 * len(draws):  # of a finite world two draws in hundreds may be the same
            said.append(f"{check.name}: {len(draws)} draws, but only {different} different inputs")
    return said


def naive(question: Question, draws: Draws) -> Iterator[Made]:
    """The reference with one stable function written out, in float32 and in float64."""
    if question.library != "torch" or question.seconds:
        return
    for mutant in _operations(question, {f"naive {name}": (name, function) for name, function in NAIVE.items()}):
        if _uses(question, draws, mutant):
            yield mutant
            yield Made(f"{mutant.name}, float64", _double(mutant.function))


def styles(question: Question, draws: Draws) -> Iterator[Made]:
    """Right answers, written and returned in other ways."""
    right, numpy = question.reference, question.library == "numpy"
    if not numpy:
        yield Made("style: float64", lambda c, s: _in_float64(right))
        yield Made("style: NumPy", lambda c, s: lambda *a: right(*a).detach().numpy(), gradients=False)
        yield Made("style: a list of tensors", lambda c, s: lambda *a: _listed(right(*a)))
    yield Made("style: a list of numbers", lambda c, s: lambda *a: _plain(right(*a)).tolist(), gradients=False)
    if not question.seconds:
        yield Made("style: arguments changed", lambda c, s: lambda *a: _then_spoiled(right, a), twice=True)
        kinds = [_answer(question, check, draws[0][check.name])[1] for check in question.checks]
        if all((answer == np.round(answer)).all() for answer in kinds):
            cast = (lambda v: v.round().astype(int)) if numpy else (lambda v: v.round().long())
            yield Made("style: integers", lambda c, s: lambda *a: cast(right(*a)), gradients=False)
        if all(np.isin(answer, (0, 1)).all() for answer in kinds):
            yield Made("style: True and False", lambda c, s: lambda *a: right(*a) > 0.5, gradients=False)
        if not numpy and all(_per_example(question, check, draws[0][check.name]) for check in question.checks):
            yield Made("style: one example at a time", lambda c, s: _one_by_one(question, c, draws[s][c.name]))


# --- arguments --------------------------------------------------------------------------------------------------------


def _arguments(question: Question, draws: Draws) -> Iterator[Made]:
    for name in question.arguments:
        yield _from_elsewhere(question, draws, name)
        yield _held(question, draws, name)
        if question.seconds:
            continue
        for how, reduce in (("first", lambda a: a[:1]), ("mean", lambda a: a.mean(0)), ("largest", lambda a: a.max(0))):
            yield _with(question, draws, name, f"{name}: the {how} of its rows for all", _for_all(reduce))


def _for_all(reduce: Callable[[np.ndarray], np.ndarray]) -> Callable:
    return lambda check, draw, array: np.broadcast_to(reduce(array), array.shape) if array.ndim else None


def _with(question: Question, draws: Draws, name: str, called: str, change: Callable[[Check, int, np.ndarray], Any]) -> Made:
    """The reference, one argument replaced by `change(check, place of the draw, argument)`; where that is None, it stays."""
    place = question.arguments.index(name)

    def function(check: Check, draw: int) -> Callable:
        array = np.asarray(_inputs(draws, check, draw)[name])
        other = change(check, draw, array)

        def answer(*inputs: Any) -> Any:
            given = list(inputs)
            if other is not None:
                given[place] = _like(given[place], other)
            return question.reference(*given)

        answer.changed = other is not None and not np.array_equal(other, array)  # type: ignore[attr-defined]
        return answer

    return Made(called, function)


def _from_elsewhere(question: Question, draws: Draws, name: str) -> Made:
    def other(check: Check, draw: int, array: np.ndarray) -> Any:
        for step in range(1, len(draws)):
            found = np.asarray(_inputs(draws, check, (draw + step) % len(draws))[name])
            if found.shape == array.shape and not np.array_equal(found, array):
                return found
        return None

    return _with(question, draws, name, f"{name} from another draw", other)


def _held(question: Question, draws: Draws, name: str) -> Made:
    example = np.asarray(question.example[name])
    return _with(question, draws, name, f"{name} held at its example", lambda c, s, a: np.resize(example, a.shape))


# --- answers ----------------------------------------------------------------------------------------------------------


def _answers(question: Question) -> Iterator[Made]:
    if question.seconds:
        return
    right = question.reference

    def made(name: str, change: Callable) -> Made:
        return Made(name, lambda c, s: lambda *a: change(right(*a)))

    yield made("the mean of the answer's rows for all", lambda v: _wide(v.mean(0), v) if v.ndim else v)
    yield made("the first of the answer's rows for all", lambda v: _wide(v[0], v) if v.ndim else v)
    yield made("the answer's rows rolled by one", lambda v: _roll(v, 0) if v.ndim else v)
    yield made("the answer rolled along its last axis", lambda v: _roll(v, v.ndim - 1) if v.ndim > 1 else v)
    yield made("right to three digits only", _three_digits)


def _wide(row: Any, value: Any) -> Any:
    return row.expand_as(value) if isinstance(row, Tensor) else np.broadcast_to(row, value.shape)


def _roll(value: Any, axis: int) -> Any:
    return value.roll(1, axis) if isinstance(value, Tensor) else np.roll(value, 1, axis)


def _three_digits(value: Any) -> Any:
    """Of the largest number."""
    array = _plain(value).astype(float)
    largest = np.abs(array[np.isfinite(array)]).max(initial=0)
    scale = 10.0 ** (2 - np.floor(np.log10(largest))) if largest else 1.0
    rounded = np.where(np.isfinite(array), np.round(array * scale) / scale, array)
    return value + _like(value, np.where(np.isfinite(array), rounded - array, 0.0)) if isinstance(value, Tensor) else rounded


# --- operations within the reference ----------------------------------------------------------------------------------


class _Replaced(TorchFunctionMode):
    """Within it, calls of the function `name` go to `function` instead, with the original before the arguments.

    What `function` answers with `NotImplemented` is left to the original.
    """

    def __init__(self, name: str, function: Callable) -> None:
        super().__init__()
        self.name, self.function, self.used = name, function, False

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") != self.name:
            return func(*args, **kwargs)
        result = self.function(func, *args, **kwargs)
        if result is NotImplemented:
            return func(*args, **kwargs)
        self.used = True
        return result


def _operations(question: Question, replacements: Mapping[str, tuple[str, Callable]]) -> Iterator[Made]:
    for called, (name, function) in replacements.items():

        def make(check: Check, draw: int, name: str = name, function: Callable = function) -> Callable:
            def answer(*inputs: Any) -> Any:
                with _Replaced(name, function) as mode:
                    result = question.reference(*inputs)
                answer.used = mode.used  # type: ignore[attr-defined]
                return result

            return answer

        yield Made(called, make)


def _uses(question: Question, draws: Draws, mutant: Made) -> bool:
    for check in question.checks:
        function = mutant.function(check, 0)
        harness.run(function, draws[0][check.name], dtype="float64", twice=False)
        if getattr(function, "used", False):
            return True
    return False


NAIVE: dict[str, Callable] = {
    "softplus": lambda f, x, *_: (1 + x.exp()).log(),
    "log_sigmoid": lambda f, x: x.sigmoid().log(),
    "logsigmoid": lambda f, x: x.sigmoid().log(),
    "logsumexp": lambda f, x, dim, keepdim=False: x.exp().sum(dim, keepdim).log(),
    "log_softmax": lambda f, x, dim=-1, **_: x.softmax(dim).log(),
    "softmax": lambda f, x, dim=-1, **_: x.exp() / x.exp().sum(dim, keepdim=True),
    "sigmoid": lambda f, x: x.exp() / (1 + x.exp()),
    "tanh": lambda f, x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
    "expm1": lambda f, x: x.exp() - 1,
    "log1p": lambda f, x: (1 + x).log(),
    "logaddexp": lambda f, a, b: (a.exp() + b.exp()).log(),
}
"""Stable functions written out as a student writes them: the original comes first, and is not called."""


def _averaged(original: Callable, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    value = original(x, *args, **kwargs)
    return value.mean(0, keepdim=True).expand_as(value) if value.ndim and value.is_floating_point() else value


def _shifted(name: str, axis: int | None) -> Callable:
    """The formula with the largest taken out: correct if the largest is of the right axis, or of few numbers."""

    def function(original: Callable, x: Tensor, dim: Any = -1, keepdim: bool = False, **_: Any) -> Tensor:
        if axis is not None and (axis >= x.ndim or axis == dim % x.ndim):
            return NotImplemented
        largest = x.detach().max() if axis is None else x.detach().amax((dim % x.ndim, axis), keepdim=True)
        e = (x - largest).exp()
        total = e.sum(dim, keepdim=True)
        if name == "softmax":
            return e / total
        if name == "log_softmax":
            return x - largest - total.log()
        value = total.log() + largest
        return value if keepdim else value.squeeze(dim)

    return function


_REDUCTIONS = ("sum", "mean", "prod", "amax", "amin", "norm", "linalg_vector_norm", "vector_norm", "var", "std", "logsumexp")

BATCH_WIDE: dict[str, tuple[str, Callable]] = {
    **{f"{name}: the batch's mean for all": (name, _averaged) for name in _REDUCTIONS},
}
"""Reductions that look at the whole batch: names, the functions they replace, and what replaces them."""

ONE_FOR_ALL: dict[str, tuple[str, Callable]] = {
    "where: for all, if for any": ("where", lambda f, c, *rest: f(c.any() | torch.zeros_like(c), *rest)),
    "where: for all, if for all": ("where", lambda f, c, *rest: f(c.all() | torch.zeros_like(c), *rest)),
    **{
        f"{name}: one maximum over {'everything' if axis is None else f'axis {axis} too'}": (name, _shifted(name, axis))
        for name in ("logsumexp", "log_softmax", "softmax")
        for axis in (0, 1, 2, 3, None)
    },
}
"""One condition for all examples; the largest taken out, but of too many numbers."""


# --- styles -----------------------------------------------------------------------------------------------------------


def _in_float64(function: Callable) -> Callable:
    return lambda *inputs: function(*(a.double() for a in inputs))


def _double(function: Callable[[Check, int], Callable]) -> Callable[[Check, int], Callable]:
    return lambda check, draw: _in_float64(function(check, draw))


def _listed(value: Tensor) -> Any:
    return list(value) if value.ndim else value


def _then_spoiled(function: Callable, inputs: tuple) -> Any:
    value = function(*(a.clone() if isinstance(a, Tensor) else np.copy(a) if np.ndim(a) else a for a in inputs))
    for a in inputs:
        if isinstance(a, Tensor):
            a.zero_()
        elif np.ndim(a):
            a[...] = 0
    return value


def _per_example(question: Question, check: Check, inputs: Inputs) -> bool:
    """Whether example by example the reference says what it says of all, in float64."""
    _, whole = _answer(question, check, inputs)
    if not whole.ndim or whole.shape[0] < 2:
        return False
    answer = harness.run(_one_by_one(question, check, inputs), inputs, dtype="float64", twice=False)
    return "value" in answer and answer["value"].shape == whole.shape and np.allclose(answer["value"], whole, equal_nan=True)


def _one_by_one(question: Question, check: Check, inputs: Inputs) -> Callable:
    """The examples go along the first axis of the answer's length, which is the first or the second of an argument's."""
    rows = _answer(question, check, inputs)[1].shape[0]
    axes = {name: np.shape(array).index(rows) for name, array in inputs.items() if rows in np.shape(array)[:2]}

    def example(i: int, given: tuple) -> list:
        return [a.narrow(axes[n], i, 1) if n in axes else a for n, a in zip(question.arguments, given, strict=True)]

    return lambda *given: torch.cat([question.reference(*example(i, given)) for i in range(rows)])


# --- help -------------------------------------------------------------------------------------------------------------


def _inputs(draws: Draws, check: Check, draw: int) -> Inputs:
    return draws[draw][check.of or check.name]


def _answer(question: Question, check: Check, inputs: Inputs) -> tuple[dict, np.ndarray]:
    answer = harness.run(question.reference, inputs, **question.calling() | {"twice": False}, **_float64(question))
    return answer, answer["value"]


def _float64(question: Question) -> dict[str, Any]:
    return {"dtype": "float64"} if question.library == "torch" else {}


def _differs(question: Question, draws: Draws, mutant: Made) -> bool:
    """Whether it is a mutant at all: other numbers than the reference's, on some draw of some check, beyond rounding."""
    if question.seconds:
        return any(mutant.function(check, 0).changed for check in question.checks if not check.of)  # type: ignore[attr-defined]
    for inputs, check in itertools.product(range(min(3, len(draws))), question.checks):
        options = question.calling() | _float64(question) | {"twice": False}
        given = draws[inputs][check.name]
        with np.errstate(all="ignore"):
            right = harness.run(question.reference, given, check.gradients, **options)
            wrong = harness.run(mutant.function(check, inputs), given, check.gradients, **options)
        for key in check.compares:
            a, b = right[key], wrong.get(key)
            if b is None or a.shape != b.shape or not np.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True):
                return True
    return False


def _plain(value: Any) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _like(value: Any, array: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.as_tensor(np.asarray(array, dtype=float)).to(value)
    return np.asarray(array, dtype=float)
