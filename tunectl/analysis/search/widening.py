"""How far a range or an ordered set can be widened at an end: on its own scale, within the hyperparameter's bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from tunectl.core.records import Scalar
from tunectl.language.configuration import FIELDS
from tunectl.language.name_meaning import is_share
from tunectl.space.domains import Range, ValueSet
from tunectl.space.hyperparameters import Hyperparameter

End = Literal["low", "high"]

MOST_DECADES = 1.5
"""A logarithmic range is widened by its own width, but at most by a factor of 30 at once."""

FEWEST_DECADES = 0.5
"""And at least by a factor of 3: with less it would hardly be another range."""

_NEAR_BOUND = 0.05
"""An end that is within this part of the range's width of a natural bound counts as being at the bound."""

_CLOSEST_TO_ONE = 1e-5
"""A fraction that can only approach 1 (momentum, the decay of an average) is not moved nearer than this at once."""

_LARGEST = 1e300
"""Near the largest float the width of a range overflows: nothing is widened beyond this."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The smallest and the largest number that a hyperparameter can have; an open end is not itself a value."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False


@dataclass(frozen=True, slots=True)
class Wider:
    """The new entry of the hyperparameter: its key (`range` or `values`) and its value."""

    key: str
    value: list[Any]


def natural_bounds(item: Hyperparameter) -> Bounds:
    """The bounds of a field of the training configuration; for other hyperparameters those that name and type imply."""
    rule = FIELDS.get(item.name)
    if rule is not None:
        low, high = (-math.inf if rule.low is None else rule.low), (math.inf if rule.high is None else rule.high)
        return Bounds(low, high, rule.low_open, rule.high_open)
    numbers = item.domain.numbers
    if is_share(item.name):
        return Bounds(0.0, 1.0, high_open=True)
    whole = all(isinstance(number, int) for number in numbers)
    if min(numbers) == 0:
        return Bounds(low=0.0)
    if min(numbers) > 0:
        # A count begins at 1; a positive number may be tried nearer to zero, but not below.
        return Bounds(low=1.0) if whole else Bounds(low=0.0, low_open=True)
    return Bounds()


def wider(item: Hyperparameter, end: End) -> Wider | None:
    """The domain of an ordered hyperparameter, wider at one end; None if no value lies beyond that end."""
    bounds = natural_bounds(item)
    if item.off is not None and isinstance(item.off, (int, float)):
        number = float(item.off)
        bounds = Bounds(
            max(bounds.low, number) if number <= min(item.domain.numbers) else bounds.low,
            min(bounds.high, number) if number >= max(item.domain.numbers) else bounds.high,
            bounds.low_open,
            bounds.high_open,
        )
    if isinstance(item.domain, Range):
        return _wider_range(item.domain, bounds, end)
    if isinstance(item.domain, ValueSet):
        return _longer_set(item.domain.values, bounds, end)
    return None


def _wider_range(domain: Range, bounds: Bounds, end: End) -> Wider | None:
    low, high = float(domain.low), float(domain.high)
    at, bound = (low, bounds.low) if end == "low" else (high, bounds.high)
    is_open = bounds.low_open if end == "low" else bounds.high_open
    if abs(at - bound) <= _NEAR_BOUND * (high - low) and domain.scale == "linear":
        return None
    beyond = _beyond(domain, end)
    if (end == "low" and beyond <= bound) or (end == "high" and beyond >= bound):
        # Towards an end that is not itself a value, go nine tenths of the way.
        beyond = bound + (at - bound) / 10 if is_open or (domain.scale == "log" and bound <= 0) else bound
    if abs(beyond) > _LARGEST:
        return None
    new: float = round(beyond) if domain.integer else rounded(beyond, domain)
    new = min(max(new, bounds.low), bounds.high)
    if new == at or (end == "low") != (new < at) or (domain.scale == "log" and new <= 0):
        return None
    return Wider("range", [new, domain.high] if end == "low" else [domain.low, new])


def _beyond(domain: Range, end: End) -> float:
    """The end moved outwards by the width of the range on its scale, within limits."""
    low, high = float(domain.low), float(domain.high)
    match domain.scale:
        case "log":
            factor = _factor(high / low)
            return low / factor if end == "low" else high * factor
        case "one_minus_log":
            factor = _factor((1 - low) / (1 - high))
            return 1 - (1 - low) * factor if end == "low" else 1 - max((1 - high) / factor, _CLOSEST_TO_ONE)
        case _:
            return low - (high - low) if end == "low" else high + (high - low)


def rounded(number: float, domain: Range) -> float:
    """Rounded as a person would write it: to two digits on a scale of factors, to a thousandth of a linear range."""
    match domain.scale:
        case "log":
            return float(f"{number:.2g}")
        case "one_minus_log":
            return round(1 - float(f"{1 - number:.2g}"), 12)
        case _:
            return round(number, 3 - math.floor(math.log10(domain.high - domain.low)))


def _factor(ratio: float) -> float:
    return float(min(max(ratio, 10**FEWEST_DECADES), 10**MOST_DECADES))


def _longer_set(values: tuple[Scalar, ...], bounds: Bounds, end: End) -> Wider | None:
    numbers = sorted(float(value) for value in values)
    if end == "high":
        numbers.reverse()
    last, next_to_last = numbers[0], numbers[1]
    ratios = [left / right for left, right in pairwise(numbers) if right != 0]
    geometric = len(ratios) == len(numbers) - 1 and min(ratios) > 0 and max(ratios) < 1.5 * min(ratios)
    new = last * (last / next_to_last) if geometric else last + (last - next_to_last)
    if abs(new) > _LARGEST:
        return None
    whole = all(isinstance(value, int) for value in values)
    new = round(new) if whole else float(f"{new:.3g}")
    outside = new < bounds.low or new > bounds.high or (bounds.low_open and new == bounds.low)
    if outside or (bounds.high_open and new == bounds.high) or new == last:
        return None
    first_is_end = (float(values[0]) == last) if len(values) else False
    return Wider("values", [new, *values] if first_is_end else [*values, new])
