"""The front page: three doors, a tree whose leaves are links, and ways through the book whose hours add up."""

import re
from collections import Counter
from pathlib import Path

import pytest

from gencourse import catalog

TEXT = (Path(__file__).resolve().parents[2] / "book" / "index.md").read_text(encoding="utf-8")


def hours(text):
    """`1¾ h` as 1.75."""
    whole, part = re.fullmatch(r"(\d*)([¼½¾]?) h", text).groups()
    return float(whole or 0) + {"": 0, "¼": 0.25, "½": 0.5, "¾": 0.75}[part]


def test_the_hours_of_the_longest_way_are_those_of_all_chapters_and_exercises():
    rows = re.findall(r"^\| \[(\d+)\. .*\) \| (.*? h) \| (?:\[\d\d\]\(.*\), (.*? h))? *\|$", TEXT, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| \[\d+\. ", TEXT, re.MULTILINE)) > 10
    read, solve = (re.search(rf"\*\*Everything\*\*.*?([\d¼½¾]+ h) {what}", TEXT)[1] for what in ("to read", "of exercises"))
    assert hours(read) == pytest.approx(sum(hours(row[1]) for row in rows), abs=0.26)
    assert hours(solve) == pytest.approx(sum(hours(row[2]) for row in rows if row[2]), abs=0.125 * len(rows))


def test_every_leaf_of_both_trees_is_a_link_to_its_chapter(book):
    page = (book / "book" / "index.html").read_text(encoding="utf-8")
    drawings = re.findall(r'<div class="tree(?:-phone)?"><svg.*?</svg>', page, re.DOTALL)
    assert len(drawings) == 2
    for drawing in drawings:
        linked = Counter(re.findall(r'<a href="([^"]+)">', drawing))
        assert linked == Counter(f"{entry.chapter}.html" for entry in catalog.MODELS)
        assert all((book / "book" / name).is_file() for name in linked)


def test_the_three_doors_lead_to_pages(pages):
    doors = re.findall(r"^- \*\*\[(.*?)\]\((.*?)\)", TEXT.split("## Three doors")[1].split("\n## ")[0], re.MULTILINE)
    assert [name for name, _ in doors] == ["Read", "Do the exercises", "Teach"]
    assert {f"book/{Path(target).stem}.html" for _, target in doors} <= set(pages)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "shown", "hidden"), [(1280, ".tree", ".tree-phone"), (390, ".tree-phone", ".tree")])
def test_the_tree_can_be_read_on_a_desk_and_on_a_phone_and_its_leaves_opened(visit, address, width, shown, hidden, dark):
    seen = visit(width=width, height=900, dark=dark)
    seen.page.goto(f"{address}book/index.html")
    tree = seen.page.locator(shown)
    assert tree.is_visible() and not seen.page.locator(hidden).is_visible()
    size = tree.locator("text").evaluate_all(
        "(texts) => Math.min(...texts.map((t) => t.getScreenCTM().a * t.getAttribute('font-size')))"
    )
    assert size > 9.5  # pixels on the screen
    over = """(parts) => parts.filter((part) => {
        const text = part.querySelector("text").getBBox(), box = part.querySelector("rect").getBBox();
        return text.x < box.x || text.x + text.width > box.x + box.width || text.y + text.height > box.y + box.height + 1;
    }).map((part) => part.textContent)"""
    assert tree.locator("a").evaluate_all(over) == []
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tree.locator("a", has_text="NADE").click()
    seen.page.wait_for_url("**/book/03-chain-rule.html")
    assert not seen.elsewhere


def test_doors_stand_side_by_side_where_there_is_room(visit, address):
    tops = []
    for width in (1280, 390):
        page = visit(width=width).page
        page.goto(f"{address}book/index.html")
        doors = page.locator("#three-doors > ul > li")
        assert doors.count() == 3
        tops.append(len({round(door.bounding_box()["y"]) for door in doors.all()}))
    assert tops == [1, 3]
