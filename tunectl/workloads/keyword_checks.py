"""Checks of the keywords of a factory: each raises ValueError that says what was expected and what was found."""

from __future__ import annotations

import math
from collections.abc import Collection

from tunectl.core.typed_fields import is_count
from tunectl.space.domains import is_number


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise ValueError where the value of this keyword is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")


def check_count(name: str, value: object, fewest: int) -> None:
    """Raise ValueError where the value of this keyword is no whole number, or one below `fewest`."""
    if not is_count(value, fewest):
        raise ValueError(f"{name}: expected a whole number, at least {fewest}, got {value!r}")


def check_share(name: str, value: object) -> None:
    """Raise ValueError where the value of this keyword is no number from 0 up to but not including 1."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name}: expected a number, at least 0 and below 1, got {value!r}")


def check_positive(name: str, value: object) -> None:
    """Raise ValueError where the value of this keyword is no finite number above 0."""
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a number above 0, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise ValueError where the value of this keyword is not true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false, got {value!r}")
