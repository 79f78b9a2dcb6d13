"""Reads `hyperparameters:` of a study file: each entry into Hyperparameter records, or problems."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from tunectl.core.errors import PathKey, StudyError
from tunectl.core.records import Scalar
from tunectl.core.wording import got, is_number_as_text, nearest, quoted, shown
from tunectl.language.document import Document
from tunectl.language.entry_parts import LARGEST_INT, field_rule, read_scalar, read_when
from tunectl.language.formula_reader import FORMULA, read_derived
from tunectl.language.hyperparameter_names import is_own_code, refuse_name
from tunectl.space.domains import FixedValue, Range, SampledDomain, Scale, ValueSet, sameness
from tunectl.space.hyperparameters import Hyperparameter, Role

_DOMAINS = ("value", "values", "range")
HYPERPARAMETER_KEYS = ("role", "value", "values", "range", "scale", "type", "when", "sampled", "points", "off", FORMULA)
_ROLES: tuple[Role, ...] = ("scientific", "nuisance", "fixed")
MOST_HYPERPARAMETERS = 500  # the checks compare each with each


def read_hyperparameters(document: Document, *, grid: bool) -> tuple[Hyperparameter, ...]:
    """The hyperparameters, one record for each alternative; problems are noted in the document."""
    read: list[Hyperparameter] = []
    entries: Mapping[str, Any] = document.content["hyperparameters"]
    if not entries:
        least = "one" if is_own_code(document) else "optimizer and learning_rate"
        document.report(("hyperparameters",), f"expected at least {least}, got none")
    for name, entry in entries.items():
        path = ("hyperparameters", name)
        if refuse_name(document, name, path):
            continue
        items: list[tuple[PathKey, Any]] = [(path, entry)]
        if isinstance(entry, list):
            items = [((*path, index), item) for index, item in enumerate(entry)]
            if not entry:
                document.report(path, "expected at least one alternative, got an empty list")
        drafts = [
            _entry(document, name, item, where, grid=grid)
            for where, item in items
            if _is_alternative(document, item, where)
        ]
        read += _keyed([draft for draft in drafts if draft is not None])
    return tuple(read)


def refuse_too_many(document: Document, entries: Mapping[str, Any]) -> None:
    """Raise StudyError where there are too many hyperparameters to compare each with each."""
    count = sum(len(entry) if isinstance(entry, list) else 1 for entry in entries.values())
    if count > MOST_HYPERPARAMETERS:
        most = f"expected at most {MOST_HYPERPARAMETERS} hyperparameters (each alternative counts)"
        document.report(("hyperparameters",), f"{most}, got {count:,}", at_key=True)
        raise StudyError(document.problems)


def _is_alternative(document: Document, item: Any, path: PathKey) -> bool:
    if isinstance(path[-1], int) and not isinstance(item, dict):
        message = f"expected an alternative, a mapping with role, when and values, {got(item)}"
        document.report(path, f"{message}; for a set of values write {{role: …, values: […]}}")
        return False
    return True


def _keyed(drafts: list[Hyperparameter]) -> list[Hyperparameter]:
    return [_with_key(draft) for draft in drafts] if len(drafts) > 1 else drafts


def _with_key(draft: Hyperparameter) -> Hyperparameter:
    conditions = ",".join(
        f"{parent}={'|'.join(quoted(value) for value in values)}" for parent, values in draft.when.items()
    )
    return replace(draft, key=f"{draft.name}[{conditions}]" if conditions else draft.name)


def _entry(document: Document, name: str, entry: Any, path: PathKey, *, grid: bool) -> Hyperparameter | None:
    before = len(document.problems)
    if not isinstance(entry, dict):
        value = read_scalar(document, entry, path)
        if value is not None:
            _check_field(document, name, value, path)
        ok = value is not None and len(document.problems) == before
        return Hyperparameter(name, name, "fixed", FixedValue(value), path=path) if ok and value is not None else None
    if FORMULA in entry:
        return read_derived(document, name, entry, path)
    misspelt = set()
    for key in entry:
        if key not in HYPERPARAMETER_KEYS:
            misspelt.add(nearest(key, HYPERPARAMETER_KEYS))
            document.report((*path, key), f"no such key{nearest(key, HYPERPARAMETER_KEYS)}", at_key=True)
    domain = _domain(document, name, entry, path, grid=grid)
    role = None
    # Of an entry with a misspelt key, or without values, the role is not reported missing as well.
    if "role" in entry or (any(key in entry for key in _DOMAINS) and "; did you mean role?" not in misspelt):
        role = _role(document, entry, path, domain)
    when = read_when(document, entry, path)
    sampled = _sampled(document, entry, path, role, domain)
    off = _off(document, name, entry, path)
    if len(document.problems) > before or domain is None or role is None:
        return None
    return Hyperparameter(name, name, role, domain, when, sampled, path, off)


def _role(document: Document, entry: Mapping[str, Any], path: PathKey, domain: SampledDomain | None) -> Role | None:
    role = entry.get("role", "fixed" if isinstance(domain, FixedValue) else None)
    if role is None:
        document.report(
            (*path, "role"),
            "the role is missing; write scientific (what the study asks about), nuisance (tuned) or fixed",
            at_key=True,
        )
        return None
    if role not in _ROLES:
        near = nearest(role, _ROLES) if isinstance(role, str) else ""
        document.report((*path, "role"), f"expected scientific, nuisance or fixed, {got(role)}{near}")
        return None
    if role == "fixed" and isinstance(domain, (ValueSet, Range)):
        document.report(
            (*path, "role"),
            "expected one `value` for a fixed hyperparameter, got several; write one, or role: scientific or nuisance",
        )
    if role != "fixed" and isinstance(domain, FixedValue):
        document.report(
            (*path, "role"),
            f"expected values or a range for a {role} hyperparameter, got a single value; write role: fixed for that",
        )
    return role  # type: ignore[no-any-return]


def _sampled(
    document: Document, entry: Mapping[str, Any], path: PathKey, role: Role | None, domain: SampledDomain | None
) -> bool:
    sampled = entry.get("sampled", False)
    where = (*path, "sampled")
    if not isinstance(sampled, bool):
        document.report(where, f"expected true or false, {got(sampled)}")
        return False
    # Where the set or the role is wrong itself, this one is not checked.
    values_read = domain is not None or "values" not in entry
    if sampled and values_read and role is not None and not (role == "scientific" and isinstance(domain, ValueSet)):
        document.report(
            where,
            "only scientific `values` can be sampled: true; everything else that varies is sampled anyway, so leave it "
            "out",
        )
    return bool(sampled)


def _off(document: Document, name: str, entry: Mapping[str, Any], path: PathKey) -> Scalar | None:
    if "off" not in entry:
        return None
    value = read_scalar(document, entry["off"], (*path, "off"))
    if value is not None:
        _check_field(document, name, value, (*path, "off"))
    return value


def _domain(
    document: Document, name: str, entry: Mapping[str, Any], path: PathKey, *, grid: bool
) -> SampledDomain | None:
    kinds = [key for key in _DOMAINS if key in entry]
    if len(kinds) != 1:
        what = f"got {' and '.join(kinds)}" if kinds else "got none of them"
        document.report(path, f"expected one of value, values, range and formula, {what}", at_key=True)
        return None
    for key in ("scale", "type", "points"):
        if key in entry and kinds[0] != "range":
            document.report((*path, key), f"{key} belongs to a range, not to {kinds[0]}; leave it out", at_key=True)
    match kinds[0]:
        case "value":
            return _fixed(document, name, entry["value"], (*path, "value"))
        case "values":
            return _value_set(document, name, entry["values"], (*path, "values"))
        case _:
            return _range(document, name, entry, path, grid=grid)


def _fixed(document: Document, name: str, content: Any, path: PathKey) -> FixedValue | None:
    value = read_scalar(document, content, path)
    if value is None:
        return None
    _check_field(document, name, value, path)
    return FixedValue(value)


def _value_set(document: Document, name: str, content: Any, path: PathKey) -> ValueSet | None:
    if not isinstance(content, list) or not content:
        document.report(path, f"expected a list of values, {got(content)}")
        return None
    values = [read_scalar(document, item, (*path, index)) for index, item in enumerate(content)]
    kept: list[Scalar] = []
    known: set[tuple[bool, Scalar]] = set()
    for index, value in enumerate(values):
        if value is None:
            continue
        if sameness(value) in known:
            document.report((*path, index), f"expected each value once, got {shown(value)} again")
        _check_field(document, name, value, (*path, index))
        kept.append(value)
        known.add(sameness(value))
    _refuse_number_as_text(document, values, path)
    return ValueSet(tuple(kept)) if len(kept) == len(values) else None


def _refuse_number_as_text(document: Document, values: list[Scalar | None], path: PathKey) -> None:
    if not any(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return
    for index, value in enumerate(values):
        if is_number_as_text(value):
            document.report((*path, index), f"expected a number like the others, {got(value)}")


def _range(document: Document, name: str, entry: Mapping[str, Any], path: PathKey, *, grid: bool) -> Range | None:
    content, where = entry["range"], (*path, "range")
    scale, kind = entry.get("scale", "linear"), entry.get("type", "float")
    if scale not in get_args(Scale):
        document.report(
            (*path, "scale"), f"expected linear, log or one_minus_log, {got(scale)}{_near(scale, get_args(Scale))}"
        )
        return None
    if kind not in ("float", "int"):
        document.report((*path, "type"), f"expected float or int, {got(kind)}")
        return None
    points = _grid_points(document, entry, path, grid=grid)
    if not isinstance(content, list) or len(content) != 2:
        what = f"a list of {len(content)}" if isinstance(content, list) else shown(content)
        document.report(where, f"expected [low, high], got {what}")
        return None
    bounds = [_bound(document, item, (*where, index), whole=kind == "int") for index, item in enumerate(content)]
    low, high = bounds
    if low is None or high is None:
        return None
    if low >= high:
        document.report(
            where,
            f"expected low below high, got [{content[0]}, {content[1]}]"
            + ("; for one value write `value`" if low == high else ""),
        )
        return None
    if not _fits_scale(document, content, low, high, scale, kind, where):
        return None
    _check_field_range(document, name, ((low, content[0]), (high, content[1])), kind, where)
    return Range(low, high, scale, kind == "int", points)


def _near(value: Any, known: tuple[str, ...]) -> str:
    return nearest(value, known) if isinstance(value, str) else ""


def _grid_points(document: Document, entry: Mapping[str, Any], path: PathKey, *, grid: bool) -> int | None:
    points, where = entry.get("points"), (*path, "points")
    if points is None and "points" not in entry:
        if grid:
            document.report(path, "a range in a grid needs its number of points; add points: k", at_key=True)
        return None
    if not grid:
        document.report(where, "points belongs to a grid; leave it out, or write search: {sampler: grid}", at_key=True)
        return None
    if not isinstance(points, int) or isinstance(points, bool) or not 1 <= points <= 10_000:
        document.report(where, f"expected a whole number from 1 to 10,000, {got(points)}")
        return None
    return points


def _bound(document: Document, content: Any, path: PathKey, *, whole: bool) -> float | None:
    value = read_scalar(document, content, path)
    if value is None:
        return None
    if isinstance(value, (bool, str)):
        document.report(path, f"expected a number, {got(value)}")
        return None
    if whole:
        if value != int(value):
            document.report(path, f"expected a whole number (type: int), {got(value)}")
            return None
        if abs(value) > LARGEST_INT:
            document.report(path, f"expected a whole number of at most 2^53 in size, {got(value)}")
            return None
        return int(value)
    return float(value)


def _fits_scale(
    document: Document, content: list[Any], low: float, high: float, scale: Scale, kind: str, path: PathKey
) -> bool:
    if not math.isfinite(high - low):
        document.report(path, f"expected a range whose width a float can hold, got [{content[0]}, {content[1]}]")
        return False
    if scale == "log" and low <= 0:
        document.report((*path, 0), f"expected more than 0 (scale: log), {got(content[0])}")
        return False
    if scale == "one_minus_log" and kind == "int":
        document.report(path, "one_minus_log is for fractions near 1, not for type: int; write scale: linear or log")
        return False
    if scale == "one_minus_log" and high >= 1:
        document.report((*path, 1), f"expected less than 1 (scale: one_minus_log), {got(content[1])}")
        return False
    return True


def _check_field(document: Document, name: str, value: Scalar, path: PathKey) -> None:
    rule = field_rule(document, name)
    if rule is None or rule.accepts(value):
        return
    near = nearest(value, rule.choices) if isinstance(value, str) and rule.choices else ""
    hint = near if near.startswith("; did") else ""
    if rule.value_type is int and isinstance(value, float) and value == int(value):
        hint = f"; write {int(value)}"
    if name == "grad_clip" and not isinstance(value, str):
        hint = "; the largest global norm is grad_clip_norm"
    document.report(path, f"expected {rule.expectation()}, {got(value)}{hint}")


def _check_field_range(
    document: Document, name: str, bounds: tuple[tuple[float, Any], ...], kind: str, path: PathKey
) -> None:
    rule = field_rule(document, name)
    if rule is None:
        return
    if rule.value_type is str:
        document.report(path, f"expected {rule.expectation()}, got a range; write values")
        return
    if rule.value_type is int and kind != "int":
        document.report(path, "expected whole numbers, got a range of floats; add type: int")
        return
    for index, (bound, written) in enumerate(bounds):
        if not rule.accepts(bound):
            document.report((*path, index), f"expected {rule.expectation()}, {got(written)}")
