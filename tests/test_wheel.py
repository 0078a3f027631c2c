"""What Colab and a GPU machine get: the wheel without extras, beside a torch that is already there, and no Jupyter."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def run(*command, **options) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=3000, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def closure(requirements: list[str]) -> set[str]:
    """The distributions that pip would install for these requirements: theirs, and the ones those need in turn."""
    found: set[str] = set()
    queue = [(Requirement(text), "") for text in requirements]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        wanted = [Requirement(text) for text in metadata.requires(name) or []]
        for one in {"", *requirement.extras}:
            if f"{name}[{one}]" not in found:
                found.add(f"{name}[{one}]")
                queue += [(other, one) for other in wanted]
    return {name.split("[")[0] for name in found}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy, so that nothing is left in the clone."""
    source, out = tmp_path_factory.mktemp("source") / "gencourse", tmp_path_factory.mktemp("wheel")
    source.mkdir()
    shutil.copytree(ROOT / "gencourse", source / "gencourse", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel and what it requires, and nothing else.

    The requirements are links to the packages that are installed here, because torch alone takes a minute to copy.
    pip then installs the wheel with no index: it refuses if one requirement is missing.
    """
    home = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", home)
    (packages,) = home.glob("lib/python*/site-packages")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in closure(project["dependencies"]):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())
    run(sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "--quiet", "--no-index", wheel)
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
    source = {str(path.relative_to(ROOT)) for kind in ("py", "js") for path in (ROOT / "gencourse").rglob(f"*.{kind}")}
    assert source <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
