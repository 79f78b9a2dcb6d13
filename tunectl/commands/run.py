"""`run`: the trials of a study are trained, or an earlier run is continued."""

from __future__ import annotations

import importlib
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunectl.analysis.findings.file_findings import must_stop
from tunectl.analysis.results.stages import judged_stage
from tunectl.core.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED
from tunectl.core.folders import StudyFolder
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.execution.backends.backend import Backend
from tunectl.execution.stop_signals import counted_stop_signals
from tunectl.language.stage_lengths import stage_words
from tunectl.language.study_spec import StudySpec
from tunectl.session.checked_study import CheckedStudy, check_study
from tunectl.session.disk_room import check_room_to_begin
from tunectl.session.further_trials import FurtherTrials, further_trials, idle_workers_note, trials_to_come
from tunectl.session.open_study import OpenStudy, open_study, with_trials
from tunectl.session.outcome_index import has_ended, refresh_index_at_end
from tunectl.session.probed_study import probe_workload
from tunectl.session.promotion import promotion, promotion_notes
from tunectl.session.run_progress import Watcher
from tunectl.session.stored_agreement import check_as_run
from tunectl.session.stored_study import stored_in
from tunectl.session.study_events import end_events
from tunectl.session.training_trials import RunOptions, disk_need, study_places, train_trials, training_slots
from tunectl.session.unread_metrics import warn_of_unread_metrics
from tunectl.space.trial_plan import typical_trials
from tunectl.store.study_folder import check_place, study_path
from tunectl.store.writing_lock import writing_lock
from tunectl.store.written_files import read_written

if TYPE_CHECKING:
    from tunectl.analysis.comparison.study_answer import StudyAnswer
    from tunectl.analysis.findings.findings import Finding
    from tunectl.analysis.results.curvature_time import CurvatureTime
    from tunectl.session.written_tables import StudyTables


@dataclass(frozen=True, slots=True)
class RunResult:
    """The end of a call of `run`.

    `untouched`: no trial was left to train. `to_come`: the trials that an interrupted run had not planned yet. There
    are `findings`, a `page` and an `answer` only where all trials have ended. `has_clash`: trials have overwritten
    files that others read or resume from. `damage` has one line for everything in the folder that was damaged.
    `curvature` is None where no trial that has ended measured it. `stopped` says why no trial is promoted to the next
    stage, "" where nothing stops that. `is_left`: workers go on with the trials without this command.
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
    curvature: CurvatureTime | None = None
    to_come: int = 0
    stopped: str = ""
    answer: StudyAnswer | None = None
    is_left: bool = False

    @property
    def judged(self) -> str:
        """The stage of the settings in words behind a comma, "" where the study has only one."""
        return f", {stage_words(self.spec, judged_stage(self.outcomes))}" if self.spec.search.promote else ""

    @property
    def unfinished(self) -> int:
        """The number of trials that have not ended, also of those that are not planned yet."""
        return sum(not has_ended(item) for item in self.outcomes) + self.to_come

    @property
    def exit_code(self) -> int:
        """0 done, also where workers go on by `--detach`; 1 done but some trials failed, have damaged files, or are not
        promoted; 130 interrupted.
        """
        if self.unfinished and self.interrupted:
            return EXIT_INTERRUPTED
        if self.unfinished and self.is_left:
            return EXIT_DONE
        wrong = any(item.state == "failed" or item.damage for item in self.outcomes)
        failed = self.unfinished or self.has_clash or wrong or self.stopped
        return EXIT_SOME_FAILED if failed else EXIT_DONE

    def to_json(self) -> dict[str, Any]:
        """The result as one JSON object."""
        states = [item.state for item in self.outcomes]
        return {
            "study": self.spec.name,
            "folder": str(self.folder.path),
            "complete": self.unfinished == 0,
            "left": self.is_left,
            "untouched": self.untouched,
            "trials": len(states),
            "states": {state: states.count(state) for state in sorted(set(states))},
            "objective": self.spec.objective.to_json(),
            "settings": [item.to_json() for item in self.tables.settings],
            "tables": [str(path) for path in self.tables.paths],
            "findings": [finding.to_json() for finding in self.findings],
            "page": str(self.page) if self.page else None,
            "curvature": self.curvature.to_json() if self.curvature else None,
            "not_promoted": self.stopped,
            "damage": list(self.damage),
            "exit_code": self.exit_code,
            "answer": self.answer.to_json() if self.answer else None,
        }


def run_study(study: Path, options: RunOptions, watcher: Watcher, backend: Backend) -> RunResult:
    """Train the trials that are left of a study, on a backend that was started.

    Raises StudyError and WorkloadError (exit code 2) before anything is created, and FolderError (3) where the folder
    is in use, belongs to another study, or cannot be written.
    """
    checked = check_study(study, Path.cwd())
    place = options.folder if options.folder is not None else _place(study, checked.spec)
    slots = training_slots(checked.spec, options, backend, place=place)
    places = study_places(checked.spec, slots, options, watcher.message, backend)
    with counted_stop_signals() as stops, ExitStack() as stack:
        probed, begun = None, check_place(place)
        further = further_trials(checked.spec, place, len(slots), watcher.message)
        if not begun:
            _warn(checked, watcher)
            # The workload is probed first: nothing is created for a study that cannot work.
            planned = typical_trials(checked.spec)
            probed = probe_workload(backend, checked, planned, slots, stops, _import_writers, places=places)
            # Nor for one without enough room on the disk.
            check_room_to_begin(place, disk_need(checked.spec, planned, probed, slots))
        elif (stored := stored_in(study)) is not None and place == stored.path:
            check_as_run(stored, checked)
        opened = stack.enter_context(open_study(checked.spec, place, watcher, stop_requested=stops))
        left = opened.left(retry_failed=options.retry_failed)
        opened, left = (opened, left) if left else _with_further(opened, further, watcher)
        if not left:
            return _ended(_report(opened, watcher, untouched=True, interrupted=False), options, watcher)
        if begun:  # where no trial is left, the first call has printed the warnings
            _warn(checked, watcher)
        if probed is None:
            probed = probe_workload(backend, checked, left, slots, stops, _import_writers, places=places)
        for note in (*probed.notes, *idle_workers_note(checked.spec, slots, options.slots)):
            watcher.message(note)
        while left:
            opened = train_trials(opened, left, checked, probed, slots, options, watcher, stops, may_grow=True)
            options = replace(options, is_noted=True)
            is_over = stops() or opened.control.leaves
            opened, left = (opened, []) if is_over else _with_further(opened, further, watcher)
        return _ended(_report(opened, watcher, untouched=False, interrupted=stops() > 0), options, watcher)


def _ended(found: RunResult, options: RunOptions, watcher: Watcher) -> RunResult:
    """The result, whose event is kept."""
    end_events(
        found.folder,
        watcher.message,
        options.on_event,
        command="run",
        exit_code=found.exit_code,
        outcomes=found.outcomes,
        findings=found.findings,
    )
    return found


def _place(study: Path, spec: StudySpec) -> Path:
    """The folder of a run: that of the study's copy, if it is one, else runs/<study> in the current folder."""
    stored = stored_in(study)
    return stored.path if stored is not None and not stored.procedure.exists() else study_path(Path("runs"), spec.name)


