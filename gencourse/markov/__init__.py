"""Markov chains: explicit densities whose normalising constant is out of reach, and chains that are learned as such (slide 16).

Its rows of the table of models, in the order in which they are read; `gencourse.catalog` collects them.
"""

from gencourse.entry import Entry

ENTRIES: tuple[Entry, ...] = ()
