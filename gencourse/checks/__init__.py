"""The invariants that make a model right. The book's proof cells, the tests and the exercises call the same ones."""

from gencourse.checks.autoregressive import (
    assert_autoregressive,
    assert_cached_equals_naive,
    assert_full_context,
    influence,
)
from gencourse.checks.invariants import (
    assert_bound,
    assert_every_parameter_learns,
    assert_normalized,
    assert_sampler_matches,
    every_example,
)
from gencourse.checks.statements import claim, equation

__all__ = [
    "assert_autoregressive",
    "assert_bound",
    "assert_cached_equals_naive",
    "assert_every_parameter_learns",
    "assert_full_context",
    "assert_normalized",
    "assert_sampler_matches",
    "claim",
    "equation",
    "every_example",
    "influence",
]
