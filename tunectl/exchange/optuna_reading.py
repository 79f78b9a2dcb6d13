"""Studies read from Optuna's storages."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunectl.core import regular_files
from tunectl.core.errors import FolderError, TunectlError, UsageError
from tunectl.core.objective import Direction
from tunectl.exchange.database_addresses import masked
from tunectl.exchange.export_folder import database_url, is_database
from tunectl.exchange.foreign_check import checked
from tunectl.exchange.foreign_study import ForeignParameter, ForeignState, ForeignStudy, ForeignTrial
from tunectl.exchange.optional_libraries import in_one_line, needed
from tunectl.exchange.optuna_storage import ATTRIBUTE, quiet

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

_SQLITE = "sqlite:///"
_STATES: Mapping[str, ForeignState] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
_CONSTRAINTS = "constraints"
_ROUNDING = 1e-9


def read_optuna(storage: str, name: str | None) -> ForeignStudy:
    """The study in a storage: a SQLite or journal file, or a database's address; nothing is written to it.

    `name` may be left out where the storage has one study. Raises UsageError where there is no such study, for one with
    several objectives and without optuna, FolderError where the storage cannot be read.
    """
    with needed("optuna"):
        import optuna
    shown = masked(storage)
    with quiet(), warnings.catch_warnings():
        # Choices may be anything there; here they become texts.
        warnings.filterwarnings("ignore", "Choices for a categorical distribution should be", UserWarning)
        try:
            opened = _opened(storage)
            study = optuna.load_study(study_name=_chosen(opened, shown, name), storage=opened)
            return checked(_read(study, shown))
        except TunectlError:
            raise
        except Exception as error:  # whatever Optuna, SQLAlchemy and json make of a damaged storage
            raise FolderError(f"{shown}: Optuna cannot read it: {masked(in_one_line(error))}") from error


def _opened(storage: str) -> BaseStorage:
    import optuna

    path = Path(storage.removeprefix(_SQLITE))
    if "://" in storage and not storage.startswith(_SQLITE):
        try:
            return optuna.storages.RDBStorage(storage, skip_table_creation=True)
        except ValueError as error:
            raise FolderError(f"{masked(storage)}: is not the address of a database ({masked(str(error))})") from error
    if not path.is_file():
        raise FolderError(f"{path}: not found")
    if path.stat().st_size == 0:
        raise FolderError(f"{path}: is empty")
    if is_database(path):
        return optuna.storages.RDBStorage(database_url(path), skip_table_creation=True)
    with regular_files.opened(path, follows=True) as file:
        if file.read(1) != b"{":
            raise FolderError(f"{path}: is neither a SQLite database nor a journal of Optuna")
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    try:
        return optuna.storages.JournalStorage(backend)
    except (ValueError, KeyError, TypeError) as error:
        raise FolderError(f"{path}: is not a journal of Optuna ({error})") from error


def _chosen(opened: BaseStorage, storage: str, name: str | None) -> str:
    import optuna

    names = optuna.get_all_study_names(opened)
    if name is not None and name not in names:
        raise UsageError(f"--study {name}: {storage} has no such study; it has {_listed(names)}")
    if name is None and len(names) != 1:
        raise UsageError(f"{storage}: has {_listed(names)}; name one with --study")
    return name if name is not None else names[0]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no study"


def _read(study: Study, storage: str) -> ForeignStudy:
    if len(study.directions) != 1:
        raise UsageError(
            f"{study.study_name}: has {len(study.directions)} objectives; a study of tunectl has one, so it cannot be "
            "imported"
        )
    trials = study.get_trials(deepcopy=False)
    ended = [trial for trial in trials if trial.state.name in _STATES]
    if not ended:
        raise UsageError(f"{study.study_name}: has no trial that has ended")
    metrics = study.metric_names or [""]
    if not isinstance(metrics, list):
        raise FolderError(f"{storage}: is damaged: the names of its metrics are not a list")
    found = ForeignStudy(
        name=study.study_name,
        source=storage,
        direction="maximize" if study.direction.name == "MAXIMIZE" else "minimize",
        metric=metrics[0],
        parameters=_parameters(ended),
        trials=[_trial(trial) for trial in ended],
        left_out=len(trials) - len(ended),
        steps_from_zero=ATTRIBUTE in study.user_attrs,
    )
    return _with_target(found, study.user_attrs.get(ATTRIBUTE))


def _with_target(study: ForeignStudy, ours: Any) -> ForeignStudy:
    """The study by its own metric and target, where it is an export of ours that counts the steps to one.

    Their number is not a value of the metric: it comes from the curves again.
    """
    facts = ours if isinstance(ours, dict) else {}
    target, metric, direction = facts.get("steps_to"), facts.get("metric"), facts.get("direction")
    if not isinstance(target, (int, float)) or not isinstance(metric, str):
        return study
    trials = [replace(trial, value=None) for trial in study.trials]
    better: Direction = "maximize" if direction == "maximize" else "minimize"
    return replace(study, metric=metric, direction=better, steps_to=float(target), trials=trials)


def _trial(trial: FrozenTrial) -> ForeignTrial:
    duration = trial.duration
    attributes = trial.user_attrs
    infeasible, step = "", None
    if any(value > 0 for value in _constraints(trial.system_attrs)):
        infeasible = "constraint"
        if attributes.get("state") == "infeasible":  # an export of ours
            infeasible, step = str(attributes.get("reason") or infeasible), attributes.get("infeasible_step")
    return ForeignTrial(
        number=trial.number,
        state=_STATES[trial.state.name],
        params=trial.params,
        # Of a pruned trial Optuna gives the last intermediate value there.
        value=trial.value if trial.state.name == "COMPLETE" else None,
        curve=trial.intermediate_values,
        seconds=duration.total_seconds() if duration is not None else 0.0,
        infeasible=infeasible,
        infeasible_step=step if isinstance(step, int) else None,
        message=str(trial.system_attrs.get("fail_reason") or attributes.get("message") or ""),
    )


def _constraints(attributes: Mapping[str, Any]) -> list[float]:
    """A trial's constraints, as every version of Optuna writes them; above 0 is violated."""
    found = list(attributes.get(_CONSTRAINTS) or [])
    found += [value for key, value in attributes.items() if key.startswith(f"{_CONSTRAINTS}:")]
    return [value for value in found if isinstance(value, (int, float)) and not math.isnan(value)]


