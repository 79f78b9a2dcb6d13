"""Reads a hyperparameter with a formula, and checks what the formulas of a study use."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tunectl.core.errors import PathKey
from tunectl.core.wording import got, nearest, shown
from tunectl.language.document import Document
from tunectl.language.entry_parts import field_rule, read_when
from tunectl.space.conditions import MOST_DEPTH, Conditions
from tunectl.space.derived_values import range_of
from tunectl.space.domains import Derived, Range, is_number
from tunectl.space.formulas import FormulaError, parsed_formula
from tunectl.space.hyperparameters import Condition, Hyperparameter, holds

FORMULA = "formula"
_DOMAINS = ("value", "values", "range")
_KEYS = (FORMULA, "type", "when")
_NAME = re.compile(r"[^\W\d]\w*")


def read_derived(document: Document, name: str, entry: Mapping[str, Any], path: PathKey) -> Hyperparameter | None:
    """A hyperparameter whose value is computed by a formula; None where it is wrong, with the problem noted."""
    before = len(document.problems)
    for key in entry:
        if key in _DOMAINS:
            document.report(
                path, f"expected one of value, values, range and formula, got {key} and formula", at_key=True
            )
        elif key == "role":
            message = "what a formula computes has no role of its own; leave it out"
            document.report((*path, key), message, at_key=True)
        elif key not in _KEYS and not _is_rest_of_formula(entry, key):
            message = f"no such key beside a formula{nearest(key, _KEYS)}"
            document.report((*path, key), message, at_key=True)
    when = read_when(document, entry, path)
    domain = _derived(document, name, entry, path)
    if len(document.problems) > before or domain is None:
        return None
    return Hyperparameter(name, name, "derived", domain, when, path=path)


def _is_rest_of_formula(entry: Mapping[str, Any], key: str) -> bool:
    """Whether a key is what follows a comma of the formula: in {…}, a comma ends a value."""
    formula = entry[FORMULA]
    return isinstance(formula, str) and formula.count("(") > formula.count(")") and ")" in str(key)


def _derived(document: Document, name: str, entry: Mapping[str, Any], path: PathKey) -> Derived | None:
    content, where, kind = entry[FORMULA], (*path, FORMULA), entry.get("type", "float")
    if kind not in ("float", "int"):
        document.report((*path, "type"), f"expected float or int, {got(kind)}")
    rule = field_rule(document, name)
    if rule is not None and rule.value_type is str:
        document.report(where, f"expected {rule.expectation()}, which a formula cannot compute; write values")
    elif rule is not None and rule.value_type is int and kind != "int":
        document.report(
            where, "expected a whole number, got a formula of floats; add type: int, which rounds its value"
        )
    if not isinstance(content, str) and not (is_number(content) and math.isfinite(content)):
        document.report(where, f"expected a formula, such as effective_rate * (1 - momentum), {got(content)}")
        return None
    if any(_is_rest_of_formula(entry, key) for key in entry):
        document.report(where, "within {…} a comma ends a value; put the formula in quotes")
        return None
    try:
        formula = parsed_formula(content if isinstance(content, str) else repr(content))
    except FormulaError as error:
        document.report(where, str(error))
        return None
    return Derived(formula, kind == "int", rule)


def names_in_formulas(entries: Iterable[Any]) -> frozenset[str]:
    """The names in the formulas of entries of a study file, also of those that are wrong."""
    formulas = [entry.get(FORMULA) for entry in entries if isinstance(entry, dict)]
    return frozenset(name for formula in formulas if isinstance(formula, str) for name in _NAME.findall(formula))


def check_formulas(
    document: Document, hyperparameters: tuple[Hyperparameter, ...], conditions: Conditions
) -> tuple[Hyperparameter, ...]:
    """The hyperparameters with the ends of what their formulas compute; problems are noted in the document.

    Each name in a formula has a number wherever the formula is active, and no formula leads back to itself. Raises
    TooManyCombinationsError where the conditions allow too many combinations to see that.
    """
    before = len(document.problems)
    declared = document.content["hyperparameters"]
    known: dict[tuple[str, str], str] = {}  # formulas with the same `when` have the same answer
    for item in hyperparameters:
        for name in item.formula.names if item.formula is not None else ():
            if name not in declared:
                message = f"the study has no hyperparameter {shown(name)}{nearest(name, declared)}"
                document.report((*item.path, FORMULA), message)
            elif name in conditions.by_name:
                asked = (repr(item.when), name)
                if asked not in known:
                    known[asked] = _why_no_number(conditions, item.when, name)
                if known[asked]:
                    document.report((*item.path, FORMULA), known[asked])
    ordered = _inner_first(document, hyperparameters, conditions)
    return hyperparameters if len(document.problems) > before else _with_ends(hyperparameters, ordered, conditions)


def _why_no_number(conditions: Conditions, when: Condition, name: str) -> str:
    """Why a name has no number somewhere where a condition holds, "" where it has one."""
    for combination in conditions.combinations([name, *when]):
        if not holds(when, combination.values):
            continue
        own = combination.active.get(name)
        if own is None:
            where = combination.in_words()
            return f"{name} has no value where {where}; write an alternative of it, or a `when` for this formula"
        wrong = [value for value in own.domain.listed or () if not is_number(value)]
        if wrong:
            return f"expected a hyperparameter whose values are numbers, got {name}: {shown(wrong[0])}"
    return ""


def _inner_first(
    document: Document, hyperparameters: tuple[Hyperparameter, ...], conditions: Conditions
) -> list[Hyperparameter]:
    """The derived hyperparameters, each after those in its formula; a circle is noted in the document."""
    waiting = {item.path: item for item in hyperparameters if item.formula is not None}
    inner = {
        path: [other for other in _in_formula(conditions, item) if other.formula is not None]
        for path, item in waiting.items()
    }
    depths: dict[PathKey, int] = {}
    ready = [path for path, own in inner.items() if not own]
    while ready:
        depths |= {path: 1 + max((depths[other.path] for other in inner[path]), default=0) for path in ready}
        ready = [
            path for path, own in inner.items() if path not in depths and all(other.path in depths for other in own)
        ]
    ordered = [waiting[path] for path in depths]
    deep = next((waiting[path] for path, depth in depths.items() if depth > MOST_DEPTH), None)
    if deep is not None:
        document.report((*deep.path, FORMULA), f"expected at most {MOST_DEPTH} formulas inside each other, got more")
    left = next((item for path, item in waiting.items() if path not in depths), None)
    trail: list[Hyperparameter] = []
    while left is not None and left not in trail:
        trail.append(left)
        left = next(other for other in inner[left.path] if other.path not in depths)
    if left is not None:
        circle = " → ".join(item.name for item in (*trail[trail.index(left) :], left))
        message = f"these formulas form a circle: {circle}; write values for one of them"
        document.report((*left.path, FORMULA), message)
    return ordered


def _in_formula(conditions: Conditions, item: Hyperparameter) -> list[Hyperparameter]:
    """The alternatives of the names in a formula that can be active where it is."""
    return [other for own in _by_name(conditions, item) for other in own]


def _by_name(conditions: Conditions, item: Hyperparameter) -> list[list[Hyperparameter]]:
    return [
        [other for other in conditions.by_name.get(name, ()) if conditions.together(item, other)]
        for name in (item.formula.names if item.formula is not None else ())
    ]


def _with_ends(
    hyperparameters: tuple[Hyperparameter, ...], ordered: list[Hyperparameter], conditions: Conditions
) -> tuple[Hyperparameter, ...]:
    """The hyperparameters with the ends of what their formulas compute."""
    known = {item.path: item for item in hyperparameters}
    for item in ordered:
        if isinstance(item.domain, Derived):
            own = [[known[other.path] for other in found] for found in _by_name(conditions, item)]
            varies = any(len(found) > 1 or any(other.varies for other in found) for found in own)
            places = [[place for other in found for place in _places(other)] for found in own]
            domain = replace(item.domain, varies=varies, numbers=range_of(item.domain, places))
            known[item.path] = replace(item, domain=domain)
    return tuple(known.values())


def _places(item: Hyperparameter) -> list[float]:
    """The ends of the values of a hyperparameter, and one from their middle."""
    match item.domain:
        case Range() as domain:
            return [domain.low, float(domain.from_unit(0.5)), domain.high]
        case Derived() as domain:
            return list(domain.numbers)
        case domain:
            numbers = sorted(domain.numbers)
            return list(dict.fromkeys([numbers[0], numbers[len(numbers) // 2], numbers[-1]])) if numbers else []
