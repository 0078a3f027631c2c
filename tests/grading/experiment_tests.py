"""What every exercise's experiment is held to: its last question, which trains something and is measured.

Figures for 200 draws stand in the questions' files; here are fewer.
"""

import re

import numpy as np

from gencourse.grading.check import assess
from gencourse.grading.inside import harness


def result(question, function, seed):
    """As `question_tests.result`, without a training on the example, which no measure looks at."""
    inputs = question.draw(seed)
    (own,) = (check for check in question.checks if not check.of)
    answer = harness.run(function, own.given(inputs[own.name]), twice=False)
    return assess(question, inputs, {own.name: answer, "example": {}})


def assert_trained_to_full_points(question, function, seeds):
    for seed in seeds:
        got = result(question, function, seed)
        assert got.points == question.points, f"draw {seed}: {got.sentence}"
        assert re.search(r" is -?\d+\.\d{3}\b", got.sentence), "the number to report is printed"


def assert_mistakes_are_told(question, seeds, untold=(), instead=None):
    """Each mistake loses points and gets its own sentence. A right answer has none of them.

    Those that do not show in the numbers are `untold`, and get the measure's sentence; `instead` has names of mistakes whose
    numbers are those of another, and the other's.
    """
    other = dict.fromkeys(untold) | (instead or {})
    assert other.keys() <= question.mistakes.keys(), "each is a mistake of the question"
    (own,) = (check for check in question.checks if not check.of)
    for seed in seeds:
        inputs = question.draw(seed)[own.name]
        right = harness.run(question.reference, own.given(inputs), twice=False)["value"]
        for check in question.checks:
            for hint in check.measure.hints:
                with np.errstate(all="ignore"):
                    assert not hint.fits(check.measure, inputs, right), f"the reference, draw {seed}: {hint.says}"
        for name, function in question.mistakes.items():
            assert_told(question, function, other.get(name, name), [seed])


def assert_told(question, function, name, seeds):
    """What is said of a function is the sentence of the mistake `name`; with None the measure's: it has none that has a name."""
    (own,) = (check for check in question.checks if not check.of)
    says = question.says | {None: own.measure.says}
    for seed in seeds:
        got = result(question, function, seed)
        assert got.points < question.points, f"draw {seed}: {got.sentence}"
        assert got.sentence.endswith(f" or less is wanted; {says[name]}"), f"draw {seed}: {got.sentence}"
