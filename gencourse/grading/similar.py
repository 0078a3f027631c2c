"""Hand-ins that are surprisingly equal, and the answers to "What if?" side by side: for an instructor's eyes, never a verdict.

Compared is what statements do (`Notebook.prints`): not names, comments, docstrings, blank lines or the order of cells. The
exercise's own code does not count, and what many wrote counts little, so that a short formula that can only be written in one
way says nothing. People who worked together look like this as well, and so does whoever copied from both.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gencourse
from gencourse.grading import notebook
from gencourse.grading.notebook import Notebook, Unreadable

Record = dict[str, Any]

SOLUTION = "the solution"
_SHARE = 0.8  # of the smaller hand-in's own code
_SIZE = 60  # parts of statements that must be equal: about five lines
_MOST = 30


def published(exercise: str, folder: str = "exercises") -> Notebook | None:
    """The exercise as students get it, or its solution, where the course's folders are: here, above, or around the library."""
    for root in (Path.cwd(), *Path.cwd().parents, Path(gencourse.__file__).parents[1]):
        for path in sorted((root / folder).glob(f"{exercise}-*.ipynb")):
            try:
                return notebook.examined(notebook.read_bytes(path))
            except Unreadable:
                continue
    return None


def pairs(
    records: Sequence[Record], given: Notebook | None = None, solution: Notebook | None = None
) -> list[tuple[float, str, str]]:
    """Pairs of students whose code is nearly the same: the share that is, and the two; the likest first.

    Args:
        records: of all hand-ins.
        given: the exercise, whose code is not the students'.
        solution: compared as well, as a student called `SOLUTION`.
    """
    own = {print for print, _ in given.prints} if given else set()
    codes: dict[str, Counter] = {}
    sizes: dict[str, int] = {}
    every = [(record["student"], record.get("prints", ())) for record in records]
    for student, prints in [*every, *([(SOLUTION, solution.prints)] if solution else [])]:
        code = codes.setdefault(student, Counter())
        code |= Counter(print for print, _ in prints if print not in own)  # of several hand-ins, all
        sizes |= {print: size for print, size in prints}
    wrote = Counter(print for code in codes.values() for print in code)
    weight = {print: sizes[print] * math.log((len(codes) + 1) / n) for print, n in wrote.items()}
    whole = {student: sum(weight[p] * n for p, n in code.items()) for student, code in codes.items()}
    found = []
    names = sorted(codes)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            both = codes[a] & codes[b]
            if sum(sizes[p] * n for p, n in both.items()) < _SIZE:
                continue
            share = sum(weight[p] * n for p, n in both.items()) / max(min(whole[a], whole[b]), 1e-9)
            if share >= _SHARE:
                found.append((round(min(share, 1.0), 3), a, b))
    return sorted(found, key=lambda pair: (-pair[0], pair[1:]))[:_MOST]


def words(students: Sequence[Sequence[Record]], given: Notebook | None = None) -> list[tuple[Record, str]]:
    """What each student wrote under "What if?", without the lines that stand in the exercise or in most hand-ins."""
    texts = [(hand_ins[0], hand_ins[0].get("words", "").splitlines()) for hand_ins in students]
    count = Counter(line.strip() for _, lines in texts for line in {line: None for line in lines})
    own = {line.strip() for line in given.words.splitlines()} if given else set()
    own |= {line for line, n in count.items() if line and n >= 3 and n > len(texts) / 2}
    left = [(record, "\n".join(line for line in lines if line.strip() not in own or not line.strip())) for record, lines in texts]
    return [(record, text.strip()) for record, text in left if text.strip()]
