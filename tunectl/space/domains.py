"""The values that a hyperparameter can have: one value, a set, or a range on a scale; and its maps from and to [0, 1].

The three classes have the same methods; Derived, the values of a formula, those that have a meaning without a scale.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal, Protocol, TypeGuard, TypeVar, assert_never

from tunectl.core.records import Scalar
from tunectl.space.formulas import Formula, FormulaError

Scale = Literal["linear", "log", "one_minus_log"]

_V = TypeVar("_V")

_LARGEST_INT = 2**53
_AGREES = 1e-9
"""The last digits of a float, as another tool may have written them."""


def same(left: object, right: object) -> bool:
    """Whether two values are the same to a study: 1 and 1.0 are, true and 1 are not."""
    return sameness(left) == sameness(right)


def sameness(value: _V) -> tuple[bool, _V]:
    """A key that is equal for two values exactly where they are the same to a study: see `same`."""
    return isinstance(value, bool), value


def is_among(value: object, values: Collection[Scalar]) -> bool:
    """Whether one of the values is the same."""
    # Only 0 and 1 are equal to something that is not the same.
    return value in values and (value not in (0, 1) or any(same(value, other) for other in values))


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number; true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class FixedValue:
    """One value."""

    value: Scalar

    @property
    def listed(self) -> tuple[Scalar, ...]:
        """Every value, where they are listed."""
        return (self.value,)

    @property
    def varies(self) -> bool:
        """Whether it is declared with more than one value."""
        return False

    @property
    def is_ordered(self) -> bool:
        """Whether its values are on a scale."""
        return False

    @property
    def numbers(self) -> tuple[float, ...]:
        """The numbers among its values."""
        return _numbers(self.listed)

    def contains(self, value: Scalar) -> bool:
        """Whether a trial may have this value."""
        return same(self.value, value)

    def can_meet(self, value: Scalar) -> bool:
        """Whether a condition may name this value."""
        return same(self.value, value)

    def declared(self, value: Scalar) -> Scalar:
        """A value that it contains, with the type that the declaration has: 2.0 is the whole number 2 of [1, 2]."""
        return self.value

    def few_values(self, most: int) -> Sequence[Scalar] | None:
        """All values; None for a range of floats, or of more than `most` whole numbers."""
        return (self.value,)

    def from_unit(self, u: float) -> Scalar:
        """The value at u in [0, 1)."""
        return self.value

    def to_unit(self, value: Scalar) -> float:
        """The place of a value in [0, 1]: the middle."""
        return 0.5

    def grid(self) -> list[Scalar]:
        """The values of a grid."""
        return [self.value]


@dataclass(frozen=True)
class ValueSet:
    """A set of values."""

    values: tuple[Scalar, ...]

    @cached_property
    def _positions(self) -> dict[tuple[bool, Scalar], int]:
        # Values are looked up many thousands of times, in sets of many thousands.
        return {sameness(value): index for index, value in enumerate(self.values)}

    @property
    def listed(self) -> tuple[Scalar, ...]:
        """Every value, where they are listed."""
        return self.values

    @property
    def varies(self) -> bool:
        """Whether it is declared with more than one value."""
        return True

    @property
    def is_ordered(self) -> bool:
        """Whether its values are on a scale."""
        return False

    @property
    def numbers(self) -> tuple[float, ...]:
        """The numbers among its values."""
        return _numbers(self.listed)

    def contains(self, value: Scalar) -> bool:
        """Whether a trial may have this value."""
        return sameness(value) in self._positions

    def can_meet(self, value: Scalar) -> bool:
        """Whether a condition may name this value."""
        return self.contains(value)

    def declared(self, value: Scalar) -> Scalar:
        """A value that it contains, with the type that the declaration has: 2.0 is the whole number 2 of [1, 2]."""
        return self.values[self._positions[sameness(value)]]

    def few_values(self, most: int) -> Sequence[Scalar] | None:
        """All values; None for a range of floats, or of more than `most` whole numbers."""
        return self.values

    def from_unit(self, u: float) -> Scalar:
        """The value at u in [0, 1); each has an equal share."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def to_unit(self, value: Scalar) -> float:
        """The place of a value in [0, 1]: the middle of its share. Raises ValueError where it is not in the set."""
        index = self._positions.get(sameness(value))
        if index is None:
            raise ValueError(f"expected one of {self.values}, got {value!r}")
        return (index + 0.5) / len(self.values)

    def grid(self) -> list[Scalar]:
        """The values of a grid."""
        return list(self.values)


