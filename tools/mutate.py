"""Whether the check of a numbered equation can fail: its right-hand side is made wrong, and the check must notice.

    python -m tools.mutate book/09-vae.ipynb                 every equation of a chapter
    python -m tools.mutate book/09-vae.ipynb --only 9.3      one of them

A wrong right-hand side has one thing changed in it: a sign, a factor, an exponent, an index, a sum for a mean, a transposition,
the order of a difference, a quotient or a matrix product, one size taken for another. It is changed in the last argument of
`equation(number, left, right)`, in the statements before it from which the right side is computed and the left is not, and in
functions of the chapter that the right side calls and the left does not. Then the cells from the last text down to the check
run again. A mutant that nothing notices is printed. Either the check is too weak, or the parameters in it hide the difference
(2 d = D), or the mutant is right too; then `book/mutants.toml` says why.

The chapter runs in the profile of `$GENCOURSE_PROFILE`, `smoke` if there is none.
"""

import argparse
import ast
import contextlib
import copy
import io
import os
import sys
import time
import tomllib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EQUIVALENT = "mutants.toml"  # beside the chapters

# What these are given is a choice of where to test, such as a seed, a size or a grid; no part of a formula.
CHOICES = {
    *("rand", "randn", "randint", "randperm", "random", "normal", "uniform", "standard_normal", "seed", "manual_seed"),
    *("Generator", "default_rng", "arange", "linspace", "range", "zeros", "ones", "eye", "tensor", "full_like", "zeros_like"),
    *("ones_like", "Space", "every_example", "Embedding", "Linear", "Conv2d", "view", "reshape", "expand", "flatten", "split"),
    *("unsqueeze", "size", "double", "float", "clone", "detach", "numpy", "cpu", "item", "tolist", "requires_grad_", "set"),
    *("zip", "enumerate", "len", "isinstance", "print", "claim", "equation", "isclose", "round"),
    *("atol", "dim", "dims", "keepdim"),
}
SWAPS = {"sum": "mean", "mean": "sum", "max": "min", "min": "max", "amax": "amin", "amin": "amax", "logsumexp": "sum"}
SWAPS |= {"exp": "expm1", "log": "log1p", "log1p": "log", "sigmoid": "tanh", "cumsum": "cumprod"}
DROPPED = frozenset(("T", "mT", "H"))  # attributes
UNDONE = frozenset(("t", "transpose", "abs", "square", "sqrt", "exp", "log", "sort", "flip", "softmax", "log_softmax", "relu"))
OPERATORS: dict[type, type] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}


@dataclass
class Statement:
    """One statement of a chapter, or the head of a compound one: what it binds, what it reads."""

    node: ast.stmt
    cell: int
    binds: set[str]
    reads: set[str]
    head: ast.expr | None = None  # of a `for`: what it runs over


@dataclass
class Verdict:
    """How the mutants of an equation fared.

    Attributes:
        number: of the equation.
        mutants: how many were tried.
        survivors: what was changed into what, and nothing noticed.
        excused: survivors that `mutants.toml` gives a reason for.
        stale: what `mutants.toml` excuses, though it is no mutant of this equation.
        problem: why nothing could be tried.
    """

    number: str
    mutants: int = 0
    survivors: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    problem: str = ""


