"""What every exercise's questions are held to."""

import numpy as np

from gencourse.grading.check import assess, collect
from gencourse.grading.inside import harness

ids = {"ids": lambda value: getattr(value, "id", None) or getattr(value, "__name__", None) or getattr(value, "name", None)}


def result(question, function, seed):
    inputs = question.draw(seed)
    return assess(question, inputs, collect(question, function, inputs))


def assert_full_points(question, function, seeds):
    for seed in range(seeds):
        assert (
            result(question, function, seed).sentence == f"{question.id}: correct ({question.points}/{question.points} points)."
        )


def assert_keeps(question, name, points, seeds=20):
    """The mistake of this name costs no more than it should: formulas that fail in the extreme are right elsewhere."""
    (mistake,) = (mistake for mistake in question.mistakes if mistake.name == name)
    for seed in range(seeds):
        assert result(question, mistake.function, seed).points == points


def assert_mistakes_are_named(question, monkeypatch, seeds=20):
    """Each mistake loses points on every seed, and what is said about it is its own sentence."""
    run, known = harness.run, {}

    def remembering(function, inputs, gradients=(), *, dtype="float32", **options):
        """Every mistake is compared with every other: run each once."""
        key = function, id(inputs), gradients, dtype
        if key not in known:
            known[key] = run(function, inputs, gradients, dtype=dtype, **options | {"twice": True})
        return known[key]

    monkeypatch.setattr(harness, "run", remembering)
    for seed in range(seeds):
        known.clear()
        inputs = question.draw(seed)
        for mistake in question.mistakes:
            got = assess(question, inputs, collect(question, mistake.function, inputs))
            assert got.points < got.out_of, mistake.name
            assert got.sentence.endswith(f": {mistake.says}"), mistake.name
            assert mistake.name in [part.mistake for part in got.checks]


def assert_well_written(question):
    """Mistakes are many, their names and sentences distinct, and each sentence is one and short."""
    assert len(question.mistakes) >= 8
    assert len({m.name for m in question.mistakes}) == len({m.says for m in question.mistakes}) == len(question.mistakes)
    for mistake in question.mistakes:
        assert mistake.says.count(". ") == 0
        assert mistake.says.endswith((".", "?"))
        assert len(mistake.says) < 220


def assert_float32(questions):
    """What is drawn can be held in float32, so that the reference, in float64, sees the same numbers as the student."""
    assert all(array.dtype == np.float32 for q in questions for inputs in q.draw(0).values() for array in inputs.values())
