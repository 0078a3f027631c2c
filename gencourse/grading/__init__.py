"""Exercises: made from their solutions (`release`), and checked in one sentence (`check`)."""

from gencourse.grading.check import check

__all__ = ["check"]
