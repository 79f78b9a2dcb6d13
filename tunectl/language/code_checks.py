"""Checks of the optimizers and schedules of the study's own: that each gets what it needs wherever it is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tunectl.core.errors import PathKey, Problem
from tunectl.core.records import Scalar
from tunectl.core.user_code import CodeName, FoundCode, is_code
from tunectl.core.wording import listed
from tunectl.language.code_arguments import RATE, STUDY_RATE, TOTAL_STEPS, no_gradinit, study_names
from tunectl.language.configuration import CODE_FIELDS
from tunectl.language.declared_study import DeclaredStudy
from tunectl.space.conditions import Conditions
from tunectl.space.domains import FixedValue, ValueSet
from tunectl.space.hyperparameters import Hyperparameter


@dataclass(frozen=True, slots=True)
class NamedCode:
    """A value of `optimizer` or `schedule` that names code, and its place in the study."""

    field: str
    text: CodeName
    path: PathKey


def named_code(hyperparameters: tuple[Hyperparameter, ...]) -> Iterator[NamedCode]:
    """The code that a study names, in the order of the file; the same text may come again."""
    for item in hyperparameters:
        if item.name in CODE_FIELDS:
            for path, value in _values(item):
                if is_code(value):
                    yield NamedCode(item.name, value, path)


def _values(item: Hyperparameter) -> list[tuple[PathKey, Scalar]]:
    match item.domain:
        case FixedValue(value):
            return [(item.path, value)]
        case ValueSet(values):
            return [((*item.path, "values", index), value) for index, value in enumerate(values)]
        case _:
            return []


def check_code(study: DeclaredStudy, code: Mapping[str, FoundCode]) -> list[Problem]:
    """What is missing where the study's own optimizers and schedules are used; `code` is what was found of them."""
    conditions = Conditions(study.hyperparameters)
    problems, seen = list[Problem](), set[str]()
    for named in named_code(study.hyperparameters):
        found = code.get(named.text)
        if found is None or named.text in seen or found.reference.workload_kind != named.field:
            continue
        seen.add(named.text)
        messages = _of_optimizer(conditions, named, found) if named.field == "optimizer" else []
        messages += [
            _where_missing(conditions, named, found, parameter)
            for parameter in found.signature.required
            if parameter != TOTAL_STEPS or named.field != "schedule"
        ]
        problems += [study.problem(named.path, message) for message in dict.fromkeys(messages) if message]
    return problems


def _of_optimizer(conditions: Conditions, named: NamedCode, found: FoundCode) -> list[str]:
    signature, messages = found.signature, list[str]()
    if RATE not in signature.parameters and not signature.open:
        messages.append(f"{named.text}{_place(found)} has no parameter {RATE}, by which it would get its learning rate")
    elif not isinstance(signature.defaults.get(RATE), (int, float)) and RATE not in signature.required:
        reason = f"its default of {RATE} is not a number that its source shows"
        messages.append(_where_absent(conditions, named, (STUDY_RATE,), reason))
    for combination in conditions.combinations(["optimizer", "initialisation"], extra={"optimizer": [named.text]}):
        if combination.values.get("optimizer") == named.text and combination.values.get("initialisation") == "gradinit":
            messages.append(no_gradinit(named.text))
    return messages


def _where_missing(conditions: Conditions, named: NamedCode, found: FoundCode, parameter: str) -> str:
    """Where a parameter without a default gets no value; "" where nowhere."""
    names = study_names(parameter) if named.field == "optimizer" else (parameter,)
    return _where_absent(conditions, named, names, f"{named.text}{_place(found)} needs {parameter}, without a default")


def _where_absent(conditions: Conditions, named: NamedCode, names: tuple[str, ...], reason: str) -> str:
    missing = [name for name in names if name not in conditions.by_name]
    if missing:
        return f"{reason}: write a value of {listed(missing)}"
    extra = {named.field: [named.text]}
    for name in names:
        for combination in conditions.combinations([named.field, name], extra=extra):
            if combination.values.get(named.field) == named.text and name not in combination.active:
                return f"{reason}, and there is no {name} where {combination.in_words()}; add an alternative for it"
    return ""


def _place(found: FoundCode) -> str:
    signature = found.signature
    return f" ({signature.file}:{signature.line})" if signature.file and signature.line else ""


def code_texts(hyperparameters: tuple[Hyperparameter, ...], field: str) -> tuple[str, ...]:
    """The texts of the code that the study names for a field, each once."""
    return tuple(dict.fromkeys(named.text for named in named_code(hyperparameters) if named.field == field))
