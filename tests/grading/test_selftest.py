"""The authors' own check finds what is wrong with a question."""

from dataclasses import replace

import pytest
import toy_exercise

from gencourse.grading import questions
from gencourse.grading.questions import Mistake
from gencourse.grading.selftest import selftest, trivial


def rows(lines, what):
    return [line for line in lines if what in line]


def test_an_exercise_that_is_as_it_should_be():
    lines, passed = selftest("09", 2)
    assert passed, "\n".join(rows(lines, "WRONG"))
    assert lines[-1] == "all is as it should be"
    for id, points in (("9.1", 3), ("9.2", 3), ("9.3", 4), ("9.4", 5)):
        assert f"{id:10}{'reference':42}{f'{points} of {points}':>12}" in lines
        assert len(rows(lines, f"{id:10}mistake: ")) >= 8
        assert len(rows(lines, f"{id:10}trivial: ")) >= 12


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mistakes": (*toy_exercise.KL.mistakes, Mistake("none", "it is right.", toy_exercise._kl))}, "mistake: none"),
        ({"reference": lambda p, q: p.sum(1) * 0.0}, "trivial: zeros"),
        ({"checks": tuple(replace(c, needs="") for c in toy_exercise.KL.checks)}, "trivial: zeros"),
        ({"checks": (replace(toy_exercise.KL.checks[0], rtol=10.0, atol=10.0),)}, "trivial: ones"),
        ({}, "3 mistakes are named; at least 8 are wanted"),
    ],
    ids=["a mistake that is none", "an answer that takes no thought", "a property alone", "tolerance", "few mistakes"],
)
def test_what_is_wrong_with_a_question_is_found(monkeypatch, change, says):
    question = replace(toy_exercise.KL, **change)
    monkeypatch.setattr(questions, "of_exercise", lambda number: (question,))
    lines, passed = selftest("90", 3)
    assert not passed
    assert lines[-1] == "NOT as it should be: see WRONG above"
    assert any("WRONG" in line for line in rows(lines, says))


def test_trivial_answers_know_the_shape():
    inputs = toy_exercise.KL.draw(0)["values"].values()
    functions = trivial(toy_exercise.KL)
    assert functions["ones"](*inputs).tolist() == [1.0] * 5
    assert functions["q handed back"](*inputs).shape == (5, 4)


def test_through_the_sandbox_too():
    lines, _ = selftest("09", 1, through_worker=True)
    assert f"{'9.4':10}{'reference in the sandbox':42}{'5 of 5':>12}" in lines
