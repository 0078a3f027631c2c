"""How long a class takes to grade: thirty hand-ins without PyTorch, thirty with it.

Two jobs, as on a machine of two processors. Printed are seconds, beside how busy the machine was; nothing is asserted.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "grading")]

import class_of_sixty  # noqa: E402
import toy_exercise  # noqa: E402

from gencourse.grading import questions  # noqa: E402
from gencourse.grading.grade import grade  # noqa: E402

HAND_INS, JOBS = 30, 2


def seconds(exercise: str, content: bytes) -> float:
    """For as many hand-ins of this notebook, each under a name of its own."""
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "handed-in"
        folder.mkdir()
        for n in range(HAND_INS):
            (folder / f"student {n}.ipynb").write_bytes(content)
        begun = time.perf_counter()
        records = grade(folder, exercise, Path(top) / "marks", jobs=JOBS)
        took = time.perf_counter() - begun
    assert all(part["status"] == "ok" for record in records for question in record["questions"] for part in question["checks"])
    return took


def main() -> None:
    """Print both."""
    real = questions.of_exercise
    questions.of_exercise = lambda number: toy_exercise.QUESTIONS if number == "90" else real(number)
    torch_free = toy_exercise.HONEST
    solved = class_of_sixty.saved(class_of_sixty.work("09"))
    for what, exercise, content in (("without PyTorch", "90", torch_free), ("exercise 09, trainings included", "09", solved)):
        before = os.getloadavg()[0]
        took = seconds(exercise, content)
        print(
            f"{HAND_INS} hand-ins {what}, {JOBS} jobs: {took:.0f} s, {took * JOBS / HAND_INS:.1f} each; load before {before:.1f}"
        )


if __name__ == "__main__":
    main()
