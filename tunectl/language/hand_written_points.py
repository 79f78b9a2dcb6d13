"""Checks hand-written configurations against the hyperparameters of the study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunectl.core.records import Scalar
from tunectl.core.wording import got
from tunectl.language.document import Document
from tunectl.language.study_spec import POINTS
from tunectl.space.conditions import Conditions
from tunectl.space.hyperparameters import Hyperparameter
from tunectl.space.listed_points import check_point

Points = tuple[dict[str, Scalar], ...]


def listed_points(document: Document, content: Any, hyperparameters: tuple[Hyperparameter, ...]) -> Points:
    """The configurations that a study file lists; every problem is noted in the document."""
    where = POINTS
    if not isinstance(content, list) or not content:
        document.report(where, f"expected a list of configurations, such as [{{learning_rate: 0.1}}], {got(content)}")
        return ()
    before = len(document.problems)
    points: list[dict[str, Scalar]] = []
    for index, item in enumerate(content):
        if not isinstance(item, dict):
            document.report((*where, index), f"expected a mapping of hyperparameters to values, {got(item)}")
            continue
        for name, value in item.items():
            if value is None or isinstance(value, (dict, list)):
                document.report((*where, index, name), f"expected a value, {got(value)}")
        points.append(item)
    if len(document.problems) > before:
        check_points(document, content, hyperparameters)
    return tuple(points)


def check_points(document: Document, content: Sequence[Any], hyperparameters: tuple[Hyperparameter, ...]) -> None:
    """Check the names and values of points where one of them is wrong; where none is, the plan checks them in full."""
    declared = document.content["hyperparameters"]
    if len(hyperparameters) != sum(len(entry) if isinstance(entry, list) else 1 for entry in declared.values()):
        return  # a value may belong to an alternative that could not be read
    by_name = Conditions(hyperparameters).by_name
    for index, item in enumerate(content):
        if isinstance(item, dict):
            scalars = {name: value for name, value in item.items() if isinstance(value, (str, int, float))}
            for path, message in check_point(by_name, scalars, (*POINTS, index)):
                document.report(path, message)
