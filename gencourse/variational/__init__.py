"""Explicit, approximate, variational: autoencoders and their descendants (slides 33-88)."""
