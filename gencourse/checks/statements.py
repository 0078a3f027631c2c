"""What a page says, checked where it is said. Each prints one line that is the same on every machine."""

from typing import Any

import torch
from torch import Tensor


def equation(number: str, left: Any, right: Any, *, atol: float = 1e-9) -> None:
    """Check that both sides of a numbered equation agree, everywhere, to within `atol`.

    Args:
        number: as in the book, `"9.3"`.
        left, right: numbers, arrays or tensors of one shape (or one of them a number).
        atol: the largest difference allowed, in the units of the two sides; printed, so choose it to be said aloud.

    Raises:
        AssertionError: with the largest difference, and where it is, if the two sides differ or are not finite.
        ValueError: if their shapes do not agree.

    >>> equation("9.3", 0.5, torch.tensor([0.25, 0.25]).sum())
    Equation (9.3) holds to within 1e-09.
    """
    a, b = _float64(left), _float64(right)
    if a.shape != b.shape and a.numel() > 1 and b.numel() > 1:
        raise ValueError(f"Equation ({number}): the sides have shapes {tuple(a.shape)} and {tuple(b.shape)}.")
    difference = (a - b).abs()
    if difference.numel() == 0:
        raise ValueError(f"Equation ({number}): there is nothing to compare.")
    if not bool(torch.isfinite(difference).all()):
        raise AssertionError(f"Equation ({number}) does not hold: a side is not finite.")
    largest = float(difference.max())
    if largest > atol:
        at = int(difference.argmax())
        index = f" at entry {at}" if difference.numel() > 1 else ""
        raise AssertionError(
            f"Equation ({number}) does not hold: the sides differ by {largest:.3g}{index}, more than {atol:.0e}."
        )
    print(f"Equation ({number}) holds to within {atol:.0e}.")


def claim(text: str, truth: Any) -> None:
    """Check a statement that is not an equation, and print it.

    Raises:
        AssertionError: if it is not true; NaN is not.

    >>> claim("two and two make four", 2 + 2 == 4)
    True: two and two make four.
    """
    if not bool(truth) or bool(truth != truth):  # Python takes NaN for true
        raise AssertionError(f"Not true: {text}")
    print(f"True: {text}.")


def _float64(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu().double()
    return torch.as_tensor(value, dtype=torch.float64, device="cpu")
