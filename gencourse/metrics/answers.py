"""What people answered in a test of a model's images, and the file that it is kept in.

The file is JSON, the one that the test in the book saves:

    {"format": "gencourse-hype-1", "test": "infinity", "answers": [
      {"rater": "7f3a", "image": "dcgan-012", "kind": "fake", "answer": "real", "exposure_ms": null, "model": "dcgan"},
      {"rater": "7f3a", "image": "test-107", "kind": "real", "answer": "real", "exposure_ms": null, "model": null}]}

The answers stand in the order in which they were given. `test` is "infinity" (no limit of time) or "time"; `kind` is what the
image is, and `answer` what the rater said, "real" or "fake"; `exposure_ms` is null where time was not limited; `model` names
who made a fake, and may be null or left out.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

FORMAT = "gencourse-hype-1"
KINDS = ("real", "fake")


class Answer(NamedTuple):
    """What one rater said of one image."""

    rater: str
    image: str
    kind: str
    answer: str
    exposure_ms: float | None = None
    model: str | None = None

    @property
    def wrong(self) -> bool:
        """Whether a real image was called fake, or a fake one real."""
        return self.kind != self.answer


@dataclass(frozen=True)
class Answers:
    """The answers of one or more raters to one test, "infinity" or "time", each rater's in order."""

    test: str
    answers: tuple[Answer, ...]

    def about(self, model: str) -> "Answers":
        """The answers to one model's fakes and to all real images.

        Raises:
            ValueError: if nobody saw a fake of this model.
        """
        if model not in (names := sorted({answer.model for answer in self.answers if answer.model})):
            raise ValueError(f"no answers are about {model!r}; there are some about: {', '.join(names) or 'no model by name'}.")
        return Answers(self.test, tuple(a for a in self.answers if a.kind == "real" or a.model == model))

    def by_rater(self) -> dict[str, list[Answer]]:
        """Each rater's answers, in order."""
        raters: dict[str, list[Answer]] = {}
        for answer in self.answers:
            raters.setdefault(answer.rater, []).append(answer)
        return raters


def read_answers(*paths: str | Path) -> Answers:
    """The answers in one or more files, in the format at the top of this module.

    Raises:
        ValueError: if a file is not of this format, or they are of different tests; the file and the answer are named.
    """
    tests, found = set(), []
    for path in paths:
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise ValueError(f"{path} is no JSON in UTF-8; give the file that the test saved.") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("answers"), list):
            raise ValueError(f'{path} has no "format": "{FORMAT}" with a list of "answers"; give the file that the test saved.')
        if content.get("test") not in ("infinity", "time"):
            raise ValueError(f'{path}: "test" must be "infinity" or "time", not {content.get("test")!r}.')
        tests.add(content["test"])
        found += [_answer(row, f"{path}, answer {number}") for number, row in enumerate(content["answers"], 1)]
    if len(tests) != 1 or not found:
        raise ValueError(f"read_answers needs answers of one test, not {len(found)} answers of {len(tests)} tests.")
    return Answers(tests.pop(), tuple(found))


def write_answers(path: str | Path, answers: Answers) -> None:
    """Write answers as `read_answers` reads them, one a line."""
    rows = ",\n  ".join(json.dumps(answer._asdict()) for answer in answers.answers)
    text = f'{{"format": "{FORMAT}", "test": "{answers.test}",\n "answers": [\n  {rows}\n]}}\n'
    Path(path).write_text(text, encoding="utf-8")


def _answer(row: Any, where: str) -> Answer:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected names and values, not {row!r}.")
    for name in ("rater", "image"):
        if not isinstance(row.get(name), str) or not row[name]:
            raise ValueError(f"{where}: {name!r} must be a name, not {row.get(name)!r}.")
    for name in ("kind", "answer"):
        if row.get(name) not in KINDS:
            raise ValueError(f"{where}: {name!r} must be 'real' or 'fake', not {row.get(name)!r}.")
    exposure, model = row.get("exposure_ms"), row.get("model")
    if exposure is not None and (isinstance(exposure, bool) or not isinstance(exposure, int | float) or not 0 < exposure < 1e6):
        raise ValueError(f"{where}: 'exposure_ms' must be milliseconds or null, not {exposure!r}.")
    if model is not None and not isinstance(model, str):
        raise ValueError(f"{where}: 'model' must be a name or null, not {model!r}.")
    return Answer(row["rater"], row["image"], row["kind"], row["answer"], exposure, model)
