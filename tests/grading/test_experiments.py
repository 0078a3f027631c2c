"""Experiments: trained by the student's function, judged by a statistic on data that the grader drew.

The toy: learn a distribution over K outcomes from a sample, and give the logarithms of all K probabilities.
"""

from dataclasses import replace

import numpy as np
import pytest

from gencourse.grading.check import assess, collect
from gencourse.grading.questions import Check, Measure, Question
from gencourse.grading.selftest import trivial

K = 12


def _draw(rng):
    p = rng.dirichlet(np.full(K, 0.3))
    return {"x": rng.choice(K, 400, p=p).astype(float), "outcomes": np.arange(float(K)), "_p": p}


def _excess(inputs, log_p):
    """Expected negative log-likelihood beyond the best, in nats, after normalising: no answer is better than the truth."""
    log_q = log_p - np.logaddexp.reduce(log_p)
    return float(np.sum(inputs["_p"] * (np.log(inputs["_p"] + 1e-300) - log_q)))


def _fit(x, outcomes):
    counts = np.array([(x == k).sum() for k in outcomes])
    return np.log((counts + 0.5) / (counts + 0.5).sum())


def measure(at_most):
    return Measure("the excess over the best code", _excess, at_most, lambda inputs: (K,), "count, then smooth.", " nats")


QUESTION = Question(
    id="90.9",
    title="Learn a distribution",
    function="fit",
    returns="(K,)",
    reference=_fit,
    example={"x": [0.0, 1.0], "outcomes": [0.0, 1.0]},
    # Over 500 seeds the reference reaches 0.037 at worst, ten of the examples 0.068 at best, random numbers 0.2 at best.
    checks=(
        Check("better than nothing", 1, _draw, measure=measure(0.15)),
        Check("as good as counting", 2, _draw, measure=measure(0.05), of="better than nothing"),
    ),
    mistakes={"first ten": lambda x, outcomes: _fit(x[:10], outcomes)},
    says={"first ten": "use all of it."},
    seconds=5.0,
    library="numpy",
)


def test_a_training_that_has_diverged_is_told_in_a_readable_number():
    large = replace(measure(0.15), statistic=lambda inputs, answer: 10.0 ** answer[0])
    question = replace(QUESTION, checks=(Check("better than nothing", 1, _draw, measure=large),))
    inputs = question.draw(0)
    for exponent, written in ((300.0, "1.00e+300 nats, and 0.150 or less"), (5.0, "100000.000 nats")):
        answer = {"returned": "ndarray", "value": np.full(K, exponent), "repeatable": True}
        says = assess(question, inputs, {"better than nothing": answer, "example": {}}).sentence
        assert f"the excess over the best code is {written}" in says
        assert len(says) < 150


def result(function, seed=0):
    inputs = QUESTION.draw(seed)
    return assess(QUESTION, inputs, collect(QUESTION, function, inputs))


def test_the_reference_has_full_marks_and_is_trained_once_for_all_bounds():
    calls = []

    def fit(x, outcomes):
        calls.append(len(x))
        return _fit(x, outcomes)

    for seed in range(100):
        assert result(fit, seed).points == 3
    assert calls.count(400) == 100  # one training a hand-in, though two checks judge it


def test_the_better_the_more_points_and_the_sentence_has_the_numbers():
    assert {result(lambda x, outcomes: _fit(x, outcomes) + 1, seed).points for seed in range(5)} == {3}  # it is normalised
    points = [result(lambda x, outcomes: _fit(x[:60], outcomes), seed).points for seed in range(30)]
    assert set(points) >= {1, 3}
    said = result(QUESTION.mistakes["first ten"], 4).sentence
    assert "the excess over the best code is" in said
    assert " or less is wanted; count, then smooth." in said


def test_a_function_does_not_see_what_is_hidden():
    seen = []
    result(lambda *inputs: seen.append(len(inputs)))
    assert set(seen) == {2}


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x, outcomes: np.full(K, np.nan), "NaN or infinite"),
        (lambda x, outcomes: np.full(K, np.inf), "NaN or infinite"),
        (lambda x, outcomes: np.zeros(K + 1), "your answer has shape (13,), where (K,), here (12,), belongs."),
        (lambda x, outcomes: print(x), "returned nothing"),
        (lambda x, outcomes: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_is_no_answer_gets_its_own_sentence(function, says):
    got = result(function)
    assert got.points == 0
    assert says in got.sentence


def test_what_takes_no_thought_earns_nothing_where_there_is_something_to_learn():
    peaked = replace(QUESTION, checks=tuple(replace(c, draw=_peaked) for c in QUESTION.checks))
    for name, function in trivial(peaked).items():
        for seed in range(20):
            inputs = peaked.draw(seed)
            assert assess(peaked, inputs, collect(peaked, function, inputs)).points == 0, name


def _peaked(rng):
    inputs = _draw(rng)
    p = rng.permutation(0.5 ** np.arange(1.0, K + 1))
    p /= p.sum()
    return {**inputs, "x": rng.choice(K, 400, p=p).astype(float), "_p": p}
