"""What tests of the wheel share: the wheel itself, and environments that it is installed into."""

import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

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


def build(folder: Path) -> Path:
    """The wheel, built from a copy, so that nothing is left in the clone."""
    source, out = folder / "source", folder / "wheel"
    source.mkdir()
    for package in ("gencourse", "tools"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source)
    (built,) = out.glob("*.whl")
    return built


def install(wheel: Path, home: Path, first: tuple[str, ...] = ()) -> None:
    """Make an environment with the wheel and what it requires; `first` is what pip installs before, from its index.

    The requirements are links to the packages that are installed here, because torch alone takes a minute to copy.
    pip then installs the wheel with no index: it refuses if one requirement is missing.
    """
    run(sys.executable, "-m", "venv", "--without-pip", home)
    pip = (sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "--quiet")
    if first:
        run(*pip, *first)
    (packages,) = home.glob("lib/python*/site-packages")
    there = {canonicalize_name(found.name) for found in metadata.distributions(path=[str(packages)])}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in closure(project["dependencies"]) - there:
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())
    run(*pip, "--no-index", wheel)
