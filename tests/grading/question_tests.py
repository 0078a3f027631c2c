"""What tests of questions share: an answer judged, and the parametrisation's names."""

from gencourse.grading.check import assess, collect

ids = {"ids": lambda value: getattr(value, "id", None) or getattr(value, "__name__", None) or getattr(value, "name", None)}


def result(question, function, seed):
    inputs = question.draw(seed)
    return assess(question, inputs, collect(question, function, inputs))


def assert_full_points(question, function, seeds):
    for seed in range(seeds):
        assert (
            result(question, function, seed).sentence == f"{question.id}: correct ({question.points}/{question.points} points)."
        )


def assert_keeps(question, name, points, seeds=5):
    """The mistake of this name costs no more than it should: formulas that fail in the extreme are right elsewhere."""
    for seed in range(seeds):
        assert result(question, question.mistakes[name], seed).points == points
