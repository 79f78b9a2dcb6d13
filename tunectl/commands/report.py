"""`report`: findings, page, tables and plots of a study, by its own objective or by another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tunectl.core.folders import StudyFolder
from tunectl.report.renderer import Renderer
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.session.study_evidence import ObjectiveChoice, evidence_of
from tunectl.session.written_report import StudyReport, write_report
from tunectl.store.writing_lock import writing_lock


def report_study(
    place: Path,
    choice: ObjectiveChoice,
    *,
    stage: int | None = None,
    draw: bool = True,
    ready: Sequence[Renderer] = (),
    say: Callable[[str], None] = lambda _line: None,
) -> StudyReport:
    """Write the report of the study folder at `place`, also while a runner is at work there; nothing is trained.

    With another objective than the study's, or another `stage` than the judged one, the files have it in their names.
    The processes `ready` draw the plots; `say` is called with each line about damage. Raises FolderError where there is
    no study or a file cannot be written, UsageError where no trial measured the objective.
    """
    with writing_lock(StudyFolder(place), say):
        with study_snapshot(place, say) as study:
            evidence, outcomes = evidence_of(study, choice, stage)
            tables = () if evidence.objective != study.spec.objective else _own_tables(study)
        found = write_report(study.folder, evidence, outcomes, draw=draw, ready=ready)
        return replace(found, paths=(*tables, *found.paths), damage=tuple(study.damage))


def _own_tables(study: StudySnapshot) -> tuple[Path, ...]:
    """Write the tables of a run again, from the present state of the folder, also of a damaged or unfinished study."""
    # Imports pyarrow, which takes a while: only where there are tables to write.
    from tunectl.session.written_tables import whole_index, write_tables

    return write_tables(study.folder, study.spec, study.outcomes, whole_index(study)).paths