class Chapter:
    """The code of a chapter, as syntax trees and as a program that is run cell by cell."""

    def __init__(self, path: Path) -> None:
        from tools.notebooks import read

        self.path = path
        self.markdown_above: list[bool] = []
        self.trees: list[ast.Module] = []
        text_before = True
        for cell in read(path).cells:
            if cell.cell_type != "code":
                text_before = True
                continue
            source = "\n".join(line for line in cell.source.split("\n") if not line.lstrip().startswith("%"))
            if "google.colab" in source:
                continue
            self.trees.append(ast.parse(source))
            self.markdown_above.append(text_before)
            text_before = False
        self.statements = [s for cell, tree in enumerate(self.trees) for s in _flat(tree.body, cell)]

    def equations(self) -> list[tuple[str, int, ast.Call]]:
        """Number, cell and call of each check, in order."""
        return [
            (node.args[0].value, cell, node)
            for cell, tree in enumerate(self.trees)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "equation"
            and len(node.args) >= 3
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, str)
        ]

    def first_cell(self, cell: int) -> int:
        """The first of the cells in a row, with no text between them, that ends with this one."""
        while not self.markdown_above[cell]:
            cell -= 1
        return cell

    def needed(self, last: int) -> set[int]:
        """The cells up to `last` without which the proof cells cannot run: a cell that only draws a picture is not."""
        wanted = {"equation"}
        kept = {cell for _, cell, _ in self.equations()}
        starts = {c for cell in kept for c in range(self.first_cell(cell), cell + 1)}
        kept |= starts
        for cell in range(last, -1, -1):
            own = [s for s in self.statements if s.cell == cell]
            if cell in kept or any(s.binds & wanted for s in own):
                kept.add(cell)
                bound: set[str] = set()
                exposed: set[str] = set()
                for s in own:
                    exposed |= s.reads - bound
                    bound |= (
                        _binds(s.node) - _changes_in_place(s.node)
                        if isinstance(s.node, ast.Assign)
                        else s.binds & {getattr(s.node, "name", "")}
                    )
                wanted = wanted - bound | exposed
        return kept

    def mutants(self, cell: int, call: ast.Call) -> Iterator[tuple[int, ast.Module, str]]:
        """Cell, its changed tree and what was changed, for each mutant of the right side of `call`."""
        chunk = range(self.first_cell(cell), cell + 1)
        right, left = self._slice(call.args[2], cell, call, chunk), self._slice(call.args[1], cell, call, chunk)
        places: list[tuple[int, ast.AST]] = [(cell, call.args[2])]
        places += [(s.cell, s.head or s.node) for s in self.statements if id(s) in right and id(s) not in left]
        names = {n.id for _, place in places for n in ast.walk(place) if isinstance(n, ast.Name)}
        for at, place in places:
            for node, parent_of, change, said in _changes(place, names):
                tree, target = self._copy(at, node)
                if target is None:
                    continue
                before = ast.unparse(target)
                new = change(target)
                _replace(tree, target, new)
                after = ast.unparse(new)
                if before != after:
                    where = "" if parent_of is None else f" in `{_short(ast.unparse(parent_of))}`"
                    yield at, ast.fix_missing_locations(tree), f"{said}: `{before}` -> `{after}`{where}"

    def _copy(self, cell: int, node: ast.AST) -> tuple[ast.Module, Any]:
        """A copy of a cell's tree, and the node's twin in it."""
        original = self.trees[cell]
        tree = copy.deepcopy(original)
        for ours, theirs in zip(ast.walk(original), ast.walk(tree), strict=True):
            if ours is node:
                return tree, theirs
        return tree, None

    def _slice(self, expression: ast.expr, cell: int, call: ast.Call, chunk: range) -> set[int]:
        """The ids of the statements from which an expression is computed: of the chunk all, of earlier cells functions."""
        here = next(
            i for i, s in enumerate(self.statements) if s.cell == cell and any(n is call for n in ast.walk(s.node)) and _simple(s)
        )
        wanted = _reads(expression)
        found: set[int] = set()
        grown = True
        while grown:  # to the fixed point: in a loop, what stands below may be read above
            grown = False
            for index in range(len(self.statements) - 1, -1, -1):
                s = self.statements[index]
                is_function = isinstance(s.node, ast.FunctionDef | ast.ClassDef)
                if index == here or id(s) in found or s.cell > cell or (s.cell not in chunk and not is_function):
                    continue
                if index > here and not is_function:
                    continue
                if s.binds & wanted:
                    found.add(id(s))
                    grown |= not s.reads <= wanted
                    wanted |= s.reads
        return found


def examine(path: Path, only: str | None = None, seconds: float = 20.0) -> Iterator[Verdict]:
    """Try the mutants of every equation of a chapter, for about `seconds` of processor time each; yields as it goes."""
    chapter = Chapter(path)
    listed = path.with_name(EQUIVALENT)
    reasons = tomllib.loads(listed.read_text(encoding="utf-8")) if listed.exists() else {}
    calls = chapter.equations()
    wanted = [c for c in calls if only in (None, c[0])]
    if not wanted:
        return
    keep = chapter.needed(max(cell for _, cell, _ in wanted))
    os.environ.setdefault("GENCOURSE_PROFILE", "smoke")
    import torch

    torch.set_num_threads(1)  # thousands of small runs: more threads would only wait for each other
    namespace: dict[str, Any] = {"__name__": "__main__"}
    snapshots: dict[int, tuple[dict[str, Any], Any]] = {}
    for cell in range(max(cell for _, cell, _ in wanted) + 1):
        if chapter.markdown_above[cell]:
            snapshots[cell] = (dict(namespace), _random_state())
        if cell in keep:
            with _quiet(path.parent):
                exec(compile(chapter.trees[cell], f"cell {cell}", "exec"), namespace)
        for number, at, call in wanted:
            if at == cell:
                with _quiet(path.parent):
                    verdict = _try(chapter, number, at, call, snapshots[chapter.first_cell(at)], reasons.get(number, {}), seconds)
                yield verdict


