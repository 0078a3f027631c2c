"""The authors' own check finds what is wrong with a question."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import toy_exercise
from torch.nn.functional import softplus

from gencourse.grading import questions
from gencourse.grading.questions import Check, Question
from gencourse.grading.selftest import _rows, selftest, trivial


def rows(lines, what):
    return [line for line in lines if what in line]


def test_an_exercise_that_is_as_it_should_be():
    lines, passed = selftest("09", 2)
    assert passed, "\n".join(rows(lines, "WRONG"))
    assert lines[-1] == "all is as it should be"
    for id, points in (("9.1", 3), ("9.2", 3), ("9.3", 4), ("9.4", 5)):
        assert f"{id:10}{'reference':54}{f'{points} of {points}':>12}" in lines
        assert len(rows(lines, f"{id:10}mistake: ")) >= 8
        assert len(rows(lines, f"{id:10}trivial: ")) >= 12


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {
                "mistakes": {**toy_exercise.KL.mistakes, "none": toy_exercise._kl},
                "says": {**toy_exercise.KL.says, "none": "it is right."},
            },
            "mistake: none",
        ),
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
    assert f"{'9.4':10}{'reference in the sandbox':54}{'5 of 5':>12}" in lines


# What machines make: each fault below let a wrong answer through once, or lost a right one its points.


def said_of(question, seeds=6):
    """The rows with a fault, by the name of the answer."""
    return {says[:54].strip(): says for says, well in _rows(question, seeds) if not well}


def the_question(change=lambda inputs: inputs, reference=None, **other):
    """log p(x) of binary pixels under logits, of three images: one thing changed."""

    def draw(rng):
        return change({"x": rng.integers(0, 2, (3, 4)), "logits": rng.normal(0, 2, (3, 4))})

    def right(x, logits):
        return (x * logits - softplus(logits)).sum(-1)

    return Question(
        id="90.3",
        title="The log-probability",
        function="log_prob",
        returns="(B,)",
        reference=reference or right,
        example={"x": [[1.0, 0.0]], "logits": [[0.5, -1.0]]},
        checks=(Check("values", 2, draw, rtol=1e-5, atol=1e-5),),
        mistakes={f"{k} times": lambda x, logits, k=k: k * right(x, logits) for k in range(2, 10)},
        says={f"{k} times": "it is so." for k in range(2, 10)},
        **other,
    )


def test_a_question_without_a_fault_has_none():
    question = the_question()
    assert said_of(question) == {}
    names = [says[:54].strip() for says, _ in _rows(question, 3)]
    for made in (
        "style: float64", "style: NumPy", "style: a list of tensors", "style: a list of numbers", "style: arguments changed",
        "style: one example at a time", "mutant: x from another draw", "mutant: logits held at its example",
        "mutant: logits: the mean of its rows for all", "mutant: sum: the batch's mean for all",
        "mutant: right to three digits only", "naive softplus", "naive softplus, float64",
    ):  # fmt: skip
        assert made in names


def confident(low, high):
    def change(inputs):
        logits = inputs["logits"].copy()
        logits[0, 0] = low + (high - low) * (abs(logits[0, 0]) % 1)
        return {**inputs, "logits": logits}

    return change


def test_logits_about_the_limit_of_float32_are_a_lottery():
    """float32 holds exp(88.7): softplus written out survives some of the draws."""
    assert "the same on every draw expected" in said_of(the_question(confident(84, 90)), 20)["naive softplus"]
    assert said_of(the_question(confident(95, 120)), 20) == {}


def test_an_argument_that_draws_do_not_change():
    said = said_of(the_question(lambda inputs: {**inputs, "x": np.eye(3, 4)}))
    assert [fault for fault in said if "x is the same in all draws" in said[fault]]


def test_draws_that_come_again():
    def change(inputs):
        return {"x": np.eye(3, 4) + int(inputs["x"][0, 0]), "logits": 1.0 * np.eye(3, 4) + int(inputs["x"][0, 0])}

    assert any("only 2 different inputs" in says for says in said_of(the_question(change), 20).values())


def of_pairs(x, logits):
    """Of the log-probabilities x * logits of each row the log-sum."""
    return (x * logits).logsumexp(1)


def test_a_largest_of_all_images():
    """Images that are alike in probability do not tell one maximum for all from one for each."""
    name = "mutant: logsumexp: one maximum over everything"
    assert "at most 1 expected" in said_of(the_question(reference=of_pairs))[name]

    def apart(inputs):
        return {"x": 100 + inputs["x"] + np.array([[300], [0], [0]]), "logits": 1 + 0.01 * inputs["logits"]}

    assert name not in said_of(the_question(apart, reference=of_pairs))


def test_a_condition_on_the_whole_batch():
    """Where all rows meet a condition, nobody sees that the answer asks whether all of them do."""

    def right(x, logits):
        size = x.sum(1)
        return torch.where(size == 0, logits.sum(1), (x * logits).sum(1) / size.clamp(min=1))

    def with_empty_rows(many):
        return lambda inputs: {**inputs, "x": np.where(np.arange(3)[:, None] < many, 0, 1 + inputs["x"])}

    names = "mutant: where: for all, if for any", "mutant: where: for all, if for all"
    assert set(names) <= set(said_of(the_question(with_empty_rows(3), right)))
    assert not set(names) & set(said_of(the_question(with_empty_rows(1), right)))


def test_a_harmless_mutant_is_named_with_its_reason():
    def shape_alone(x, logits):
        return logits.sum(1) / x.shape[1]

    question = the_question(reference=shape_alone)
    assert said_of(question) == {}  # x changes from draw to draw, and no change of it is a mutant
    still = the_question(lambda inputs: {**inputs, "x": np.eye(3, 4)}, shape_alone)
    assert said_of(still)
    assert said_of(replace(still, harmless={"x from another draw": "its shape counts alone"})) == {}


def test_comparisons_are_taken_for_numbers():
    question = the_question(reference=lambda x, logits: (x * logits > 0).any(1).float())
    names = [says[:54].strip() for says, _ in _rows(question, 3)]
    assert "style: True and False" in names
    assert "style: integers" in names
