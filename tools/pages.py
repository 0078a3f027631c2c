"""Makes what is generated in the book: lecture-map.md, the chapters, the paths and the tree in index.md, the tree's picture,
references.md, and the pages that the modules beside this one make.

python -m tools.pages            write them
python -m tools.pages --check    say which are not current
"""

import sys
import tomllib
from functools import partial
from typing import Any

from gencourse import catalog
from tools import equations, glossary, sources, teaching, times
from tools.sources import BOOK, NOTE, anchor, filled

SAID = {
    ("explicit",): "the model writes its density down",
    (
        "explicit",
        "tractable",
    ): "and computes it: belief networks pixel by pixel, flows bijection by bijection",
    ("explicit", "approximate"): "and bounds or estimates it",
    ("implicit",): "the model only draws samples",
}
#: Ways through the book: name, chapters, exercises, what one gets. None is all there are.
PATHS: tuple[tuple[str, tuple[int, ...] | None, tuple[int, ...] | None, str], ...] = (
    ("One evening", (2, 9), (), "the whole tree, then one model from its idea to its pictures"),
    (
        "The lecture's three families",
        (2, 3, 4, 9, 13, 14),
        (4, 9, 13),
        "PixelRNN and PixelCNN, variational autoencoders, GANs: what the lecture spends its time on",
    ),
    ("Everything", None, None, "in the order of the numbers, each chapter with its exercise"),
)


def table() -> dict[str, Any]:
    """The lecture map's data: `chapters`, the leaves `to_come`, and `rows`."""
    return tomllib.loads((BOOK / "lecture_map.toml").read_text(encoding="utf-8"))


def finished(chapter: str) -> bool:
    """True if the chapter's notebook exists."""
    return (BOOK / f"{chapter}.ipynb").exists()


def exercise_of(chapter: str) -> str:
    """The file name of a chapter's exercise, without its ending; it has the chapter's number, and a name of its own."""
    return next(
        (path.stem for path in (BOOK.parent / "exercises").glob(f"{chapter[:2]}-*.ipynb")),
        chapter,
    )


def spans(equations: list[str]) -> str:
    """Numbers in a row as their ends: `(9.5) to (9.10)`."""
    runs: list[list[str]] = []
    for number in equations:
        chapter, count = number.split(".")
        follows = runs and runs[-1][-1] == f"{chapter}.{int(count) - 1}"
        runs = [*runs[:-1], [*runs[-1], number]] if follows else [*runs, [number]]
    return ", ".join(f"({run[0]}) to ({run[-1]})" if len(run) > 2 else ", ".join(f"({n})" for n in run) for run in runs)


def slide_key(row: dict[str, Any]) -> tuple[int, str]:
    """Rows in the order of the slides; what stands beside the lecture comes last."""
    first = row["slides"].split("-")[0]
    return (int(first) if first.isdigit() else 1000, row["chapter"])


