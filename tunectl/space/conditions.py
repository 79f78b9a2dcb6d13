"""Which hyperparameters are active together: conditions, their circles and overlaps, and the combinations they allow.

A *combination* is a possible combination of active hyperparameters and their values, for some names: for each name its
active alternative (or none) and a value. Only values that a condition names make different combinations; the rest of a
domain is in a combination as the one value Other, or as itself where it is a single value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tunectl.core.records import Scalar
from tunectl.core.wording import quoted
from tunectl.space.domains import is_among, sameness
from tunectl.space.hyperparameters import Condition, Hyperparameter, holds

MOST_COMBINATIONS = 20_000
MOST_DEPTH = 100
_MOST_NAMED = 3


class TooManyCombinationsError(Exception):
    """The conditions allow more combinations than can be checked."""


def too_many_combinations() -> str:
    """The message for a user where TooManyCombinationsError is raised."""
    return f"the conditions allow more than {MOST_COMBINATIONS:,} combinations; use fewer conditional hyperparameters"


@dataclass(frozen=True, slots=True)
class Other:
    """All values that no condition names; `values` lists them where there are few."""

    values: tuple[Scalar, ...] = ()

    def __str__(self) -> str:
        return " or ".join(quoted(value) for value in self.values) or "another value"


OTHER: Final = Other()


@dataclass(slots=True)
class Combination:
    """A possible combination of active hyperparameters (in `active`, by name) and their values (in `values`)."""

    active: dict[str, Hyperparameter] = field(default_factory=dict)
    values: dict[str, Scalar | Other] = field(default_factory=dict)

    def holds(self, hyperparameter: Hyperparameter) -> bool:
        """Whether the hyperparameter's condition holds here; its parents must already have values."""
        return holds(hyperparameter.when, self.values)

    def in_words(self) -> str:
        """The values as a message shows them: `optimizer is adam, width is 3 or 4, depth is another value`."""
        return ", ".join(f"{name} is {quoted(value)}" for name, value in self.values.items())


