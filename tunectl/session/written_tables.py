"""The tables of a study, written from its index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunectl.analysis.results.outcomes import SettingSummary, settings_summary
from tunectl.core.folders import StudyFolder
from tunectl.core.records import TrialOutcome
from tunectl.language.study_spec import StudySpec
from tunectl.report.trial_tables import (
    measurement_metrics,
    settings_rows,
    settings_table,
    trials_table,
    write_measurements,
    write_table,
)
from tunectl.store.index import Index


@dataclass(frozen=True, slots=True)
class StudyTables:
    """What was written, and the settings as they are shown."""

    paths: tuple[Path, ...]
    settings: tuple[SettingSummary, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def setting_names(spec: StudySpec) -> tuple[str, ...]:
    """The names whose values make the settings, in the order of the study."""
    return tuple(name for name in spec.names if any(item.makes_settings for item in spec.alternatives(name)))


def write_tables(
    folder: StudyFolder,
    spec: StudySpec,
    outcomes: Sequence[TrialOutcome],
    index: Index,
    beyond: Sequence[str] = (),
) -> StudyTables:
    """Write every table that would change; raises FolderError where one cannot be written.

    `beyond` are hyperparameters that trials have and the study does not name: a procedure's own.
    """
    names = setting_names(spec)
    summaries = settings_summary(outcomes, names, spec.objective)
    metrics = measurement_metrics(index.metric_names())
    paths = [
        *write_table(folder, "trials", trials_table(outcomes, (*spec.names, *beyond))),
        *write_table(folder, "settings", settings_table(summaries, names)),
        write_measurements(folder, index.measurement_columns(metrics), metrics),
    ]
    header, rows = settings_rows(summaries, names)
    return StudyTables(tuple(paths), tuple(summaries), tuple(header), tuple(tuple(row) for row in rows))
