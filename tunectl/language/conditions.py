"""Which hyperparameters are active together: conditions, their circles and overlaps, and the worlds they allow.

A *world* is one consistent choice of values for some names: for each name its active alternative (or none) and a value.
Only the values that some condition mentions tell worlds apart; the rest of a domain stands in a world as the one value
Other, or as itself where it is the only one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from typing import Final

from tunectl.core.records import Scalar
from tunectl.language.document import Document, PathKey
from tunectl.language.hyperparameters import is_among, refuse_too_many, same
from tunectl.language.study_spec import Condition, Domain, FixedValue, Hyperparameter, Range, ValueSet, sameness
from tunectl.language.unit_maps import grid_values
from tunectl.language.wording import quoted, shown

MOST_WORLDS = 20_000
MOST_DEPTH = 100
_MOST_NAMED = 3
_MOST_LISTED = 20


class TooManyWorldsError(Exception):
    """The conditions allow more combinations than can be looked through."""


def too_many_worlds() -> str:
    """What TooManyWorldsError says to a user."""
    return f"the conditions allow more than {MOST_WORLDS:,} combinations; use fewer conditional hyperparameters"


@dataclass(frozen=True, slots=True)
class Other:
    """All values that no condition mentions; `values` lists them where they are few."""

    values: tuple[Scalar, ...] = ()

    def __str__(self) -> str:
        return " or ".join(quoted(value) for value in self.values) or "another value"


OTHER: Final = Other()


@dataclass(slots=True)
class World:
    """One consistent choice: for each name that is active its alternative (in `active`) and its value (in `values`)."""

    active: dict[str, Hyperparameter] = field(default_factory=dict)
    values: dict[str, Scalar | Other] = field(default_factory=dict)

    def holds(self, hyperparameter: Hyperparameter) -> bool:
        """Whether the hyperparameter's condition holds here; its parents must have been chosen already."""
        return all(self._one_of(parent, wanted) for parent, wanted in hyperparameter.when.items())

    def in_words(self) -> str:
        """The values as a message shows them: `optimizer is adam, width is 3 or 4, depth is another value`."""
        return ", ".join(f"{name} is {quoted(value)}" for name, value in self.values.items())

    def _one_of(self, parent: str, wanted: Collection[Scalar]) -> bool:
        value = self.values.get(parent)
        return value is not None and not isinstance(value, Other) and is_among(value, wanted)


