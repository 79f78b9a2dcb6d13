"""What a test expects of a value that its type leaves open: that there is one, and of which type it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Value = TypeVar("Value")
Kind = TypeVar("Kind")


def present(value: Value | None) -> Value:
    """The value; fails if there is none."""
    assert value is not None, "expected a value, got None"
    return value


def of_type(kind: type[Kind], value: object) -> Kind:
    """The value; fails if it is not of this type."""
    assert isinstance(value, kind), f"expected {kind.__name__}, got {value!r}"
    return value


def as_number(value: object) -> float:
    """The value; fails if it is not a number: a truth value is none."""
    assert isinstance(value, int | float), f"expected a number, got {value!r}"
    assert not isinstance(value, bool), f"expected a number, got {value!r}"
    return value


def as_numbers(values: Iterable[object]) -> list[float]:
    """The values; fails if one of them is not a number."""
    return [as_number(value) for value in values]
