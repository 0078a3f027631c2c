"""The lecture's tree of models (slide 16), drawn from the catalogue: what each can do, and a sample of each."""

import base64
import html
import importlib.metadata
import inspect
import io
import json
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.patches import Rectangle
from PIL import Image

from gencourse import catalog
from gencourse.entry import BRANCHES, Entry
from gencourse.explorers.base import Explorer
from gencourse.explorers.tree_samples import Sample, samples
from gencourse.kinds import Approximate, GenerativeModel, Implicit, Tractable
from gencourse.viz.theme import DPI, Picture

#: What can be said of a model: for each aspect, by its key, whether it can (yes, partly, no), and a sentence.
SAID: dict[str, dict[str, tuple[str, str]]] = {
    "density": {
        "exact": ("yes", "Exact: log_prob(x) is computed."),
        "exact for points": ("yes", "Exact for points: log_prob(x). For images, whose levels are integers, a bound, from noise."),
        "bound": ("partly", "A lower bound, elbo(x). More samples come nearer: log_prob_estimate(x, samples=...)."),
        "unnormalised": (
            "partly",
            "Up to a constant: free_energy(x). The constant is summed in small models, estimated in others.",
        ),
        "none": ("no", "None: it draws, and cannot say how probable an image is."),
    },
    "sampling": {
        "one": ("yes", "One pass through a network."),
        "pixel": ("partly", "One pass a pixel, each after the one before."),
        "solver": ("partly", "A solver's steps along a field, some passes each."),
        "levels": ("partly", "A chain of denoising steps, from noise to data, a pass each."),
        "chain": ("partly", "A Markov chain, a pass a step, until it has forgotten where it began."),
    },
    "latent": {
        "code": ("yes", "z, as small as one likes. An encoder leads from x to z."),
        "invertible": ("yes", "z, as large as x. The way from z to x can be gone back."),
        "levels": ("partly", "The noise at the chain's beginning, as large as x. The way there is adding noise."),
        "hidden": ("partly", "Hidden binary units, drawn given x."),
        "noise": ("partly", "z, the generator's noise. Nothing leads back from x to z."),
        "none": ("no", "None."),
    },
    "condition": {
        "needed": ("yes", "Needed: it draws for something that is given."),
        "class": ("yes", "A class, where it is built with classes."),
        "none": ("no", "None: it draws from the whole distribution."),
    },
}
ASPECTS = {"density": "Density p(x)", "sampling": "A draw", "latent": "Latent space", "condition": "Condition"}
#: What one may ask of the tree: the question, its aspect, and the keys that answer it with yes.
QUESTIONS = (
    ("computes p(x)", "density", ("exact", "exact for points")),
    ("bounds p(x)", "density", ("bound",)),
    ("draws in one pass", "sampling", ("one",)),
    ("finds a z for an x", "latent", ("code", "invertible")),
    ("takes a condition", "condition", ("needed", "class")),
)


@dataclass(frozen=True)
class Abilities:
    """What a model can do, as its class says: keys of `SAID`.

    Attributes:
        density: "exact", "exact for points", "bound", "unnormalised" or "none".
        sampling: what a draw takes: "one" pass, one a "pixel", a "solver", the "levels" of noise, or a Markov "chain".
        latent: "code", "invertible", "levels", "hidden", "noise" or "none".
        condition: "needed", "class" or "none".
    """

    density: str
    sampling: str
    latent: str
    condition: str


