"""Explorers are tested in a browser."""

from chromium import browser, visit  # noqa: F401
