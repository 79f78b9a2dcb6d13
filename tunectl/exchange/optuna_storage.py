"""A study as Optuna stores it: an SQLite storage that optuna-dashboard opens.

An infeasible trial is complete, violates a constraint, which is how Optuna and its dashboard know infeasible ones, and
has the worst possible value, so that it is never the best one. With a target the value is the number of steps to it,
and a trial that never reached it is complete, violates nothing, and has the worst possible value, too. Trials of
another stage than the judged one are pruned, so that Optuna's best trial is one of that stage. What a trial measured
are its intermediate values; its reason, its best value and all else that the tables say are user attributes.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from tunectl.core.errors import FolderError
from tunectl.core.records import Scalar, TrialOutcome
from tunectl.core.wording import as_text
from tunectl.exchange.database_errors import database_errors
from tunectl.exchange.export_folder import database_url
from tunectl.exchange.exported_study import Dimension, ExportedStudy, ExportedTrial, dimensions, values_by_key
from tunectl.exchange.optional_libraries import in_one_line, needed
from tunectl.space.domains import Range, same

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, TrialState

TABLES = ("version_info", "studies")
"""The tables by which a storage of Optuna is known."""
ATTRIBUTE = "tunectl"
"""The user attribute of a study that holds what tunectl says of it."""

_CONSTRAINTS = "constraints"
"""The system attribute under which Optuna and its dashboard keep a trial's constraints; above 0 is violated."""


def write_optuna(study: ExportedStudy, database: Path) -> int:
    """Write the study into the storage; the number of trials in it, which are numbered as in the study.

    What varies is a parameter under its key in the findings; all active hyperparameters, fixed ones too, are a user
    attribute of each trial. A study of that name is written anew where it is of the same study folder. Raises
    FolderError where it is another one's, UsageError without optuna.
    """
    with needed("optuna"):
        import optuna
    with quiet():
        try:
            storage = optuna.storages.RDBStorage(database_url(database))
            _remove_earlier(storage, study, database)
            made = optuna.create_study(
                study_name=study.spec.name, storage=storage, direction=study.objective.best_direction
            )
            try:
                _fill(made, study)
            except BaseException:
                optuna.delete_study(study_name=study.spec.name, storage=storage)
                raise
        except (*database_errors(), RuntimeError, optuna.exceptions.StorageInternalError) as error:
            raise FolderError(f"{database}: Optuna cannot write it: {in_one_line(error)}") from error
    return len(study.trials)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what Optuna logs about its work, and about errors that it then raises."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _remove_earlier(storage: BaseStorage, study: ExportedStudy, database: Path) -> None:
    import optuna

    for there in optuna.get_all_study_summaries(storage, include_best_trial=False):
        if there.study_name != study.spec.name:
            continue
        attribute = there.user_attrs.get(ATTRIBUTE)
        marks = attribute if isinstance(attribute, dict) else {}
        owner = marks.get("folder")
        if not study.owner.owns(database, owner, marks.get("identity")):
            whose = f"of the study folder {owner}" if owner else "that tunectl did not make"
            raise FolderError(f"{database}: has a study {study.spec.name!r} {whose}; give another --out")
        optuna.delete_study(study_name=study.spec.name, storage=storage)


def _fill(made: Any, study: ExportedStudy) -> None:
    made.set_metric_names([study.objective.title])
    made.set_user_attr(ATTRIBUTE, {**study.facts(), "identity": study.owner.identity})
    varying = {item.key: item for item in dimensions(study)}
    distributions = {key: _distribution(item) for key, item in varying.items()}
    for trial in study.trials:
        values = {key: value for key, value in values_by_key(study.spec, trial.plan).items() if key in varying}
        params = {key: _parameter(varying[key], value) for key, value in values.items()}
        made.add_trial(_frozen(study, trial, params, {key: distributions[key] for key in params}))


def _distribution(item: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    domain = item.domain
    if not isinstance(domain, Range):
        return CategoricalDistribution(_choices(item))
    if domain.integer:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.scale == "log")
    # Optuna has no one_minus_log: such a range is linear to it.
    return FloatDistribution(float(domain.low), float(domain.high), log=domain.scale == "log")


def _choices(item: Dimension) -> list[Scalar]:
    """The values of a set; to Optuna true is 1, so that a set with both is one of texts."""
    values = list(item.domain.listed or ())
    are_distinct = all(same(left, right) == (left == right) for left in values for right in values)
    return values if are_distinct else [as_text(value) for value in values]


def _parameter(item: Dimension, value: Scalar) -> Scalar:
    if isinstance(item.domain, Range):
        return int(value) if item.domain.integer else float(value)
    values = item.domain.values
    return _choices(item)[next(place for place, other in enumerate(values) if same(value, other))]


def _frozen(
    study: ExportedStudy, trial: ExportedTrial, params: dict[str, Scalar], distributions: dict[str, BaseDistribution]
) -> FrozenTrial:
    from optuna.trial import FrozenTrial, TrialState

    state, outcome = _state(trial, has_target=study.objective.steps_to is not None), trial.outcome
    if state is TrialState.COMPLETE and trial.plan.stage != study.stage:
        state = TrialState.PRUNED
    metric = study.objective.metric
    finished, waits = state.is_finished(), state.name == "WAITING"
    attributes = {
        **trial.facts(),
        "hyperparameters": dict(trial.plan.hyperparameters),
        **trial.reached(),
    }
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=state,
        value=_value(study, outcome) if state.name == "COMPLETE" else None,
        datetime_start=None if waits else datetime.fromtimestamp(trial.started or 0.0),
        datetime_complete=datetime.fromtimestamp(trial.ended or trial.started or 0.0) if finished else None,
        params=params,
        distributions=distributions,
        user_attrs=attributes,
        system_attrs={_CONSTRAINTS: [1.0 if outcome.state == "infeasible" else 0.0]} if finished else {},
        intermediate_values={item.step: item.metrics[metric] for item in trial.curve() if metric in item.metrics},
    )


def _value(study: ExportedStudy, outcome: TrialOutcome) -> float | None:
    if outcome.state != "infeasible" and outcome.best_value is not None:
        return outcome.best_value
    return study.objective.value(math.inf)


def _state(trial: ExportedTrial, *, has_target: bool) -> TrialState:
    from optuna.trial import TrialState

    match trial.outcome.state:
        case "completed":
            # One without a finite value cannot be compared with any other; one that never reached a target can be.
            return TrialState.COMPLETE if trial.outcome.best_value is not None or has_target else TrialState.FAIL
        case "infeasible":
            return TrialState.COMPLETE
        case "failed":
            return TrialState.FAIL
        case "stopped":
            return TrialState.PRUNED
        case "running":
            return TrialState.RUNNING
        case "pending" | "cancelled":
            return TrialState.WAITING
        case _:
            assert_never(trial.outcome.state)


def view_command(database: Path) -> Sequence[str]:
    """The command that shows it."""
    return ("optuna-dashboard", database_url(database))
