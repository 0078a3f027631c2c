"""The pages "The library" and "The models": what can be called, with its docstring and its place in the source.

Read from the files when a page is built: nothing is imported or run, and nothing can go stale. Where a page has a mark of
`PAGES` stands, after the build, a section for each module and one for each of its public names: the first sentence at once, the
rest of the docstring and the signature to be opened.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
#: By mark, the parts of a page: packages stand for what they name in `__all__`, `package.*` for all their files.
PAGES = {
    "<!-- the library -->": {
        "Spaces": ("space", "distributions", "networks", "latent", "solvers"),
        "Data": ("data", "data.dataset", "data.toys", "data.faces"),
        "Classical methods": ("classical.*",),
        "Training": ("train", "recipes", "runs", "entry", "catalog", "profile"),
        "Evaluation": ("metrics.*",),
        "Checks": ("checks", "checks.exact_world"),
        "Pictures": ("viz", "explorers"),
    },
    "<!-- the models -->": {
        "The three kinds": ("kinds",),
        "Autoregressive models": ("autoregressive.*",),
        "Flows": ("flows.*",),
        "Variational models": ("variational.*",),
        "Markov chains": ("markov.*",),
        "Adversarial models": ("adversarial.*",),
        "Diffusion models": ("diffusion.*",),
    },
}
Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", fill)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def fill(app: Any, docname: str, source: list[str]) -> None:
    """Put the library where a page has a mark."""
    for mark, parts in PAGES.items():
        if mark in source[0]:
            app.env.note_reread()  # the page depends on more than its own file
            source[0] = source[0].replace(mark, page(parts))


def page(parts: dict[str, tuple[str, ...]]) -> str:
    """The parts of a page, in Markdown."""
    lines: list[str] = []
    for title, names in parts.items():
        lines += [f"## {title}", ""]
        for module in (module for name in names for module in modules(name)):
            lines += section(module)
    return "\n".join(lines)


def modules(name: str) -> Iterator[str]:
    """The modules that a name in `PAGES` stands for; those of a package in the order of their names."""
    if not name.endswith(".*"):
        yield name
        return
    package = name.removesuffix(".*")
    files = (ROOT / "gencourse" / package.replace(".", "/")).glob("*.py")
    yield from (f"{package}.{path.stem}" for path in sorted(files) if not path.stem.startswith("_"))


def section(module: str) -> list[str]:
    """A module: what it is about, and its public names; nothing, if it defines none."""
    entries = [line for name, (path, node) in public(module).items() for line in entry(name, path, node)]
    if not entries:
        return []
    first, *_ = paragraphs(ast.get_docstring(tree(place(module))) or "")
    return [f"### gencourse.{module}", "", first, "", *entries]


def place(module: str) -> Path:
    """The file of a module, or the `__init__.py` of a package."""
    path = ROOT / "gencourse" / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def tree(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def public(module: str) -> dict[str, tuple[Path, Definition]]:
    """The public names of a module, with where they are defined: those in `__all__`, or else its functions and classes."""
    path = place(module)
    there = tree(path)
    own = {name: (path, node) for node in there.body for name in names_of(node)}
    listed = own.get("__all__")
    if listed is None:
        return {name: at for name, at in own.items() if isinstance(at[1], ast.FunctionDef | ast.ClassDef) and name[0] != "_"}
    found = {}
    imports = [node for node in ast.walk(there) if isinstance(node, ast.ImportFrom) and node.module]
    for name in sorted(ast.literal_eval(listed[1].value), key=str.lower):  # type: ignore[arg-type]
        source = next((node.module for node in imports if any((a.asname or a.name) == name for a in node.names)), None)
        if source is None:
            found[name] = own[name]
        else:
            at = place(source.removeprefix("gencourse."))
            found[name] = next((at, node) for node in tree(at).body if name in names_of(node))
    return found


def names_of(node: ast.stmt) -> list[str]:
    """What a statement at the top of a file defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


# One name ------------------------------------------------------------------------------------------------------------


def entry(name: str, path: Path, node: Definition) -> list[str]:
    """A name: its first sentence, and what can be opened below it."""
    where = f"{repository()}/{path.relative_to(ROOT).as_posix()}#L{node.lineno}"
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [f"#### {name}", "", f"`{ast.unparse(node)[:100]}` ([source]({where}))", ""]
    first, *rest = paragraphs(ast.get_docstring(node) or "")
    body = [*code(signature(name, node)), "", *rest, ""]
    if isinstance(node, ast.ClassDef):
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name[0] != "_" and ast.get_docstring(method):
                body += [*code(signature(f"{name}.{method.name}", method, bound=True)), ""]
                body += [*text(ast.get_docstring(method) or ""), ""]
    summary = '<details class="library"><summary>Signature and more</summary>'
    return [f"#### {name}", "", f"{first} ([source]({where}))", "", summary, "", *body, "</details>", ""]


