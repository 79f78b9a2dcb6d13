"""Names and values of another tool as a study may have them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from tunectl.core.jsontext import one_line
from tunectl.core.records import Scalar
from tunectl.core.table_columns import RESERVED_NAMES
from tunectl.core.wording import as_text, is_number_as_text
from tunectl.exchange.foreign_study import ForeignParameter
from tunectl.space.domains import FixedValue, Range, SampledDomain, ValueSet, same

_LARGEST_INT = 2**53
_MOST_VALUES = 100
"""A lattice of more values than this becomes a range: as a set it could not be read."""
_LONGEST_NAME = 100
_MOST_LISTED = 5


def legal_names(names: Iterable[str]) -> dict[str, str]:
    """For each name its name in the study: an identifier that is not a column of the tables, and unique."""
    names = list(names)
    found: dict[str, str] = {}
    taken = {name for name in names if _legal(name) == name}
    for name in names:
        legal = _legal(name)
        if legal != name:
            legal = next(other for other in _variants(legal) if other not in taken)
            taken.add(legal)
        found[name] = legal
    return found


def _legal(name: str) -> str:
    text = re.sub(r"_+$", "", re.sub(r"\W+", "_", name)) or "parameter"
    if name.isidentifier():
        text = name
    if not text.isidentifier():
        text = f"_{text}"
    return f"{text}_" if text in RESERVED_NAMES or text == "max_train_steps" else text


def _variants(text: str) -> Iterable[str]:
    yield text
    number = 2
    while True:
        yield f"{text}_{number}"
        number += 1


def study_name(name: str) -> str:
    """The name as a study's: what a folder may be called."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:_LONGEST_NAME] or "imported"


def shortened(name: str, most: int) -> str:
    """The name in at most this number of characters; a longer one is cut and gets a hash that keeps it unique."""
    return name if len(name) <= most else f"{name[: most - 9]}_{sha256(name.encode(errors='replace')).hexdigest()[:8]}"


def metric_name(name: str) -> str:
    """The metric as `split/name`; `valid/value` where it has no name."""
    text = re.sub(r"\s+", "_", name.strip())
    if re.fullmatch(r"[^/\s]+/\S+", text) and not text.startswith("test/"):
        return text
    return f"valid/{text.replace('/', '_') or 'value'}"


def domain_of(parameter: ForeignParameter) -> SampledDomain:
    """What the parameter may take: a range, a set, or its one value."""
    if parameter.choices is not None:
        values: list[Scalar] = []
        for value in value_map(parameter.choices).values():
            values += [] if any(same(value, other) for other in values) else [value]
        return FixedValue(values[0]) if len(values) == 1 else ValueSet(tuple(values))
    if parameter.low == parameter.high:
        return FixedValue(int(parameter.low) if parameter.integer else parameter.low)
    if parameter.step is not None and (parameter.high - parameter.low) / parameter.step < _MOST_VALUES:
        return ValueSet(tuple(_lattice(parameter, parameter.step)))
    return Range(parameter.low, parameter.high, "log" if parameter.log else "linear", parameter.integer)


def _lattice(parameter: ForeignParameter, step: float) -> list[Scalar]:
    count = round((parameter.high - parameter.low) / step) + 1
    values = [parameter.low + position * step for position in range(count)]
    return [int(value) if parameter.integer else value for value in values]


def value_map(choices: Sequence[Any]) -> Mapping[int, Scalar]:
    """The value that each choice becomes, by its position; all are texts where numbers and texts could be confused."""
    values = [_scalar(choice) for choice in choices]
    numbers = any(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if numbers and any(is_number_as_text(value) for value in values):
        values = [value if isinstance(value, str) else as_text(value) for value in values]
    found: dict[int, Scalar] = {}
    for position, value in enumerate(values):
        equal = next((other for other in found.values() if same(other, value)), None)
        # Two choices with the same text stay two.
        twin = equal is not None and choices[position] not in choices[:position]
        found[position] = f"{as_text(value)} ({position})" if twin else value if equal is None else equal
    return found


def changed_choices(choices: Sequence[Any]) -> list[str]:
    """The choices that have another value here, such as `None is the text 'None'`; only the first of many."""
    changed = [
        f"{one_line(repr(choices[position]))} is {'the text ' if isinstance(value, str) else ''}{value!r}"
        for position, value in value_map(choices).items()
        if type(choices[position]) is not type(value) or choices[position] != value
    ]
    return [
        *changed[:_MOST_LISTED],
        *([f"and {len(changed) - _MOST_LISTED} more"] if len(changed) > _MOST_LISTED else []),
    ]


def _scalar(choice: Any) -> Scalar:
    if isinstance(choice, bool):
        return choice
    if isinstance(choice, int) and abs(choice) <= _LARGEST_INT:
        return choice
    if isinstance(choice, float) and math.isfinite(choice):
        return choice
    return one_line(choice) if not isinstance(choice, str) or not choice.isprintable() else choice


def value_in(parameter: ForeignParameter, domain: SampledDomain, value: Any) -> Scalar:
    """A trial's value as one of the domain."""
    if parameter.choices is not None:
        position = next(
            index
            for index, choice in enumerate(parameter.choices)
            if choice is value
            or (choice == value and isinstance(choice, bool) == isinstance(value, bool))
            or (choice != choice and value != value)
        )
        return value_map(parameter.choices)[position]
    number: Scalar = int(value) if parameter.integer else float(value)
    if isinstance(domain, ValueSet):
        # A lattice's points are computed with rounding, there and here.
        return min(domain.values, key=lambda other: abs(float(other) - float(number)))
    return number
