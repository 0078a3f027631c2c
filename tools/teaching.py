"""The generated parts of the instructor's page, book/teaching.md: its exercises, its courses, and the mistakes that are named."""

import re
import tomllib
from typing import Any

from gencourse.grading import questions
from tools.sources import BOOK, Page, chapters, exercises, filled
from tools.times import exercise_minutes, hours, times


def page() -> str:
    """The instructor's page with its parts renewed."""
    parts = {"the exercises": overview(), "the courses": courses(), "the mistakes": mistakes()}
    return filled((BOOK / "teaching.md").read_text(encoding="utf-8"), parts)


def points(exercise: Page) -> int:
    """Of all questions of an exercise."""
    return sum(check.points for question in asked(exercise) for check in question.checks)


def asked(exercise: Page) -> tuple[questions.Question, ...]:
    """The questions of an exercise, as the grader has them."""
    return questions.of_exercise(exercise.path.name[:2])


def overview() -> str:
    """A row for each exercise, and one for all."""
    every = exercises()
    lines = ["| Exercise | Questions | Points | Minutes | Mistakes |", "|---|---|---|---|---|"]
    totals = [0, 0, 0, 0]
    for exercise in every:
        named = sum(len(question.mistakes) for question in asked(exercise))
        numbers = [len(asked(exercise)), points(exercise), exercise_minutes(exercise), named]
        totals = [total + number for total, number in zip(totals, numbers, strict=True)]
        lines.append(f"| [{exercise.path.name[:2]}]({exercise.link()}) {exercise.title} | {' | '.join(map(str, numbers))} |")
    lines.append(f"| all | {' | '.join(map(str, totals))} |")
    return "\n".join(lines)


def plans() -> list[dict[str, Any]]:
    """The courses of book/syllabus.toml."""
    found: list[dict[str, Any]] = tomllib.loads((BOOK / "syllabus.toml").read_text(encoding="utf-8"))["plan"]
    return found


def week_minutes(week: dict[str, Any]) -> int:
    """To read a week's chapters and do its exercises, as far as these are there."""
    reading = sum(times(page).minutes or 0 for page in chapters() if page.number in week["chapters"])
    return reading + sum(exercise_minutes(page) for page in exercises() if page.number in week["exercises"])


def courses() -> str:
    """A table for each plan, a row a week."""
    lines = []
    for plan in plans():
        weeks = [week_minutes(week) for week in plan["weeks"]]
        there = list(filter(None, weeks))  # a week of which nothing is written yet is left out
        total = f"{hours(sum(there))} in all, {hours(min(there))} to {hours(max(there))} a week."
        lines += [f"### {plan['title']}", "", f"{plan['says']} {total}", ""]
        lines += ["| Week | Topic | Chapters | Exercises | Hours |", "|---|---|---|---|---|"]
        for number, (week, minutes) in enumerate(zip(plan["weeks"], weeks, strict=True), 1):
            if not minutes:
                continue
            read = ", ".join(f"[{page.number}]({page.link()})" for page in chapters() if page.number in week["chapters"])
            done = ", ".join(f"[{page.path.name[:2]}]({page.link()})" for page in exercises() if page.number in week["exercises"])
            lines.append(f"| {number} | {week['topic']} | {read} | {done} | {hours(minutes)} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def mistakes() -> str:
    """By exercise and question, the names of the mistakes."""
    lines = []
    for exercise in exercises():
        lines += [f"<details><summary>Exercise {exercise.path.name[:2]}, {exercise.title}</summary>", ""]
        for question in asked(exercise):
            names = re.sub(r"([\\*_<>\[\]`$|~])", r"\\\1", "; ".join(question.mistakes))  # a name is no Markdown
            lines.append(f"- **{question.id} {question.title}**, {len(question.mistakes)}: {names}.")
        lines += ["", "</details>", ""]
    return "\n".join(lines).rstrip()
