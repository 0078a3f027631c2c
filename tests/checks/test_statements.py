import math

import numpy as np
import pytest
import torch

from gencourse.checks import claim, equation


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1.0, 1.0 + 5e-10),
        (np.arange(3.0), torch.arange(3)),
        (torch.full((2, 3), 0.5, dtype=torch.float64), 0.5),
        (torch.ones(3, dtype=torch.float64, requires_grad=True), [1, 1, 1]),
        (7, 7),
    ],
)
def test_an_equation_that_holds_prints_one_stable_line(capsys, left, right):
    equation("9.3", left, right)
    assert capsys.readouterr().out == "Equation (9.3) holds to within 1e-09.\n"


def test_the_tolerance_is_printed_as_given(capsys):
    equation("9.12", 1.0, 1.02, atol=0.05)
    assert capsys.readouterr().out == "Equation (9.12) holds to within 5e-02.\n"


def test_an_equation_that_fails_says_the_largest_difference_and_where(capsys):
    with pytest.raises(AssertionError, match=r"Equation \(9\.3\) does not hold: the sides differ by 0\.25 at entry 2"):
        equation("9.3", torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.125, 2.75]))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_never_holds(bad):
    with pytest.raises(AssertionError, match="not finite"):
        equation("9.3", torch.tensor([1.0, bad]), torch.tensor([1.0, bad]))


@pytest.mark.parametrize(("left", "right"), [(torch.ones(3), torch.ones(2)), (torch.ones(3, 1), torch.ones(1, 3))])
def test_sides_of_different_shapes_are_refused_not_broadcast(left, right):
    with pytest.raises(ValueError, match="shapes"):
        equation("9.3", left, right)


def test_nothing_is_not_an_equation():
    with pytest.raises(ValueError, match="nothing to compare"):
        equation("9.3", torch.empty(0), torch.empty(0))


@pytest.mark.parametrize("truth", [True, 1, np.bool_(True), torch.tensor(True)])
def test_a_true_claim_is_printed(capsys, truth):
    claim("the band is reached", truth)
    assert capsys.readouterr().out == "True: the band is reached.\n"


@pytest.mark.parametrize("truth", [False, 0, None, np.bool_(False), torch.tensor(False), math.nan, torch.tensor(math.nan)])
def test_a_false_claim_raises(capsys, truth):
    with pytest.raises(AssertionError, match="Not true: the band is reached"):
        claim("the band is reached", truth)
    assert capsys.readouterr().out == ""
