"""Hand-written configurations against the hyperparameters that the study declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunectl.core.records import Scalar
from tunectl.spec.conditions import can_take
from tunectl.spec.document import PathKey
from tunectl.spec.model import FixedValue, Hyperparameter, Range
from tunectl.spec.wording import found, is_number_as_text, nearest, shown


def check_point(
    by_name: Mapping[str, Sequence[Hyperparameter]], point: Mapping[str, Scalar], path: PathKey
) -> list[tuple[PathKey, str]]:
    """Names that the study does not have and values outside of every alternative, as (path, message)."""
    problems: list[tuple[PathKey, str]] = []
    for name, value in point.items():
        alternatives = by_name.get(name)
        if alternatives is None:
            problems.append(((*path, name), f"the study has no such hyperparameter{nearest(name, by_name)}"))
        elif not any(within(item, value) for item in alternatives):
            message = f"the value lies outside of what the study declares for {name}, found {shown(value)}"
            if is_number_as_text(value) and all(_is_numeric(item) for item in alternatives):
                message = f"{name} is a number, {found(value)}"
            problems.append(((*path, name), message))
    return problems


def within(item: Hyperparameter, value: Scalar) -> bool:
    """Whether the value lies in the domain: anywhere in a range of floats, otherwise one that a condition can meet."""
    domain = item.domain
    if not isinstance(domain, Range) or domain.integer:
        return can_take(item, value)
    return isinstance(value, (int, float)) and not isinstance(value, bool) and domain.low <= value <= domain.high


def _is_numeric(item: Hyperparameter) -> bool:
    if isinstance(item.domain, Range):
        return True
    values = (item.domain.value,) if isinstance(item.domain, FixedValue) else item.domain.values
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