class _Cells:
    """The cells of a check, run once as they are, statement by statement; a mutant runs only what depends on it."""

    def __init__(self, chapter: Chapter, cell: int, namespace: dict[str, Any], random_state: Any) -> None:
        self.first, self.chapter = chapter.first_cell(cell), chapter
        self.places = [(at, i) for at in range(self.first, cell + 1) for i in range(len(chapter.trees[at].body))]
        self.nodes = [chapter.trees[at].body[i] for at, i in self.places]
        self.binds = [{name for s in _flat([node], 0) for name in s.binds} for node in self.nodes]
        self.reads = [_reads(node) for node in self.nodes]
        self.changes = [_changes_in_place(node) for node in self.nodes]
        self.start, self.start_state = dict(namespace), random_state
        self.states: list[Any] = []
        self.sound: dict[frozenset[int], bool] = {}
        names = dict(namespace)
        _set_random_state(random_state)
        for node in self.nodes:
            self.states.append(_random_state())
            _execute([node], names)
        self.end = names

    def error(self, at: int, tree: ast.Module) -> str:
        """What the cells say when the tree of cell `at` is changed: nothing if they pass, else the error."""
        again: dict[int, ast.stmt] = {}
        functions: list[ast.stmt] = []
        if at < self.first:  # a function from further up, bound anew
            original = [ast.unparse(n) for n in self.chapter.trees[at].body]
            functions = [n for n, was in zip(tree.body, original, strict=True) if ast.unparse(n) != was]
            changed = {n.name for n in functions if isinstance(n, ast.FunctionDef | ast.ClassDef)}
            seeds = {k for k, reads in enumerate(self.reads) if reads & changed}
        else:
            seeds = {k for k, (c, i) in enumerate(self.places) if c == at and ast.dump(tree.body[i]) != ast.dump(self.nodes[k])}
            again = {k: tree.body[self.places[k][1]] for k in seeds}
        which = self._dependent(seeds)
        if which not in self.sound:
            self.sound[which] = not self._run(which, {}, [])
        if not self.sound[which]:  # the cells cannot be run in part
            which = frozenset(range(len(self.nodes)))
        return self._run(which, again, functions)

    def _dependent(self, seeds: set[int]) -> frozenset[int]:
        """The statements whose values may differ, and those that make anew what these change in place."""
        found = set(seeds)
        while True:
            names = {name for k in found for name in self.binds[k] | self.changes[k]}
            anew = {name for k in found for name in self.changes[k]}
            more = {k for k in range(len(self.nodes)) if self.reads[k] & names or self.binds[k] & anew}
            if more <= found:
                return frozenset(found)
            found |= more

    def _run(self, which: frozenset[int], again: dict[int, ast.stmt], functions: list[ast.stmt]) -> str:
        everything = len(which) == len(self.nodes)
        names = dict(self.start if everything else self.end)
        try:
            _execute(functions, names)
            for k in sorted(which):
                _set_random_state(self.states[k])
                _execute([again.get(k, self.nodes[k])], names)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""


def _execute(statements: list[ast.stmt], names: dict[str, Any]) -> None:
    exec(compile(ast.fix_missing_locations(ast.Module(statements, [])), "a cell", "exec"), names)


def _try(
    chapter: Chapter,
    number: str,
    cell: int,
    call: ast.Call,
    start: tuple[dict[str, Any], Any],
    allowed: dict[str, str],
    seconds: float,
) -> Verdict:
    verdict = Verdict(number)
    try:
        cells = _Cells(chapter, cell, *start)
    except Exception as error:
        verdict.problem = f"its cells cannot run twice ({type(error).__name__}: {error})"
        return verdict
    mutants = list(chapter.mutants(cell, call))
    twins = [(at, c) for n, at, c in chapter.equations() if n == number] if allowed else []  # it may be checked twice
    verdict.stale = sorted(set(allowed) - {said for at, c in twins for _, _, said in chapter.mutants(at, c)})
    began = time.process_time()
    order = sorted(range(len(mutants)), key=lambda i: (i * 0.6180339887) % 1)  # if time runs out, every part has had some
    for i in order:
        if time.process_time() - began > seconds and verdict.mutants >= 12:
            break
        changed, tree, said = mutants[i]
        verdict.mutants += 1
        if not cells.error(changed, tree):
            (verdict.excused if said in allowed else verdict.survivors).append(said)
    if not mutants:
        verdict.problem = "its right side has nothing that can be made wrong"
    return verdict


