"""What Colab and a GPU machine get: the wheel without extras, beside a torch that is already there, and no Jupyter."""

import ast
import json
import os
import zipfile
from pathlib import Path

import nbformat
import pytest
from wheels import ROOT, build, install, run

from tools import notebooks


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel and what it requires, and nothing else."""
    home = tmp_path_factory.mktemp("environment")
    install(wheel, home)
    return home


@pytest.fixture
def clean(tmp_path) -> dict:
    """A place outside the clone, and an environment without what this test run has set."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "GENCOURSE", "VIRTUAL_ENV", "MPL"))}
    return {"cwd": tmp_path, "env": kept | {"OMP_NUM_THREADS": "1", "GENCOURSE_DATA": str(tmp_path / "data")}}


def test_the_wheel_imports_quietly_and_without_jupyter(environment, clean):
    program = (
        "import importlib.util, json, sys, gencourse, gencourse.catalog\n"
        "here = [name for name in ('IPython', 'ipykernel', 'jupyter_core', 'nbformat', 'papermill', 'ipywidgets', 'pytest')"
        " if importlib.util.find_spec(name)]\n"
        "loaded = [name for name in ('torch', 'matplotlib', 'sklearn', 'pooch') if name in sys.modules]\n"
        "models = [name for name in sys.modules if name.startswith('gencourse.variational.')]\n"
        "print(json.dumps([here, loaded, models, gencourse.__file__]))"
    )
    output = run(environment / "bin" / "python", "-c", program, **clean)
    here, loaded, models, file = json.loads(output)  # so nothing else was printed
    assert (here, loaded, models) == ([], [], [])
    assert Path(file).is_relative_to(environment)


def test_every_module_of_the_library_imports_without_jupyter(environment, clean):
    program = (
        "import importlib, pkgutil, gencourse\n"
        "for module in pkgutil.walk_packages(gencourse.__path__, 'gencourse.'):\n"
        "    importlib.import_module(module.name)\n"
    )
    assert run(environment / "bin" / "python", "-W", "error::UserWarning", "-c", program, **clean) == ""


def loads() -> list[str]:
    """What the notebooks import from the library, and which of its files they read by name, as statements."""
    imports = {"from gencourse import explorers, records", "from gencourse.adversarial.dcgan import trained_on_faces"}
    reads = set()
    for path in (path for folder in notebooks.FOLDERS for path in (ROOT / folder).glob("*.ipynb")):
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        for node in ast.walk(ast.parse("\n".join(cells[1:]))):  # the first installs the library
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gencourse"):
                imports.add(ast.unparse(node))
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "explorers.SelfTest",
                "records.load",
                "trained_on_faces",
            ):
                reads.add(ast.unparse(node))
    return sorted(imports) + sorted(reads)


def test_the_wheel_has_all_that_the_notebooks_load(environment, clean):
    statements = loads()
    for expected in (
        "from gencourse.checks import claim, equation",
        "records.load('05-experiments')",
        "explorers.SelfTest('15')",
    ):
        assert expected in statements
    run(environment / "bin" / "python", "-c", "\n".join(statements), **clean)


def test_the_wheel_lists_its_models_and_trains_one_on_digits(environment, clean):
    command = environment / "bin" / "gencourse"
    assert "vae" in run(command, "models", **clean)
    run(command, "train", "vae", "--recipe", "binary_digits", "--steps", "20", "--out", "run", "--quiet", **clean)
    run(command, "sample", "run", "--n", "4", "--out", "four.png", **clean)
    assert (clean["cwd"] / "four.png").read_bytes().startswith(b"\x89PNG")
    assert not (clean["cwd"] / "data").exists(), "digits need no download"


def test_the_wheel_holds_the_library_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"gencourse"}
    source = wheel.parents[1] / "source"
    assert {str(path.relative_to(source)) for path in (source / "gencourse").rglob("*") if path.is_file()} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