class Conditions:
    """The conditions of a study: every question about activity is answered here."""

    def __init__(self, hyperparameters: Collection[Hyperparameter]) -> None:
        self.by_name: dict[str, list[Hyperparameter]] = {}
        for item in hyperparameters:
            self.by_name.setdefault(item.name, []).append(item)
        self.mentioned: dict[str, list[Scalar]] = {}
        for item in hyperparameters:
            for parent, values in item.when.items():
                self.mentioned.setdefault(parent, []).extend(values)

    def parents(self, name: str) -> list[str]:
        """The names that the conditions of a name's alternatives mention, each once, in order."""
        return list(dict.fromkeys(parent for item in self.by_name.get(name, ()) for parent in item.when))

    def ancestors(self, names: Iterable[str]) -> list[str]:
        """The names and all they depend on, parents before children."""
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
        """How many conditions stand above each name; names on a circle, or waiting for one, are left out."""
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
        """A circle of conditions, as the names along it, or None."""
        depths = self.depths()
        name = next((name for name in self.by_name if name not in depths), None)
        trail: list[str] = []
        while name is not None and name not in trail:
            trail.append(name)
            name = next(parent for parent in self.parents(name) if parent in self.by_name and parent not in depths)
        return trail[trail.index(name) :] if name is not None else None

    def worlds(
        self,
        names: Iterable[str],
        *,
        choose: Callable[[Hyperparameter], Iterable[Scalar | Other]] | None = None,
        extra: Mapping[str, Collection[Scalar]] | None = None,
        most: int = MOST_WORLDS,
    ) -> Iterator[World]:
        """Every world over the names and all they depend on.

        `choose` gives the values an alternative may take (default: those that tell worlds apart, `extra` ones counting
        as mentioned). Raises TooManyWorldsError beyond `most`.
        """
        order = self.ancestors(names)
        pick = choose or (lambda item: self.telling_values(item, (extra or {}).get(item.name, ())))
        # Only what a later condition or the caller can tell apart needs branching; a budget guards against the rest.
        budget = [most]

        def branch(index: int, world: World) -> Iterator[World]:
            if index == len(order):
                budget[0] -= 1
                if budget[0] < 0:
                    raise TooManyWorldsError
                yield world
                return
            name = order[index]
            active = [item for item in self.by_name[name] if world.holds(item)]
            if not active:
                yield from branch(index + 1, world)
            for item in active:
                for value in pick(item):
                    yield from branch(index + 1, World({**world.active, name: item}, {**world.values, name: value}))

        yield from branch(0, World())

    def telling_values(self, item: Hyperparameter, extra: Collection[Scalar] = ()) -> list[Scalar | Other]:
        """The values of an alternative that conditions can tell apart, and an Other for the rest if there is one."""
        mentioned = [*self.mentioned.get(item.name, ()), *extra]
        values = _few_values(item.domain, len(mentioned) + _MOST_NAMED)
        if values is None:
            inside = dict.fromkeys(value for value in mentioned if can_take(item, value))
            return [*inside, OTHER]
        apart = {sameness(value) for value in mentioned}
        told = [value for value in values if sameness(value) in apart]
        rest = [value for value in values if sameness(value) not in apart]
        if len(rest) == 1:
            return [*told, *rest]
        return [*told, *([Other(tuple(rest) if len(rest) <= _MOST_NAMED else ())] if rest else [])]

    def together(self, *items: Hyperparameter, given: Mapping[str, Scalar] | None = None) -> bool:
        """Whether the conditions of all these hyperparameters can hold at once, with the values of `given`."""
        wanted: Condition | None = {name: (value,) for name, value in (given or {}).items()}
        for item in items:
            wanted = _narrowed(wanted, item.when) if wanted is not None else None
        if not wanted:
            return wanted is not None
        # Children before parents: whatever is asked of a name is known when its turn comes.
        order = self.ancestors(wanted)[::-1]

        def settle(index: int, wanted: Condition) -> bool:
            while index < len(order) and order[index] not in wanted:
                index += 1
            if index == len(order):
                return True
            name = order[index]
            for item in self.by_name[name]:
                if any(can_take(item, value) for value in wanted[name]):
                    narrowed = _narrowed(wanted, item.when)
                    if narrowed is not None and settle(index + 1, narrowed):
                        return True
            return False

        return settle(0, wanted)


def _narrowed(wanted: Condition, when: Condition) -> Condition | None:
    """Both conditions as one, None where they ask a name for values that are not the same."""
    both = dict(wanted)
    for name, values in when.items():
        both[name] = tuple(value for value in values if name not in wanted or is_among(value, wanted[name]))
        if not both[name]:
            return None
    return both


def can_take(item: Hyperparameter, value: Scalar) -> bool:
    """Whether a condition may wait for this value: the fixed one, one of the set, a whole number of an int range.

    Under sampler grid an int range holds its grid points alone.
    """
    domain = item.domain
    if isinstance(domain, FixedValue):
        return same(domain.value, value)
    if isinstance(domain, ValueSet):
        return domain.position(value) is not None
    if domain.integer and domain.points is not None:
        return is_among(value, _grid(domain))
    return (
        domain.integer
        and isinstance(value, (int, float))
        and not isinstance(value, bool)
        and domain.low <= value <= domain.high
        and value == int(value)
    )


@lru_cache(maxsize=256)
def _grid(domain: Range) -> tuple[Scalar, ...]:
    return tuple(grid_values(domain))


def _few_values(domain: Domain, most: int) -> Sequence[Scalar] | None:
    """All values of a domain, None where it is a range of floats or of more than `most` whole numbers."""
    match domain:
        case FixedValue(value):
            return (value,)
        case ValueSet(values):
            return values
        case Range(integer=False):
            return None
        case Range(points=int()):
            return _grid(domain)
        case Range(low=low, high=high):
            return range(int(low), int(high) + 1) if high - low < most else None


