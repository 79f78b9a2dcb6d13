"""Who reads each hyperparameter: the workload's factory, the training configuration, a condition, or nobody."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Protocol

from tunectl.core.errors import PathKey, Problem
from tunectl.core.records import FactorySignature, Scalar
from tunectl.core.table_columns import TABLE_COLUMNS
from tunectl.core.wording import as_text, nearest
from tunectl.language.configuration import FIELDS
from tunectl.space.conditions import Conditions
from tunectl.space.hyperparameters import Hyperparameter

_SEED = "seed"  # a factory may ask for it; it never is a hyperparameter

_UNGIVEABLE = frozenset({"max_train_steps", *TABLE_COLUMNS})

# Every choice of a field that decides who is read makes a world of its own, so that a message can name it.
_EXTRA: dict[str, tuple[Scalar, ...]] = {
    parent: FIELDS[parent].choices for rule in FIELDS.values() for parent in rule.read_when or {}
}


def factory_arguments(
    signature: FactorySignature, values: Mapping[str, Scalar], *, own_code: bool = False
) -> dict[str, Scalar]:
    """The hyperparameters that go to the factory, or to a function of the user's own, by keyword.

    Those it names; and where it takes any keyword, also those that are no field of the training configuration.
    """
    return {
        name: value
        for name, value in values.items()
        if name in signature.parameters or (signature.open and (own_code or name not in FIELDS))
    }


class Declared(Protocol):
    """A study, or as much of one as could be read; `names` are all that stand under hyperparameters."""

    @property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def problem(self, path: PathKey, message: str, *, at_key: bool = False) -> Problem: ...


def check_names(
    study: Declared, switches: Collection[str], signature: FactorySignature, *, is_function: bool = False
) -> list[Problem]:
    """What the names alone tell: one that nobody knows, and a keyword without a default that nobody gives.

    `switches` are the names that some condition mentions. `is_function`: what trains is a function of the user's own,
    and there is no training configuration.
    """
    problems = []
    fields: Collection[str] = () if is_function else FIELDS
    read = {*signature.parameters, *fields, *switches}
    strangers = [name for name in study.names if name not in read] if not signature.open else []
    for name in strangers:
        near = nearest(name, [*(item for item in signature.parameters if item != _SEED), *fields])
        who = "the function does not take it" if is_function else "neither the factory nor the training configuration"
        message = f"nobody reads {name}: {who}{near}"
        problems.append(study.problem(("hyperparameters", name), message, at_key=True))
    where = f" (line {signature.line} of {signature.file})" if signature.line else ""
    called = "function" if is_function else "factory"
    for name in signature.required:
        if (
            name in study.names
            or (name == _SEED and not is_function)
            or difflib.get_close_matches(name, strangers, n=1)
        ):
            continue
        if name in _UNGIVEABLE:
            message = f"the {called}{where} needs {name}, which no hyperparameter can be called; rename its parameter"
            problems.append(study.problem(("workload",), message))
        else:
            message = f"the key is missing: the {called}{where} needs it and has no default; write its value"
            problems.append(study.problem(("hyperparameters", name), message, at_key=True))
    return problems


def check_consumption(study: Declared, signature: FactorySignature, *, is_function: bool = False) -> list[Problem]:
    """What is wrong between a study and its factory: a hyperparameter that nobody reads, a keyword that nobody gives.

    Every varying hyperparameter must be read wherever it is active; a fixed one must be read somewhere; a keyword of
    the factory that varies must be active everywhere, since elsewhere a default would train silently. With an open
    signature only what is certain is reported.
    """
    conditions = Conditions(study.hyperparameters)
    switches = {parent for parent in conditions.mentioned if parent in conditions.by_name}
    problems = check_names(study, switches, signature, is_function=is_function)
    for item in study.hyperparameters if not is_function else ():
        if item.name in FIELDS and item.name not in signature.parameters and item.name not in switches:
            message = _unread(conditions, item)
            if message:
                problems.append(study.problem(item.path, message, at_key=True))
    for alternatives in conditions.by_name.values():
        message = _absent(conditions, alternatives, signature, switches)
        if message:
            problems.append(study.problem(alternatives[0].path, message, at_key=True))
    return sorted(problems)


def _unread(conditions: Conditions, item: Hyperparameter) -> str:
    """Why nobody reads a field of the training configuration where it is active, "" where somebody does."""
    needs = FIELDS[item.name].needs
    if needs is not None and needs not in conditions.by_name:
        return f"nobody reads {item.name} without {needs}; add {needs}, or leave this out"
    read_when = FIELDS[item.name].read_when
    if read_when is None:
        return ""
    parent, wanted = next(iter(read_when.items()))
    default = _DEFAULTS.get(parent)
    worlds = [
        world for world in conditions.worlds([item.name, parent], extra=_EXTRA) if world.active.get(item.name) is item
    ]
    unread = [world for world in worlds if world.values.get(parent, default) not in wanted]
    if not unread or (not item.varies and len(unread) < len(worlds)):
        return ""
    possible = dict.fromkeys(world.values.get(parent, default) for world in conditions.worlds([parent], extra=_EXTRA))
    names = ", ".join(name for name in wanted if name in possible)
    if not names:
        held = " or ".join(as_text(value) for value in possible if isinstance(value, str))
        add = f" or add {parent}: {wanted[-1]}" if parent not in conditions.by_name else ""
        return f"nobody reads {item.name} in any setting: {parent} is {held}; leave it out,{add}".rstrip(",")
    if not item.varies:
        return f"nobody reads {item.name} where it is active: it is read where {parent} is one of {names}"
    held = as_text(unread[0].values.get(parent, default))
    return (
        f"nobody reads {item.name} where {parent} is {held}; it is read under {names}: add when: "
        f"{{{parent}: [{names}]}}"
    )


def _absent(
    conditions: Conditions, alternatives: list[Hyperparameter], signature: FactorySignature, switches: Collection[str]
) -> str:
    """Where a keyword of the factory has no value and its default would train silently, "" where nowhere."""
    name = alternatives[0].name
    of_factory = name in signature.parameters or (signature.open and name not in FIELDS and name not in switches)
    differs = name in signature.required or any(item.varies or item.when for item in alternatives)
    if not of_factory or not differs:
        return ""
    for world in conditions.worlds([name]):
        if name not in world.active:
            return (
                f"the factory reads {name}, which has no value where {world.in_words()}: its default would train "
                "silently; write an alternative for it"
            )
    return ""


_DEFAULTS = {"schedule": "constant"}
