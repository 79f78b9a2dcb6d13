"""The base configuration of a procedure: one value for each hyperparameter of the study that it does not sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tunectl.core.errors import FolderError, UsageError
from tunectl.core.records import Scalar
from tunectl.core.scalars import scalar
from tunectl.core.user_code import is_code
from tunectl.core.wording import as_text, nearest
from tunectl.language.configuration import FIELDS
from tunectl.language.study_spec import StudySpec
from tunectl.session.snapshot import study_snapshot
from tunectl.space.domains import Derived, FixedValue, is_number, same
from tunectl.space.formulas import FormulaError
from tunectl.space.hyperparameters import Hyperparameter, active, names_used
from tunectl.store.study_folder import open_folder, study_and_trial


def base_configuration(
    spec: StudySpec,
    swept: frozenset[str],
    given: Mapping[str, Scalar],
    procedure: str,
    *,
    trial_values: Mapping[str, Scalar] = MappingProxyType({}),
    left_out: frozenset[str] = frozenset(),
) -> dict[str, Scalar]:
    """The base configuration: the values that the study fixes or computes, and the given ones of those that vary.

    `trial_values`, those of a finished trial, count where none is given, but for what a formula computes; it is
    computed again. Hyperparameters that the procedure sweeps may vary; they are left out where no value is given, those
    in `left_out` always. Raises UsageError with all hyperparameters that have no value, for a given value that the
    study does not allow, and for a formula over what the procedure sweeps.
    """
    _check_names(spec, {**trial_values, **given})
    values: dict[str, Scalar] = {}
    inactive: set[str] = set()
    unknown: list[Hyperparameter] = []
    waiting = list(spec.names)
    while waiting:
        known = values.keys() | inactive
        # Whether a hyperparameter is active depends on those that its conditions name, and its value on its formula.
        name = next((name for name in waiting if names_used(spec.alternatives(name)) <= known), None)
        if name is None:
            break  # the rest depends on a hyperparameter without a value
        waiting.remove(name)
        item = active(spec.alternatives(name), values) if name not in left_out else None
        if item is None:
            inactive.add(name)
            continue
        if isinstance(item.domain, Derived) and name not in swept:
            _refuse_swept_names(spec, item, swept, procedure)
            value = _computed(item.key, item.domain, values, given.get(name))
            missing = value is None  # one of its names has no value, and is reported itself
        else:
            value = _value(item, given, trial_values)
            missing = name in swept
        if value is not None:
            values[name] = value
            continue
        inactive.add(name)
        unknown += [] if missing else [item]
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
        if rule is not None and is_code(value) and value not in spec.code:
            found = nearest(value, list(spec.code))
            raise UsageError(f"--at {name}={value}: no {name} of the study has this name{found}; write it in the study")


def _refuse_swept_names(spec: StudySpec, item: Hyperparameter, swept: frozenset[str], procedure: str) -> None:
    names = [name for name in (item.formula.names if item.formula is not None else ()) if name in swept]
    if names:
        assert item.formula is not None
        raise UsageError(
            f"{procedure}: sets {', '.join(names)} by itself, and {spec.label} computes {item.key} from it "
            f"({item.formula.text}): write values in place of the formula in a copy of the study"
        )


def _computed(key: str, domain: Derived, values: Mapping[str, Scalar], given: Scalar | None) -> Scalar | None:
    """What a formula computes, None where one of its names has no value; raises UsageError where it has none itself."""
    if not set(domain.formula.names) <= values.keys():
        return None
    try:
        value = domain.value(values)
    except FormulaError as error:
        raise UsageError(f"{key}, which is {domain.formula.text}, has no value here: {error}") from None
    if given is not None and not domain.agrees(given, value):
        raise UsageError(
            f"--at {key}={as_text(given)}: the study computes it: {domain.formula.text} is {as_text(value)} here; "
            "give the values of the names in the formula"
        )
    return value


def _value(item: Hyperparameter, named: Mapping[str, Scalar], trial_values: Mapping[str, Scalar]) -> Scalar | None:
    domain, value = item.domain, named.get(item.name, trial_values.get(item.name))
    if isinstance(domain, FixedValue):
        if value is not None and not same(value, domain.value):
            raise UsageError(
                f"--at {item.name}={as_text(value)}: the study fixes {item.key} at {as_text(domain.value)}; change the "
                "study, or remove this option"
            )
        return domain.value
    if isinstance(domain, Derived):
        return value  # the procedure sets it by itself
    if value is not None and not domain.is_ordered and not domain.contains(value):
        raise UsageError(f"--at: expected one of {_domain_in_words(item)} for {item.key}, got {as_text(value)}")
    if value is not None and domain.is_ordered and not is_number(value):
        raise UsageError(f"--at: expected a number in {_domain_in_words(item)} for {item.key}, got {as_text(value)}")
    return value


def _domain_in_words(item: Hyperparameter) -> str:
    domain = item.sampled_domain
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
    parent, number = study_and_trial(place)
    if number is None:
        raise UsageError(f"--values-from {place}: expected DIR/TRIAL, such as runs/my-study/18")
    try:
        open_folder(parent)
    except FolderError as error:
        raise UsageError(f"--values-from {place}: {error}") from error
    with study_snapshot(parent, say) as study:
        if number >= len(study.outcomes):
            raise UsageError(f"--values-from {place}: expected a trial from 0 to {len(study.outcomes) - 1}")
        found = study.outcomes[number]
    if found.state != "completed":
        raise UsageError(f"--values-from {place}: expected a completed trial, got one that is {found.state}")
    return dict(found.plan.hyperparameters)
