"""The tables of trials, settings and measurements, and writing them into the study folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tunectl.analysis.results.outcomes import SettingSummary
from tunectl.core import real_folders
from tunectl.core.files import write_if_changed
from tunectl.core.folders import StudyFolder
from tunectl.core.measurements import Measurement
from tunectl.core.path_errors import path_errors
from tunectl.core.records import TrialOutcome
from tunectl.core.table_columns import (
    MEASUREMENT_HEAD,
    MEASUREMENT_TAIL,
    SETTING,
    SETTING_TAIL,
    TRIAL_COLUMNS,
    TRIAL_HEAD,
    TRIAL_MIDDLE,
    TRIAL_TAIL,
    Cell,
    Column,
    column_beside,
)
from tunectl.report import parquet
from tunectl.report.markdown import markdown_bytes
from tunectl.report.table import Table, csv_bytes, short


def metric_columns(names: Iterable[str], taken: Iterable[str]) -> list[str]:
    """The metrics that have a column, sorted: all but those that are called like a column which is there already."""
    return sorted({*names} - {*taken})


def measurement_metrics(names: Iterable[str]) -> list[str]:
    """The metrics that have a column in the measurements table."""
    return metric_columns(names, [column.name for column in (*MEASUREMENT_HEAD, *MEASUREMENT_TAIL)])


def trials_table(outcomes: Iterable[TrialOutcome], hyperparameters: Sequence[str]) -> Table:
    """One row for each trial, by id, whatever its state, with the hyperparameters in the order given.

    A hyperparameter that is not active is missing. Metrics at the best step are columns by name, sorted.
    """
    ordered = sorted(outcomes, key=lambda item: item.plan.trial)
    taken = [*hyperparameters, *(column.name for column in TRIAL_COLUMNS)]
    metrics = metric_columns({name for item in ordered for name in item.metrics_at_best}, taken)
    columns = (
        *(column.column for column in TRIAL_HEAD),
        *(Column(name, "scalar") for name in hyperparameters),
        *(column_beside(hyperparameters, column.column) for column in TRIAL_MIDDLE),
        *(Column(name, "real") for name in metrics),
        *(column.column for column in TRIAL_TAIL),
    )
    return Table(columns, [_trial_row(item, hyperparameters, metrics) for item in ordered])


def _trial_row(item: TrialOutcome, hyperparameters: Sequence[str], metrics: Sequence[str]) -> tuple[Cell, ...]:
    return (
        *[column.value(item) for column in TRIAL_HEAD],
        *[item.plan.hyperparameters.get(name) for name in hyperparameters],
        *[column.value(item) for column in TRIAL_MIDDLE],
        *[item.metrics_at_best.get(name) for name in metrics],
        *[column.value(item) for column in TRIAL_TAIL],
    )


def settings_table(summaries: Sequence[SettingSummary], scientific: Sequence[str]) -> Table:
    """One row for each setting, by number; `scientific` are the hyperparameters whose values make the settings.

    The stage of the trials is a column where it is a later one than the first, and the number of those that were
    stopped early where trials may be.
    """
    may_stop = any(item.stopped is not None for item in summaries)
    tail = [column for column in SETTING_TAIL if may_stop or column.name != "stopped"]
    later = any(item.stage for item in summaries)
    stage = [column_beside(scientific, Column("stage", "whole"))] if later else []
    whole = list(dict.fromkeys(name for item in summaries for name in item.whole))
    columns = (
        SETTING,
        *stage,
        *(Column(name, "scalar") for name in scientific),
        *(column_beside(scientific, column) for column in tail),
        *(Column(name, "real") for name in whole),
    )
    rows = [
        (
            item.setting,
            *([item.stage] if later else []),
            *[item.scientific.get(name) for name in scientific],
            *[getattr(item, column.name) for column in tail],
            *[item.whole.get(name) for name in whole],
        )
        for item in summaries
    ]
    return Table(columns, rows)


def measurement_columns(metrics: Sequence[str]) -> tuple[Column, ...]:
    """The columns of the measurements table with these metrics."""
    return (*MEASUREMENT_HEAD, *(Column(name, "real") for name in metrics), *MEASUREMENT_TAIL)


def measurements_table(trials: Iterable[tuple[int, Sequence[Measurement]]]) -> Table:
    """One row for each measurement of these trials, in the order given, whatever its kind."""
    measured = [(trial, item) for trial, items in trials for item in items]
    metrics = measurement_metrics({name for _, item in measured for name in item.metrics})
    rows = [
        (
            trial,
            item.step,
            item.measurement_kind,
            *[item.metrics.get(name) for name in metrics],
            *[getattr(item, column.name) for column in MEASUREMENT_TAIL],
        )
        for trial, item in measured
    ]
    return Table(measurement_columns(metrics), rows)


def measurements_parquet(blocks: Iterable[Sequence[Sequence[Cell]]], metrics: Sequence[str]) -> bytes:
    """All measurements with the ids of their trials, as Parquet.

    `blocks` are those of `Index.measurement_columns(metrics)`; one is held at a time.
    """
    columns = measurement_columns(metrics)
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


_IN_FILES_ALONE = ("seconds_per_step", "examples_to_best", "device")
"""Columns of the settings table for which a terminal has no room."""

Rows = tuple[list[str], list[list[str]]]
"""A header and rows of short texts, for the terminal."""


def settings_rows(summaries: Sequence[SettingSummary], scientific: Sequence[str]) -> Rows:
    """The settings for the terminal, in the order given; of their cost only the time until the best step."""
    # Without the sample's error, for which a terminal has no room.
    narrow = [replace(item, whole=dict(list(item.whole.items())[:1])) for item in summaries]
    table = settings_table(narrow, scientific)
    left_out = {column_beside(scientific, column).name for column in SETTING_TAIL if column.name in _IN_FILES_ALONE}
    shown = [place for place, name in enumerate(table.header) if name not in left_out]
    return [table.header[place] for place in shown], [[short(row[place]) for place in shown] for row in table.rows]
