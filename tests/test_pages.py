"""The pages about the whole book say what its chapters, exercises and tables say."""

import collections
import json
import re
from pathlib import Path

import pytest

from gencourse.checks import equation
from gencourse.grading import questions
from tools import equations, glossary, pages, teaching, times
from tools.sources import BOOK, Page, anchor, chapters, exercises, filled

CHAPTERS, EXERCISES, TERMS = chapters(), exercises(), glossary.terms()
EVERY = {one.number: one for chapter in CHAPTERS for one in equations.equations(chapter)}
PLANS = teaching.plans()
WRITTEN = [term for term in TERMS if term.at.partition("#")[0] in {chapter.path.stem for chapter in CHAPTERS}]


def each(items):
    return pytest.mark.parametrize("item", items, ids=lambda item: getattr(item, "name", None) or item.path.stem)


def notebook(path: Path, *cells: tuple[str, str]) -> Page:
    """A notebook of these cells, kind and source."""
    made = [{"cell_type": kind, "source": source, "outputs": []} for kind, source in cells]
    path.write_text(json.dumps({"cells": made}), encoding="utf-8")
    return Page(path)


# Chapters as text


def test_a_section_goes_to_the_next_heading_and_those_below_it_belong_to_it(tmp_path):
    page = notebook(
        tmp_path / "07-toy.ipynb",
        ("markdown", "# 7. A toy\n\nFirst."),
        ("markdown", "## One\n\nText.\n\n### Within\n\nMore.\n\n```\n# no heading\n```"),
        ("code", "# nor is this\nx = 1"),
        ("markdown", "## Two\n\nEnd."),
    )
    assert (page.number, page.title) == (7, "A toy")
    assert [(section.level, section.title) for section in page.sections] == [
        (1, "7. A toy"),
        (2, "One"),
        (3, "Within"),
        (2, "Two"),
    ]
    assert [section.title for section in page.within("One")] == ["One", "Within"]
    assert page.sections[2].cells[-1] == ("code", "# nor is this\nx = 1", "")
    assert "no heading" in page.sections[2].prose and "x = 1" not in page.sections[2].prose
    assert page.within("Three") == []


def test_what_is_written_by_hand_stays_where_parts_are_renewed():
    text = "Before.\n\n<!-- a part: begin -->\nold\n<!-- a part: end -->\n\nAfter.\n"
    once = filled(text, {"a part": "new"})
    assert once == "Before.\n\n<!-- a part: begin -->\n\nnew\n\n<!-- a part: end -->\n\nAfter.\n"
    assert filled(once, {"a part": "new"}) == once


@pytest.mark.parametrize("name", ["equations", "glossary", "run-times", "teaching"])
def test_links_of_these_pages_lead_to_files_and_headings(name):
    text = (BOOK / f"{name}.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text)
    assert links
    anchors: dict[Path, set[str]] = {}
    for target, place in set(links):
        path = (BOOK / target).resolve() if target else BOOK / f"{name}.md"
        assert path.exists(), target
        if place and path not in anchors:
            anchors[path] = {anchor(section.title) for section in Page(path).sections}
        assert not place or place in anchors[path], f"{target}#{place}"


# Equations


def test_every_numbered_equation_stands_on_their_page_once_and_in_order():
    numbered = [
        number
        for chapter in CHAPTERS
        for section in chapter.sections
        for kind, text, _ in section.cells
        if kind == "markdown"
        for number in re.findall(r"\\tag\{([\d.]+)\}", text)
    ]
    page = (BOOK / "equations.md").read_text(encoding="utf-8")
    assert list(EVERY) == numbered == re.findall(r"^\((\d+\.\d+)\)", page, re.MULTILINE)
    assert page.count("$$") == 2 * len(numbered)
    assert f"has {len(numbered)} numbered equations" in page
    assert not re.search(r"\\tag|label\{", page), "the number is the link to the formula, and not one more formula of this number"


def test_each_is_checked_and_the_tolerance_is_the_one_that_was_printed():
    """The outputs say it too: `Equation (9.3) holds to within 1e-09.`, once for each time that it is checked."""
    printed = collections.defaultdict(set)
    for chapter in CHAPTERS:
        for section in chapter.sections:
            for _, _, output in section.cells:
                for number, atol in re.findall(r"Equation \(([\d.]+)\) holds to within (\S+)\.", output):
                    printed[number].add(float(atol))
    for number, one in EVERY.items():
        assert one.sides, number
        assert one.atol == max(printed[number]), number


def test_what_is_said_of_each_check_was_read_against_today_s_cells():
    late = [one.number for one in equations.stale()]
    assert not late, f"{late}: `python -m tools.equations` shows the cells; write or mend their sentences in book/equations.toml"
    assert set(equations.said()) == set(EVERY)
    for number, (_, text) in equations.said().items():
        assert re.fullmatch(r"[^.]+[^.,;: ]", text) and len(text) < 150, number


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda formula, code: (formula, code.replace("(", "(\n    ")), True),
        (lambda formula, code: (formula, code.replace("b + 1", "b - 1")), False),
        (lambda formula, code: (formula.replace("b", "c"), code), False),
    ],
    ids=["only spaces", "other code", "other formula"],
)
def test_a_sentence_is_shown_only_while_its_cells_are_those_it_was_written_about(tmp_path, change, same):
    formula, code = r"$$ a = b, \tag{7.1} $$", 'equation("7.1", a, b + 1, atol=1e-12)\nequation("7.1", a, 2)'
    before, after = (
        next(equations.equations(notebook(tmp_path / "07-toy.ipynb", ("markdown", f"# 7. A toy\n\n{f}"), ("code", c))))
        for f, c in ((formula, code), change(formula, code))
    )
    assert (before.formula, before.atol) == ("a = b", equations.default_tolerance())
    assert before.sides == (("a", "b + 1"), ("a", "2"))
    said = equations.entry(after, (before.mark, "one way against another"))
    assert ("One way against another, to within 10⁻⁹. [7. A toy](" in said) == same
    assert ("`a` against `2`" in said) != same