def lecture_map() -> str:
    """The page that leads from a slide to its section, equations, code and exercise."""
    data = table()
    toc = (BOOK.parent / "_toc.yml").read_text(encoding="utf-8")  # a page of the book is linked, other files are not
    lines = [
        "# Lecture map",
        "",
        NOTE.format(tool="pages", source="book/lecture_map.toml"),
        "",
        "From the slides of Lecture 13 to the section that explains them, the equations that are verified there, the code in",
        "the library, and the questions to try. A row without a link is still to be written.",
        "",
        "| Slides | What they say | Chapter | Equations | Code | Exercise |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(data["rows"], key=slide_key):
        chapter = row["chapter"]
        name = f"{int(chapter[:2])} {data['chapters'][chapter]}"
        if finished(chapter) and not row.get("waits"):
            if "section" not in row:
                raise SystemExit(
                    f"{chapter} is there: give its row for slides {row['slides']} in lecture_map.toml a section, or waits = true."
                )
            name = f"{int(chapter[:2])} [{row['section']}]({chapter}.ipynb#{anchor(row['section'])})"
        equations = spans(row.get("equations", []))
        code = ", ".join(f"`{symbol.removeprefix('gencourse.').replace(':', '.')}`" for symbol in row.get("code", []))
        questions = row.get("exercise", [])
        file = exercise_of(chapter)
        exercise = ", ".join(f"[{n}](../exercises/{file}.ipynb)" if f"exercises/{file}" in toc else n for n in questions)
        lines.append(f"| {row['slides']} | {row['content']} | {name} | {equations} | {code} | {exercise} |")
    return "\n".join(lines) + "\n"


def tree() -> str:
    """The lecture's taxonomy as a nested list: the models of the catalogue with links to their chapters, and what is to come."""
    to_come = table()["to_come"]
    lines = []
    for branch, title in catalog.BRANCHES.items():
        leaves = [(model.title, model.chapter) for model in catalog.MODELS if model.branch == branch]
        for name, chapter in to_come.get(" / ".join(branch), []):
            if name in dict(leaves):
                raise SystemExit(f"{name} is in the catalogue now: take it off the leaves to come in lecture_map.toml.")
            leaves.append((name, chapter))
        said = f": {SAID[branch]}" if branch in SAID else ""
        lines.append(f"{'  ' * (len(branch) - 1)}- **{title[0].upper() + title[1:]}**{said}")
        for name, chapter in sorted(leaves, key=lambda leaf: leaf[1]):
            number = int(chapter[:2])
            entry = f"[{name}]({chapter}.ipynb), chapter {number}" if finished(chapter) else f"{name}, chapter {number}"
            lines.append(f"{'  ' * len(branch)}- {entry}")
    return "\n".join(lines)


def index() -> str:
    """The front page with what is made of it renewed."""
    parts = {"the chapters": chapters(), "the paths": paths(), "the tree": tree()}
    return filled((BOOK / "index.md").read_text(encoding="utf-8"), parts)


def picture(*, upright: bool = True) -> str:
    """The tree as SVG; lying for a phone."""
    from gencourse.explorers.tree_of_models import svg  # with it comes torch

    return svg(upright=upright)


def chapters() -> str:
    """The finished chapters in the order of the contents, how long each is read, and how long its exercise takes."""
    titles, tasks = table()["chapters"], {task.number: task for task in sources.exercises()}
    lines = ["| Chapter | To read | Exercise |", "|---|---|---|"]
    for page in sources.chapters():
        task = tasks.get(page.number)
        solved = f"[{task.number:02}]({task.link()}), {times.hours(times.exercise_minutes(task))}" if task else ""
        read = times.hours(times.times(page).minutes or 0)
        lines.append(f"| [{page.number}. {titles[page.path.stem]}]({page.link()}) | {read} | {solved} |")
    return "\n".join(lines)


def paths() -> str:
    """Ways through the book, with the hours that their chapters and exercises say they take."""
    lines = []
    for name, chosen, solved, gets in PATHS:
        read = [page for page in sources.chapters() if chosen is None or page.number in chosen]
        done = [task for task in sources.exercises() if solved is None or task.number in solved]
        long = f"{times.hours(sum(times.times(page).minutes or 0 for page in read))} to read"
        long += f", {times.hours(sum(map(times.exercise_minutes, done)))} of exercises" if done else ""
        links = "" if chosen is None else f" Chapters {_listed(read)}" + (f"; exercises {_listed(done)}." if done else ".")
        lines.append(f"- **{name}**: {gets}.{links} {long[0].upper()}{long[1:]}.")
    return "\n".join(lines)


def _listed(pages: list[sources.Page]) -> str:
    return ", ".join(f"[{page.number}]({page.link()})" for page in pages)


def references() -> str:
    """The papers of references.bib, by first author and year, each with its link."""
    from pybtex.database import parse_file
    from pybtex.richtext import Text

    def plain(tex: str) -> str:
        return str(Text.from_latex(tex))

    lines = ["# References", "", NOTE.format(tool="pages", source="book/references.bib"), ""]
    entries = parse_file(str(BOOK / "references.bib"), "bibtex").entries.values()
    for entry in sorted(
        entries,
        key=lambda entry: (
            str(entry.persons["author"][0].last_names),
            entry.fields["year"],
        ),
    ):
        people = [plain(" ".join((*person.prelast_names, *person.last_names))) for person in entry.persons["author"]]
        authors = " and ".join([", ".join(people[:-1]), people[-1]] if len(people) > 1 else people)
        if len(people) > 3:
            authors = f"{people[0]} and others"
        where = entry.fields.get("booktitle") or entry.fields.get("journal") or entry.fields.get("publisher", "")
        title = plain(entry.fields["title"])
        place = f" {plain(where)}." if where else ""
        lines.append(f"- {authors} ({entry.fields['year']}). [{title}]({entry.fields['url']}).{place}")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` say which are not current; the number is the exit status."""
    stale = 0
    for name, make in (
        ("lecture-map.md", lecture_map),
        ("index.md", index),
        ("_static/tree.svg", picture),
        ("_static/tree-phone.svg", partial(picture, upright=False)),
        ("references.md", references),
        ("equations.md", equations.page),
        ("glossary.md", glossary.page),
        ("run-times.md", times.page),
        ("teaching.md", teaching.page),
    ):
        path, text = BOOK / name, make()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if "--check" in arguments:
            print(f"book/{name} is not current; `make format` renews it.")
            stale += 1
        else:
            path.write_text(text, encoding="utf-8")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
