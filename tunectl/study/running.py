"""`run`: train the trials of a study, or go on where an earlier run was left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunectl.core.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED
from tunectl.core.folders import StudyFolder
from tunectl.core.records import TrialOutcome
from tunectl.execution.scheduler import Job, run_trials
from tunectl.execution.signals import counted_stop_signals
from tunectl.execution.slots import Slot
from tunectl.sampling.plan import plan_trials
from tunectl.spec.model import StudySpec
from tunectl.store.provenance import append_provenance, describe_run, workload_hash_changed
from tunectl.store.study_folder import check_place, study_path
from tunectl.store.trial_files import read_trial, write_request
from tunectl.study.checking import CheckedStudy, check_study
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
    trials first.
    """

    folder: Path | None = None
    slots: int | None = None
    reverse: bool = False
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
            ready = make_ready(backend, checked, plan_trials(checked.spec), slots[0], stops)
        study_at_work = stack.enter_context(opened(checked.spec, place, watcher))
        if not study_at_work.left:
            return _report(study_at_work, watcher, untouched=True, interrupted=False)
        if ready is None:
            backend = stack.enter_context(started_backend(checked))
            ready = make_ready(backend, checked, study_at_work.left, slots[0], stops)
        _train(study_at_work, checked, ready, slots, options, watcher, stops)
        return _report(study_at_work, watcher, untouched=False, interrupted=stops() > 0)


def _train(
    study: OpenStudy,
    checked: CheckedStudy,
    ready: Ready,
    slots: tuple[Slot, ...],
    options: RunOptions,
    watcher: Watcher,
    stops: Callable[[], int],
) -> None:
    _note_provenance(study, checked.signature.file or ready.signature.file, options, watcher)
    trials = {trial.trial: trial for trial in study.trials}
    tally = Tally(
        study.spec.objective, {trial.trial: total_steps(study.spec, trial) for trial in study.trials}, time.monotonic()
    )
    tally.before([item for item in study.outcomes if has_ended(item)])

    def prepare(job: Job) -> Path:
        folder = study.folder.trial(job.trial)
        write_request(folder, trial_request(study.spec, checked.reference, ready.signature, trials[job.trial]))
        return folder.path

    ready.backend.hold(study.lock.fd)
    left = [Job(trial.trial, read_trial(study.folder.trial(trial.trial)).attempts) for trial in study.left]
    run_trials(
        left[::-1] if options.reverse else left,
        ready.backend,
        slots,
        retries=study.spec.resources.retries,
        prepare=prepare,
        on_event=Recorder(study.folder, study.spec, trials, study.index, tally, watcher),
        stop_requested=stops,
        poll_seconds=_POLL_SECONDS,
        grace_seconds=study.spec.resources.grace_seconds,
    )


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
