"""The questions of the self-tests, a file a chapter: `chapter("03")` reads `03.toml`.

They are for practice: question, answer and reasons stand in the page. Each `[[question]]` has the attributes of a `Choice`, if
it has `options`, or else of a `Number`; pairs are written `[first, second]`.

A formula stands between dollar signs: single letters are set in italics, `_` and `^` lower and raise the next sign or what
stands in braces. Code stands between backticks, and *emphasis* between asterisks.
"""

import tomllib
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Choice:
    """A question with a few answers, one of which is right.

    Attributes:
        text: the question.
        options: for each answer what it says, and why it is right or from which confusion it comes.
        right: the place of the right one, counted from 0.

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
    found = [item.name for item in resources.files(__name__).iterdir()]
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def chapter(number: str) -> tuple[Question, ...]:
    """The questions of a chapter.

    Raises:
        ValueError: if it has none, or its file has a question that is none; the sentence names it.
    """
    if number not in chapters():
        raise ValueError(f"there is no self-test for chapter {number!r}; there are: {', '.join(chapters())}.")
    return read((resources.files(__name__) / f"{number}.toml").read_text(encoding="utf-8"), f"{number}.toml")


def read(text: str, where: str) -> tuple[Question, ...]:
    """The questions in the text of a file; `where` is its name, for the sentence that says what is wrong.

    Raises:
        ValueError: if the text is no TOML, or one of its questions is neither a `Choice` nor a `Number`.
    """
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{where} is no TOML: {error}.") from None
    if set(content) != {"question"}:
        raise ValueError(
            f"{where} has {', '.join(content) or 'nothing'}, but [[question]] is all that it may have, once or more."
        )
    found: list[Question] = []
    for place, row in enumerate(content["question"], 1):
        kind = Choice if "options" in row else Number
        try:
            pairs: dict[str, Any] = {
                key: tuple((first, second) for first, second in row[key]) for key in ("options", "mistakes") if key in row
            }
            found.append(kind(**row | pairs))
        except (TypeError, ValueError) as error:
            raise ValueError(f"question {place} in {where}: {error}") from None
    return tuple(found)