@dataclass(frozen=True, slots=True)
class Range:
    """An interval: [low, high] on a scale. Bounds are inclusive; both are ints where `integer`.

    `points` is the number of grid points (sampler grid only).
    """

    low: float
    high: float
    scale: Scale = "linear"
    integer: bool = False
    points: int | None = None

    @property
    def listed(self) -> None:
        """None: the values of a range are not listed."""
        return

    @property
    def varies(self) -> bool:
        """Whether it is declared with more than one value."""
        return True

    @property
    def is_ordered(self) -> bool:
        """Whether its values are on a scale."""
        return True

    @property
    def numbers(self) -> tuple[float, ...]:
        """Its ends."""
        return (self.low, self.high)

    def contains(self, value: Scalar) -> bool:
        """Whether a trial may have this value: any number between the ends, or a whole number as in `can_meet`."""
        if self.integer:
            return self.can_meet(value)
        return is_number(value) and self.low <= float(value) <= self.high

    def can_meet(self, value: Scalar) -> bool:
        """Whether a condition may name this value: a whole number of an int range, in a grid one of its points.

        A sampler practically never gives one exact value of a range of floats.
        """
        if self.integer and self.points is not None:
            return is_among(value, _grid(self))
        return (
            self.integer
            and isinstance(value, (int, float))
            and not isinstance(value, bool)
            and self.low <= value <= self.high
            and value == int(value)
        )

    def declared(self, value: Scalar) -> Scalar:
        """A value that it contains, with the type that the declaration has."""
        return int(value) if self.integer else float(value)

    def few_values(self, most: int) -> Sequence[Scalar] | None:
        """All values; None for a range of floats, or of more than `most` whole numbers."""
        if not self.integer:
            return None
        if self.points is not None:
            return _grid(self)
        return range(int(self.low), int(self.high) + 1) if self.high - self.low < most else None

    def from_unit(self, u: float) -> Scalar:
        """The value at u in [0, 1): equal shares for whole numbers, the scale's map for floats."""
        low, high = self.low, self.high
        if self.integer:
            if self.scale == "log":
                value = math.floor(math.exp(math.log(low) + u * math.log((high + 1) / low)))
            else:
                value = int(low) + math.floor(u * (int(high) - int(low) + 1))
            return min(max(value, int(low)), int(high))
        match self.scale:
            case "log":
                real = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
            case "one_minus_log":
                real = 1 - math.exp(math.log1p(-low) + u * (math.log1p(-high) - math.log1p(-low)))
            case "linear":
                real = low + u * (high - low)
            case _:
                assert_never(self.scale)
        # Rounding in exp and log may go beyond an end.
        return min(max(real, low), high)

    def to_unit(self, value: Scalar) -> float:
        """The place of a value in [0, 1]; for a whole number, the middle of what `from_unit` maps to it.

        A value outside the range (of another study) is placed at the nearer end.
        """
        low, high = float(self.low), float(self.high)
        real = min(max(float(value), low), high)
        if self.integer:
            below, above = (self._whole_to_unit(edge) for edge in (real, real + 1))
            return (below + above) / 2
        if high == low:
            return 0.5
        match self.scale:
            case "log":
                # Differences of logarithms, as the ratio of the ends may be too large for a float.
                return (math.log(real) - math.log(low)) / (math.log(high) - math.log(low))
            case "one_minus_log":
                return (math.log1p(-real) - math.log1p(-low)) / (math.log1p(-high) - math.log1p(-low))
            case "linear":
                # Halves, where the whole width is too large for a float.
                part = 1.0 if math.isfinite(high - low) else 0.5
                return (part * real - part * low) / (part * high - part * low)
            case _:
                assert_never(self.scale)

    def grid(self) -> list[Scalar]:
        """The values of a grid: `points` of them, evenly on the scale, with both ends; a single one is the middle."""
        return list(_grid(self))

    def _whole_to_unit(self, edge: float) -> float:
        if self.scale == "log":
            return math.log(edge / self.low) / math.log((self.high + 1) / self.low)
        return (edge - self.low) / (self.high - self.low + 1)


