"""Colours and sizes that every picture shares."""

import contextlib
import io
import sys

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure

DPI = 100  # dots an inch on the screen
SHARP = 2  # stored dots for each of them: what phones and most laptops have
PAGE_WIDTH = 7.0  # inches

# Okabe and Ito's palette, made for readers with any kind of colour vision (https://jfly.uni-koeln.de/color/), its black
# moved to the end and two greys added, so that ten classes have a colour each. Lightness differs between neighbours.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B3FA0", "#8C8C8C", "#B8A800", "#000000",
)  # fmt: skip


class Picture(Figure):
    """A figure that shows itself as the value of a notebook cell, whether or not pyplot is in use.

    pyplot would also draw it a second time at the end of the cell, and keep it in memory. It is stored with twice as many
    dots as it is wide on the screen, so that it is sharp on a phone; the output says how wide that is.
    """

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), dpi=DPI, facecolor="white")

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=SHARP * DPI, metadata={"Software": None})  # the same picture, the same bytes
        return buffer.getvalue()

    def _ipython_display_(self) -> None:
        """Comes before the formatter that pyplot's inline backend registers, which would add a margin."""
        from IPython.display import display

        width, height = (round(self.get_size_inches()[i] * DPI) for i in (0, 1))
        bundle = {"image/png": self._repr_png_(), "text/plain": repr(self)}
        display(bundle, raw=True, metadata={"image/png": {"width": width, "height": height}})


def style() -> None:
    """Set matplotlib's defaults for the book: a page's width, a colour-blind palette, quiet axes, sharp on any screen."""
    mpl.rcParams.update(
        {
            "figure.dpi": DPI,
            "savefig.dpi": DPI,
            "figure.figsize": (6.0, 3.2),
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": False,
            "axes.prop_cycle": cycler(color=COLOURS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "font.size": 10,
            "legend.frameon": False,
            "image.cmap": "viridis",
            "image.interpolation": "nearest",
            "lines.linewidth": 1.6,
        }
    )
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()) is not None:
        with contextlib.suppress(ImportError):  # a shell without the inline backend shows no pictures of pyplot
            from matplotlib_inline.config import InlineBackend

            # "retina" is IPython's name for twice the dots, with the width on the screen stored beside the picture
            InlineBackend.instance(parent=shell).figure_formats = {"retina"}
