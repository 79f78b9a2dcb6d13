"""`run`: train the trials of a study, or go on where an earlier run was left."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunectl.core.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.execution.jobs import Job, Limits
from tunectl.execution.scheduler import run_trials
from tunectl.execution.signals import counted_stop_signals
from tunectl.execution.slots import Slot
from tunectl.sampling.plan import plan_trials
from tunectl.spec.model import StudySpec
from tunectl.store.provenance import append_provenance, describe_run, workload_hash_changed
from tunectl.store.study_folder import check_place, study_path
from tunectl.store.trial_files import read_trial, settle_attempts, unrecorded_attempt, write_request
from tunectl.study.checking import CheckedStudy, check_study
from tunectl.study.disk import DiskNeed, check_room_to_begin, check_room_to_go_on
from tunectl.study.opening import OpenStudy, opened
from tunectl.study.preparing import Ready, make_ready, started_backend, study_slots
from tunectl.study.progress import Tally, Watcher
from tunectl.study.recording import Recorder
from tunectl.study.requests import total_steps, trial_request
from tunectl.study.standing import has_ended, refresh

if TYPE_CHECKING:
    from tunectl.study.tabling import StudyTables

_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Where and how to run, never what to train.

    `folder` None is runs/<study> below the current folder, `slots` None all that there are. `reverse` starts the last
    trials first. `retry_failed` runs those again that failed.
    """

    folder: Path | None = None
    slots: int | None = None
    reverse: bool = False
    retry_failed: bool = False
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a call of `run` ended. `untouched`: there was nothing left to train."""

    spec: StudySpec
    folder: StudyFolder
    outcomes: tuple[TrialOutcome, ...]
    tables: StudyTables
    untouched: bool
    interrupted: bool

    @property
    def unfinished(self) -> int:
        """The number of trials that have not ended."""
        return sum(not has_ended(item) for item in self.outcomes)

    @property
    def exit_code(self) -> int:
        """0 done, 1 done but some trials failed, 130 interrupted."""
        if self.unfinished and self.interrupted:
            return EXIT_INTERRUPTED
        failed = self.unfinished or any(item.state == "failed" for item in self.outcomes)
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
            "exit_code": self.exit_code,
        }


def run_study(study: Path, options: RunOptions, watcher: Watcher) -> RunReport:
    """Run what is left of a study.

    Raises StudyError and WorkloadError (exit code 2) before anything is created, and FolderError (3) where the folder
    is in use, belongs to another study, or cannot be written.
    """
    checked = check_study(study, Path.cwd())
    for warning in checked.warnings:
        watcher.message(f"warning: {warning}")
    slots = study_slots(checked.spec, options.slots, dict(os.environ))
    place = options.folder if options.folder is not None else study_path(Path("runs"), checked.spec.name)
    with counted_stop_signals() as stops, ExitStack() as stack:
        ready = None
        if not check_place(place):
            # Nothing is created for a study that cannot work: the workload is tried first.
            backend = stack.enter_context(started_backend(checked))
            planned = plan_trials(checked.spec)
            ready = make_ready(backend, checked, planned, slots[0], stops)
            # Nor for one that has no room.
            check_room_to_begin(place, _disk_need(checked.spec, planned, ready, slots))
        study_at_work = stack.enter_context(opened(checked.spec, place, watcher))
        left = study_at_work.left(retry_failed=options.retry_failed)
        if not left:
            return _report(study_at_work, watcher, untouched=True, interrupted=False)
        if ready is None:
            backend = stack.enter_context(started_backend(checked))
            ready = make_ready(backend, checked, left, slots[0], stops)
        _train(study_at_work, left, checked, ready, slots, options, watcher, stops)
        return _report(study_at_work, watcher, untouched=False, interrupted=stops() > 0)


def _disk_need(spec: StudySpec, left: Sequence[PlannedTrial], ready: Ready, slots: tuple[Slot, ...]) -> DiskNeed:
    return DiskNeed(
        checkpoint_bytes=ready.checkpoint_bytes,
        kept=spec.training.keep_checkpoints,
        at_once=min(len(slots), len(left)),
        trials=len(left),
        updates=sum(total_steps(spec, trial) for trial in left),
    )


def _train(
    study: OpenStudy,
    left: Sequence[PlannedTrial],
    checked: CheckedStudy,
    ready: Ready,
    slots: tuple[Slot, ...],
    options: RunOptions,
    watcher: Watcher,
    stops: Callable[[], int],
) -> None:
    need = _disk_need(study.spec, left, ready, slots)
    warning = check_room_to_begin(study.folder.path, need)
    if warning:
        watcher.message(f"warning: {warning}")
    _note_provenance(study, checked.signature.file or ready.signature.file, options, watcher)
    trials = {trial.trial: trial for trial in study.trials}
    tally = Tally(
        study.spec.objective, {trial.trial: total_steps(study.spec, trial) for trial in study.trials}, time.monotonic()
    )
    to_run = {trial.trial for trial in left}
    tally.before([item for item in study.outcomes if item.plan.trial not in to_run])

    def prepare(job: Job) -> Path:
        check_room_to_go_on(study.folder.path, need)
        folder = study.folder.trial(job.trial)
        settle_attempts(folder)
        request = trial_request(study.spec, checked.reference, ready.signature, trials[job.trial], job.attempt)
        write_request(folder, request)
        return folder.path

    ready.backend.hold(study.lock.fd)
    jobs = [_job(study.folder.trial(trial.trial), trial) for trial in left]
    run_trials(
        jobs[::-1] if options.reverse else jobs,
        ready.backend,
        slots,
        limits=_limits(study.spec),
        prepare=prepare,
        on_event=Recorder(study.folder, study.spec, trials, study.index, tally, watcher),
        stop_requested=stops,
        poll_seconds=_POLL_SECONDS,
    )


def _job(folder: TrialFolder, trial: PlannedTrial) -> Job:
    files = read_trial(folder)
    failed = unrecorded_attempt(folder, files.result, files.attempts) if files.result is not None else None
    return Job(trial.trial, files.attempts if failed is None else (*files.attempts, failed))


def _limits(spec: StudySpec) -> Limits:
    resources = spec.resources
    timeout = resources.trial_timeout_seconds
    return Limits(resources.retries, math.inf if timeout is None else timeout, resources.grace_seconds)


def _note_provenance(study: OpenStudy, source: str | None, options: RunOptions, watcher: Watcher) -> None:
    workload_file = Path(source) if source else None
    if workload_hash_changed(study.folder, workload_file):
        watcher.message(
            f"warning: {workload_file} has changed since the last run of this study: its trials were not all "
            "trained by the same code"
        )
    now = datetime.now(UTC).astimezone()
    run = describe_run(
        options.command,
        workload_file=workload_file,
        study_file=study.spec.file,
        study_folder=study.folder.path,
        now=now,
    )
    append_provenance(study.folder, run)


def _report(study: OpenStudy, watcher: Watcher, *, untouched: bool, interrupted: bool) -> RunReport:
    # pyarrow takes a while to load: only when there are tables to write.
    from tunectl.study.tabling import write_tables

    outcomes = refresh(study.folder, study.trials, study.spec.objective, study.index, watcher.message)
    tables = write_tables(study.folder, study.spec, outcomes, study.index)
    return RunReport(study.spec, study.folder, tuple(outcomes), tables, untouched, interrupted)