def test_a_tolerance_reads_as_it_was_meant():
    assert [equations.within(atol) for atol in (0, 1e-12, 1e-3, 5e-6)] == [
        "exactly",
        "to within 10⁻¹²",
        "to within 10⁻³",
        "to within 5·10⁻⁶",
    ]
    with pytest.raises(AssertionError, match="more than 1e-09"):
        equation("7.1", 1.0, 1.0 + 2 * equations.default_tolerance())


# Glossary


@each(TERMS)
def test_a_term_leads_to_a_heading_that_exists_and_to_a_section_that_speaks_of_it(item):
    if item not in WRITTEN:
        assert item.at.partition("#")[0] in pages.table()["chapters"], "a term may wait for its chapter, and for no other"
        return
    place = item.introduced(CHAPTERS)
    assert place, f"{item.name}: {item.at} is no heading of a chapter"
    assert any(item.stands(section.prose) for section in place[1]), f"{item.at} does not speak of it by any of its names"
    assert re.fullmatch(r"[A-Z0-9].*\.", item.says) and len(item.says) < 170


def test_every_name_belongs_to_one_term():
    names = collections.Counter(name.casefold() for term in TERMS for name in (*term.names, *term.search))
    assert not [name for name, count in names.items() if count > 1]
    page = (BOOK / "glossary.md").read_text(encoding="utf-8")
    assert re.findall(r"^- \*\*(.+?)\*\*", page, re.MULTILINE) == [term.name for term in WRITTEN]
    assert len(WRITTEN) >= 150


def test_words_are_found_whole_and_in_the_plural():
    gan, score = glossary.Term("GAN", "", ""), glossary.Term("Inception score", "", "", also=("IS",))
    assert gan.mentions("A GAN, two GANs, no BEGAN and no organ") == 2
    assert score.mentions("It is an *Inception\nscore*; is IS one?") == 2
    assert glossary.Term("Kullback–Leibler divergence", "", "").mentions("a Kullback-Leibler divergence") == 1


def test_every_model_of_the_library_has_its_term():
    """By its title, or a name that the title has in it."""
    from gencourse import catalog

    names = {name.casefold() for term in TERMS for name in (*term.names, *term.search)}
    lacking = [
        model.title
        for model in catalog.MODELS
        if not any(re.search(rf"\b{re.escape(n)}\b", model.title.casefold()) for n in names)
    ]
    assert set(lacking) <= {"Pictures from captions", "Pictures from scene graphs"}, lacking


# Times


@each(CHAPTERS)
def test_a_chapter_s_times_are_understood(item):
    found = times.times(item)
    assert found.minutes and 30 <= found.minutes <= 180, found.says
    assert found.runs or item.number in (1, 2, 19)


@each(EXERCISES)
def test_an_exercise_s_table_says_what_its_questions_say_and_the_grader_gives(item):
    rows = {number: (title, points, minutes) for number, title, points, minutes in times.questions(item) if number}
    asked = {q.id: (q.title, str(sum(check.points for check in q.checks))) for q in questions.of_exercise(item.path.name[:2])}
    assert {number: row[:2] for number, row in rows.items()} == asked
    headings = [re.search(r"\((?:(\d+) points|no points), (\d+) minutes\)", section.title) for section in item.sections]
    stated = [(int(found[1] or 0), int(found[2])) for found in headings if found]
    assert sum(minutes for _, minutes in stated) == times.exercise_minutes(item)
    assert sum(points for points, _ in stated) == teaching.points(item)


