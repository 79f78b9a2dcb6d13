"""The values of derived hyperparameters: in each trial a formula computes them from those of the others."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tunectl.core.errors import PathKey, TunectlError, dotted
from tunectl.core.records import Scalar
from tunectl.core.wording import as_text, counted
from tunectl.space.domains import Derived
from tunectl.space.formulas import Formula, FormulaError

_MOST_CORNERS_OF = 6
_MOST_FLIPPED_OF = 30
_MOST_NAMED = 6


class FormulaFailure(NamedTuple):
    """A derived hyperparameter without a value in a configuration: its path in the file, its name, and why not."""

    path: PathKey
    name: str
    message: str


class UncomputableError(TunectlError):
    """Derived hyperparameters have no value in a configuration; `failures` has each of them."""

    def __init__(self, failures: Sequence[FormulaFailure]) -> None:
        super().__init__("\n".join(f"{dotted(path)}: no valid value: {why}" for path, _, why in failures))
        self.failures = tuple(failures)


def add_derived(values: dict[str, Scalar], derived: Mapping[str, tuple[PathKey, Derived]]) -> None:
    """Add the values of the active derived hyperparameters, by name; one may be in the formula of another.

    `derived` has for each its path in the study file. Raises UncomputableError where some have no value.
    """
    waiting, failures = dict(derived), list[FormulaFailure]()
    failed: set[str] = set()
    while waiting:
        ready = [name for name, (_, domain) in waiting.items() if not waiting.keys() & set(domain.formula.names)]
        for name in ready or list(waiting):
            path, domain = waiting.pop(name)
            if failed & set(domain.formula.names):
                failed.add(name)  # for the reason that is known
                continue
            try:
                values[name] = domain.value(values)
            except FormulaError as error:
                failed.add(name)
                failures.append(FormulaFailure((*path, "formula"), name, f"{error}{_where(domain.formula, values)}"))
    if failures:
        raise UncomputableError(failures)


def failures_by_path(errors: Sequence[UncomputableError]) -> list[tuple[PathKey, str]]:
    """For each formula the number of planned trials in which it has no value, and why it has none in the first one."""
    failures = [failure for error in errors for failure in error.failures]
    counts = Counter(failure.path for failure in failures)
    first = {failure.path: failure.message for failure in reversed(failures)}
    return [
        (path, f"no valid value in {counted(count, 'planned trial')}: {first[path]}") for path, count in counts.items()
    ]


def _where(formula: Formula, values: Mapping[str, Scalar]) -> str:
    known = {name: values[name] for name in formula.names if name in values}
    named = [f"{k} is {v:.6g}" if isinstance(v, float) else f"{k} is {as_text(v)}" for k, v in known.items()]
    return f" where {', '.join(named[:_MOST_NAMED])}" if named else ""


def range_of(domain: Derived, places: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The lowest and the highest value over these values of its names, in their order; () where there is none."""
    names = domain.formula.names
    found: list[float] = []
    for corner in _corners(places):
        try:
            found.append(float(domain.value(dict(zip(names, corner, strict=True)))))
        except FormulaError:
            continue
    if not found:
        return ()
    ends = (min(found), max(found))
    low, high = (round(ends[0]), round(ends[1])) if domain.integer else (float(f"{end:.12g}") for end in ends)
    return (low, high) if low != high else (low,)


def _corners(places: Sequence[Sequence[float]]) -> Iterator[tuple[float, ...]]:
    """All combinations; of many names those of the ends in which at most one name is at another end than the rest, of
    very many those in which none is.
    """
    if not all(places):
        return iter(())
    if len(places) <= _MOST_CORNERS_OF:
        return itertools.product(*places)
    lows, highs = [min(own) for own in places], [max(own) for own in places]
    both = ((lows, highs), (highs, lows))
    whole = [tuple(most) for most, _ in both]
    flipped = [
        (*most[:index], other[index], *most[index + 1 :])
        for most, other in both
        for index in range(len(places) if len(places) <= _MOST_FLIPPED_OF else 0)
    ]
    return iter([*whole, *flipped])
