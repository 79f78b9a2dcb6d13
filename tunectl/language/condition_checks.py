"""Checks the conditions of a study file: unknown names and values, circles, overlaps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from tunectl.core.errors import PathKey
from tunectl.core.records import Scalar
from tunectl.core.wording import as_text, shown
from tunectl.language.document import Document
from tunectl.language.hyperparameter_reader import refuse_too_many
from tunectl.space.conditions import MOST_DEPTH, Conditions
from tunectl.space.domains import Range
from tunectl.space.hyperparameters import Hyperparameter

_MOST_LISTED = 20


def check_conditions(document: Document, hyperparameters: tuple[Hyperparameter, ...]) -> Conditions | None:
    """The conditions, or None where one is wrong; problems are noted in the document."""
    before = len(document.problems)
    conditions = Conditions(hyperparameters)
    for item in hyperparameters:
        for parent, values in item.when.items():
            _check_parent(document, conditions, item, parent, values)
    circle = conditions.circle()
    if circle is not None:
        item = next(item for item in conditions.by_name[circle[0]] if item.when)
        trail = " → ".join([*circle, circle[0]])
        document.report((*item.path, "when"), f"these conditions form a circle: {trail}; remove one of them")
    deep = next((name for name, depth in conditions.depths().items() if depth > MOST_DEPTH), None)
    if deep is not None:
        message = f"expected at most {MOST_DEPTH} conditions above each other, got more"
        document.report(("hyperparameters", deep), message)
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
    """Whether every alternative of a name could be read; else its own problem is already reported."""
    entry = document.content["hyperparameters"].get(name)
    return len(conditions.by_name.get(name, ())) == (max(len(entry), 1) if isinstance(entry, list) else 1)


def _check_value(
    document: Document, where: PathKey, parent: str, value: Scalar, alternatives: list[Hyperparameter]
) -> None:
    if any(alternative.formula is not None for alternative in alternatives):
        message = f"a condition needs single values, and {parent} is computed; make it depend on a name in the formula"
        document.report(where, message)
        return
    if any(alternative.domain.can_meet(value) for alternative in alternatives):
        return
    if all(isinstance(alternative.domain, Range) and not alternative.domain.integer for alternative in alternatives):
        document.report(
            where, f"a condition needs single values, and {parent} is a range of floats; make it `values` or type: int"
        )
    else:
        listed = chain.from_iterable(_listed(alternative) for alternative in alternatives)
        taken = list(dict.fromkeys(islice(listed, _MOST_LISTED + 1)))
        if len(taken) > _MOST_LISTED:
            taken[_MOST_LISTED:] = ["…"]
        document.report(where, f"expected a value of {parent} ({', '.join(taken)}), got {shown(value)}")


def _listed(item: Hyperparameter) -> Iterator[str]:
    values = item.domain.few_values(0)
    return map(shown, values) if values is not None else iter([" to ".join(map(as_text, item.domain.numbers))])


def _check_overlaps(document: Document, conditions: Conditions) -> None:
    for alternatives in conditions.by_name.values():
        for index, item in enumerate(alternatives):
            for earlier in alternatives[:index]:
                if conditions.together(earlier, item):
                    line = document.problem(earlier.path, "").line
                    message = (
                        f"this alternative can be active at the same time as the one in line {line}; give each its own "
                        "`when`"
                    )
                    document.report((*item.path, "when"), message)


def _check_reachable(document: Document, conditions: Conditions) -> None:
    for alternatives in conditions.by_name.values():
        for item in alternatives:
            if not conditions.together(item):
                message = "the condition never holds: no trial can have this combination of values; change or remove it"
                document.report((*item.path, "when"), message)


def _check_settings(document: Document, conditions: Conditions) -> None:
    for alternatives in conditions.by_name.values():
        for item in alternatives:
            if not item.makes_settings:
                continue
            for name in conditions.ancestors(item.when):
                if any(other.has_coordinate for other in conditions.by_name[name]):
                    message = (
                        f"scientific values make the settings of the study and cannot depend on {name}, which is "
                        "sampled within each setting; write sampled: true here, or make the parent scientific or fixed"
                    )
                    document.report((*item.path, "when"), message)
                    break
