"""The page of run times: what chapters and exercises say of their time, what their outputs say of their trainings.

python -m tools.times [CHAPTER ...]    execute chapters, or all of them, in the profile smoke, and keep how long that takes
"""

import json
import os
import platform
import re
import resource
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.sources import BOOK, NOTE, Page, chapters, exercises

MEASURED = BOOK / "run_times.json"
NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
TENS = {"ten": 10, "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
PARTS = {"half": 30, "quarter": 15, "three quarters": 45}
TRAINING = re.compile(r"\b(?:\d+ (?:steps|rounds) )?in (\d+) s on (\w+)|^(\d+) s on (\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Times:
    """What a chapter says of its time.

    Attributes:
        says: how long it takes to read, in its own words.
        minutes: the same as a number; None if the words are others than usual.
        runs: how long its notebook runs on a laptop, in its own words; empty if it does not say.
        trainings: the trainings that its outputs report, as seconds and device.
        records: the comparisons that it quotes, by name.
    """

    says: str
    minutes: int | None
    runs: str
    trainings: tuple[tuple[int, str], ...]
    records: tuple[str, ...]


def times(page: Page) -> Times:
    """Of a chapter."""
    said = re.search(r"\*\*Time:\*\*\s+(.*)", page.sections[0].prose)
    first, _, rest = (said[1] if said else "").partition(";")
    reading = first.partition(" to read")[0]
    runs = re.search(r"runs in (?:about )?(.*?) on a laptop", rest)
    cells = [cell for section in page.sections for cell in section.cells if cell[0] == "code"]
    found = (match for _, _, output in cells for match in TRAINING.finditer(output))
    quoted = (name for _, source, _ in cells for name in re.findall(r'records\.load\(\s*"([^"]+)"', source))
    return Times(
        reading.strip(),
        in_minutes(reading),
        runs[1] if runs else "",
        tuple((int(match[1] or match[3]), match[2] or match[4]) for match in found),
        tuple(dict.fromkeys(quoted)),
    )


def in_minutes(words: str) -> int | None:
    """`an hour and a half` as 90; None if there is no time in the words.

    >>> in_minutes("an hour and a quarter"), in_minutes("two hours"), in_minutes("forty minutes"), in_minutes("half an hour")
    (75, 120, 40, 30)
    """
    words = words.lower().removeprefix("about ").strip()
    if part := re.fullmatch(r"(half|three quarters) (?:of )?an hour", words):
        return PARTS[part[1]]
    if part := re.fullmatch(r"(\w+) minutes", words):
        return (TENS | NUMBERS).get(part[1])
    part = re.fullmatch(r"(\w+) hours?(?: and (?:a )?(half|quarter|three quarters))?", words)
    if part and part[1] in NUMBERS:
        return 60 * NUMBERS[part[1]] + PARTS.get(part[2] or "", 0)
    return None


def short(words: str) -> str:
    """`two to four minutes` as `2–4 min`; other words as they are.

    >>> short("a minute or two"), short("three minutes")
    ('1–2 min', '3 min')
    """
    if words == "half a minute":
        return "½ min"
    found = [str((TENS | NUMBERS)[word]) for word in re.findall(r"\w+", words) if word in TENS | NUMBERS]
    return f"{'–'.join(found)} min" if found and "minute" in words else words


def questions(exercise: Page) -> list[tuple[str, str, str, int]]:
    """The rows of an exercise's first table: number, title, points and minutes."""
    rows = re.findall(r"^\| *([\d.]*) *\| *(.*?) *\| *(\w+) *\| *(\d+) *\|$", exercise.sections[0].prose, re.MULTILINE)
    return [(number, title, points, int(minutes)) for number, title, points, minutes in rows]


def exercise_minutes(exercise: Page) -> int:
    """All questions of an exercise together."""
    return sum(minutes for *_, minutes in questions(exercise))


def hours(minutes: float) -> str:
    """Minutes as hours, to the quarter: `1¾ h`."""
    whole, quarters = divmod(round(minutes / 15), 4)
    return f"{whole or '' if quarters else whole}{['', '¼', '½', '¾'][quarters]} h"


def measured() -> dict[str, Any]:
    """What the command of this module has kept: `smoke`, processor seconds by chapter, and `made with`."""
    if not MEASURED.exists():
        return {"made with": {}, "smoke": {}}
    found: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return found


def page() -> str:
    """Run times and devices."""
    from gencourse import records

    every, at_hand = chapters(), {exercise.number: exercise for exercise in exercises()}
    of = {chapter.number: times(chapter) for chapter in every}
    smoke, made = measured()["smoke"], measured()["made with"]
    devices = sorted({device for one in of.values() for _, device in one.trainings})
    reading = sum(one.minutes or 0 for one in of.values())
    solving = sum(map(exercise_minutes, at_hand.values()))
    lines = [
        "# Run times and devices",
        "",
        NOTE.format(tool="times", source="the chapters, the exercises and book/run_times.json"),
        "",
        f"To read all {len(every)} chapters takes about {round(reading / 60)} hours,",
        f"to do all {len(at_hand)} exercises about {round(solving / 60)}. What a chapter says of its notebook, under *Run*, is",
        "for a laptop with nothing else to do. *Trainings* are those that its stored outputs report, with their seconds by the",
        f"clock of a machine that often had other work as well. Device: {', '.join(devices)}.",
        "",
        "| Chapter | Read | Run | Trainings | Smoke | Exercise |",
        "|---|---|---|---|---|---|",
    ]
    for chapter in every:
        one = of[chapter.number]
        seconds = [found for found, _ in one.trainings]
        trainings = f"{len(seconds)} in {sum(seconds)} s" if seconds else ""
        least = f"{smoke[chapter.path.stem]:.0f} s" if chapter.path.stem in smoke else ""
        read = one.says if one.minutes is None else hours(one.minutes)
        exercise = at_hand.get(chapter.number)
        task = f"[{hours(exercise_minutes(exercise))}]({exercise.link()})" if exercise else ""
        name = f"[{chapter.number}. {chapter.title}]({chapter.link()})"
        lines.append(f"| {name} | {read} | {short(one.runs)} | {trainings} | {least} | {task} |")
    lines += [
        "",
        "The times of exercises are those that their questions state, *What if?* included. A question that trains says how long",
        "a call may take. [Teaching with this book](teaching.md) makes courses of both.",
        "",
    ]
    if smoke:
        lines += [
            "*Smoke* is the smallest profile, which only shows that everything works. Its times are seconds of processor time on",
            f"{made['device']} with {made['threads']} thread and torch {made['torch']}, measured by `python -m tools.times`.",
            "",
        ]
    lines += [
        "## Comparisons that chapters quote",
        "",
        "They take too long for a notebook. Scripts in `benchmarks/` made them, and `gencourse/records/` has them run by run.",
        "",
        "| Record | Chapter | Entries | Made on |",
        "|---|---|---|---|",
    ]
    for name in records.names():
        record = records.load(name)
        users = ", ".join(f"[{chapter.number}]({chapter.link()})" for chapter in every if name in of[chapter.number].records)
        on = record["made with"]
        threads = f", {on['threads']} thread" if on.get("threads") == 1 else ""
        lines.append(f"| {name} | {users} | {len(record['runs'])} | {on['device']}{threads}, torch {on['torch']} |")
    return "\n".join(lines) + "\n"


def measure(chapter: Page) -> float:
    """Processor seconds of a chapter in the profile smoke."""
    import papermill

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        papermill.execute_notebook(
            chapter.path,
            Path(folder) / chapter.path.name,
            {"profile": "smoke"},
            cwd=chapter.path.parent,
            kernel_name="python3",
            progress_bar=False,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(arguments: list[str]) -> int:
    """Measure, and keep what was measured after each chapter; the number is the exit status."""
    import torch

    os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    kept = measured()
    for chapter in chapters():
        if arguments and chapter.path.stem not in arguments:
            continue
        kept["smoke"][chapter.path.stem] = round(measure(chapter), 1)
        kept["made with"] = {"torch": torch.__version__.split("+")[0], "device": f"{platform.machine()} CPU", "threads": 1}
        kept["smoke"] = dict(sorted(kept["smoke"].items()))
        MEASURED.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(f"{chapter.path.stem}: {kept['smoke'][chapter.path.stem]} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