def abilities(model: type[GenerativeModel]) -> Abilities:
    """What the models of a class can do, read off its kind and its methods.

    Raises:
        TypeError: if it is not one of the three kinds.
    """

    def has(*names: str) -> bool:
        return all(hasattr(model, name) for name in names)

    if issubclass(model, Tractable):
        density = "exact" if has("conditionals") else "exact for points"
    elif issubclass(model, Approximate):
        density = "bound" if has("elbo") else "unnormalised"
    elif issubclass(model, Implicit):
        density = "none"
    else:
        raise TypeError(f"abilities: {model.__name__} is neither Tractable nor Approximate nor Implicit.")
    if has("conditionals"):
        sampling, latent = "pixel", "none"
    elif has("gibbs"):
        sampling, latent = "chain", "hidden"
    elif has("chain"):
        sampling, latent = "chain", "none"
    elif has("denoiser"):
        sampling, latent = "levels", "levels"
    elif has("log_prob", "velocity") or has("log_prob", "solve"):
        sampling, latent = "solver", "invertible"
    elif has("draw_latent"):
        sampling, latent = "one", "noise"
    elif has("encode", "decode"):
        sampling, latent = "one", "invertible" if density == "exact for points" else "code"
    else:
        sampling, latent = "one", "none"
    if model.example_context is not GenerativeModel.example_context:
        condition = "needed"
    else:
        condition = "class" if "classes" in inspect.signature(model).parameters else "none"
    return Abilities(density, sampling, latent, condition)


def paper(entry: Entry) -> str:
    """Who published the model and when, such as "Kingma and Welling, 2014", as its file says."""
    said = re.sub(r"\s+", " ", sys.modules[entry.cls.__module__].__doc__ or "")
    name = r"(?:[Vv]an den )?[A-Z][\w\-]+"
    found = re.search(rf"({name}(?:, {name})*(?: and {name}| et al\.)?), {entry.year}\b", said)
    if found is None:
        raise ValueError(f"the file of {entry.name} does not begin with its paper of {entry.year}.")
    return f"{found[1][0].upper()}{found[1][1:]}, {entry.year}"


class TreeOfModels(Explorer):
    """The tree of models: every leaf opens its chapter, and says what the model can and cannot do.

    Args:
        chosen: the model that is shown first, by its name in the catalogue.

    Raises:
        ValueError: if there is no such model.
    """

    module: ClassVar[Path] = Path(__file__).with_name("tree_of_models.js")

    def __init__(self, chosen: str = "vae") -> None:
        catalog.entry(chosen)
        can = {entry.name: abilities(entry.cls) for entry in catalog.MODELS}
        drawn = samples()
        state = {
            "tree": _branches(()),
            "models": {entry.name: _sent(entry, can[entry.name], drawn.get(entry.name)) for entry in catalog.MODELS},
            "questions": [
                {"text": text, "yes": [name for name, one in can.items() if getattr(one, aspect) in keys]}
                for text, aspect, keys in QUESTIONS
            ],
            "asked": -1,
            "chosen": chosen,
            "home": _home(),
        }
        super().__init__(state, still=_picture(), alt=ALT)

    def fallback(self) -> str:
        """The picture, and the tree as a list of links: they are the notebooks', of which a built page makes its own."""

        def items(branches: list[dict[str, Any]]) -> str:
            return "".join(f"<li>{html.escape(b['title'])}<ul>{leaves(b)}{items(b['branches'])}</ul></li>" for b in branches)

        def leaves(branch: dict[str, Any]) -> str:
            models = [self.state["models"][name] for name in branch["models"]]
            return "".join(f'<li><a href="{m["chapter"]}.ipynb">{html.escape(m["title"])}</a></li>' for m in models)

        return f"{super().fallback()}<ul>{items(self.state['tree'])}</ul>"


ALT = (
    "The tree of generative models. "
    "Explicit density: tractable (fully visible belief networks from NADE to PixelCNN++, flows from NICE to FFJORD), or "
    "approximate (variational autoencoders and diffusion; Markov chains: Boltzmann machines). "
    "Implicit density: Markov chain (GSN), or direct (GANs)."
)


def _sent(entry: Entry, can: Abilities, sample: Sample | None) -> dict[str, Any]:
    """What the page is told of a model."""
    says = re.split(r"(?<=\.)\s", inspect.cleandoc(entry.cls.__doc__ or "").replace("\n", " "))[0].replace("`", "")
    facts = [[ASPECTS[aspect], key, *SAID[aspect][key]] for aspect, key in vars(can).items()]
    return {
        "title": entry.title,
        "says": says,
        "facts": facts,
        "chapter": entry.chapter,
        "paper": paper(entry),
        "slides": entry.slides,
        "code": entry.path.replace(":", "."),
        "sample": sample and {"png": base64.b64encode(sample.png).decode(), "says": sample.says},
    }


