"""One configuration of a study: what a procedure works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tunectl.core.errors import FolderError, UsageError
from tunectl.core.records import Scalar
from tunectl.core.scalars import scalar
from tunectl.core.wording import as_text, nearest
from tunectl.language.configuration import FIELDS
from tunectl.language.study_spec import StudySpec
from tunectl.session.snapshot import looked_at
from tunectl.space.domains import FixedValue, is_number, same
from tunectl.space.hyperparameters import Hyperparameter, active
from tunectl.store.study_folder import open_folder


def settle(spec: StudySpec, swept: frozenset[str], given: Mapping[str, Scalar], procedure: str) -> dict[str, Scalar]:
    """The values of one trial of the study: fixed ones as they stand, those that vary as given.

    What the procedure sweeps by itself may vary and is left out then. Raises UsageError that lists all that is not
    settled, and for a given value that the study cannot take.
    """
    _check_names(spec, given)
    values: dict[str, Scalar] = {}
    inactive: set[str] = set()
    unsettled: list[Hyperparameter] = []
    waiting = list(spec.names)
    while waiting:
        name = next((name for name in waiting if _is_decidable(spec, name, values, inactive)), None)
        if name is None:
            break  # what is left hangs on what is not settled
        waiting.remove(name)
        item = active(spec.alternatives(name), values)
        if item is None:
            inactive.add(name)
            continue
        value = _value(item, given)
        if value is not None:
            values[name] = value
        elif name in swept:
            inactive.add(name)
        else:
            unsettled.append(item)
            inactive.add(name)
    if unsettled:
        listed = "\n".join(f"  {item.key}: {_domain_in_words(item)}" for item in unsettled)
        raise UsageError(
            f"{procedure} works on one configuration; these are not fixed:\n{listed}\n"
            "settle them by --values-from DIR/TRIAL (the values of a finished trial) or --at NAME=VALUE"
        )
    return {name: values[name] for name in spec.names if name in values}


def _check_names(spec: StudySpec, given: Mapping[str, Scalar]) -> None:
    for name, value in given.items():
        if name not in spec.names:
            raise UsageError(f"--at {name}: the study has no such hyperparameter{nearest(name, spec.names)}")
        rule = None if spec.own_code else FIELDS.get(name)
        if rule is not None and not rule.accepts(value):
            raise UsageError(f"--at {name}={as_text(value)}: {name} is {rule.expectation()}")


def _is_decidable(spec: StudySpec, name: str, values: Mapping[str, Scalar], inactive: set[str]) -> bool:
    parents = {parent for item in spec.alternatives(name) for parent in item.when}
    return all(parent in values or parent in inactive for parent in parents)


def _value(item: Hyperparameter, given: Mapping[str, Scalar]) -> Scalar | None:
    domain, value = item.domain, given.get(item.name)
    if isinstance(domain, FixedValue):
        if value is not None and not same(value, domain.value):
            raise UsageError(
                f"--at {item.name}={as_text(value)}: the study fixes {item.key} at {as_text(domain.value)}; change the "
                "study, or leave this out"
            )
        return domain.value
    if value is not None and not domain.is_ordered and not domain.contains(value):
        raise UsageError(f"--at {item.name}={as_text(value)}: {item.key} is one of {_domain_in_words(item)}")
    if value is not None and domain.is_ordered and not is_number(value):
        raise UsageError(f"--at {item.name}={as_text(value)}: {item.key} is a number in {_domain_in_words(item)}")
    return value


def _domain_in_words(item: Hyperparameter) -> str:
    domain = item.domain
    if domain.listed is None:
        return f"[{as_text(domain.low)}, {as_text(domain.high)}]"
    return ", ".join(as_text(value) for value in domain.listed)


def values_at(settings: Sequence[str], option: str = "--at") -> dict[str, Scalar]:
    """The values of `--at NAME=VALUE`, read as a study file's scalars; raises UsageError where one is none."""
    values: dict[str, Scalar] = {}
    for setting in settings:
        name, mark, text = setting.partition("=")
        value = scalar(text.strip()) if mark else None
        if not name.strip() or value is None:
            raise UsageError(f"{option} {setting}: write NAME=VALUE, such as momentum=0.9")
        values[name.strip()] = value
    return values


def values_of_trial(place: Path, report: Callable[[str], None] = lambda _line: None) -> dict[str, Scalar]:
    """The hyperparameters of a finished trial, by its study folder and id: `runs/my-study/18`.

    `runs/my-study/trials/00018` is understood, too. What is damaged there is said to `report`. Raises UsageError
    where there is no such trial or it has not ended, FolderError where the folder cannot be read.
    """
    if not place.name.isdecimal():
        raise UsageError(f"--values-from {place}: write DIR/TRIAL, a study folder and a trial's id: runs/my-study/18")
    parent = place.parent.parent if place.parent.name == "trials" else place.parent
    try:
        open_folder(parent)
    except FolderError as error:
        raise UsageError(f"--values-from {place}: {error}") from error
    number = int(place.name)
    with looked_at(parent, report) as study:
        if number >= len(study.outcomes):
            raise UsageError(f"--values-from {place}: the study has the trials 0 to {len(study.outcomes) - 1}")
        found = study.outcomes[number]
    if found.state != "completed":
        raise UsageError(f"--values-from {place}: the trial is {found.state}; expected one that is completed")
    return dict(found.plan.hyperparameters)
