"""The updates of a trial as a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunectl.analysis.results.runs import joined
from tunectl.api.frames import frame_of
from tunectl.core.errors import UsageError
from tunectl.report.parquet import ParquetType, write_groups
from tunectl.store.step_files import read_updates

if TYPE_CHECKING:
    import pandas

    from tunectl.core.records import TrialOutcome
    from tunectl.session.snapshot import StudySnapshot

_COLUMNS: dict[str, ParquetType] = {
    "update": "int64",
    "loss": "double",
    "gradient_norm": "double",
    "learning_rate": "double",
    "clipped": "bool",
    "skipped": "bool",
}


def update_frame(study: StudySnapshot, outcome: TrialOutcome) -> pandas.DataFrame:
    """One row for each update that is known; raises UsageError for the trial of a program or function."""
    trial = outcome.plan.trial
    if study.spec.own_code:
        raise UsageError(
            f"{study.folder.path / str(trial)}: is the trial of a {study.spec.workload_kind}, whose updates are its own"
            "; measurements() has what it reported"
        )
    series = joined(read_updates(study.folder.trial(trial)))
    columns = [
        list(range(len(series))),
        *(values.tolist() for values in (series.loss, series.gradient_norm, series.learning_rate)),
        *(values.tolist() for values in (series.clipped, series.skipped)),
    ]
    return frame_of(write_groups(tuple(_COLUMNS), tuple(_COLUMNS.values()), [columns] if len(series) else []))
