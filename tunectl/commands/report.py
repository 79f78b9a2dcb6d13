"""`report`: what a study says, as findings, a page and plots; under its own objective or under another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tunectl.core.folders import StudyFolder
from tunectl.report.renderer import Renderer
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.session.study_evidence import (
    ObjectiveChoice,
    evidence_of,
    known_curves,
)
from tunectl.session.written_report import StudyReport, write_report
from tunectl.store.writing_lock import writing_lock


def report_study(
    place: Path,
    choice: ObjectiveChoice,
    *,
    draw: bool = True,
    ready: Sequence[Renderer] = (),
    report: Callable[[str], None] = lambda _line: None,
) -> StudyReport:
    """Write the report of the study folder at `place` anew, also while a runner is at work there.

    Nothing is trained. Under another objective than the study's own the files have that one's name in theirs. The
    processes that are `ready` draw the plots; what is damaged in the folder is said to `report`. Raises FolderError
    where there is no study or nothing can be written, UsageError where the choice cannot be answered.
    """
    with writing_lock(StudyFolder(place), report):
        with study_snapshot(place, report) as study:
            evidence, outcomes = evidence_of(study, choice)
            tables = () if evidence.objective != study.spec.objective else _own_tables(study)
        found = write_report(study.folder, evidence, outcomes, draw=draw, ready=ready)
        return replace(found, paths=(*tables, *found.paths), damage=tuple(study.damage))


def _own_tables(study: StudySnapshot) -> tuple[Path, ...]:
    """Write the tables that a run left so that they say what the folder says now, damaged or half run."""
    # pyarrow takes a while to load: only when there are tables to write.
    from tunectl.session.written_tables import write_tables

    is_whole = len(known_curves(study.index, study.outcomes)) == len(study.outcomes)
    return write_tables(study.folder, study.spec, study.outcomes, study.index if is_whole else None).paths
