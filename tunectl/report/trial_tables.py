"""The tables of a study: what stands in them, and writing them into its folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tunectl.analysis.results.outcomes import SettingSummary
from tunectl.core import real_folders
from tunectl.core.files import write_if_changed
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_errors
from tunectl.core.records import TrialOutcome
from tunectl.report import parquet
from tunectl.report.markdown import markdown_bytes
from tunectl.report.table import Cell, Column, ColumnType, Table, csv_bytes, short

_TRIAL_HEAD: dict[str, ColumnType] = {"trial": "whole", "setting": "whole", "state": "text", "reason": "text"}
_TRIAL_MIDDLE: dict[str, ColumnType] = {
    "seed": "whole",
    "kind": "text",
    "point": "whole",
    "repeat": "whole",
    "best_step": "whole",
    "best_value": "real",
    "final_step": "whole",
    "final_value": "real",
    "best_checkpoint": "text",
}
_TRIAL_TAIL: dict[str, ColumnType] = {
    "infeasible_step": "whole",
    "train_seconds": "real",
    "eval_seconds": "real",
    "startup_seconds": "real",
    "device": "text",
    "attempts": "whole",
    "message": "text",
}
_SETTING_TAIL: dict[str, ColumnType] = {
    "trials": "whole",
    "completed": "whole",
    "infeasible": "whole",
    "failed": "whole",
    "best_trial": "whole",
    "best_value": "real",
    "best_step": "whole",
}
_MEASUREMENT_HEAD: dict[str, ColumnType] = {"trial": "whole", "step": "whole", "kind": "text"}
_MEASUREMENT_TAIL: dict[str, ColumnType] = {
    "learning_rate": "real",
    "gradient_norm": "real",
    "elapsed_seconds": "real",
    "checkpoint": "text",
}


def _columns(types: dict[str, ColumnType]) -> list[Column]:
    return [Column(name, kind) for name, kind in types.items()]


def metric_columns(names: Iterable[str], taken: Iterable[str]) -> list[str]:
    """The metrics that have a column, sorted: all but those that are called like a column which is there already."""
    return sorted({*names} - {*taken})


def measurement_metrics(names: Iterable[str]) -> list[str]:
    """The metrics that have a column in the measurements table."""
    return metric_columns(names, [*_MEASUREMENT_HEAD, *_MEASUREMENT_TAIL])


def trials_table(outcomes: Iterable[TrialOutcome], hyperparameters: Sequence[str]) -> Table:
    """One row a trial, by id, whatever its state; `hyperparameters` are the columns between, in the order of the study.

    A hyperparameter that is not active is missing. Metrics at the best step are columns by name, sorted.
    """
    ordered = sorted(outcomes, key=lambda item: item.plan.trial)
    taken = [*_TRIAL_HEAD, *hyperparameters, *_TRIAL_MIDDLE, *_TRIAL_TAIL]
    metrics = metric_columns({name for item in ordered for name in item.metrics_at_best}, taken)
    columns = [
        *_columns(_TRIAL_HEAD),
        *(Column(name, "scalar") for name in hyperparameters),
        *_columns(_TRIAL_MIDDLE),
        *(Column(name, "real") for name in metrics),
        *_columns(_TRIAL_TAIL),
    ]
    return Table(tuple(columns), [_trial_row(item, hyperparameters, metrics) for item in ordered])


def _trial_row(item: TrialOutcome, hyperparameters: Sequence[str], metrics: Sequence[str]) -> tuple[Cell, ...]:
    plan = item.plan
    return (
        plan.trial,
        plan.setting,
        item.state,
        item.reason or None,
        *[plan.hyperparameters.get(name) for name in hyperparameters],
        plan.seed,
        plan.kind,
        plan.point,
        plan.repeat,
        item.best_step,
        item.best_value,
        item.final_step,
        item.final_value,
        item.best_checkpoint,
        *[item.metrics_at_best.get(name) for name in metrics],
        item.infeasible_step,
        item.train_seconds,
        item.eval_seconds,
        item.startup_seconds,
        item.device or None,
        item.attempts,
        item.message or None,
    )


def settings_table(summaries: Sequence[SettingSummary], scientific: Sequence[str]) -> Table:
    """One row a setting, by number; `scientific` are the hyperparameters whose values make the settings."""
    columns = [
        Column("setting", "whole"),
        *(Column(name, "scalar") for name in scientific),
        *_columns(_SETTING_TAIL),
    ]
    return Table(tuple(columns), [_setting_row(item, scientific) for item in summaries])


def _setting_row(item: SettingSummary, scientific: Sequence[str]) -> tuple[Cell, ...]:
    return (
        item.setting,
        *[item.scientific.get(name) for name in scientific],
        item.trials,
        item.completed,
        item.infeasible,
        item.failed,
        item.best_trial,
        item.best_value,
        item.best_step,
    )


def measurements_parquet(blocks: Iterable[Sequence[Sequence[Cell]]], metrics: Sequence[str]) -> bytes:
    """All measurements with the ids of their trials, as Parquet.

    `blocks` are those of `Index.measurement_columns(metrics)`; one is held at a time.
    """
    columns = [*_columns(_MEASUREMENT_HEAD), *(Column(name, "real") for name in metrics), *_columns(_MEASUREMENT_TAIL)]
    types = [parquet.parquet_type(column, ()) for column in columns]
    return parquet.write_groups([column.name for column in columns], types, blocks)


def write_table(folder: StudyFolder, name: str, table: Table) -> list[Path]:
    """Write `tables/<name>.csv`, `.parquet` and `.md`, each only if it changes; the paths, in this order.

    Raises FolderError where they cannot be written.
    """
    contents = {"csv": csv_bytes(table), "parquet": parquet.parquet_bytes(table), "md": markdown_bytes(table)}
    return [_write(folder, f"{name}.{kind}", content) for kind, content in contents.items()]


def write_measurements(folder: StudyFolder, blocks: Iterable[Sequence[Sequence[Cell]]], metrics: Sequence[str]) -> Path:
    """Write `tables/measurements.parquet` if it changes; raises FolderError where it cannot be written."""
    return _write(folder, "measurements.parquet", measurements_parquet(blocks, metrics))


def _write(folder: StudyFolder, name: str, content: bytes) -> Path:
    path = folder.tables / name
    with path_errors(path, "written"):
        real_folders.made(folder.tables, folder.path)
        write_if_changed(path, content, within=folder.path)
    return path


Rows = tuple[list[str], list[list[str]]]
"""A header and rows of short texts, for the terminal."""


def settings_rows(summaries: Sequence[SettingSummary], scientific: Sequence[str]) -> Rows:
    """The settings for the terminal, in the order given."""
    table = settings_table(summaries, scientific)
    return list(table.header), [[short(cell) for cell in row] for row in table.rows]
