"""Who reads each hyperparameter: the workload's factory, the training configuration, a condition, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from tunectl.core.errors import Problem
from tunectl.core.records import FactorySignature, Scalar
from tunectl.spec.conditions import Conditions, World
from tunectl.spec.configuration import FIELDS
from tunectl.spec.document import PathKey
from tunectl.spec.model import FixedValue, Hyperparameter, StudySpec
from tunectl.spec.wording import nearest, shown

_SEED = "seed"  # a factory may ask for it; it never is a hyperparameter

# Every choice of a field that decides who is read makes a world of its own, so that a message can name it.
_EXTRA: dict[str, tuple[Scalar, ...]] = {
    parent: FIELDS[parent].choices for rule in FIELDS.values() for parent in rule.read_when or {}
}


def factory_arguments(signature: FactorySignature, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The hyperparameters that go to the factory by keyword.

    Those it names; and where it takes any keyword, also those that are no field of the training configuration.
    """
    return {
        name: value
        for name, value in values.items()
        if name in signature.parameters or (signature.open and name not in FIELDS)
    }


def check_names(
    names: Collection[str],
    switches: Collection[str],
    signature: FactorySignature,
    problem: Callable[[PathKey, str], Problem],
) -> list[Problem]:
    """What the names alone tell: one that nobody knows, and a keyword without a default that nobody gives.

    `names` stand under hyperparameters, `switches` are mentioned by some condition.
    """
    problems = []
    read = {*signature.parameters, *FIELDS, *switches}
    for name in names if not signature.open else ():
        if name not in read:
            near = nearest(name, [*(item for item in signature.parameters if item != _SEED), *FIELDS])
            message = f"nobody reads {name}: neither the factory nor the training configuration{near}"
            problems.append(problem(("hyperparameters", name), message))
    for name in signature.required:
        if name not in names and name != _SEED:
            where = f" (line {signature.line} of {signature.file})" if signature.line else ""
            message = f"the key is missing: the factory{where} needs it and has no default; write its value"
            problems.append(problem(("hyperparameters", name), message))
    return problems


def check_consumption(spec: StudySpec, signature: FactorySignature) -> list[Problem]:
    """What is wrong between a study and its factory: a hyperparameter that nobody reads, a keyword that nobody gives.

    Every varying hyperparameter must be read wherever it is active; a fixed one must be read somewhere; a keyword of
    the factory that varies must be active everywhere, since elsewhere a default would train silently. With an open
    signature only what is certain is reported.
    """
    conditions = Conditions(spec.hyperparameters)
    problems = check_names(spec.names, _switches(conditions), signature, spec.problem)
    problems += [
        problem for item in spec.hyperparameters if (problem := _unread(spec, conditions, signature, item)) is not None
    ]
    return sorted(problems + _missing_keywords(spec, conditions, signature))


def _switches(conditions: Conditions) -> set[str]:
    return {parent for parent in conditions.mentioned if parent in conditions.by_name}


def _unread(
    spec: StudySpec, conditions: Conditions, signature: FactorySignature, item: Hyperparameter
) -> Problem | None:
    name = item.name
    if name in signature.parameters or name in _switches(conditions):
        return None
    read_when = FIELDS[name].read_when if name in FIELDS else None
    if read_when is None:
        return None
    unread = [world for world in _active_worlds(conditions, item, read_when) if not _is_read(world, read_when)]
    if isinstance(item.domain, FixedValue):
        everywhere = len(unread) == sum(1 for _ in _active_worlds(conditions, item, read_when))
        if not everywhere:
            return None
    if not unread:
        return None
    parent, wanted = next(
        (parent, values) for parent, values in read_when.items() if unread[0].values.get(parent) not in values
    )
    value = unread[0].values.get(parent, "constant" if parent == "schedule" else None)
    shown_value = shown(value) if isinstance(value, (str, int, float)) else "something else"
    possible = {world.values.get(parent) for world in conditions.worlds([parent], extra=_EXTRA)}
    names = ", ".join(name for name in wanted if name in possible) or ", ".join(wanted)
    message = (
        f"nobody reads {name} where {parent} is {shown_value.strip(chr(39))}; it is read under {names}: add when: "
        f"{{{parent}: [{names}]}}"
    )
    if isinstance(item.domain, FixedValue):
        message = f"nobody reads {name} in any setting: it is read where {parent} is one of {names}; leave it out"
    return spec.problem(item.path, message)


def _is_read(world: World, read_when: Mapping[str, tuple[str, ...]]) -> bool:
    return all(world.values.get(parent, _DEFAULTS.get(parent)) in values for parent, values in read_when.items())


_DEFAULTS = {"schedule": "constant"}


def _active_worlds(
    conditions: Conditions, item: Hyperparameter, read_when: Mapping[str, tuple[str, ...]]
) -> Iterator[World]:
    for world in conditions.worlds([item.name, *read_when], extra=_EXTRA):
        if world.active.get(item.name) is item:
            yield world


def _missing_keywords(spec: StudySpec, conditions: Conditions, signature: FactorySignature) -> list[Problem]:
    problems = []
    for name, alternatives in conditions.by_name.items():
        of_factory = name in signature.parameters or (
            signature.open and name not in FIELDS and name not in _switches(conditions)
        )
        varies = any(item.varies for item in alternatives) or len(alternatives) > 1
        if not of_factory or not (varies or name in signature.required):
            continue
        for world in conditions.worlds([name]):
            if name not in world.active:
                message = (
                    f"the factory reads {name}, which has no value where {world.in_words()}: its default would train "
                    "silently; write an alternative for it"
                )
                problems.append(spec.problem(alternatives[0].path, message))
                break
    return problems