def _branches(path: tuple[str, ...]) -> list[dict[str, Any]]:
    """The branches below one, each with its own below it and its models in the order of their chapters."""
    return [
        {
            "title": title[0].upper() + title[1:],
            "branches": _branches(below),
            "models": [m.name for m in sorted(catalog.MODELS, key=lambda m: m.chapter) if m.branch == below],
        }
        for below, title in BRANCHES.items()
        if below[:-1] == path
    ]


def _home() -> str:
    """Where the notebooks can be seen, if pip took the library from a public repository, as on Colab; "" in a clone."""
    try:
        found = json.loads(importlib.metadata.distribution("gencourse").read_text("direct_url.json") or "{}")
    except importlib.metadata.PackageNotFoundError:
        return ""
    address = re.fullmatch(r"(https://[^@]+?)(?:\.git)?", found.get("url", ""))
    commit = found.get("vcs_info", {}).get("commit_id")
    return f"{address[1]}/blob/{commit}" if address and commit else ""


# --- the picture -------------------------------------------------------------------------------------------------------

#: Fill and text; each legible on a light page and in the dark, whatever is behind the box.
COLOURS = {
    "root": ("#3a3a3a", "#ffffff"),
    "explicit": ("#005a8c", "#ffffff"),
    "implicit": ("#a34700", "#ffffff"),
    "explicit leaf": ("#e3eff7", "#10212c"),
    "implicit leaf": ("#fbeadf", "#2e1606"),
}
LINE = "#8a8a8a"


@dataclass(frozen=True)
class Box:
    """A box of the picture: its place, its lines of text, a key of `COLOURS`, and the chapter of a leaf."""

    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]
    colour: str
    chapter: str = ""


