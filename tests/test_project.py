"""The project's files agree with each other: versions, addresses, commands, links, the lecture map."""

import dataclasses
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gencourse import catalog
from tools import notebooks, pages

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]
PINS = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
CONSTRAINTS = {canonicalize_name(name): version for name, version in PINS}
MADE = {".git", ".venv", "_build", "_vendor", "__pycache__", "build", "dist", "runs", "shared"}
SLIDES_WITHOUT_A_ROW = {32, 61, 90}  # where the lecture adds nothing of its own


def files(*suffixes: str) -> list[Path]:
    """The project's text files: what is not made by a tool."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in MADE and not name.endswith(("_cache", ".egg-info", "_checkpoints"))]
        found += [Path(folder) / name for name in names if Path(name).suffix in suffixes or name == "Makefile"]
    return found


# Versions


def test_the_library_asks_for_ranges_and_the_pins_are_within_them():
    for text in PROJECT["dependencies"]:
        requirement = Requirement(text)
        assert not re.search(r"==|<|!=|~=", str(requirement.specifier)), f"{text}: Colab keeps its own versions"
    wanted = PROJECT["dependencies"] + [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
    for requirement in map(Requirement, wanted):
        if requirement.name != "gencourse":
            assert requirement.specifier.contains(CONSTRAINTS[canonicalize_name(requirement.name)]), str(requirement)
    assert Requirement(PROJECT["dependencies"][0]).specifier.contains("2.6.0")
    assert CONSTRAINTS["torch"] == "2.13.0"


def test_pre_commit_uses_the_ruff_of_the_constraints():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (ruff,) = [repository for repository in hooks if "ruff" in repository["repo"]]
    assert ruff["rev"] == f"v{CONSTRAINTS['ruff']}"


def test_the_changelog_knows_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    version = importlib.import_module("gencourse").__version__
    assert f"## [{version}]" in text or "## [Unreleased]" in text


def test_the_citation_names_this_version_and_the_public_address():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == importlib.import_module("gencourse").__version__
    assert citation["repository-code"] == notebooks.address(ROOT)
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert {"cff-version", "message", "title"} <= citation.keys()  # which the format asks for


# Addresses and links


def test_the_public_address_stands_in_one_place():
    """Notebooks carry it in the Colab cell, which `make format` writes from _config.yml."""
    address = notebooks.address(ROOT).removeprefix("https://")
    holders = [
        path for path in files(".py", ".md", ".toml", ".yml", ".cfg", ".js", ".css", ".ipynb") if address in path.read_text()
    ]
    assert [str(path.relative_to(ROOT)) for path in holders if path.suffix != ".ipynb"] == ["_config.yml"]
    for path in holders:
        if path.suffix == ".ipynb":
            assert path.read_text().count(address) == 1, path


def test_no_file_speaks_of_the_machine_it_was_written_on():
    for path in files(".py", ".md", ".toml", ".yml", ".cfg", ".js", ".css", ".ipynb", ".txt"):
        for place in (str(ROOT), str(Path.home()) + "/"):
            assert place not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "book/index.md", "book/notation.md", "book/lecture-map.md"])
def test_links_within_the_project_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if not re.match(r"https?:", target):
            assert (path.parent / target).exists(), target


def test_every_paper_that_is_linked_is_in_the_references():
    listed = set(re.findall(r"url = \{(.*)\}", (BOOK / "references.bib").read_text(encoding="utf-8")))
    paper = re.compile(r"https?://(?:arxiv\.org/abs/|doi\.org/|proceedings\.mlr\.press/|openreview\.net/)[^\s)\"'\\>]+")
    linked = set()
    for path in BOOK.glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        linked |= {url for cell in cells if cell.cell_type == "markdown" for url in paper.findall(cell.source)}
    assert linked <= listed, linked - listed


def test_no_tex_is_left_in_the_list_of_references():
    text = (BOOK / "references.md").read_text(encoding="utf-8")
    assert "van den Oord, Kalchbrenner and Kavukcuoglu (2016)" in text
    assert not re.search(r"[{}\\]", text)


# Commands


def test_make_help_lists_the_commands_and_the_pages_name_no_others():
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    commands = {line.split()[0] for line in listed.splitlines()}
    assert commands == {"help", "book", "test", "serve", "pdf", "zip", "run", "format", "bench"}
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md", "book/index.md", ".pre-commit-config.yaml"):
        assert set(re.findall(r"`make ([a-z]+)", (ROOT / page).read_text())) <= targets


def test_workflows_and_ci_run_the_same_commands_as_everybody():
    """They add no logic: besides actions that fetch, set up and publish, each runs one make command."""
    expected = {
        "ci": ["make test"],
        "publish": ["make book"],
        "weekly": ["make CONSTRAINTS= PYTHON=python test", "make CONSTRAINTS=lowest.txt PYTHON=python unit"],
    }
    paths = list((ROOT / ".github" / "workflows").glob("*.yml"))
    assert {path.stem for path in paths} == set(expected)
    for path in paths:
        jobs = yaml.safe_load(path.read_text())["jobs"].values()
        assert [[step["run"] for step in job["steps"] if "run" in step] for job in jobs] == [[run] for run in expected[path.stem]]
        for step in (step for job in jobs for step in job["steps"]):
            assert "run" in step or re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make test")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def make(tmp_path: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run make where only the Makefile is, so that nothing can be installed."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    program = shutil.which("make")
    assert program
    command = [program, *arguments]
    return subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=environment | ({"PATH": path} if path else {})
    )


def test_the_lowest_versions_are_those_that_the_library_asks_for(tmp_path):
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    done = make(tmp_path, f"PYTHON={sys.executable}", "lowest.txt")
    assert done.returncode == 0, done.stderr
    pins = (tmp_path / "lowest.txt").read_text().split()
    assert pins == [text.replace(">=", "==") for text in PROJECT["dependencies"]]
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", pin) for pin in pins)


@pytest.mark.parametrize("python", ["false", ""])
def test_without_a_new_enough_python_make_says_so(tmp_path, python):
    done = make(tmp_path, f"PYTHON={python}", ".venv/bin/python")
    assert done.returncode != 0
    assert "gencourse needs Python 3.11 or newer" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_without_a_browser_and_the_right_to_install_one_make_says_what_to_install(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "sh", "id"):
        (tools / name).symlink_to(shutil.which(name))
    done = make(tmp_path, "chromium", path=str(tools))
    assert done.returncode != 0
    assert "install chromium" in done.stdout


# The lecture map


def test_the_generated_pages_are_current(capsys):
    assert pages.main(["--check"]) == 0, capsys.readouterr().out


def test_every_slide_has_its_row():
    covered: set[int] = set()
    for row in pages.table()["rows"]:
        if row["slides"] != "beside":
            first, last = (int(end) for end in (row["slides"].split("-") * 2)[:2])
            covered |= set(range(first, last + 1))
    assert set(range(3, 132)) - covered == SLIDES_WITHOUT_A_ROW


def leaves_by_branch(text):
    """The leaves of the tree as it stands on a page, by the titles of the branches above them."""
    found, above = {}, []
    for line in text.splitlines():
        indent, item = re.fullmatch(r"( *)- (.*)", line).groups()
        above = above[: len(indent) // 2]
        if item.startswith("**"):
            above.append(item.split("**")[1].lower())
        else:
            name, chapter = re.fullmatch(r"\[?(.*?)(?:\]\(.*\))?, chapter (\d+)", item).groups()
            found.setdefault(tuple(above), []).append((name, int(chapter)))
    return found


@pytest.mark.parametrize("entry", catalog.MODELS, ids=lambda entry: entry.name)
def test_the_tree_on_the_front_page_has_every_model_of_the_catalog_on_its_branch(entry):
    tree = leaves_by_branch(
        (BOOK / "index.md").read_text().split("<!-- the tree: begin -->\n\n")[1].split("\n\n<!-- the tree: end")[0]
    )
    titles = tuple(catalog.BRANCHES[entry.branch[:depth]].lower() for depth in range(1, len(entry.branch) + 1))
    assert (entry.title, int(entry.chapter[:2])) in tree.get(titles, []), "`make format` puts a new model into the tree"
    assert sum(name == entry.title for leaves in tree.values() for name, _ in leaves) == 1


def test_what_is_still_to_come_stands_on_the_lecture_s_branches():
    to_come = pages.table()["to_come"]
    assert set(to_come) <= {" / ".join(branch) for branch in catalog.BRANCHES}
    assert {chapter for leaves in to_come.values() for _, chapter in leaves} <= set(pages.table()["chapters"])


def test_a_new_row_changes_the_front_page_and_a_missing_one_too(monkeypatch, capsys):
    assert pages.main(["--check"]) == 0
    another = dataclasses.replace(catalog.entry("made"), name="another", title="Another")
    for models in ((*catalog.MODELS, another), catalog.MODELS[1:]):
        monkeypatch.setattr(catalog, "MODELS", models)
        assert pages.main(["--check"]) == 1
        assert "book/index.md is not current" in capsys.readouterr().out
    table = pages.table() | {"to_come": {" / ".join(another.branch): [["Another", another.chapter]]}}
    monkeypatch.setattr(pages, "table", lambda: table)
    monkeypatch.setattr(catalog, "MODELS", (*catalog.MODELS, another))
    with pytest.raises(SystemExit, match="Another is in the catalogue now: take it off the leaves to come"):
        pages.main(["--check"])


ROWS = pages.table()["rows"]


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['slides']} {row['chapter'][:2]}" for row in ROWS])
def test_a_row_of_the_lecture_map_names_what_exists(row):
    assert row["chapter"] in pages.table()["chapters"]
    for symbol in row.get("code", []):
        module, _, attributes = symbol.partition(":")
        found = importlib.import_module(module)
        for name in attributes.split(".") if attributes else []:
            found = getattr(found, name)
    if not pages.finished(row["chapter"]) or row.get("waits"):
        assert not row.keys() & {"section", "equations", "exercise"}, "only what is written has these"
        return
    text = "\n".join(cell.source for cell in nbformat.read(BOOK / f"{row['chapter']}.ipynb", as_version=4).cells)
    assert re.search(rf"^#+ {re.escape(row['section'])}$", text, re.MULTILINE), row["section"]
    for number in row.get("equations", []):
        assert rf"\tag{{{number}}}" in text, number
    for question in row.get("exercise", []):
        exercise = ROOT / "exercises" / f"{pages.exercise_of(row['chapter'])}.ipynb"
        asked = f'check("{question}")' in exercise.read_text().replace('\\"', '"')
        assert asked, f"book/lecture_map.toml names question {question}, which {exercise.name} does not ask"


@pytest.mark.parametrize("path", sorted(BOOK.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_chapter_is_in_the_map_with_all_its_equations(path):
    numbered = set(re.findall(r"\\tag\{([^}]*)\}", "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)))
    mapped = {number for row in ROWS if row["chapter"] == path.stem for number in row.get("equations", [])}
    assert mapped == numbered
