"""What ARCHITECTURE.md says of the library: who may import whom, and where everything is."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "gencourse"

LAYERS = (
    ("space", "distributions", "networks", "arguments", "checkpoint", "profile", "records", "kinds", "latent", "solvers"),
    ("data", "train", "metrics"),
    ("recipes", "entry"),
    ("classical", "autoregressive", "flows", "adversarial", "variational", "markov", "diffusion"),
    ("checks", "catalog", "runs"),
    ("viz", "explorers", "grading", "cli", "__main__"),
)
"""From the ground up. What stands in one row may import what is in its own and in the rows beneath."""


def modules() -> dict[str, Path]:
    found = {}
    for path in LIBRARY.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """The modules of the library that a module imports, wherever in the file, for types and inside functions too."""
    path, found = MODULES[name], set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], *base.split(".")]).rstrip(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in MODULES else base)
    return {module for module in found if module in MODULES and module != name}


GRAPH = {name: imports(name) for name in MODULES}


def circles() -> list[list[str]]:
    """Groups of modules that import one another, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in GRAPH[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in GRAPH:
        if name not in index:
            visit(name)
    return found


def test_no_modules_import_one_another():
    assert circles() == []


def test_the_graph_sees_imports_inside_functions():
    assert {"gencourse.data", "gencourse.runs"} <= GRAPH["gencourse.cli.models"]


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_imports_go_down(name):
    height = {room: row for row, rooms in enumerate(LAYERS) for room in rooms}
    if name == "gencourse":
        return
    room = name.split(".")[1]
    assert room in height, (
        f"{room} stands in no row of LAYERS in tests/test_architecture.py; ARCHITECTURE.md says where it may go"
    )
    for other in GRAPH[name] - {"gencourse"}:
        below = other.split(".")[1]
        assert height[below] <= height[room], f"{name} imports {other}, which stands above it"


def test_families_do_not_import_each_other():
    families = {"classical", "autoregressive", "flows", "adversarial", "variational", "markov", "diffusion"}
    for name, others in GRAPH.items():
        room = name.split(".")[1] if "." in name else ""
        if room in families:
            foreign = {other for other in others if other.count(".") and other.split(".")[1] in families - {room}}
            assert not foreign, f"{name} imports {foreign}"


def test_what_runs_in_the_sandbox_imports_nothing_of_the_rest():
    """It is started as a script that sees its own folder, NumPy and torch: no answer, not even by way of an import."""
    folder = LIBRARY / "grading" / "inside"
    files = list(folder.rglob("*.py"))
    assert {path.name for path in files} == {"__init__.py", "worker.py", "harness.py", "protocol.py", "clock.py"}
    own = {path.stem for path in files}
    dynamic = ("import_module", "__import__", "run_path", "run_module")
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = ["." * node.level + (node.module or "")]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(dynamic):
                names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            for name in names:
                assert name.split(".")[0] in {*sys.stdlib_module_names, *own, "numpy", "torch"}, f"{path.name} imports {name}"


def test_the_plan_names_every_room():
    said = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = {
        path.stem if path.is_file() else path.name
        for path in LIBRARY.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    missing = {room for room in rooms - {"__init__", "__main__"} if not re.search(rf"\b{room}\b", said)}
    assert not missing, f"ARCHITECTURE.md says nothing of {missing}"
