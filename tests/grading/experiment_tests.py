"""What every exercise's experiment is held to: its last question, which trains something and is measured.

Figures for 200 draws stand in the questions' files; here are fewer.
"""

import re

import numpy as np

from gencourse.grading.check import assess
from gencourse.grading.inside import harness
from gencourse.grading.selftest import trivial


def result(question, function, seed):
    """As `question_tests.result`, without a training on the example, which no measure looks at."""
    inputs = question.draw(seed)
    (own,) = (check for check in question.checks if not check.of)
    answer = harness.run(function, own.given(inputs[own.name]), twice=False)
    return assess(question, inputs, {own.name: answer, "example": {}})


def reached(question, function, seed):
    """The statistic itself."""
    (own,) = (check for check in question.checks if not check.of)
    inputs = question.draw(seed)[own.name]
    return own.measure.statistic(inputs, harness.run(function, own.given(inputs), twice=False)["value"])


def assert_trained_to_full_points(question, function, seeds):
    for seed in seeds:
        got = result(question, function, seed)
        assert got.points == question.points, f"draw {seed}: {got.sentence}"
        assert re.search(r" is -?\d+\.\d{3}\b", got.sentence), "the number to report is printed"


def assert_mistakes_lose_points(question, seeds):
    for mistake in question.mistakes:
        for seed in seeds:
            got = result(question, mistake.function, seed)
            assert got.status == "wrong", f"{mistake.name}, draw {seed}: {got.sentence}"
            assert got.points < question.points, f"{mistake.name}, draw {seed}: {got.sentence}"


def assert_mistakes_are_told(question, seeds, untold=(), instead=None):
    """Each mistake loses points and gets its own sentence. A right answer has none of them.

    Those that do not show in the numbers are `untold`, and get the measure's sentence; `instead` has names of mistakes whose
    numbers are those of another, and the other's.
    """
    other = dict.fromkeys(untold) | (instead or {})
    names = [mistake.name for mistake in question.mistakes]
    assert set(other) <= set(names), "each is a mistake of the question"
    (own,) = (check for check in question.checks if not check.of)
    for seed in seeds:
        inputs = question.draw(seed)[own.name]
        right = harness.run(question.reference, own.given(inputs), twice=False)["value"]
        for check in question.checks:
            for hint in check.measure.hints:
                with np.errstate(all="ignore"):
                    assert not hint.fits(check.measure, inputs, right), f"the reference, draw {seed}: {hint.says}"
        for mistake in question.mistakes:
            assert_told(question, mistake.function, other.get(mistake.name, mistake.name), [seed])


def assert_told(question, function, name, seeds):
    """What is said of a function is the sentence of the mistake `name`; with None the measure's: it has none that has a name."""
    (own,) = (check for check in question.checks if not check.of)
    says = {mistake.name: mistake.says for mistake in question.mistakes} | {None: own.measure.says}
    for seed in seeds:
        got = result(question, function, seed)
        assert got.points < question.points, f"draw {seed}: {got.sentence}"
        assert got.sentence.endswith(f" or less is wanted; {says[name]}"), f"draw {seed}: {got.sentence}"


def assert_no_thought_no_points(question, seeds=range(10)):
    for seed in seeds:
        for name, function in trivial(question).items():
            assert result(question, function, seed).points == 0, f"{name}, draw {seed}"


def assert_hidden(question):
    """The function gets its arguments and no more; what the measure knows besides begins with an underscore."""
    for inputs in question.draw(0).values():
        (own,) = (check for check in question.checks if not check.of)
        assert tuple(own.given(inputs)) == question.arguments
        assert all(array.dtype == np.float32 for array in inputs.values())
    bounds = [check.measure.at_most for check in question.checks]
    assert bounds == sorted(bounds, reverse=True), "each check is stricter than the one before"