def test_times_in_words():
    said = {
        "an hour": 60,
        "an hour and a half": 90,
        "two hours and a half": 150,
        "an hour and a quarter": 75,
        "an hour and three quarters": 105,
        "half an hour": 30,
        "three quarters of an hour": 45,
        "about forty minutes": 40,
        "an afternoon": None,
    }
    assert {words: times.in_minutes(words) for words in said} == said
    runs = ("three minutes", "two to four minutes", "a minute or two", "half a minute", "a while")
    assert [times.short(words) for words in runs] == ["3 min", "2–4 min", "1–2 min", "½ min", "a while"]
    assert [times.hours(minutes) for minutes in (0, 45, 60, 99, 150)] == ["0 h", "¾ h", "1 h", "1¾ h", "2½ h"]


def test_measured_times_are_those_of_chapters():
    found = times.measured()
    assert set(found["smoke"]) <= {path.stem for path in BOOK.glob("[0-9][0-9]-*.ipynb")}
    assert all(0 < seconds < 600 for seconds in found["smoke"].values())


# Courses


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan["title"])
def test_a_course_stands_on_what_came_before_and_its_hours_add_up(plan):
    known = {int(name[:2]) for name in pages.table()["chapters"]}
    needs = {chapter.number: needed(chapter) for chapter in CHAPTERS}
    read: set[int] = set()
    for week in plan["weeks"]:
        assert set(week["chapters"]) <= known
        read |= set(week["chapters"])
        for number in week["chapters"]:
            assert needs.get(number, set()) <= read, f"chapter {number} needs {needs[number] - read}"
        assert set(week["exercises"]) <= read
        assert teaching.week_minutes(week) <= 9 * 60
    table = teaching.courses().split(f"### {plan['title']}\n")[1].split("### ")[0]
    quarters = {"": 0, "¼": 15, "½": 30, "¾": 45}
    shown = [60 * int(h or 0) + quarters[q] for h, q in re.findall(r"\| (\d*)([¼½¾]?) h \|$", table, re.MULTILINE)]
    (total,) = re.findall(r"(\d+)([¼½¾]?) h in all", table)
    assert abs(sum(shown) - (60 * int(total[0]) + quarters[total[1]])) <= 8 * len(shown) + 8  # each is rounded to a quarter
    assert plan["title"].split()[0].lower() == {2: "two", 6: "six", 12: "twelve"}[len(plan["weeks"])]


def needed(chapter: Page) -> set[int]:
    """The chapters that a chapter says it needs; not those that it says would help."""
    said = re.search(r"\*\*You need\*\*(.*?)\*\*Time", chapter.sections[0].prose, re.DOTALL)
    assert said, chapter.title
    firm = " ".join(sentence for sentence in re.split(r"(?<=[.;])\s", said[1]) if "help" not in sentence)
    found = re.findall(r"chapters? (\d+(?:(?:, | and )\d+)*)", firm)
    return {int(number) for group in found for number in re.findall(r"\d+", group)}


def test_the_longest_course_has_everything():
    weeks = PLANS[-1]["weeks"]
    assert {number for week in weeks for number in week["chapters"]} == {int(name[:2]) for name in pages.table()["chapters"]}
    assert {exercise.number for exercise in EXERCISES} <= {number for week in weeks for number in week["exercises"]}


def test_an_exercise_s_training_is_as_short_as_the_page_for_teaching_says():
    assert "a training of\na minute or less" in (BOOK / "teaching.md").read_text(encoding="utf-8")
    for exercise in EXERCISES:
        assert all((question.seconds or 0) <= 60 for question in teaching.asked(exercise))


def test_every_mistake_is_named_on_the_page_for_teaching():
    text = (BOOK / "teaching.md").read_text(encoding="utf-8").replace("\\", "")
    for exercise in EXERCISES:
        for question in teaching.asked(exercise):
            assert f"**{question.id} {question.title}**, {len(question.mistakes)}: {'; '.join(question.mistakes)}." in text


def test_a_chapter_has_one_title_in_the_book_and_in_the_map():
    for name, title in pages.table()["chapters"].items():
        first = json.loads((BOOK / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"][0]["source"]
        assert "".join(first).splitlines()[0] == f"# {int(name[:2])}. {title}"