def _changes_in_place(node: ast.stmt) -> set[str]:
    """Names whose objects a statement changes: `x[0] = `, `x += `, `x.append(...)`."""
    found = set()
    for s in _flat([node], 0):
        inner = ast.walk(s.node) if _simple(s) else ()
        fresh = {n.id for n in inner if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} if _simple(s) else s.binds
        found |= s.binds - fresh
        if isinstance(s.node, ast.AugAssign) and isinstance(s.node.target, ast.Name):
            found.add(s.node.target.id)
    return found


def _changes(place: ast.AST, names: set[str]) -> Iterator[tuple[ast.AST, ast.AST | None, Any, str]]:
    """Node, statement, change and its name, for each single change to a piece of syntax."""
    chosen = {id(part) for node in ast.walk(place) for part in _choices(node)}
    locals_ = {a.arg for n in ast.walk(place) if isinstance(n, ast.FunctionDef | ast.Lambda) for a in n.args.args}
    statement = place if isinstance(place, ast.stmt) and not isinstance(place, ast.FunctionDef | ast.ClassDef) else None

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        if id(node) in chosen:
            return
        yield node
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    if isinstance(place, ast.expr):
        yield place, None, lambda n: ast.UnaryOp(ast.USub(), n), "sign"
        yield place, None, lambda n: ast.BinOp(ast.Constant(2), ast.Mult(), n), "factor"
    for node in walk(place):
        if isinstance(node, ast.BinOp):
            for kind, other in OPERATORS.items():
                if isinstance(node.op, kind):
                    yield node, statement, lambda n, other=other: ast.BinOp(n.left, other(), n.right), "operator"
            if isinstance(node.op, ast.MatMult | ast.Div):
                yield node, statement, lambda n: ast.BinOp(n.right, n.op, n.left), "order"
            if isinstance(node.op, ast.Pow | ast.Mult | ast.Div):
                yield node, statement, lambda n: n.left, "factor"
            if isinstance(node.op, ast.Mult):
                yield node, statement, lambda n: n.right, "factor"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            yield node, statement, lambda n: n.operand, "sign"
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield node, statement, lambda n: ast.Constant(n.value + 1), "number"
            if node.value == 2:
                yield node, statement, lambda n: ast.Constant(1), "number"
        elif isinstance(node, ast.Attribute) and node.attr in DROPPED:
            yield node, statement, lambda n: n.value, "transposition"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in SWAPS and not _is_module(node.func.value):
                yield node, statement, _renamed(SWAPS[node.func.attr]), "function"
            if node.func.attr in UNDONE and not _is_module(node.func.value):
                yield node, statement, lambda n: n.func.value, "function"
        elif (
            isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
        ):
            flip = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}[type(node.ops[0])]
            yield node, statement, lambda n, flip=flip: ast.Compare(n.left, [flip()], n.comparators), "edge"
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            for letter in sorted((locals_ if node.id in locals_ else names) - {node.id}):
                if len(letter) <= 2 and len(node.id) <= 2:  # letters of the formula: one size, index or parameter for another
                    yield node, statement, lambda n, letter=letter: ast.Name(letter, ast.Load()), "letter"


def _choices(node: ast.AST) -> Iterator[ast.AST]:
    """Parts of a node that say where to test, not what."""
    if isinstance(node, ast.Call):
        yield from (
            a for a in node.args if isinstance(a, ast.UnaryOp) and isinstance(a.operand, ast.Constant)
        )  # an axis, `sum(-1)`
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in CHOICES:
            yield from node.args
            yield from node.keywords
        yield from (k for k in node.keywords if k.arg in CHOICES or k.arg in ("dtype", "generator"))
        yield node.func if isinstance(node.func, ast.Name) else ast.Constant(None)
    elif isinstance(node, ast.FunctionDef):
        yield from node.args.defaults
        yield from node.decorator_list
        if node.returns:
            yield node.returns
    elif isinstance(node, ast.Assert | ast.JoinedStr) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        yield node


def _renamed(name: str) -> Any:
    return lambda n: ast.Call(ast.Attribute(n.func.value, name, ast.Load()), n.args, n.keywords)


