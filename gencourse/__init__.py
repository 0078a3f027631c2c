"""gencourse: the models and algorithms of Lecture 13, *Generative Models* (CS231n 2022), each checked by mathematics.

Importing the package imports no model and touches no network. Start from the table of models,

>>> from gencourse import catalog
>>> [entry.name for entry in catalog.MODELS]  # doctest: +SKIP

or import a model where it lives: ``from gencourse.variational.vae import VAE``.
"""

__version__ = "1.0.0"
