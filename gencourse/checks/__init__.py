"""The invariants that make a model right. The book's proof cells and the tests call the same ones.

Those of one family stand in a file of their own and are imported when they are first used, so that this package needs no
family of models.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gencourse.checks.densities import assert_density_integrates, assert_invertible, assert_log_det
from gencourse.checks.invariants import (
    assert_bound,
    assert_every_parameter_learns,
    assert_normalized,
    assert_sampler_matches,
    every_example,
)
from gencourse.checks.statements import claim, equation

if TYPE_CHECKING:
    from gencourse.checks.autoregressive import (
        assert_autoregressive,
        assert_cached_equals_naive,
        assert_full_context,
        changes,
        influence,
    )
    from gencourse.checks.flows import (
        assert_bijection,
        assert_every_coordinate_bends,
        assert_points_match_density,
        gaussian_nll,
    )
    from gencourse.checks.gsn import corruption_matrix, reconstruction_matrix, transition_matrix
    from gencourse.checks.markov import (
        assert_detailed_balance,
        assert_leaves_unchanged,
        expected_contrast,
        expected_weight,
        gibbs_matrix,
        single_site_matrix,
        sweep_matrix,
        tempered,
    )

__all__ = [
    "assert_autoregressive",
    "assert_bijection",
    "assert_bound",
    "assert_cached_equals_naive",
    "assert_density_integrates",
    "assert_detailed_balance",
    "assert_every_coordinate_bends",
    "assert_every_parameter_learns",
    "assert_full_context",
    "assert_invertible",
    "assert_leaves_unchanged",
    "assert_log_det",
    "assert_normalized",
    "assert_points_match_density",
    "assert_sampler_matches",
    "changes",
    "claim",
    "corruption_matrix",
    "equation",
    "every_example",
    "expected_contrast",
    "expected_weight",
    "gaussian_nll",
    "gibbs_matrix",
    "influence",
    "reconstruction_matrix",
    "single_site_matrix",
    "sweep_matrix",
    "tempered",
    "transition_matrix",
]

#: The file of each check that belongs to one family.
_FAMILIES = {
    "assert_autoregressive": "autoregressive",
    "assert_bijection": "flows",
    "assert_cached_equals_naive": "autoregressive",
    "assert_detailed_balance": "markov",
    "assert_every_coordinate_bends": "flows",
    "assert_full_context": "autoregressive",
    "assert_leaves_unchanged": "markov",
    "assert_points_match_density": "flows",
    "changes": "autoregressive",
    "corruption_matrix": "gsn",
    "expected_contrast": "markov",
    "expected_weight": "markov",
    "gaussian_nll": "flows",
    "gibbs_matrix": "markov",
    "influence": "autoregressive",
    "reconstruction_matrix": "gsn",
    "single_site_matrix": "markov",
    "sweep_matrix": "markov",
    "tempered": "markov",
    "transition_matrix": "gsn",
}


def __getattr__(name: str) -> Any:
    if name not in _FAMILIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_FAMILIES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
