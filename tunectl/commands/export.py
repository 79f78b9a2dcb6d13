"""`export`: a study in the format of another tool, or its tables as CSV or Parquet."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from tunectl.analysis.results.outcomes import settings_summary
from tunectl.core.errors import FolderError
from tunectl.core.files import write_bytes
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.records import TrialOutcome
from tunectl.exchange import mlflow_store, optuna_storage, tensorboard_runs, wandb_runs
from tunectl.exchange.export_folder import database_file, expanded, replaced_folder
from tunectl.exchange.exported_study import ExportedStudy, ExportedTrial
from tunectl.report.parquet import parquet_bytes
from tunectl.report.table import Table, csv_bytes
from tunectl.report.trial_tables import measurements_table, settings_table, trials_table
from tunectl.session.damage import DamageLog
from tunectl.session.snapshot import study_snapshot
from tunectl.session.written_tables import setting_names
from tunectl.store.trial_files import read_trial

Tool = Literal["tensorboard", "mlflow", "wandb", "optuna", "csv", "parquet"]
TOOLS: tuple[Tool, ...] = get_args(Tool)

_TABLES: Mapping[Tool, Sequence[str]] = {"mlflow": mlflow_store.TABLES, "optuna": optuna_storage.TABLES}
"""The tools that read a SQLite file, with the tables by which a file of theirs is recognised."""


@dataclass(frozen=True, slots=True)
class Export:
    """The file or folder that was written, `place`, which has `trials` of the `planned` trials.

    `view` is the command that shows it, "" where there is none, and `damage` has the damage of the study folder.
    """

    study: str
    folder: str
    tool: Tool
    place: Path
    trials: int
    planned: int
    view: str = ""
    damage: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The export as one JSON object."""
        return {
            "study": self.study,
            "folder": self.folder,
            "to": self.tool,
            "place": str(self.place),
            "trials": self.trials,
            "planned": self.planned,
            "view": self.view or None,
            "damage": list(self.damage),
        }


def export_study(
    place: Path, tool: Tool, out: str | None = None, say: Callable[[str], None] = lambda _line: None
) -> Export:
    """Write the study folder at `place` for a tool, by default into `exports/` in it; also while a runner is at work.

    An earlier export of the same study folder is replaced. `say` is called with each line about damage. Raises
    FolderError where there is no study, or where `out` has other files, and UsageError where the tool's library is not
    installed.
    """
    damage = DamageLog(say)
    study = read_for_export(place, damage)
    target = _target(StudyFolder(place), tool, out)
    written, view = _write(study, tool, target)
    planned, command = len(study.trials), shlex.join(view)
    return Export(study.spec.name, study.folder, tool, target, written, planned, command, damage.lines)


def _target(folder: StudyFolder, tool: Tool, out: str | None) -> Path:
    """The path to write to, with `~` resolved; raises FolderError where it is the file of something else."""
    tables = _TABLES.get(tool)
    where = out if out is not None else str(folder.exports / (f"{tool}.db" if tables else tool))
    if out is None and Path(where).is_symlink():
        raise FolderError(f"{where}: is a link, and no link inside a study folder is followed; remove it")
    if not tables:
        return expanded(where)
    target = database_file(where, tool, tables)
    if target.resolve() == folder.index.resolve():
        raise FolderError(f"{target}: is the index of the study; give another --out")
    return target


def read_for_export(place: Path, say: Callable[[str], None] = lambda _line: None) -> ExportedStudy:
    """The study and its trials, by the study's objective, with their measurements; raises FolderError."""
    with study_snapshot(place, say) as study:
        outcomes = sorted(study.outcomes, key=lambda item: item.plan.trial)
        counts = study.spec.objective.steps_to is not None
        trials = [replace(_trial(study.folder.trial(item.plan.trial), item), counts_steps=counts) for item in outcomes]
        return ExportedStudy(study.spec, str(place.resolve()), trials)


def _trial(home: TrialFolder, outcome: TrialOutcome) -> ExportedTrial:
    if outcome.state == "pending" and not home.path.is_dir():
        return ExportedTrial(outcome)
    measurements = read_trial(home).measurements
    ended = _last_written(home)
    if ended is None:
        return ExportedTrial(outcome, measurements)
    seconds = (outcome.train_seconds or 0.0) + (outcome.eval_seconds or 0.0)
    seconds = max([seconds, *(item.elapsed_seconds for item in measurements)])
    return ExportedTrial(outcome, measurements, ended - seconds, ended)


def _last_written(home: TrialFolder) -> float | None:
    """The time at which a trial wrote last, in seconds since 1970; None where it was never launched."""
    for path in (home.result, home.measurements, home.attempts, home.request):
        try:
            return path.stat().st_mtime
        except OSError:
            continue
    return None


def _write(study: ExportedStudy, tool: Tool, target: Path) -> tuple[int, Sequence[str]]:
    """Write the export; return the number of its trials and the command that shows it."""
    match tool:
        case "mlflow":
            return mlflow_store.write_mlflow(study, target), mlflow_store.view_command(target)
        case "optuna":
            return optuna_storage.write_optuna(study, target), optuna_storage.view_command(target)
        case "tensorboard":
            return _into_folder(study, tool, target, tensorboard_runs.write_tensorboard), (
                tensorboard_runs.view_command(target)
            )
        case "wandb":
            return _into_folder(study, tool, target, wandb_runs.write_wandb), wandb_runs.view_command(target)
        case "csv":
            return _into_folder(study, tool, target, _tables_writer("csv", csv_bytes)), ()
        case "parquet":
            return _into_folder(study, tool, target, _tables_writer("parquet", parquet_bytes)), ()


def _into_folder(study: ExportedStudy, tool: Tool, target: Path, write: Callable[[ExportedStudy, Path], int]) -> int:
    with replaced_folder(target, study.owner, tool) as folder:
        return write(study, folder)


def _tables_writer(ending: str, content: Callable[[Table], bytes]) -> Callable[[ExportedStudy, Path], int]:
    def write(study: ExportedStudy, folder: Path) -> int:
        for name, table in _tables(study).items():
            write_bytes(folder / f"{name}.{ending}", content(table), within=folder.parent)
        return len(study.trials)

    return write


def _tables(study: ExportedStudy) -> dict[str, Table]:
    outcomes = [item.outcome for item in study.trials]
    names = setting_names(study.spec)
    # A procedure's trials have hyperparameters that its study does not name.
    all_names = dict.fromkeys([*study.spec.names, *(name for item in outcomes for name in item.plan.hyperparameters)])
    summaries = settings_summary(
        outcomes,
        names,
        study.objective,
        own_code=study.spec.own_code,
        stops_early=study.spec.search.stop_early is not None,
    )
    return {
        "trials": trials_table(outcomes, tuple(all_names)),
        "settings": settings_table(summaries, names),
        "measurements": measurements_table((item.plan.trial, item.measurements) for item in study.trials),
    }
