"""Adversarial models: a generator that samples, and a discriminator that says what looks real."""