def check_conditions(document: Document, hyperparameters: tuple[Hyperparameter, ...]) -> Conditions | None:
    """The conditions, or None where they are wrong; problems are noted in the document."""
    before = len(document.problems)
    conditions = Conditions(hyperparameters)
    for item in hyperparameters:
        for parent, values in item.when.items():
            _check_parent(document, conditions, item, parent, values)
    circle = conditions.circle()
    if circle is not None:
        item = next(item for item in conditions.by_name[circle[0]] if item.when)
        trail = " → ".join([*circle, circle[0]])
        document.report((*item.path, "when"), f"a condition never leads back to itself, found the circle {trail}")
    deep = next((name for name, depth in conditions.depths().items() if depth > MOST_DEPTH), None)
    if deep is not None:
        document.report(("hyperparameters", deep), f"conditions stand at most {MOST_DEPTH} deep, these are deeper")
    if len(document.problems) > before:
        return None
    refuse_too_many(document, document.content["hyperparameters"])
    _check_overlaps(document, conditions)
    if all(_is_whole(document, conditions, name) for name in document.content["hyperparameters"]):
        _check_reachable(document, conditions)
    _check_settings(document, conditions)
    return conditions if len(document.problems) == before else None


def _check_parent(
    document: Document, conditions: Conditions, item: Hyperparameter, parent: str, values: tuple[Scalar, ...]
) -> None:
    where = (*item.path, "when", parent)
    if _is_whole(document, conditions, parent):
        for value in values:
            _check_value(document, where, parent, value, conditions.by_name[parent])


def _is_whole(document: Document, conditions: Conditions, name: str) -> bool:
    """Whether every alternative of a name was read: one with problems of its own is reported once."""
    entry = document.content["hyperparameters"].get(name)
    return len(conditions.by_name.get(name, ())) == (max(len(entry), 1) if isinstance(entry, list) else 1)


def _check_value(
    document: Document, where: PathKey, parent: str, value: Scalar, alternatives: list[Hyperparameter]
) -> None:
    if any(can_take(alternative, value) for alternative in alternatives):
        return
    if all(isinstance(alternative.domain, Range) and not alternative.domain.integer for alternative in alternatives):
        document.report(
            where, f"a condition waits for single values, {parent} is a range of floats; make it `values` or type: int"
        )
    else:
        listed = chain.from_iterable(_listed(alternative) for alternative in alternatives)
        taken = list(dict.fromkeys(shown(value) for value in islice(listed, _MOST_LISTED + 1)))
        if len(taken) > _MOST_LISTED:
            taken[_MOST_LISTED:] = ["…"]
        document.report(where, f"{parent} never is {shown(value)}; it is one of {', '.join(taken)}")


def _listed(item: Hyperparameter) -> list[Scalar]:
    if isinstance(item.domain, Range) and item.domain.points is None:
        return [f"{item.domain.low} to {item.domain.high}"]
    return list(_few_values(item.domain, 0) or ())


def _check_overlaps(document: Document, conditions: Conditions) -> None:
    for alternatives in conditions.by_name.values():
        for index, item in enumerate(alternatives):
            for earlier in alternatives[:index]:
                if conditions.together(earlier, item):
                    line = document.problem(earlier.path, "").line
                    message = (
                        f"alternatives of a name never hold at once, this one overlaps the one in line {line}; give "
                        "each its own `when`"
                    )
                    document.report((*item.path, "when"), message)


def _check_reachable(document: Document, conditions: Conditions) -> None:
    for alternatives in conditions.by_name.values():
        for item in alternatives:
            if not conditions.together(item):
                message = (
                    "the condition never holds: no combination of the values that it waits for can occur; change or "
                    "drop it"
                )
                document.report((*item.path, "when"), message)


def _check_settings(document: Document, conditions: Conditions) -> None:
    for alternatives in conditions.by_name.values():
        for item in alternatives:
            if not item.makes_settings:
                continue
            for name in conditions.ancestors(item.when):
                if any(other.has_coordinate for other in conditions.by_name[name]):
                    message = (
                        f"scientific values make the settings of the study and cannot wait for {name}, which is "
                        "sampled within each setting; "
                        "mark this one sampled: true, or make its parent scientific or fixed"
                    )
                    document.report((*item.path, "when"), message)
                    break