def _with_further(
    study: OpenStudy, further: FurtherTrials | None, watcher: Watcher
) -> tuple[OpenStudy, list[PlannedTrial]]:
    """The study with the trials that it adds once all planned ones have ended, and these trials."""
    if further is None:
        return study, []
    study = with_trials(study, [])
    if study.left():
        return study, []
    added = list(further(study))
    for line in promotion_notes(study, added):
        watcher.message(line)
    return with_trials(study, added) if added else study, added


def _warn(checked: CheckedStudy, watcher: Watcher) -> None:
    for warning in checked.warnings:
        watcher.message(f"warning: {warning}")


def _import_writers() -> None:
    """Import the modules that write tables and page, which takes a second, while the backend imports the workload."""
    for name in (
        "tunectl.session.written_tables",
        "tunectl.session.written_report",
        "tunectl.report.page",
        "tunectl.report.parquet",
    ):
        importlib.import_module(name)


def _report(study: OpenStudy, watcher: Watcher, *, untouched: bool, interrupted: bool) -> RunResult:
    # Imports pyarrow, which takes a while: only where there are tables to write.
    from tunectl.session.study_evidence import indexed_curvature_time, indexed_curves, read_evidence
    from tunectl.session.written_tables import write_tables

    outcomes = refresh_index_at_end(study.folder, study.trials, study.spec.objective, study.index, study.damage)
    warn_of_unread_metrics(study.folder, outcomes, watcher.message)
    with writing_lock(study.folder, watcher.message):
        tables = write_tables(study.folder, study.spec, outcomes, study.index)
        has_clash = bool(must_stop(study.spec, list(read_written(study.folder.written)[0].values())))
        report = RunResult(
            study.spec,
            study.folder,
            tuple(outcomes),
            tables,
            untouched,
            interrupted,
            has_clash=has_clash,
            damage=study.damage.lines,
            curvature=indexed_curvature_time(study.index, outcomes),
            to_come=trials_to_come(study.spec, study.trials) if interrupted or study.control.leaves else 0,
            stopped=promotion(replace(study, outcomes=outcomes)).stopped,
            is_left=study.control.leaves,
        )
        if report.unfinished:
            return report
        from tunectl.session.written_report import write_report

        evidence = read_evidence(study.folder, study.spec, outcomes, indexed_curves(study.index), study.spec.objective)
        # The plots as files take seconds: `tunectl report` draws them.
        written = write_report(study.folder, evidence, outcomes, draw=False)
    return replace(report, findings=written.findings, page=written.page, answer=written.answer)
