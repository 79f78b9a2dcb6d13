"""Hand-written configurations against the hyperparameters that the study declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunectl.core.records import Scalar
from tunectl.language.conditions import Conditions, can_take
from tunectl.language.document import Document, PathKey
from tunectl.language.study_spec import POINTS, FixedValue, Hyperparameter, Range
from tunectl.language.wording import found, is_number_as_text, nearest, shown

Points = tuple[dict[str, Scalar], ...]


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


def listed_points(document: Document, content: Any, hyperparameters: tuple[Hyperparameter, ...]) -> Points:
    """The configurations that a study file lists; every problem is noted in the document."""
    where = POINTS
    if not isinstance(content, list) or not content:
        document.report(where, f"a list of configurations is due, such as [{{learning_rate: 0.1}}], {found(content)}")
        return ()
    before = len(document.problems)
    points: list[dict[str, Scalar]] = []
    for index, item in enumerate(content):
        if not isinstance(item, dict):
            document.report(
                (*where, index), f"a configuration is a mapping of hyperparameters to values, {found(item)}"
            )
            continue
        for name, value in item.items():
            if value is None or isinstance(value, (dict, list)):
                document.report((*where, index, name), f"a value is due, {found(value)}")
        points.append(item)
    if len(document.problems) > before:
        check_points(document, content, hyperparameters)
    return tuple(points)


def check_points(document: Document, content: Sequence[Any], hyperparameters: tuple[Hyperparameter, ...]) -> None:
    """The names and values of the points beside one that is none; where all are, the plan checks them in full."""
    declared = document.content["hyperparameters"]
    if len(hyperparameters) != sum(len(entry) if isinstance(entry, list) else 1 for entry in declared.values()):
        return  # a value may lie in one that could not be read
    by_name = Conditions(hyperparameters).by_name
    for index, item in enumerate(content):
        if isinstance(item, dict):
            scalars = {name: value for name, value in item.items() if isinstance(value, (str, int, float))}
            for path, message in check_point(by_name, scalars, (*POINTS, index)):
                document.report(path, message)


def _is_numeric(item: Hyperparameter) -> bool:
    if isinstance(item.domain, Range):
        return True
    values = (item.domain.value,) if isinstance(item.domain, FixedValue) else item.domain.values
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