def signature(name: str, node: ast.FunctionDef | ast.ClassDef, *, bound: bool = False) -> str:
    """How it is called."""
    if isinstance(node, ast.ClassDef):
        init = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
        if init is not None:
            return signature(name, init, bound=True).removesuffix(" -> None")
        fields = [
            one for one in node.body if isinstance(one, ast.AnnAssign) and not re.search(r"ClassVar|init=False", ast.unparse(one))
        ]
        return written(name, [ast.unparse(field) for field in fields], "")
    if bound and any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list):
        return f"{name}{f' -> {ast.unparse(node.returns)}' if node.returns else ''}"
    parts = split(ast.unparse(node.args))
    if bound and parts[:1] in (["self"], ["cls"]):
        parts = parts[1:]
    return written(name, parts, ast.unparse(node.returns) if node.returns else "")


def split(arguments: str) -> list[str]:
    """Arguments, cut at the commas that are in no bracket."""
    parts, depth = [""], 0
    for character in arguments:
        depth += {"[": 1, "(": 1, "{": 1, "]": -1, ")": -1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def written(name: str, parts: list[str], returns: str) -> str:
    """A call on one line, or, where that is long, an argument a line."""
    end = f") -> {returns}" if returns else ")"
    line = f"{name}({', '.join(parts)}{end}"
    return line if len(line) <= 88 else "\n".join([f"{name}(", *(f"    {part}," for part in parts), end])


def code(source: str, language: str = "python") -> list[str]:
    """A block of code."""
    return [f"```{language}", *source.splitlines(), "```"]


# Docstrings ----------------------------------------------------------------------------------------------------------


def paragraphs(docstring: str) -> list[str]:
    """The first paragraph as one line, then the lines of the others."""
    lines = text(docstring)
    end = lines.index("") if "" in lines else len(lines)
    return [" ".join(lines[:end]), *lines[end + 1 :]]


def text(docstring: str) -> list[str]:
    """A docstring in Markdown: sections as lists, formulas and examples as blocks."""
    out: list[str] = []
    lines = docstring.splitlines()
    i, inside = 0, False
    while i < len(lines):
        line = lines[i]
        if re.fullmatch(r"(Args|Returns|Raises|Attributes):", line):
            inside = True
            out += ["", f"**{line[:-1].replace('Args', 'Arguments')}**", ""]
        elif line.lstrip().startswith(">>>"):
            end = next((j for j in range(i, len(lines)) if not lines[j].strip()), len(lines))
            out += ["", *code("\n".join(one.removeprefix(" " * indent(line)) for one in lines[i:end]), "pycon"), ""]
            i, inside = end, False
        elif not line.strip():
            out.append("")
        elif inside and line.startswith("    "):
            item = re.match(r"    ([\w, ]+): (.*)", line)
            if item and indent(line) == 4:
                out.append(f"- {', '.join(f'`{name.strip()}`' for name in item[1].split(','))}: {escaped(item[2])}")
            else:
                out.append(("  " if out and out[-1][:2] in ("- ", "  ") else "") + escaped(line.strip()))
        elif line.startswith("    "):  # a formula or a table, as it was set
            end = next((j for j in range(i, len(lines)) if lines[j].strip() and indent(lines[j]) < 4), len(lines))
            while end > i and not lines[end - 1].strip():
                end -= 1
            out += ["", *code("\n".join(one[4:] for one in lines[i:end]), "text"), ""]
            i, inside = end, False
            continue
        else:
            inside = False
            out.append(escaped(line))
        i += 1
    return out


def indent(line: str) -> int:
    """The blanks that a line begins with."""
    return len(line) - len(line.lstrip())


def escaped(line: str) -> str:
    """The same in Markdown: what is in `code` or *emphasised* stays so, addresses are links, and other signs mean nothing."""
    pieces = re.split(r"(`[^`]*`|(?<![\w*])\*\w[\w ]*\*(?![\w*])|https?://[^\s)]*[^\s).,;:])", line)
    for i, piece in enumerate(pieces):
        pieces[i] = f"<{piece}>" if piece.startswith("http") else piece if i % 2 else re.sub(r"([*_$<\[\]|~])", r"\\\1", piece)
    return "".join(pieces)


def repository() -> str:
    """Where the files can be seen."""
    there = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    return f"{there['url']}/blob/{there['branch']}"
