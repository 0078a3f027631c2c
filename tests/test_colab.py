"""On Colab a notebook lies alone, beside Colab's own packages: it needs the wheel, and nothing else of this repository."""

import ast
import json
import os
import shutil
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from wheels import ROOT, build, install, run

from tools import notebooks

NOTEBOOKS = [path for folder in notebooks.FOLDERS for path in sorted((ROOT / folder).glob("*.ipynb"))]
COLAB = ("ipywidgets==7.7.1", "ipython==7.34.0", "ipykernel==6.17.1")
"""Colab's, in August 2026 (https://github.com/googlecolab/backend-info); the `book` extra asks for newer ones."""
REACH_FILES = {"glob", "io", "os", "pathlib", "pickle", "shutil", "sqlite3", "subprocess", "tempfile", "urllib"}
OPEN_FILES = {"fromfile", "genfromtxt", "imread", "loadtxt", "open", "read_bytes", "read_csv", "read_text", "__file__"}


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=[str(path.relative_to(ROOT)) for path in paths])


def code(path: Path) -> list[str]:
    """The code cells but the one that installs the library, whose text another test holds."""
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert "google.colab" in cells[0]
    return cells[1:]


def needs(source: str, installed: set[str]) -> list[str]:
    """What a cell asks for that it does not have on Colab."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else ["." * node.level + (node.module or "")]
            )
            tops = {module.split(".")[0] for module in modules}
            found += [f"import {top}" for top in tops if top not in installed | set(sys.stdlib_module_names) - REACH_FILES]
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name in OPEN_FILES or (isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "torch.load")):
            found.append(ast.unparse(node))
    return found


def installed() -> set[str]:
    """What may be imported besides Python's own library: this one, and what it declares."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = {Requirement(text).name.replace("-", "_") for text in declared}
    return {"gencourse"} | {{"scikit_learn": "sklearn"}.get(name, name) for name in names}


@each(NOTEBOOKS)
def test_a_notebook_imports_what_is_installed_and_opens_no_file_beside_it(path):
    for source in code(path):
        assert needs(source, installed()) == [], source.splitlines()[0]


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("from pathlib import Path", "import pathlib"),
        ("import pandas as pd", "import pandas"),
        ("from . import beside", "import "),
        ("record = json.load(open('05.json'))", "open"),
        ("x = np.load('faces.npz')", "np.load('faces.npz')"),
        ("text = somewhere.read_text()", "somewhere.read_text"),
    ],
)
def test_what_would_not_be_there_is_found(source, asked):
    assert needs(source, installed()) == [asked]


@pytest.fixture(scope="module")
def colab(tmp_path_factory) -> Path:
    """A folder with an environment like Colab's, the wheel in it, and the description of its kernel."""
    home = tmp_path_factory.mktemp("colab")
    python = home / "environment" / "bin" / "python"
    install(build(tmp_path_factory.mktemp("built")), home / "environment", COLAB)
    program = (
        "import gencourse, importlib.metadata as m; print(gencourse.__file__, m.version('ipywidgets'), m.version('ipython'))"
    )
    file, *versions = run(python, "-c", program, cwd=home, env={"PATH": os.defpath}).split()
    assert Path(file).is_relative_to(home) and versions == ["7.7.1", "7.34.0"]
    kernel = home / "kernels" / "colab"
    kernel.mkdir(parents=True)
    start = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": start, "display_name": "Colab", "language": "python"}))
    return home


@pytest.mark.weekly
@each(NOTEBOOKS)
def test_a_notebook_runs_alone_on_colab_s_packages_and_says_what_it_says_here(path, colab, tmp_path):
    """Every cell runs, and the checked ones print what is stored. Needs a network, from which pip takes Colab's packages."""
    folder = tmp_path / "content"
    folder.mkdir()
    shutil.copy(path, folder)
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "GENCOURSE", "VIRTUAL_ENV"))
    }
    own = {
        "JUPYTER_PATH": str(colab),
        "GENCOURSE_PROFILE": "smoke",
        "GENCOURSE_DATA": str(tmp_path / "data"),
        "OMP_NUM_THREADS": "1",
    }
    options = (
        "--nbval-lax",
        "--nbval-kernel-name=colab",
        "--nbval-cell-timeout=1800",
        f"--nbval-sanitize-with={ROOT}/tests/nbval.cfg",
    )
    quiet = ("-q", "-p", "no:cacheprovider", "--rootdir", folder)
    run(sys.executable, "-m", "pytest", *quiet, *options, path.name, cwd=folder, env=kept | own | {"TQDM_DISABLE": "1"})
    assert [left.name for left in folder.iterdir()] == [path.name]
