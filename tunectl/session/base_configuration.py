"""The base configuration of a procedure: one value for each hyperparameter of the study that it does not sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tunectl.core.errors import FolderError, UsageError
from tunectl.core.records import Scalar
from tunectl.core.scalars import scalar
from tunectl.core.wording import as_text, nearest
from tunectl.language.configuration import FIELDS
from tunectl.language.study_spec import StudySpec
from tunectl.session.snapshot import study_snapshot
from tunectl.space.domains import FixedValue, is_number, same
from tunectl.space.hyperparameters import Hyperparameter, active
from tunectl.store.study_folder import open_folder


def base_configuration(
    spec: StudySpec, swept: frozenset[str], given: Mapping[str, Scalar], procedure: str
) -> dict[str, Scalar]:
    """The base configuration: the values that the study fixes, and the given ones of hyperparameters that vary.

    Hyperparameters that the procedure sweeps may vary; they are left out where no value is given. Raises UsageError
    with all hyperparameters that have no value, and for a given value that the study does not allow.
    """
    _check_names(spec, given)
    values: dict[str, Scalar] = {}
    inactive: set[str] = set()
    unknown: list[Hyperparameter] = []
    waiting = list(spec.names)
    while waiting:
        known = values.keys() | inactive
        # Whether a hyperparameter is active depends on those that its conditions name.
        name = next((name for name in waiting if {p for it in spec.alternatives(name) for p in it.when} <= known), None)
        if name is None:
            break  # the rest depends on a hyperparameter without a value
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
            unknown.append(item)
            inactive.add(name)
    if unknown:
        listed = "\n".join(f"  {item.key}: {_domain_in_words(item)}" for item in unknown)
        raise UsageError(
            f"{procedure} needs one value for each hyperparameter; these have several:\n{listed}\n"
            "give one by --values-from DIR/TRIAL (the values of a finished trial) or --at NAME=VALUE"
        )
    return {name: values[name] for name in spec.names if name in values}


def _check_names(spec: StudySpec, given: Mapping[str, Scalar]) -> None:
    for name, value in given.items():
        if name not in spec.names:
            raise UsageError(f"--at {name}: the study has no such hyperparameter{nearest(name, spec.names)}")
        rule = None if spec.own_code else FIELDS.get(name)
        if rule is not None and not rule.accepts(value):
            raise UsageError(f"--at {name}={as_text(value)}: {name} is {rule.expectation()}")


def _value(item: Hyperparameter, given: Mapping[str, Scalar]) -> Scalar | None:
    domain, value = item.domain, given.get(item.name)
    if isinstance(domain, FixedValue):
        if value is not None and not same(value, domain.value):
            raise UsageError(
                f"--at {item.name}={as_text(value)}: the study fixes {item.key} at {as_text(domain.value)}; change the "
                "study, or remove this option"
            )
        return domain.value
    if value is not None and not domain.is_ordered and not domain.contains(value):
        raise UsageError(f"--at: expected one of {_domain_in_words(item)} for {item.key}, got {as_text(value)}")
    if value is not None and domain.is_ordered and not is_number(value):
        raise UsageError(f"--at: expected a number in {_domain_in_words(item)} for {item.key}, got {as_text(value)}")
    return value


def _domain_in_words(item: Hyperparameter) -> str:
    domain = item.domain
    if domain.listed is None:
        return f"[{as_text(domain.low)}, {as_text(domain.high)}]"
    return ", ".join(as_text(value) for value in domain.listed)


def values_at(settings: Sequence[str], option: str = "--at") -> dict[str, Scalar]:
    """The values of `--at NAME=VALUE`, read like those of a study file; raises UsageError where one is malformed."""
    values: dict[str, Scalar] = {}
    for setting in settings:
        name, mark, text = setting.partition("=")
        value = scalar(text.strip()) if mark else None
        if not name.strip() or value is None:
            raise UsageError(f"{option} {setting}: expected NAME=VALUE, such as momentum=0.9")
        values[name.strip()] = value
    return values


def values_of_trial(place: Path, say: Callable[[str], None] = lambda _line: None) -> dict[str, Scalar]:
    """The hyperparameters of a finished trial, by its study folder and id: `runs/my-study/18`.

    `runs/my-study/trials/00018` works, too. `say` is called with each line about damage. Raises UsageError where there
    is no such trial or it has not completed, FolderError where the folder cannot be read.
    """
    if not place.name.isdecimal():
        raise UsageError(f"--values-from {place}: expected DIR/TRIAL, such as runs/my-study/18")
    parent = place.parent.parent if place.parent.name == "trials" else place.parent
    try:
        open_folder(parent)
    except FolderError as error:
        raise UsageError(f"--values-from {place}: {error}") from error
    number = int(place.name)
    with study_snapshot(parent, say) as study:
        if number >= len(study.outcomes):
            raise UsageError(f"--values-from {place}: expected a trial from 0 to {len(study.outcomes) - 1}")
        found = study.outcomes[number]
    if found.state != "completed":
        raise UsageError(f"--values-from {place}: expected a completed trial, got one that is {found.state}")
    return dict(found.plan.hyperparameters)
