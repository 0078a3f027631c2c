"""The questions of the self-tests, a module a chapter: `chapter("03")`.

They are for practice: question, answer and reasons stand in the page. A formula stands between dollar signs: single letters
are set in italics, `_` and `^` lower and raise the next sign or what stands in braces. Code stands between backticks, and
*emphasis* between asterisks.
"""

from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pkgutil import iter_modules


@dataclass(frozen=True)
class Choice:
    """A question with a few answers, one of which is right.

    Attributes:
        text: the question.
        options: for each answer what it says, and why it is right or from which confusion it comes.
        right: the index of the right one.

    Raises:
        ValueError: if there are fewer than two options or the right one is not among them.
    """

    text: str
    options: tuple[tuple[str, str], ...]
    right: int

    def __post_init__(self) -> None:
        if len(self.options) < 2 or not 0 <= self.right < len(self.options):
            raise ValueError(f"Choice: the right option is {self.right}, but there are {len(self.options)}: {self.text!r}")


@dataclass(frozen=True)
class Number:
    """A question whose answer is a number.

    Attributes:
        text: the question; it says in which unit, and how precisely.
        answer: the number.
        within: what is accepted around it, and around the numbers of the mistakes.
        why: the way to it.
        mistakes: numbers that a usual mistake leads to, and the mistake.
        hint: what helps whoever has any other number.

    Raises:
        ValueError: if two of the numbers cannot be told apart.
    """

    text: str
    answer: float
    within: float
    why: str
    mistakes: tuple[tuple[float, str], ...]
    hint: str

    def __post_init__(self) -> None:
        numbers = sorted([self.answer, *(value for value, _ in self.mistakes)])
        if any(b - a <= 2 * self.within for a, b in pairwise(numbers)):
            raise ValueError(f"Number: answers {numbers} within {self.within} cannot be told apart: {self.text!r}")


Question = Choice | Number


def chapters() -> tuple[str, ...]:
    """The chapters that have a self-test, such as "03"."""
    return tuple(sorted(module.name[2:] for module in iter_modules(__path__) if module.name.startswith("ch")))


def chapter(number: str) -> tuple[Question, ...]:
    """The questions of a chapter.

    Raises:
        ValueError: if it has none.
    """
    if number not in chapters():
        raise ValueError(f"there is no self-test for chapter {number!r}; there are: {', '.join(chapters())}.")
    questions: tuple[Question, ...] = import_module(f"{__name__}.ch{number}").QUESTIONS
    return questions
