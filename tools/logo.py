"""Draws what the book is known by: the favicon, the logo for light and dark pages, and the card that a shared link shows.

    python -m tools.logo            draw them into book/_static
    python -m tools.logo --check    say which are not current

The sign is the lecture's tree at its smallest: one root and two branches, density or none. The card shows the whole tree, and on
its leaves images of the book's first world, bars and stripes. The same matplotlib draws the same bytes.
"""

import io
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath

STATIC = Path(__file__).parents[1] / "book" / "_static"
BLUE, AMBER, WHITE, INK, PALE = "#0072b2", "#e69f00", "#ffffff", "#1f2328", "#e6e9ed"
TITLE = "Generative models, read and run"
#: The leaves of the lecture's tree from the left, each with an image of three by three pixels.
LEAVES = (
    ("tractable density", ("100", "100", "100")),
    ("variational", ("101", "101", "101")),
    ("Markov chain", ("000", "111", "000")),
    ("Markov chain", ("111", "000", "111")),
    ("direct", ("011", "011", "011")),
)


def sign() -> str:
    """The sign as the inside of an SVG, 16 by 16."""
    return (
        f'<rect width="16" height="16" rx="3" fill="{BLUE}"/>'
        f'<path d="M8 3v3M8 6L4 9.5M8 6l4 3.5" stroke="{WHITE}" stroke-width="1.4" fill="none"/>'
        f'<circle cx="8" cy="3.4" r="1.7" fill="{WHITE}"/>'
        f'<circle cx="4" cy="11.2" r="2.2" fill="{AMBER}"/><circle cx="12" cy="11.2" r="2.2" fill="{WHITE}"/>'
    )


def favicon() -> str:
    """The sign alone."""
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{sign()}</svg>\n'


def logo(colour: str) -> str:
    """The sign and the name in a colour; its letters are outlines, the same on every machine."""
    word = TextPath((20, 4.2), "gencourse", size=11, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    width = float(word.get_extents().x1) + 1
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.1f} 16" role="img" aria-label="gencourse">'
        f'{sign()}<path d="{outline(word)}" fill="{colour}"/></svg>\n'
    )


def outline(path: Outline) -> str:
    """A path of matplotlib as SVG writes it; its y axis points the other way."""
    letters = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C", Outline.CLOSEPOLY: "Z"}
    pieces = []
    for vertices, code in path.iter_segments(simplify=False, curves=True):
        numbers = "" if code == Outline.CLOSEPOLY else " ".join(f"{value:.2f}" for value in _turned(vertices))
        pieces.append(f"{letters[code]}{numbers}")
    return "".join(pieces)


def _turned(vertices: Iterable[float]) -> list[float]:
    return [float(16 - value if i % 2 else value) for i, value in enumerate(vertices)]


def card() -> bytes:
    """The picture of a shared link, 1200 by 630, as PNG."""
    figure = Figure(figsize=(12, 6.3), dpi=100, facecolor=BLUE)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 1200), ylim=(0, 630))
    ax.axis("off")
    text: dict[str, Any] = {"color": WHITE, "family": "DejaVu Sans"}
    ax.text(80, 505, "gencourse", fontsize=52, weight="bold", **text)
    ax.text(80, 437, TITLE, fontsize=25, **text)
    ax.text(80, 392, "CS231n, Lecture 13: each model derived, checked by code, trained", fontsize=16.5, alpha=0.9, **text)

    x = np.linspace(150, 1050, len(LEAVES))
    approximate, explicit, implicit = (x[1] + x[2]) / 2, (x[0] + (x[1] + x[2]) / 2) / 2, (x[3] + x[4]) / 2
    root, top, middle, low, leaf = (explicit + implicit) / 2, 340, 285, 235, 185
    edges = (
        ((root, top), (explicit, middle)), ((root, top), (implicit, middle)),
        ((explicit, middle), (x[0], leaf)), ((explicit, middle), (approximate, low)),
        ((approximate, low), (x[1], leaf)), ((approximate, low), (x[2], leaf)),
        ((implicit, middle), (x[3], leaf)), ((implicit, middle), (x[4], leaf)),
    )  # fmt: skip
    for (x0, y0), (x1, y1) in edges:
        ax.plot((x0, x1), (y0, y1), color=WHITE, linewidth=3, alpha=0.85, solid_capstyle="round")
    inner = ((root, top, WHITE), (explicit, middle, AMBER), (implicit, middle, WHITE), (approximate, low, AMBER))
    for at, height, colour in inner:
        ax.plot(at, height, "o", color=colour, markersize=15, zorder=3)
    for at, (name, rows) in zip(x, LEAVES, strict=True):
        pixels = [[float(pixel) for pixel in row] for row in rows]
        ax.imshow(pixels, cmap="gray", vmin=-0.15, vmax=1, extent=(at - 42, at + 42, 96, 180), zorder=3, aspect="auto")
        ax.text(at, 60, name, fontsize=15, ha="center", **text)
    ax.set(xlim=(0, 1200), ylim=(0, 630))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


FILES: dict[str, Callable[[], str | bytes]] = {
    "favicon.svg": favicon,
    "logo.svg": lambda: logo(INK),
    "logo-dark.svg": lambda: logo(PALE),
    "card.png": card,
}


def main(arguments: list[str]) -> int:
    """Draw the files, or with `--check` say which are not current; the number is the exit status."""
    stale = 0
    for name, draw in FILES.items():
        made = draw()
        path, content = STATIC / name, made.encode() if isinstance(made, str) else made
        if path.exists() and path.read_bytes() == content:
            continue
        if "--check" in arguments:
            print(f"book/_static/{name} is not current; `make format` renews it.")
            stale += 1
        else:
            path.write_bytes(content)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
