"""A chapter's self-test in the page: a few questions for practice, with a reason for every answer."""

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from gencourse.explorers.base import Explorer
from gencourse.explorers.questions import Choice, Number, Question, chapter

PRACTICE = "For practice: nothing here is graded or stored."


class SelfTest(Explorer):
    """Questions one after the other, each with feedback on whatever was answered, and a score at the end.

    Without scripts the questions stand there as text, each with its answer folded up beneath it.

    Args:
        questions: a chapter, such as "03", or questions of one's own.

    Raises:
        ValueError: if there is no such chapter, or no question.
    """

    module: ClassVar[Path] = Path(__file__).with_name("self_test.js")

    def __init__(self, questions: str | Sequence[Question]) -> None:
        self.questions = chapter(questions) if isinstance(questions, str) else tuple(questions)
        if not self.questions:
            raise ValueError('SelfTest needs at least one question: SelfTest("03"), or SelfTest([Choice(...), ...]).')
        state = {"questions": [_sent(q) for q in self.questions], "practice": PRACTICE, "at": 0, "answers": []}
        super().__init__(state, still=b"", alt=f"{len(self.questions)} questions to test oneself. {PRACTICE}")

    def fallback(self) -> str:
        """The questions as text, in place of a picture."""
        items = []
        for question in self.questions:
            if isinstance(question, Choice):
                options = "".join(f"<li>{marked_up(text)}</li>" for text, _ in question.options)
                (answer, why), choices = question.options[question.right], f'<ol type="a">{options}</ol>'
            else:
                answer, why, choices = f"{question.answer:g}.".replace("-", "\N{MINUS SIGN}"), question.why, ""
            folded = f"<details><summary>Answer</summary><p>{marked_up(answer)} {marked_up(why)}</p></details>"
            items.append(f"<li><p>{marked_up(question.text)}</p>{choices}{folded}</li>")
        return f"<p>{PRACTICE}</p><ol>{''.join(items)}</ol>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        lines = [PRACTICE]
        for number, question in enumerate(self.questions, 1):
            lines.append(f"\n{number}. {plain(question.text)}")
            if isinstance(question, Choice):
                lines += [f"   {letter}) {plain(text)}" for letter, (text, _) in zip("abcdefgh", question.options, strict=False)]
        return {"text/html": self.to_html(), "text/plain": "\n".join(lines)}


def marked_up(text: str) -> str:
    """A question's text as HTML: formulas between dollar signs, code between backticks, emphasis between asterisks.

    The page sets formulas without MathJax, which neither the explorers' shadow roots nor Colab's frames have.

    Raises:
        ValueError: if a formula is not closed.
    """
    parts = re.sub(r"\s+", " ", html.escape(text, quote=False)).split("$")
    if len(parts) % 2 == 0:
        raise ValueError(f"a dollar sign is missing in {text!r}.")
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = _formula(part)
        else:
            parts[i] = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", re.sub(r"`([^`]+)`", r"<code>\1</code>", part))
    return "".join(parts)


def plain(text: str) -> str:
    """A question's text without its marks."""
    return re.sub(r"[$`*{}]", "", text)


def _formula(text: str) -> str:
    text = text.replace("-", "\N{MINUS SIGN}")
    # single letters are variables; longer runs are names (log, KL) or entities, and stay upright
    text = re.sub(r"(?<![A-Za-z])[A-Za-zα-ω](?![A-Za-z])", r"<i>\g<0></i>", text)

    def scripts(part: str) -> str:
        one = r"<i>.</i>|&[a-z]+;|."
        for sign, tag in (("_", "sub"), ("^", "sup")):
            part = re.sub(
                rf"{re.escape(sign)}(?:\{{([^{{}}]*)\}}|({one}))",
                lambda m, tag=tag: f"<{tag}>{scripts(m[1] or m[2])}</{tag}>",  # type: ignore[misc]
                part,
            )
        return part

    return scripts(text)


def _sent(question: Question) -> dict[str, Any]:
    """What the page is sent."""
    if isinstance(question, Choice):
        options = [{"text": marked_up(text), "why": marked_up(why)} for text, why in question.options]
        return {"text": marked_up(question.text), "options": options, "right": question.right}
    if not isinstance(question, Number):
        raise TypeError(f"SelfTest: a question is a Choice or a Number, not {type(question).__name__}.")
    return {
        "text": marked_up(question.text),
        "answer": question.answer,
        "within": question.within,
        "why": marked_up(question.why),
        "mistakes": [{"value": value, "why": marked_up(why)} for value, why in question.mistakes],
        "hint": marked_up(question.hint),
    }
