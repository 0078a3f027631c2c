"""One row of the table of models, and the branches of the taxonomy it stands on. Importing this imports no model."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gencourse.kinds import GenerativeModel
    from gencourse.recipes import Recipe
    from gencourse.space import Space

#: The branches of slide 16, in the lecture's order: path -> what is said there.
BRANCHES: dict[tuple[str, ...], str] = {
    ("explicit",): "explicit density",
    ("explicit", "tractable"): "tractable density",
    ("explicit", "approximate"): "approximate density",
    ("explicit", "approximate", "variational"): "variational",
    ("explicit", "approximate", "markov chain"): "Markov chain",
    ("implicit",): "implicit density",
    ("implicit", "markov chain"): "Markov chain",
    ("implicit", "direct"): "direct",
}


_SOME = 12  # names that one sentence can list beside a suggestion


@dataclass(frozen=True)
class Entry:
    """One model: where it stands in the taxonomy, in the literature, in the lecture and in the library.

    Attributes:
        name: as on the command line.
        title: as in the book.
        branch: its place in the taxonomy, a key of `BRANCHES`.
        paper, year: where it was published, a key of book/references.bib, and when.
        slides: the lecture's slides about it.
        chapter: the chapter that derives it, by file name.
        path: module and class, `"gencourse.variational.vae:VAE"`.
        space: the smallest space it is tested on, as arguments of `Space`.
        options: arguments that make it small enough for that test.
    """

    name: str
    title: str
    branch: tuple[str, ...]
    paper: str
    year: int
    slides: str
    chapter: str
    path: str
    space: tuple[tuple[int, ...], int | None] = ((1, 3, 3), 2)
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def cls(self) -> type[GenerativeModel]:
        """The model's class, imported now."""
        module, name = self.path.split(":")
        return getattr(importlib.import_module(module), name)

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The experiments at the end of the model's file."""
        module, _ = self.path.split(":")
        return importlib.import_module(module).RECIPES

    def build(self, space: Space, **options: Any) -> GenerativeModel:
        """An untrained model."""
        return self.cls(space, **options)

    def recipe(self, name: str) -> Recipe:
        """The recipe of that name; a `ValueError` suggests the nearest."""
        for recipe in self.recipes:
            if recipe.name == name:
                return recipe
        raise ValueError(unknown(f"recipe of {self.name}", name, [recipe.name for recipe in self.recipes]))


def unknown(what: str, name: str, known: list[str]) -> str:
    """What to say of a name that does not exist: the nearest that does, and some of the others; all, if there is no nearest."""
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    if not near:
        return f"unknown {what}: {name!r}; there are: {', '.join(known)}."
    more = f" and {len(known) - _SOME} more" if len(known) > _SOME else ""
    return f"unknown {what}: {name!r}; did you mean {near[0]!r}? There are: {', '.join(known[:_SOME])}{more}."
