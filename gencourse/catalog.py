"""Every model of the course, once: the rows that stand with their families.

The front page's tree, the tests and the command line read this table. Importing it imports no model.
"""

from gencourse import adversarial, autoregressive, diffusion, flows, markov, variational
from gencourse.entry import BRANCHES, Entry, unknown

__all__ = ["BRANCHES", "MODELS", "Entry", "entry"]

#: The families in the lecture's order, and the one beside it.
FAMILIES = (autoregressive, flows, variational, markov, adversarial, diffusion)

MODELS: tuple[Entry, ...] = tuple(row for family in FAMILIES for row in family.ENTRIES)


def entry(name: str) -> Entry:
    """The model of that name.

    Raises:
        ValueError: if there is none; the nearest name is suggested.
    """
    for model in MODELS:
        if model.name == name:
            return model
    raise ValueError(unknown("model", name, [model.name for model in MODELS]))
