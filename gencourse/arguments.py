"""What a constructor is told, checked: each function gives the value back as plain Python, or says in a sentence what is wrong.

`what` is how the sentence begins, such as `"VAE: latent"`. NumPy's numbers are as welcome as Python's; True and False are no
numbers.

Raises:
    ValueError: all of them but `integer`.
"""

import math
import operator
from collections.abc import Iterable
from typing import Any


def positive_integer(what: str, value: Any) -> int:
    """An integer of 1 or more."""
    number = integer(value)
    if number is None or number < 1:
        raise ValueError(f"{what} must be a positive integer, not {value!r}.")
    return number


def least_integer(what: str, value: Any, least: int) -> int:
    """An integer of `least` or more."""
    number = integer(value)
    if number is None or number < least:
        raise ValueError(f"{what} must be an integer of {least} or more, not {value!r}.")
    return number


def non_negative_integer(what: str, value: Any) -> int:
    """An integer of 0 or more."""
    return least_integer(what, value, 0)


def seed(what: str, value: Any) -> int:
    """An integer that torch's generators take: of 64 bits, with a sign or without."""
    number = integer(value)
    if number is None or not -(2**63) <= number < 2**64:
        raise ValueError(f"{what} must be an integer of 64 bits, such as 0, not {value!r}.")
    return number


def odd_integer(what: str, value: Any, least: int = 1) -> int:
    """An odd integer of `least` or more: the size of a kernel that has a centre."""
    number = integer(value)
    if number is None or number < least or number % 2 == 0:
        raise ValueError(f"{what} must be odd, so that it has a centre, and {least} or more, not {value!r}.")
    return number


def widths(what: str, value: Any) -> tuple[int, ...]:
    """The widths of one hidden layer or more, as a tuple of positive integers."""
    numbers = [integer(width) for width in value] if isinstance(value, Iterable) and not isinstance(value, str) else []
    if not numbers or any(number is None or number < 1 for number in numbers):
        raise ValueError(f"{what} must be a tuple of positive widths such as (200,) or (200, 200), not {value!r}.")
    return tuple(number for number in numbers if number is not None)


def positives(what: str, value: Any) -> tuple[float, ...]:
    """One positive number or more, as a tuple."""
    numbers = [_number(part) for part in value] if isinstance(value, Iterable) and not isinstance(value, str) else []
    if not numbers or any(number is None or not 0 < number < math.inf for number in numbers):
        raise ValueError(f"{what} must be a tuple of positive numbers such as (1.0, 2.0), not {value!r}.")
    return tuple(number for number in numbers if number is not None)


def probability(what: str, value: Any) -> float:
    """A number from 0 up to, but without, 1."""
    number = _number(value)
    if number is None or not 0 <= number < 1:
        raise ValueError(f"{what} must be a probability in [0, 1), not {value!r}.")
    return number


def decay_rates(what: str, value: Any) -> tuple[float, float]:
    """Adam's two, each a number from 0 up to, but without, 1."""
    numbers = [_number(rate) for rate in value] if isinstance(value, Iterable) else []
    if len(numbers) != 2 or any(number is None or not 0 <= number < 1 for number in numbers):
        raise ValueError(f"{what} must be two numbers in [0, 1) such as (0.5, 0.999), not {value!r}.")
    first, second = (number for number in numbers if number is not None)
    return first, second


def positive(what: str, value: Any) -> float:
    """A finite number above 0."""
    number = _number(value)
    if number is None or not 0 < number < math.inf:
        raise ValueError(f"{what} must be a positive number, not {value!r}.")
    return number


def non_negative(what: str, value: Any) -> float:
    """A finite number, 0 or more."""
    number = _number(value)
    if number is None or not 0 <= number < math.inf:
        raise ValueError(f"{what} must be a number of 0 or more, not {value!r}.")
    return number


def integer(value: Any) -> int | None:
    """The value as an int, or None if it is no integer."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool | str):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
