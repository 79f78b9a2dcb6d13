"""`run`: train the trials of a study, or go on where an earlier run was left."""

from __future__ import annotations

import importlib
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunectl.analysis.findings.file_findings import must_stop
from tunectl.core.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED
from tunectl.core.folders import StudyFolder
from tunectl.core.records import TrialOutcome
from tunectl.execution.backends.backend import Backend
from tunectl.execution.stop_signals import counted_stop_signals
from tunectl.language.study_spec import StudySpec
from tunectl.session.checked_study import CheckedStudy, check_study
from tunectl.session.disk_room import check_room_to_begin
from tunectl.session.open_study import OpenStudy, opened
from tunectl.session.outcome_index import has_ended, refresh_at_end
from tunectl.session.probed_study import make_ready, study_slots
from tunectl.session.run_progress import Watcher
from tunectl.session.training_trials import RunOptions, disk_need, train_trials
from tunectl.session.unread_metrics import omissions
from tunectl.space.trial_plan import plan_trials
from tunectl.store.study_folder import check_place, study_path
from tunectl.store.writing_lock import writing_lock
from tunectl.store.written_files import read_written

if TYPE_CHECKING:
    from tunectl.analysis.findings.findings import Finding
    from tunectl.session.written_tables import StudyTables


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a call of `run` ended. `untouched`: there was nothing left to train. `page` and the findings are there only
    where all trials have ended. `has_clash`: trials overwrote what they read or go on from. `damage` says what of the
    folder was damaged, one line each.
    """

    spec: StudySpec
    folder: StudyFolder
    outcomes: tuple[TrialOutcome, ...]
    tables: StudyTables
    untouched: bool
    interrupted: bool
    findings: tuple[Finding, ...] = ()
    page: Path | None = None
    has_clash: bool = False
    damage: tuple[str, ...] = ()

    @property
    def unfinished(self) -> int:
        """The number of trials that have not ended."""
        return sum(not has_ended(item) for item in self.outcomes)

    @property
    def exit_code(self) -> int:
        """0 done, 1 done but some trials failed or have damaged files, 130 interrupted."""
        if self.unfinished and self.interrupted:
            return EXIT_INTERRUPTED
        wrong = any(item.state == "failed" or item.damage for item in self.outcomes)
        failed = self.unfinished or self.has_clash or wrong
        return EXIT_SOME_FAILED if failed else EXIT_DONE

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        states = [item.state for item in self.outcomes]
        return {
            "study": self.spec.name,
            "folder": str(self.folder.path),
            "complete": self.unfinished == 0,
            "untouched": self.untouched,
            "trials": len(states),
            "states": {state: states.count(state) for state in sorted(set(states))},
            "objective": asdict(self.spec.objective),
            "settings": [asdict(item) for item in self.tables.settings],
            "tables": [str(path) for path in self.tables.paths],
            "findings": [finding.to_json() for finding in self.findings],
            "page": str(self.page) if self.page else None,
            "damage": list(self.damage),
            "exit_code": self.exit_code,
        }


def run_study(study: Path, options: RunOptions, watcher: Watcher, backend: Backend) -> RunReport:
    """Run what is left of a study on a backend that was started.

    Raises StudyError and WorkloadError (exit code 2) before anything is created, and FolderError (3) where the folder
    is in use, belongs to another study, or cannot be written.
    """
    checked = check_study(study, Path.cwd())
    slots = study_slots(checked.spec, options.slots, backend)
    place = options.folder if options.folder is not None else study_path(Path("runs"), checked.spec.name)
    with counted_stop_signals() as stops, ExitStack() as stack:
        ready, begun = None, check_place(place)
        if not begun:
            _warn(checked, watcher)
            # Nothing is created for a study that cannot work: the workload is tried first.
            planned = plan_trials(checked.spec)
            ready = make_ready(backend, checked, planned, slots[0], stops, _import_the_end)
            # Nor for one that has no room.
            check_room_to_begin(place, disk_need(checked.spec, planned, ready, slots))
        study_at_work = stack.enter_context(opened(checked.spec, place, watcher))
        left = study_at_work.left(retry_failed=options.retry_failed)
        if not left:
            return _report(study_at_work, watcher, untouched=True, interrupted=False)
        if begun:  # where nothing is left to train, the first call has said it
            _warn(checked, watcher)
        if ready is None:
            ready = make_ready(backend, checked, left, slots[0], stops, _import_the_end)
        train_trials(study_at_work, left, checked, ready, slots, options, watcher, stops)
        return _report(study_at_work, watcher, untouched=False, interrupted=stops() > 0)


def _warn(checked: CheckedStudy, watcher: Watcher) -> None:
    for warning in checked.warnings:
        watcher.message(f"warning: {warning}")


def _import_the_end() -> None:
    """Import what writes tables and page: a second of work that would otherwise come when all trials have ended."""
    for name in (
        "tunectl.session.written_tables",
        "tunectl.commands.report",
        "tunectl.report.page",
        "tunectl.report.parquet",
    ):
        importlib.import_module(name)


def _report(study: OpenStudy, watcher: Watcher, *, untouched: bool, interrupted: bool) -> RunReport:
    # pyarrow takes a while to load: only when there are tables to write.
    from tunectl.session.written_tables import write_tables

    outcomes = refresh_at_end(study.folder, study.trials, study.spec.objective, study.index, study.damage)
    for omission in omissions(study.folder, outcomes):
        watcher.message(f"warning: {omission}")
    with writing_lock(study.folder, watcher.message):
        tables = write_tables(study.folder, study.spec, outcomes, study.index)
        has_clash = bool(must_stop(study.spec, list(read_written(study.folder.written)[0].values())))
        report = RunReport(
            study.spec,
            study.folder,
            tuple(outcomes),
            tables,
            untouched,
            interrupted,
            has_clash=has_clash,
            damage=study.damage.lines,
        )
        if report.unfinished:
            return report
        from tunectl.commands.report import write_report
        from tunectl.session.study_evidence import indexed_curves, read_evidence

        evidence = read_evidence(study.folder, study.spec, outcomes, indexed_curves(study.index), study.spec.objective)
        # The plots as files take seconds: `tunectl report` draws them.
        written = write_report(study.folder, evidence, outcomes, draw=False)
    return replace(report, findings=written.findings, page=written.page)