def _parameters(trials: Iterable[FrozenTrial]) -> list[ForeignParameter]:
    """Every parameter, in the order in which trials first have them; intervals that changed are joined."""
    found: dict[str, ForeignParameter] = {}
    for trial in trials:
        # The order in which a trial asked for its parameters is the storage's business; that of params is kept.
        for name, distribution in trial.distributions.items():
            read = _parameter(name, distribution)
            found[name] = read if name not in found else _joined(found[name], read)
    return list(found.values())


def _parameter(name: str, distribution: BaseDistribution) -> ForeignParameter:
    import optuna

    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return ForeignParameter(name, choices=tuple(distribution.choices))
    if isinstance(distribution, optuna.distributions.IntDistribution):
        step = None if distribution.step == 1 else float(distribution.step)
        return ForeignParameter(name, distribution.low, distribution.high, distribution.log, integer=True, step=step)
    if isinstance(distribution, optuna.distributions.FloatDistribution):
        return ForeignParameter(name, distribution.low, distribution.high, distribution.log, step=distribution.step)
    raise UsageError(f"{name}: is distributed as {type(distribution).__name__}, which cannot be imported")


def _joined(left: ForeignParameter, right: ForeignParameter) -> ForeignParameter:
    if left.choices is not None or (left.low, left.high, left.step) == (right.low, right.high, right.step):
        return left
    even = left.step == right.step and (left.step is None or _fits((right.low - left.low) / left.step))
    return replace(
        left,
        low=min(left.low, right.low),
        high=max(left.high, right.high),
        step=left.step if even else None,
        joined=left.joined or (left.low, left.high) != (right.low, right.high),
        uneven=left.uneven or not even,
    )


def _fits(steps: float) -> bool:
    """Whether a distance is a whole number of steps, up to rounding."""
    return abs(steps - round(steps)) < _ROUNDING
