"""The search space: settings, the coordinates of sampled hyperparameters, and the map from the unit interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tunectl.core.errors import StudyError
from tunectl.core.records import Scalar
from tunectl.spec.conditions import Conditions, Other, World
from tunectl.spec.model import FixedValue, Hyperparameter, Range, StudySpec, ValueSet

MOST_SETTINGS = 1_000


@dataclass(frozen=True, slots=True)
class Setting:
    """One combination of the scientific values that make settings; `values` holds those that are active in it."""

    index: int
    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """What a study samples from.

    `order` lists the names with parents before children; `coordinates` gives each sampled hyperparameter (by its key)
    its column in the unit cube, which has `dimensions` columns.
    """

    names: tuple[str, ...]
    order: tuple[str, ...]
    conditions: Conditions
    settings: tuple[Setting, ...]
    coordinates: Mapping[str, int]
    dimensions: int

    def configuration(self, setting: Setting, coordinates: Sequence[float]) -> dict[str, Scalar]:
        """The active hyperparameters of a point of the unit cube in a setting, in the order of the study."""

        def choose(item: Hyperparameter) -> Scalar:
            return from_unit(item.domain, coordinates[self.coordinates[item.key]])

        return self.resolve(setting, choose)

    def resolve(self, setting: Setting, choose: Callable[[Hyperparameter], Scalar]) -> dict[str, Scalar]:
        """The active hyperparameters in a setting, `choose` giving the sampled values, in the order of the study."""
        world = World()
        for name in self.order:
            for item in self.conditions.by_name[name]:
                if item.when and not world.holds(item):
                    continue
                if isinstance(item.domain, FixedValue):
                    world.values[name] = item.domain.value
                elif item.makes_settings:
                    world.values[name] = setting.values[name]
                else:
                    world.values[name] = choose(item)
                break
        return {name: world.values[name] for name in self.names if name in world.values}  # type: ignore[misc]


def search_space(spec: StudySpec) -> SearchSpace:
    """The search space of a checked study."""
    conditions = Conditions(spec.hyperparameters)
    coordinates = _share_coordinates(spec, conditions)
    return SearchSpace(
        names=spec.names,
        order=tuple(conditions.ancestors(spec.names)),
        conditions=conditions,
        settings=_settings(spec, conditions),
        coordinates=coordinates,
        dimensions=max(coordinates.values(), default=-1) + 1,
    )


def _settings(spec: StudySpec, conditions: Conditions) -> tuple[Setting, ...]:
    """Every combination of scientific values, the study's first name varying slowest."""
    makers = [name for name in spec.names if any(item.makes_settings for item in conditions.by_name[name])]

    def values(item: Hyperparameter) -> Sequence[Scalar]:
        if isinstance(item.domain, ValueSet) and item.makes_settings:
            return item.domain.values
        return (
            [item.domain.value] if isinstance(item.domain, FixedValue) else [0]
        )  # a sampled alternative: its value tells no settings apart

    found: list[dict[str, tuple[int, Scalar]]] = []
    for world in conditions.worlds(makers, choose=values):
        chosen = [item for name, item in world.active.items() if name in makers and item.makes_settings]
        found.append({item.name: _numbered(values(item), world.values[item.name]) for item in chosen})
        if len(found) > MOST_SETTINGS:
            message = (
                f"the scientific values make more than {MOST_SETTINGS:,} settings; "
                "use fewer values, or mark some of them sampled: true"
            )
            raise StudyError([spec.problem(("hyperparameters", makers[0]), message)])
    found.sort(key=lambda setting: [setting[name][0] if name in setting else -1 for name in makers])
    return tuple(
        Setting(index, {name: value for name, (_, value) in setting.items()}) for index, setting in enumerate(found)
    )


def _numbered(values: Sequence[Scalar], value: Scalar | Other) -> tuple[int, Scalar]:
    """The value and its place in the set; `index` would take true for 1."""
    return next((index, item) for index, item in enumerate(values) if item is value)


def _share_coordinates(spec: StudySpec, conditions: Conditions) -> dict[str, int]:
    """A column for each sampled hyperparameter: those that can never be active together may share one.

    Categorical and scientific ones come first and get the smallest primes; then the order of the study. Each takes the
    first column that none of those it can meet has (greedy colouring).
    """
    sampled = [item for item in spec.hyperparameters if item.has_coordinate]
    sampled.sort(key=lambda item: not (isinstance(item.domain, ValueSet) or item.role == "scientific"))
    columns: dict[str, int] = {}
    placed: list[Hyperparameter] = []
    for item in sampled:
        taken = {columns[other.key] for other in placed if conditions.together(item, other)}
        columns[item.key] = next(column for column in range(len(placed) + 1) if column not in taken)
        placed.append(item)
    return columns


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
    # Rounding in exp and log may step over an end.
    return min(max(real, low), high)


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
