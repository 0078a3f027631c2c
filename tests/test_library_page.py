"""The pages of the library have every public name, and what stands there is what the docstrings say."""

import importlib
import inspect
import pkgutil
import re
import runpy
from pathlib import Path

import pytest

import gencourse

ROOT = Path(__file__).resolve().parents[1]
PAGE = runpy.run_path(str(ROOT / "book" / "_ext" / "gencourse_library.py"))
TEXT = "\n".join(PAGE["page"](parts) for parts in PAGE["PAGES"].values())
#: What nobody calls from a notebook: commands, the grader behind `check`, and what the library itself is built with.
BESIDE = {f"gencourse.{name}" for name in ("__main__", "cli", "grading", "arguments", "checkpoint", "records")}


def public():
    """Every module with its public names, by import: what its `__all__` says, or else its own functions and classes."""
    for found in pkgutil.walk_packages(gencourse.__path__, "gencourse."):
        package = found.name.rpartition(".")[0]
        if found.name in BESIDE or package in BESIDE or any(found.name.startswith(f"{name}.") for name in BESIDE):
            continue
        if package != "gencourse" and hasattr(importlib.import_module(package), "__all__"):
            continue  # the package has said what of it is public
        module = importlib.import_module(found.name)
        own = [
            name
            for name, value in vars(module).items()
            if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == found.name and name[0] != "_"
        ]
        yield found.name, set(getattr(module, "__all__", own))


@pytest.fixture(scope="module")
def sections():
    """The names under each module's heading."""
    return {part.split("\n", 1)[0]: set(re.findall(r"^#### (\w+)$", part, re.MULTILINE)) for part in TEXT.split("\n### ")[1:]}


def test_the_marks_stand_on_the_pages():
    for mark, name in zip(PAGE["PAGES"], ("library", "models"), strict=True):
        assert (ROOT / "book" / f"{name}.md").read_text(encoding="utf-8").count(mark) == 1


def test_every_public_name_stands_on_a_page(sections):
    missing = {module: names - sections.get(module, set()) for module, names in public()}
    assert {module: names for module, names in missing.items() if names} == {}


def test_a_docstring_is_shown_as_it_was_meant():
    said = PAGE["text"](
        "Two numbers, a[0] and *not* more.\n\n    x = y_1 * y_2\n\nArgs:\n    x, y: `(B, D)`, read\n        together.\n\n"
        "Raises:\n    ValueError: never (https://arxiv.org/abs/1312.6114).\n\n>>> 1 + 1\n2"
    )
    assert [line for line in said if line] == [
        r"Two numbers, a\[0\] and *not* more.",
        "```text",
        "x = y_1 * y_2",
        "```",
        "**Arguments**",
        "- `x`, `y`: `(B, D)`, read",
        "  together.",
        "**Raises**",
        "- `ValueError`: never (<https://arxiv.org/abs/1312.6114>).",
        "```pycon",
        ">>> 1 + 1",
        "2",
        "```",
    ]


def test_sources_are_where_they_are_said_to_be():
    links = re.findall(r"^#### (\w+)\n\n.*\(\[source\]\(\S+?/blob/main/(\S+)#L(\d+)\)\)$", TEXT, re.MULTILINE)
    assert len(links) == TEXT.count("\n#### ") > 200
    for name, path, line in links:
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text(encoding="utf-8").splitlines()[int(line) - 1]), (
            name,
            path,
            line,
        )
