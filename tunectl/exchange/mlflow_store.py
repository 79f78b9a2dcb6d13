"""A study as MLflow keeps it: an experiment in a local SQLite store, one parent run with a run a trial below it."""

from __future__ import annotations

import contextlib
import logging
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from tunectl.core.errors import FolderError
from tunectl.core.records import State
from tunectl.exchange.database_errors import database_errors
from tunectl.exchange.export_folder import database_url
from tunectl.exchange.exported_study import ExportedStudy, ExportedTrial, as_json
from tunectl.exchange.foreign_names import shortened
from tunectl.exchange.optional_libraries import environment, in_one_line, needed

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

FOLDER_TAG = "tunectl.folder"
"""The tag of an experiment that says which study folder it is of."""

IDENTITY_TAG = "tunectl.identity"
"""The tag that says which study it is of, wherever its folder was moved to."""
TABLES = ("experiments", "runs")
"""The tables by which a store of MLflow is known."""

_MOST_METRICS, _MOST_PARAMS = 1000, 100
"""What MLflow takes in one call."""
_LONGEST_NAME = 250  # of a metric or a parameter
_LONGEST_TAG = 5000
_LONGEST_PARAM = 6000
_PARENT = "mlflow.parentRunId"
_NOTE = "mlflow.note.content"


def write_mlflow(study: ExportedStudy, database: Path) -> int:
    """Write the study into the store; the number of trials in it.

    The experiment has the study's name. One of the same study folder is written anew: its runs are deleted, as MLflow
    deletes (`mlflow gc` removes them for good). Raises FolderError where the name is another one's, UsageError without
    mlflow.
    """
    # MLflow would report every run to its makers.
    with environment({"MLFLOW_DISABLE_TELEMETRY": "true"}), needed("mlflow"):
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        try:
            return _write(MlflowClient, study, database)
        except (MlflowException, *database_errors()) as error:
            raise FolderError(f"{database}: MLflow cannot write it: {in_one_line(error)}") from error


def _write(connect: Callable[[str], MlflowClient], study: ExportedStudy, database: Path) -> int:
    with _quiet("mlflow", "alembic"):
        client = connect(database_url(database))
        experiment, earlier = _experiment(client, study, database)
        written: list[str] = []
        try:
            _write_runs(client, experiment, study, written)
        except BaseException:
            _delete(client, written)
            raise
        _delete(client, earlier)
    return len(written) - 1


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Silence what libraries log about making their tables."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _delete(client: MlflowClient, runs: Iterable[str]) -> None:
    for run in runs:
        client.delete_run(run)


def _experiment(client: MlflowClient, study: ExportedStudy, database: Path) -> tuple[str, list[str]]:
    """The experiment of the study, and the runs that are in it already."""
    name = study.spec.name
    there = client.get_experiment_by_name(name)
    if there is None:
        location = database.absolute().with_name(f"{database.name}.artifacts").as_uri()
        tags = {FOLDER_TAG: study.folder, IDENTITY_TAG: study.owner.identity, _NOTE: study.spec.goal}
        return client.create_experiment(name, artifact_location=location, tags=tags), []
    owner = there.tags.get(FOLDER_TAG)
    if not study.owner.owns(database, owner, there.tags.get(IDENTITY_TAG)):
        whose = f"of the study folder {owner}" if owner else "that tunectl did not make"
        raise FolderError(f"{database}: has an experiment {name!r} {whose}; give another --out")
    if there.lifecycle_stage != "active":
        client.restore_experiment(there.experiment_id)
    if owner != study.folder:
        client.set_experiment_tag(there.experiment_id, FOLDER_TAG, study.folder)
    return there.experiment_id, _runs(client, there.experiment_id)


def _runs(client: MlflowClient, experiment: str) -> list[str]:
    found, token = [], None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        found += [run.info.run_id for run in page]
        token = page.token
        if not token:
            return found


def _write_runs(client: MlflowClient, experiment: str, study: ExportedStudy, written: list[str]) -> None:
    """Write the parent and its children; `written` gets the ids as they are made."""
    trials = study.launched
    started = [trial.started for trial in trials if trial.started is not None]
    ended = [trial.ended for trial in trials if trial.ended is not None]
    tags = {f"tunectl.{name}": as_json(value)[:_LONGEST_TAG] for name, value in study.facts().items()}
    first = _milliseconds(min(started, default=0.0))
    note = {_NOTE: study.spec.goal} if study.spec.goal else {}
    parent = client.create_run(experiment, start_time=first, run_name=study.spec.name, tags=tags | note)
    written.append(parent.info.run_id)
    for trial in trials:
        _write_trial(client, experiment, parent.info.run_id, trial, written)
    state = "FINISHED" if len(ended) == len(study.trials) else "RUNNING"
    client.set_terminated(parent.info.run_id, state, end_time=_milliseconds(max(ended, default=0.0)))


def _write_trial(client: MlflowClient, experiment: str, parent: str, trial: ExportedTrial, written: list[str]) -> None:
    from mlflow.entities import Metric, Param

    facts = {f"tunectl.{name}": as_json(value)[:_LONGEST_TAG] for name, value in trial.facts().items()}
    started = _milliseconds(trial.started or 0.0)
    run = client.create_run(experiment, start_time=started, run_name=trial.name, tags={_PARENT: parent, **facts})
    written.append(run.info.run_id)
    params = [
        Param(shortened(name, _LONGEST_NAME), as_json(value)[:_LONGEST_PARAM])
        for name, value in trial.plan.hyperparameters.items()
    ]
    points = [
        Metric(_metric_name(name), value, _milliseconds(trial.time_of(item)), item.step)
        for item in trial.curve()
        for name, value in item.metrics.items()
    ]
    end = _milliseconds(trial.ended or trial.started or 0.0)
    step = trial.outcome.best_step or trial.outcome.final_step or 0
    points += [Metric(_metric_name(name), value, end, step) for name, value in trial.reached().items()]
    for first in range(0, len(points), _MOST_METRICS):
        client.log_batch(run.info.run_id, metrics=points[first : first + _MOST_METRICS])
    for first in range(0, len(params), _MOST_PARAMS):
        client.log_batch(run.info.run_id, params=params[first : first + _MOST_PARAMS])
    client.set_terminated(run.info.run_id, _status(trial.outcome.state), end_time=end)


def _metric_name(name: str) -> str:
    """A metric's name in the letters that MLflow takes, others as their numbers, so that no two names become one."""
    taken = "_-. :/" if posixpath.normpath(name) == name and not name.startswith(("/", ".")) else "_- :"
    text = "".join(mark if mark.isalnum() or mark in taken else f"_{ord(mark):x}_" for mark in name)
    return shortened(text, _LONGEST_NAME)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _status(state: State) -> str:
    """The status in MLflow, which has none for infeasible runs: they are finished, and have the tag tunectl.state."""
    match state:
        case "completed" | "infeasible":
            return "FINISHED"
        case "failed":
            return "FAILED"
        case "cancelled" | "stopped":
            return "KILLED"
        case "running":
            return "RUNNING"
        case "pending":
            return "SCHEDULED"
        case _:
            assert_never(state)


def view_command(database: Path) -> Sequence[str]:
    """The command that shows it."""
    return ("mlflow", "ui", "--backend-store-uri", database_url(database))
