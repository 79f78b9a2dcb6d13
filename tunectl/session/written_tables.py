"""The tables of a study, made and written from its index, or from its trial folders where there is no index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunectl.analysis.results.outcomes import SettingSummary, settings_summary
from tunectl.core.folders import StudyFolder
from tunectl.core.measurements import Measurement
from tunectl.core.records import TrialOutcome
from tunectl.language.study_spec import StudySpec
from tunectl.report.table import Table
from tunectl.report.trial_tables import (
    measurement_metrics,
    settings_rows,
    settings_table,
    trials_table,
    write_measurements,
    write_table,
)
from tunectl.session.snapshot import StudySnapshot
from tunectl.session.study_evidence import known_curves
from tunectl.store.index import MEASUREMENTS_AT_ONCE, Index
from tunectl.store.trial_files import read_trial


@dataclass(frozen=True, slots=True)
class StudyTables:
    """The files that were written, and the settings as they are printed."""

    paths: tuple[Path, ...]
    settings: tuple[SettingSummary, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def setting_names(spec: StudySpec) -> tuple[str, ...]:
    """The hyperparameters whose values make the settings, in the order of the study."""
    return tuple(name for name in spec.names if any(item.makes_settings for item in spec.alternatives(name)))


def trials_of(spec: StudySpec, outcomes: Sequence[TrialOutcome]) -> Table:
    """The table of the trials; a procedure's trials have hyperparameters that its study does not name, last."""
    beyond = sorted({name for item in outcomes for name in item.plan.hyperparameters} - set(spec.names))
    return trials_table(outcomes, (*spec.names, *beyond))


def settings_of(spec: StudySpec, outcomes: Sequence[TrialOutcome]) -> tuple[list[SettingSummary], Table]:
    """The settings by the study's own objective, and their table."""
    names = setting_names(spec)
    summaries = settings_summary(
        outcomes, names, spec.objective, own_code=spec.own_code, stops_early=spec.search.stop_early is not None
    )
    return summaries, settings_table(summaries, names)


def measurement_blocks(
    folder: StudyFolder, outcomes: Sequence[TrialOutcome], index: Index | None
) -> tuple[list[str], Iterator[list[list[Any]]]]:
    """The metrics that have a column in the table of measurements, and its rows in blocks of columns.

    Without an index they are read from the trial folders.
    """
    if index is not None:
        metrics = measurement_metrics(index.metric_names())
        return metrics, index.measurement_columns(metrics)
    metrics = measurement_metrics(
        {name for _, items in _measured(folder, outcomes) for item in items for name in item.metrics}
    )
    return metrics, _blocks(folder, outcomes, metrics)


def whole_index(study: StudySnapshot) -> Index | None:
    """The index of a study, where it has what all trial folders have; None where they are to be read in its place."""
    return study.index if len(known_curves(study.index, study.outcomes)) == len(study.outcomes) else None


def write_tables(
    folder: StudyFolder,
    spec: StudySpec,
    outcomes: Sequence[TrialOutcome],
    index: Index | None,
) -> StudyTables:
    """Write the tables that have changed; raises FolderError where one cannot be written.

    Without an index the measurements are read from the trial folders.
    """
    summaries, settings = settings_of(spec, outcomes)
    metrics, blocks = measurement_blocks(folder, outcomes, index)
    paths = [
        *write_table(folder, "trials", trials_of(spec, outcomes)),
        *write_table(folder, "settings", settings),
        write_measurements(folder, blocks, metrics),
    ]
    header, rows = settings_rows(summaries, setting_names(spec))
    return StudyTables(tuple(paths), tuple(summaries), tuple(header), tuple(tuple(row) for row in rows))


def _measured(folder: StudyFolder, outcomes: Sequence[TrialOutcome]) -> Iterator[tuple[int, Sequence[Measurement]]]:
    """The measurements of each trial by its folder, in the order of the ids; trials without any are left out."""
    for trial in sorted(item.plan.trial for item in outcomes):
        measurements = read_trial(folder.trial(trial)).measurements
        if measurements:
            yield trial, measurements


def _blocks(folder: StudyFolder, outcomes: Sequence[TrialOutcome], metrics: Sequence[str]) -> Iterator[list[list[Any]]]:
    """The measurements of the trial folders in blocks, like those of `Index.measurement_columns`."""
    block: list[tuple[int, Measurement]] = []
    for trial, items in _measured(folder, outcomes):
        block += [(trial, item) for item in items]
        if len(block) >= MEASUREMENTS_AT_ONCE:
            yield _columns(block, metrics)
            block = []
    if block:
        yield _columns(block, metrics)


def _columns(rows: Sequence[tuple[int, Measurement]], metrics: Sequence[str]) -> list[list[Any]]:
    return [
        [trial for trial, _ in rows],
        [item.step for _, item in rows],
        [item.measurement_kind for _, item in rows],
        *([item.metrics.get(name) for _, item in rows] for name in metrics),
        [item.learning_rate for _, item in rows],
        [item.gradient_norm for _, item in rows],
        [item.elapsed_seconds for _, item in rows],
        [item.checkpoint for _, item in rows],
    ]