def _is_module(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("torch", "np", "math", "F", "scipy", "plt", "losses", "viz")


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for node in ast.walk(tree):
        if node is new:
            continue
        for name, value in ast.iter_fields(node):
            if value is old:
                setattr(node, name, new)
                return
            if isinstance(value, list):
                for i, item in enumerate(value):
                    if item is old:
                        value[i] = new
                        return


def _flat(body: Iterable[ast.stmt], cell: int) -> Iterator[Statement]:
    """The statements in order of the source; of compound ones the head, then what is in them."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield Statement(node, cell, {node.name}, _reads(node))
        elif isinstance(node, ast.For):
            yield Statement(node, cell, _binds(node.target), _reads(node.iter), node.iter)
            yield from _flat(node.body, cell)
        elif isinstance(node, ast.With):
            reads = {name for item in node.items for name in _reads(item.context_expr)}
            binds = {name for item in node.items if item.optional_vars for name in _binds(item.optional_vars)}
            yield Statement(node, cell, binds, reads, node.items[0].context_expr)
            yield from _flat(node.body, cell)
        elif isinstance(node, ast.If | ast.While):
            yield Statement(node, cell, set(), _reads(node.test), node.test)
            yield from _flat([*node.body, *node.orelse], cell)
        else:
            yield Statement(node, cell, _binds(node), _reads(node))


def _simple(statement: Statement) -> bool:
    return statement.head is None and not isinstance(statement.node, ast.FunctionDef | ast.ClassDef)


def _binds(node: ast.AST) -> set[str]:
    """Names that a statement gives a value, or changes: `x = `, `x[0] = `, `x += `, `x.append(...)`, imports."""
    found = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for n in ast.walk(node):
        if isinstance(n, ast.Subscript | ast.Attribute) and isinstance(n.ctx, ast.Store):
            base: ast.AST = n
            while isinstance(base, ast.Subscript | ast.Attribute):
                base = base.value
            found |= {base.id} if isinstance(base, ast.Name) else set()
        elif isinstance(n, ast.alias):
            found.add((n.asname or n.name).split(".")[0])
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        base = node.value.func
        while isinstance(base, ast.Attribute | ast.Subscript | ast.Call):
            base = base.func if isinstance(base, ast.Call) else base.value
        found |= {base.id} if isinstance(base, ast.Name) and base.id not in ("torch", "np", "plt") else set()
    return found


def _reads(node: ast.AST) -> set[str]:
    """Names that a piece of syntax takes from outside; those of its own functions and comprehensions are not."""
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    found = {name for child in ast.iter_child_nodes(node) for name in _reads(child)}
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        own = {a.arg for a in [*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs]}
        own |= {a.arg for a in (node.args.vararg, node.args.kwarg) if a}
        own |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        found -= own
    elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        found -= {n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
    return found


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 70 else line[:67] + "..."


def _random_state() -> Any:
    import torch

    return torch.get_rng_state()


def _set_random_state(state: Any) -> None:
    import torch

    torch.set_rng_state(state)


@contextlib.contextmanager
def _quiet(folder: Path) -> Iterator[None]:
    """Run in the notebook's folder, without pictures, output and warnings."""
    import matplotlib

    matplotlib.use("Agg")
    os.environ.setdefault("TQDM_DISABLE", "1")
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def main(arguments: list[str] | None = None) -> int:
    """The command line described above; the number is the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutate", description=__doc__.split("\n")[0])
    parser.add_argument("chapters", nargs="+", type=Path, metavar="CHAPTER.ipynb")
    parser.add_argument("--only", help="one equation, such as 9.3")
    parser.add_argument("--seconds", type=float, default=20.0, help="processor time for each equation, about (20)")
    parser.add_argument("--excused", action="store_true", help="print the mutants that are right too")
    chosen = parser.parse_args(arguments)
    bad = 0
    for path in chosen.chapters:
        for verdict in examine(path.resolve(), chosen.only, chosen.seconds):
            said = (
                verdict.problem
                or f"{verdict.mutants} mutants, {len(verdict.survivors)} not noticed, {len(verdict.excused)} right too"
            )
            print(f"({verdict.number})  {said}", flush=True)
            for survivor in [*verdict.survivors, *(verdict.excused if chosen.excused else [])]:
                print(f"    {survivor}")
            for said in verdict.stale:
                print(f"    {EQUIVALENT} excuses what is no mutant here: {said}")
            bad += bool(verdict.problem or verdict.survivors or verdict.stale)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