def layout(*, most: int = 7, column: float = 120.0, level: float = 50.0) -> tuple[list[Box], list[list[tuple[float, float]]]]:
    """The tree from the top down, as on the slide: boxes, and the lines between them.

    Args:
        most: leaves in a column.
        column: its width; `level`: the distance of a branch from those above and below it.
    """
    titles = {model.name: (model.title, model.chapter) for model in catalog.MODELS}
    boxes: list[Box] = []
    lines: list[list[tuple[float, float]]] = []
    high, leaf, gap = 28.0, 44.0, 5.0

    def columns(branch: dict[str, Any]) -> int:
        return sum(map(columns, branch["branches"])) + -(-len(branch["models"]) // most)

    def draw(branch: dict[str, Any], left: float, depth: int, family: str) -> float:
        """Draw a branch from its left edge; where its middle is."""
        wide, top = columns(branch) * column, depth * level
        middle = left + wide / 2
        width = min(wide - gap, 8.6 * len(branch["title"]) + 24)
        boxes.append(Box(middle - width / 2, top, width, high, (branch["title"],), family))
        at, middles = left, []
        for below in branch["branches"]:
            side = below["title"].split()[0].lower() if family == "root" else family
            middles.append(draw(below, at, depth + 1, side))
            at += columns(below) * column
        bend = top + (high + level) / 2
        if middles:
            lines.append([(middle, top + high), (middle, bend)])
            lines.extend([(middle, bend), (x, bend), (x, top + level)] for x in middles)
        elif branch["models"]:
            lines.append([(middle, top + high), (middle, top + level)])
        rows = -(-len(branch["models"]) // max(1, columns(branch)))
        for k, name in enumerate(branch["models"]):
            title, chapter = titles[name]
            x, y = left + (k // rows) * column, top + level + (k % rows) * (leaf + gap)
            text = tuple(textwrap.wrap(title, 15))
            boxes.append(Box(x + gap / 2, y, column - gap, leaf, text, f"{family} leaf", chapter))
        return middle

    draw({"title": "Generative models", "branches": _branches(()), "models": []}, 0.0, 0, "root")
    return boxes, lines


def lying(*, width: float = 360.0, indent: float = 14.0) -> tuple[list[Box], list[list[tuple[float, float]]]]:
    """The tree for a phone: branches one below the other, farther to the right the deeper they are, leaves in pairs."""
    titles = {model.name: (model.title, model.chapter) for model in catalog.MODELS}
    boxes: list[Box] = []
    lines: list[list[tuple[float, float]]] = []
    high, leaf, gap = 28.0, 38.0, 6.0
    y = 0.0

    def draw(branch: dict[str, Any], depth: int, family: str) -> float:
        """Draw a branch from `y` on; where its middle is."""
        nonlocal y
        left, middle = depth * indent, y + high / 2
        boxes.append(Box(left, y, min(width - left, 8.6 * len(branch["title"]) + 24), high, (branch["title"],), family))
        y += high + gap
        column = (width - left - indent + gap) / 2
        for k, name in enumerate(branch["models"]):
            title, chapter = titles[name]
            x = left + indent + (k % 2) * column
            boxes.append(Box(x, y, column - gap, leaf, tuple(textwrap.wrap(title, 22)), f"{family} leaf", chapter))
            y += leaf + gap if k % 2 or k == len(branch["models"]) - 1 else 0
        for below in branch["branches"]:
            at = draw(below, depth + 1, below["title"].split()[0].lower() if family == "root" else family)
            lines.append([(left + indent / 2, middle + high / 2), (left + indent / 2, at), (left + indent, at)])
        return middle

    draw({"title": "Generative models", "branches": _branches(()), "models": []}, 0, "root")
    return boxes, lines


def svg(*, upright: bool = True) -> str:
    """The picture as SVG; its leaves are links to the notebooks, seen from a folder beside them."""
    boxes, lines = layout() if upright else lying()
    width, height = (max(getattr(b, at) + getattr(b, size) for b in boxes) for at, size in (("x", "width"), ("y", "height")))
    paths = " ".join("M" + " L".join(f"{x:g} {y:g}" for x, y in line) for line in lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 -2 {width + 4:g} {height + 4:g}" role="group" '
        f'aria-label="{html.escape(ALT, quote=True)}" font-family="system-ui, sans-serif" text-anchor="middle">',
        f'<path d="{paths}" fill="none" stroke="{LINE}" stroke-width="1.5"/>',
    ]
    for box in boxes:
        fill, ink = COLOURS[box.colour]
        size = (13 if upright else 12) if box.chapter else 14
        first = box.y + box.height / 2 + size * 0.35 - (len(box.lines) - 1) * size * 0.54
        shape = f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="6" fill="{fill}"/>'
        text = "".join(
            f'<tspan x="{box.x + box.width / 2:g}" y="{first + k * size * 1.08:g}">{html.escape(line)}</tspan>'
            for k, line in enumerate(box.lines)
        )
        weight = "" if box.chapter else ' font-weight="600"'
        drawn = f'{shape}<text font-size="{size:g}" fill="{ink}"{weight}>{text}</text>'
        parts.append(f'<a href="../{box.chapter}.ipynb">{drawn}</a>' if box.chapter else drawn)
    return "\n".join([*parts, "</svg>", ""])


def _picture() -> bytes:
    """The same as PNG, for viewers that show no SVG; few colours make it small."""
    boxes, lines = layout()
    width, height = (max(getattr(b, at) + getattr(b, size) for b in boxes) for at, size in (("x", "width"), ("y", "height")))
    figure = Picture((width + 4) / DPI, (height + 4) / DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-2, width + 2), ylim=(height + 2, -2))
    axes.set_axis_off()
    for line in lines:
        axes.plot(*zip(*line, strict=True), color=LINE, linewidth=1, zorder=1)
    for box in boxes:
        fill, ink = COLOURS[box.colour]
        axes.add_patch(Rectangle((box.x, box.y), box.width, box.height, color=fill, linewidth=0, zorder=2))
        size, centre = 7.5 if box.chapter else 9, (box.x + box.width / 2, box.y + box.height / 2)
        axes.text(*centre, "\n".join(box.lines), size=size, color=ink, ha="center", va="center", linespacing=1.1, zorder=3)
    png = io.BytesIO()
    with Image.open(io.BytesIO(figure._repr_png_())) as image:
        image.convert("RGB").quantize(32).save(png, "png", optimize=True)
    return png.getvalue()
