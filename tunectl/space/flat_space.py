"""The space of a study in which every trial has the same hyperparameters: its points as numbers, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunectl.core.records import Scalar
from tunectl.core.wording import as_text
from tunectl.space.derived_values import UncomputableError
from tunectl.space.domains import FixedValue, Range, ValueSet, is_number, same
from tunectl.space.hyperparameters import Hyperparameter, active
from tunectl.space.search_space import SearchSpace, Study, search_space


@dataclass(frozen=True, slots=True)
class FlatSpace:
    """The sampled hyperparameters of a study with one setting, in the order of the study.

    A *place* is a number for each: in [0, 1] along a range of floats, a whole number of an int range, the index of a
    value among numbers in their order, or in the order of the file where they are no numbers.
    """

    space: SearchSpace
    items: tuple[Hyperparameter, ...]

    @property
    def size(self) -> int | None:
        """The number of configurations, None where a range of floats makes it infinite."""
        sizes = [number_of_values(item) for item in self.items]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    @property
    def fixed(self) -> dict[str, Scalar]:
        """The values that are neither sampled nor computed by a formula."""
        values = _in_the_middle(self.space)
        return {name: value for name, value in values.items() if name not in {item.name for item in self.items}}

    def configuration(self, place: Sequence[float]) -> tuple[tuple[float, ...], dict[str, Scalar]]:
        """The point of the unit cube at a place, and the hyperparameters there."""
        cube = [0.5] * self.space.dimensions
        for item, number in zip(self.items, place, strict=True):
            cube[self.space.coordinates[item.path]] = _unit(item, number)
        return tuple(cube), self.space.configuration(self.space.settings[0], cube)

    def place(self, hyperparameters: Mapping[str, Scalar]) -> tuple[float, ...] | str:
        """The place of a configuration, or why it has none in this space: `learning_rate is outside its range`."""
        found: list[float] = []
        for item in self.items:
            value = hyperparameters.get(item.name)
            if value is None or not item.domain.contains(value):
                return f"{item.name} is outside its {'values' if item.domain.listed else 'range'} here"
            found.append(_number(item, value))
        try:
            _, here = self.configuration(found)
        except UncomputableError as error:
            return f"a formula has no value there: {error}"
        sampled = {item.name for item in self.items}
        for name in dict.fromkeys([*here, *hyperparameters]):
            if name not in here or name not in hyperparameters:
                return f"{name} is given {'there' if name in hyperparameters else 'here'} alone"
            if name not in sampled and not _alike(here[name], hyperparameters[name]):
                return f"{name} is {as_text(here[name])} here"
        return tuple(found)


def flat_space(spec: Study) -> FlatSpace:
    """The space of a study with one setting, without hyperparameters that are active in some trials only."""
    space = search_space(spec)
    middle = _in_the_middle(space)
    found = (active(space.conditions.by_name[name], middle) for name in space.names)
    return FlatSpace(space, tuple(item for item in found if item is not None and item.has_coordinate))


def _in_the_middle(space: SearchSpace) -> dict[str, Scalar]:
    """The values in the middle of the space but those of formulas, which may have none there."""

    def choose(item: Hyperparameter) -> Scalar:
        return item.sampled_domain.from_unit(0.5)

    return space.without_formulas(space.settings[0], choose)


def number_of_values(item: Hyperparameter) -> int | None:
    """The number of values of a hyperparameter, None for a range of floats."""
    match item.domain:
        case FixedValue():
            return 1
        case ValueSet() as domain:
            return len(domain.values)
        case Range(integer=True) as domain:
            return int(domain.high) - int(domain.low) + 1
        case _:
            return None


def has_order(item: Hyperparameter) -> bool:
    """Whether the values of a hyperparameter have an order: a range, or a set of numbers."""
    return not isinstance(item.domain, ValueSet) or all(map(is_number, item.domain.values))


def _in_order(domain: ValueSet) -> list[Scalar]:
    return sorted(domain.values, key=float) if all(map(is_number, domain.values)) else list(domain.values)


def _number(item: Hyperparameter, value: Scalar) -> float:
    domain = item.sampled_domain
    if isinstance(domain, ValueSet):
        return next(index for index, other in enumerate(_in_order(domain)) if same(other, value))
    return int(value) if isinstance(domain, Range) and domain.integer else domain.to_unit(value)


def _unit(item: Hyperparameter, number: float) -> float:
    match item.sampled_domain:
        case ValueSet() as domain:
            return domain.to_unit(_in_order(domain)[int(number)])
        case Range(integer=True) as domain:
            return domain.to_unit(int(number))
        case _:
            return number


def _alike(one: Scalar, other: Scalar) -> bool:
    """Whether two values that are not sampled are the same; computed ones may differ in their last digits."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return same(one, other)