class Conditions:
    """The conditions of a study: which hyperparameters are active, and which can be active together."""

    def __init__(self, hyperparameters: Collection[Hyperparameter]) -> None:
        self.by_name: dict[str, list[Hyperparameter]] = {}
        for item in hyperparameters:
            self.by_name.setdefault(item.name, []).append(item)
        self.mentioned: dict[str, list[Scalar]] = {}
        for item in hyperparameters:
            for parent, values in item.when.items():
                self.mentioned.setdefault(parent, []).extend(values)

    def with_formula_of(self, name: str) -> list[Hyperparameter]:
        """The hyperparameters whose formulas have this name in them."""
        found = [item for items in self.by_name.values() for item in items]
        return [item for item in found if item.formula is not None and name in item.formula.names]

    def parents(self, name: str) -> list[str]:
        """The names in the conditions of a name's alternatives, each once, in order."""
        return list(dict.fromkeys(parent for item in self.by_name.get(name, ()) for parent in item.when))

    def ancestors(self, names: Iterable[str]) -> list[str]:
        """The names and all names that they depend on, parents before children."""
        ordered: dict[str, None] = {}

        def visit(name: str) -> None:
            if name in ordered or name not in self.by_name:
                return
            for parent in self.parents(name):
                visit(parent)
            ordered[name] = None

        for name in names:
            visit(name)
        return list(ordered)

    def depths(self) -> dict[str, int]:
        """The number of conditions above each name; names in a circle, or that depend on one, are left out."""
        waiting = {name: {p for p in self.parents(name) if p in self.by_name} for name in self.by_name}
        children: dict[str, list[str]] = {}
        for name, parents in waiting.items():
            for parent in parents:
                children.setdefault(parent, []).append(name)
        depths = {name: 0 for name, parents in waiting.items() if not parents}
        ready = list(depths)
        for name in ready:  # grows while it is walked
            for child in children.get(name, ()):
                waiting[child].discard(name)
                if not waiting[child]:
                    depths[child] = depths[name] + 1
                    ready.append(child)
        return depths

    def circle(self) -> list[str] | None:
        """A circle of conditions, as its names in order, or None."""
        depths = self.depths()
        name = next((name for name in self.by_name if name not in depths), None)
        trail: list[str] = []
        while name is not None and name not in trail:
            trail.append(name)
            name = next(parent for parent in self.parents(name) if parent in self.by_name and parent not in depths)
        return trail[trail.index(name) :] if name is not None else None

    def combinations(
        self,
        names: Iterable[str],
        *,
        choose: Callable[[Hyperparameter], Iterable[Scalar | Other]] | None = None,
        extra: Mapping[str, Collection[Scalar]] | None = None,
        most: int = MOST_COMBINATIONS,
    ) -> Iterator[Combination]:
        """Every combination over the names and all names that they depend on.

        `choose` gives the values of an alternative (default: `distinct_values`, with the values in `extra` as if a
        condition named them). Raises TooManyCombinationsError where there are more than `most`.
        """
        order = self.ancestors(names)
        pick = choose or (lambda item: self.distinct_values(item, (extra or {}).get(item.name, ())))
        # Their number grows exponentially with the names: `budget` counts down the combinations that are left.
        budget = [most]

        def branch(index: int, combination: Combination) -> Iterator[Combination]:
            if index == len(order):
                budget[0] -= 1
                if budget[0] < 0:
                    raise TooManyCombinationsError
                yield combination
                return
            name = order[index]
            active = [item for item in self.by_name[name] if combination.holds(item)]
            if not active:
                yield from branch(index + 1, combination)
            for item in active:
                for value in pick(item):
                    yield from branch(
                        index + 1, Combination({**combination.active, name: item}, {**combination.values, name: value})
                    )

        yield from branch(0, Combination())

    def distinct_values(self, item: Hyperparameter, extra: Collection[Scalar] = ()) -> list[Scalar | Other]:
        """The values of an alternative that a condition (or `extra`) names, and an Other for the rest, if any."""
        mentioned = [*self.mentioned.get(item.name, ()), *extra]
        values = item.domain.few_values(len(mentioned) + _MOST_NAMED)
        if values is None:
            inside = dict.fromkeys(value for value in mentioned if item.domain.can_meet(value))
            return [*inside, OTHER]
        apart = {sameness(value) for value in mentioned}
        named = [value for value in values if sameness(value) in apart]
        rest = [value for value in values if sameness(value) not in apart]
        if len(rest) == 1:
            return [*named, *rest]
        return [*named, *([Other(tuple(rest) if len(rest) <= _MOST_NAMED else ())] if rest else [])]

    def together(self, *items: Hyperparameter, given: Mapping[str, Scalar] | None = None) -> bool:
        """Whether the conditions of all these hyperparameters can hold at once, with the values of `given`."""
        wanted: Condition | None = {name: (value,) for name, value in (given or {}).items()}
        for item in items:
            wanted = _narrowed(wanted, item.when) if wanted is not None else None
        if not wanted:
            return wanted is not None
        # Children before parents: all conditions on a name are collected before the name itself is looked at.
        order = self.ancestors(wanted)[::-1]

        def can_hold(index: int, wanted: Condition) -> bool:
            while index < len(order) and order[index] not in wanted:
                index += 1
            if index == len(order):
                return True
            name = order[index]
            for item in self.by_name[name]:
                if any(item.domain.can_meet(value) for value in wanted[name]):
                    narrowed = _narrowed(wanted, item.when)
                    if narrowed is not None and can_hold(index + 1, narrowed):
                        return True
            return False

        return can_hold(0, wanted)


def _narrowed(wanted: Condition, when: Condition) -> Condition | None:
    """Both conditions as one, None where no value of a name satisfies both."""
    both = dict(wanted)
    for name, values in when.items():
        both[name] = tuple(value for value in values if name not in wanted or is_among(value, wanted[name]))
        if not both[name]:
            return None
    return both