class ValueRule(Protocol):
    """Which values a hyperparameter may have, where something else than the study decides it."""

    def accepts(self, value: Scalar) -> bool:
        """Whether it may have this value."""
        ...

    def expectation(self) -> str:
        """The values that it may have, in words."""
        ...


@dataclass(frozen=True, slots=True)
class Derived:
    """The values of a formula. It has the attributes of a domain; a condition can name none of its values.

    `integer`: the value is rounded to a whole number (a half to the even one). `rule` has the bounds of its field.
    `numbers` are the lowest and the highest value at the ends and middles of the domains of its names: the ends of its
    values where the formula rises or falls with each name; () where it has no value there. `varies`: one of its names
    does.
    """

    formula: Formula
    integer: bool = False
    rule: ValueRule | None = field(default=None, compare=False)
    numbers: tuple[float, ...] = ()
    varies: bool = True

    @property
    def listed(self) -> tuple[Scalar, ...] | None:
        """None: its values are not listed; the value where it has only one."""
        return None if self.varies else self.numbers[:1]

    @property
    def is_ordered(self) -> bool:
        """Whether its values are on a scale: a formula is not searched, and so has none."""
        return False

    def contains(self, value: Scalar) -> bool:
        """Whether a trial may have this value: any number, where a name in the formula varies."""
        return is_number(value) and (self.varies or not self.numbers or self.agrees(value, self.numbers[0]))

    def can_meet(self, value: Scalar) -> bool:
        """Whether a condition may name this value: none."""
        return False

    def declared(self, value: Scalar) -> Scalar:
        """A value that it contains, with the type that it has."""
        return round(float(value)) if self.integer else float(value)

    def few_values(self, most: int) -> None:
        """None: its values are not listed."""
        return

    def value(self, values: Mapping[str, Scalar]) -> Scalar:
        """The value where the others have these. Raises FormulaError where there is none, or none that is allowed."""
        found: float = self.formula.value(values)
        if self.integer:
            if abs(found) > _LARGEST_INT:
                raise FormulaError(f"{found:.6g} is a whole number beyond 2^53")
            found = round(found)
        if self.rule is not None and not self.rule.accepts(found):
            raise FormulaError(
                f"expected {self.rule.expectation()}, got {f'{found:.6g}' if isinstance(found, float) else found}"
            )
        return found

    def agrees(self, value: Scalar, computed: Scalar) -> bool:
        """Whether a value that was written by hand is the computed one, but for its last digits."""
        return is_number(value) and abs(value - float(computed)) <= _AGREES * abs(float(computed))


def _numbers(values: Sequence[Scalar]) -> tuple[float, ...]:
    return tuple(float(value) for value in values if is_number(value))


@lru_cache(maxsize=256)
def _grid(domain: Range) -> tuple[Scalar, ...]:
    count = domain.points or 1
    places = [index / (count - 1) for index in range(count)] if count > 1 else [0.5]
    real = Range(domain.low, domain.high, domain.scale)
    values = [real.from_unit(place) for place in places]
    if count > 1:
        values[0], values[-1] = real.low, real.high
    if domain.integer:
        values = [round(float(value)) for value in values]
    return tuple(dict.fromkeys(values))


SampledDomain = FixedValue | ValueSet | Range
Domain = SampledDomain | Derived
