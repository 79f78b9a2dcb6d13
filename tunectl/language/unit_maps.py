"""From the unit interval to the values of a domain, and the values of a grid."""

from __future__ import annotations

import math
from typing import assert_never

from tunectl.core.records import Scalar
from tunectl.language.study_spec import FixedValue, Range, ValueSet


def from_unit(domain: FixedValue | ValueSet | Range, u: float) -> Scalar:
    """The value at u in [0, 1): equal shares for a set and for whole numbers, the scale's map for floats."""
    if isinstance(domain, FixedValue):
        return domain.value
    if isinstance(domain, ValueSet):
        return domain.values[min(int(u * len(domain.values)), len(domain.values) - 1)]
    low, high = domain.low, domain.high
    if domain.integer:
        if domain.scale == "log":
            value = math.floor(math.exp(math.log(low) + u * math.log((high + 1) / low)))
        else:
            value = int(low) + math.floor(u * (int(high) - int(low) + 1))
        return min(max(value, int(low)), int(high))
    match domain.scale:
        case "log":
            real = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
        case "one_minus_log":
            real = 1 - math.exp(math.log1p(-low) + u * (math.log1p(-high) - math.log1p(-low)))
        case "linear":
            real = low + u * (high - low)
        case _:
            assert_never(domain.scale)
    # Rounding in exp and log may step over an end.
    return min(max(real, low), high)


def to_unit(domain: FixedValue | ValueSet | Range, value: Scalar) -> float:
    """Where in [0, 1] a value lies: the middle of what `from_unit` maps to it for a set and for whole numbers.

    Values beyond the domain (another study's) go to its nearer end; for a set they are refused with ValueError, and the
    one value of a FixedValue lies in the middle.
    """
    if isinstance(domain, FixedValue):
        return 0.5
    if isinstance(domain, ValueSet):
        index = domain.position(value)
        if index is None:
            raise ValueError(f"{value!r} is none of {domain.values}")
        return (index + 0.5) / len(domain.values)
    low, high = float(domain.low), float(domain.high)
    real = min(max(float(value), low), high)
    if domain.integer:
        below, above = (_to_unit_of_whole(domain, edge) for edge in (real, real + 1))
        return (below + above) / 2
    if high == low:
        return 0.5
    match domain.scale:
        case "log":
            # Differences of logarithms, as the ratio of the ends may be more than a float holds.
            return (math.log(real) - math.log(low)) / (math.log(high) - math.log(low))
        case "one_minus_log":
            return (math.log1p(-real) - math.log1p(-low)) / (math.log1p(-high) - math.log1p(-low))
        case "linear":
            # Halves, where the whole width is more than a float holds.
            part = 1.0 if math.isfinite(high - low) else 0.5
            return (part * real - part * low) / (part * high - part * low)
        case _:
            assert_never(domain.scale)


def _to_unit_of_whole(domain: Range, edge: float) -> float:
    if domain.scale == "log":
        return math.log(edge / domain.low) / math.log((domain.high + 1) / domain.low)
    return (edge - domain.low) / (domain.high - domain.low + 1)


def grid_values(domain: FixedValue | ValueSet | Range) -> list[Scalar]:
    """The values of a grid: all of a set; `points` of a range, evenly on its scale with both ends.

    One point alone is the middle of the scale.
    """
    if isinstance(domain, FixedValue):
        return [domain.value]
    if isinstance(domain, ValueSet):
        return list(domain.values)
    count = domain.points or 1
    places = [index / (count - 1) for index in range(count)] if count > 1 else [0.5]
    real = Range(domain.low, domain.high, domain.scale)
    values = [from_unit(real, place) for place in places]
    if count > 1:
        values[0], values[-1] = real.low, real.high
    if domain.integer:
        values = [round(float(value)) for value in values]
    return list(dict.fromkeys(values))
