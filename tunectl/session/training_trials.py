"""The training of trials of an open study, by the scheduler, the recorder and the watch over a shared folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tunectl.core.folders import TrialFolder
from tunectl.core.records import PlannedTrial
from tunectl.execution.backends.backend import Backend
from tunectl.execution.jobs import (
    AttemptLimits,
    Event,
    Hopeless,
    Job,
    Tick,
    TrialEnded,
    TrialRetried,
    TrialSetAside,
    TrialStarted,
)
from tunectl.execution.runner_lock import own_mark
from tunectl.execution.scheduler import run_trials
from tunectl.execution.shared_places import Places
from tunectl.execution.slots import Slot
from tunectl.execution.stop_signals import StopRequests
from tunectl.language.study_spec import StudySpec
from tunectl.session.checked_study import CheckedStudy
from tunectl.session.disk_room import DiskNeed, check_room_to_begin, check_room_to_go_on
from tunectl.session.early_stopping import early_stopping
from tunectl.session.folder_watch import FolderWatch, folder_watched
from tunectl.session.further_trials import trials_to_come
from tunectl.session.open_study import OpenStudy
from tunectl.session.probed_study import ProbedWorkload, study_slots
from tunectl.session.promoted_trials import most_promoted
from tunectl.session.recorder import Recorder
from tunectl.session.request_desk import RequestDesk
from tunectl.session.run_at_work import RunAtWork
from tunectl.session.run_progress import Tally, Watcher
from tunectl.session.study_code import changed_files, own_files
from tunectl.session.study_events import EventListener, StudyEvents
from tunectl.session.trial_requests import total_steps, trial_request
from tunectl.session.work_elsewhere import Ask, StopOrLeave, begin_work, check_backend, code_files, leave_work
from tunectl.store.provenance import RunBackend, append_provenance, describe_run, last_backend
from tunectl.store.trial_files import read_trial, record_missing_attempt, unrecorded_attempt, write_request

_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of a command that trains: where and how to run, not what to train.

    `folder` None means runs/<study> in the current folder, `slots` None all slots. `reverse` starts with the last
    trials. With `retry_failed` failed trials are run again. `is_noted`: provenance.json has an entry for this call.
    `on_event` is called with each event of the run as it is kept in events.jsonl.
    `waits`: a trial waits for cores and GPUs that others use. `backend` is where the trials run, None where the study
    says it. With `detach` the command ends as soon as all trials are offered to workers. `ask` asks a question on the
    terminal, None where there is none.
    """

    folder: Path | None = None
    slots: int | None = None
    reverse: bool = False
    retry_failed: bool = False
    command: tuple[str, ...] = ()
    is_noted: bool = False
    on_event: EventListener | None = None
    waits: bool = True
    backend: str | None = None
    detach: bool = False
    ask: Ask | None = None


def study_places(
    spec: StudySpec, slots: tuple[Slot, ...], options: RunOptions, say: Callable[[str], None], backend: Backend
) -> Places:
    """The places of a study's slots, which other runs may use, too; `say` gets why a trial waits for them."""
    return backend.places(spec.resources, slots, say, waits=options.waits)


def training_slots(
    spec: StudySpec, options: RunOptions, backend: Backend, count: int | None = None, place: Path | None = None
) -> tuple[Slot, ...]:
    """The slots on which a study is trained, `count` of them, or as the options say.

    Raises StudyError or TunectlError where its backend cannot train here: before a folder is created at `place`.
    """
    slots = study_slots(spec, options.slots if count is None else count, backend, options.backend)
    check_backend(backend, spec.resources, detach=options.detach, place=place)
    return slots


def disk_need(
    spec: StudySpec, left: Sequence[PlannedTrial], probed: ProbedWorkload, slots: tuple[Slot, ...]
) -> DiskNeed:
    """The bytes that these trials will write, and those that may be promoted from them."""
    at_once = min(len(slots), len(left))
    left = [*left, *most_promoted(spec, left)]
    return DiskNeed(
        checkpoint_bytes=probed.checkpoint_bytes,
        kept=0
        if all(trial.trial_kind in ("curvature", "data", "test") for trial in left)
        else spec.training.keep_checkpoints,
        at_once=at_once,
        trials=len(left),
        # tunectl writes nothing for a step of own code.
        updates=0 if spec.own_code else sum(total_steps(spec, trial) for trial in left),
    )


def train_trials(
    study: OpenStudy,
    left: Sequence[PlannedTrial],
    checked: CheckedStudy,
    probed: ProbedWorkload,
    slots: tuple[Slot, ...],
    options: RunOptions,
    watcher: Watcher,
    stops: StopRequests,
    *,
    may_grow: bool = False,
) -> OpenStudy:
    """Train these trials of an open study until they have ended, or a stop is requested; give the study as it is then.

    With `may_grow` trials that users add meanwhile are trained, too. Raises FolderError where there is no room for
    them, or their folders cannot be written.
    """
    need = _room_needed(study, left, probed, slots, watcher)
    if not options.is_noted:
        _note_provenance(study, checked, probed, options, watcher)
    planned, chosen = {trial.trial: trial for trial in study.trials}, {trial.trial for trial in left}
    run = RunAtWork(study, planned, chosen, _tally(study, left), may_grow)

    def prepare(job: Job) -> Path:
        check_room_to_go_on(study.folder.path, need)
        return _prepared(run, checked, probed, job)

    try:
        with (
            folder_watched(study, left, len(slots), watcher) as watch,
            _listening(run, left, len(slots), options=options, watcher=watcher, stops=stops) as heard,
        ):
            jobs = _begun(run, left, checked, probed, options=options, heard=heard)
            if jobs is None:
                return run.study
            requested = StopOrLeave(study, probed.backend, stops, options.ask, watcher.message)
            run_trials(
                jobs[::-1] if options.reverse else jobs,
                probed.backend,
                slots,
                limits=_limits(study.spec),
                prepare=prepare if watch is None else _watched_launch(prepare, watch, is_offered=slots[0].is_queue),
                on_event=_heard_by(heard.listeners, watch),
                stop_requested=requested if watch is None else lambda: max(requested(), int(watch.must_stop)),
                may_launch=(lambda _running: True) if watch is None else watch.may_launch,
                places=study_places(study.spec, slots, options, heard.say, probed.backend),
                hopeless=heard.hopeless,
                control=study.control,
                poll_seconds=_POLL_SECONDS,
            )
    except BaseException:
        # The folder's lock is released next: no trial may write into the folder after that.
        study.at_end.close()
        probed.backend.close()
        raise
    leave_work(study, probed.backend)
    return run.study


def _begun(
    run: RunAtWork,
    left: Sequence[PlannedTrial],
    checked: CheckedStudy,
    probed: ProbedWorkload,
    *,
    options: RunOptions,
    heard: _Heard,
) -> list[Job] | None:
    """The jobs of these trials on a backend that begins its work now; workers may have some of them already.

    None where a stop was requested before it was known which these are.
    """
    study, backend = run.study, probed.backend
    for fd in study.lock.fds:
        backend.hold(fd)
    files = code_files(checked.signature.file or probed.signature.file, checked.spec.code.values())
    study.control.leaves = study.control.leaves or options.detach
    at_work = begin_work(
        *(study, run.jobs, backend, heard.say),
        files=files,
        reverse=options.reverse,
        stop_requested=heard.stop_requested,
    )
    if at_work is None:
        return None
    return [_job(study.folder.trial(trial.trial), trial, at_work.get(trial.trial)) for trial in left]


def _prepared(run: RunAtWork, checked: CheckedStudy, probed: ProbedWorkload, job: Job) -> Path:
    """The folder of a trial that is launched next, with its request."""
    folder = run.study.folder.home(job.trial)
    if job.is_at_work:
        return folder.path
    record_missing_attempt(folder)
    spec = replace(run.study.spec, code=checked.spec.code)
    asked = trial_request(spec, checked.reference, probed.signature, run.trials[job.trial], job.attempt)
    write_request(folder, asked)
    return folder.path


Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class _Heard:
    """What takes the events of a run: the recorder, early stopping, and the desk that answers requests, in this order;
    the trials that are to be stopped early; what takes a message, which is an event for programs, too; and what reads
    the requests of users before there are events, and gives how often a stop was requested.
    """

    listeners: Sequence[Listener]
    hopeless: Callable[[], Mapping[int, Hopeless]]
    say: Callable[[str], None]
    stop_requested: Callable[[], int]


@contextmanager
def _listening(
    run: RunAtWork,
    left: Sequence[PlannedTrial],
    slots: int,
    *,
    options: RunOptions,
    watcher: Watcher,
    stops: StopRequests,
) -> Iterator[_Heard]:
    study = run.study
    events = StudyEvents(study.folder, watcher.message, options.on_event)
    stopping = early_stopping(study.folder, study.spec, run.trials, study.outcomes)
    recorder = Recorder(study.folder, study.spec, run.trials, study.index, run.tally, watcher, events)
    desk = RequestDesk(run, stops, recorder.say)

    def stop_requested() -> int:
        desk.look()
        return stops()

    try:
        events.training_started(left, slots)
        if stopping is None:
            yield _Heard([recorder, desk], dict, recorder.say, stop_requested)
        else:
            yield _Heard([recorder, stopping.take, desk], lambda: stopping.hopeless, recorder.say, stop_requested)
    finally:
        desk.close()
        events.close()


def _tally(study: OpenStudy, left: Sequence[PlannedTrial]) -> Tally:
    """The counts of a run that begins now, with the trials that had ended before it."""
    tally = Tally(
        study.spec.objective,
        {trial.trial: total_steps(study.spec, trial) for trial in study.trials},
        time.monotonic(),
        stages={trial.trial: trial.stage for trial in study.trials if trial.trial_kind != "retrain"},
        to_come=trials_to_come(study.spec, study.trials),
    )
    to_run = {trial.trial for trial in left}
    tally.before([item for item in study.outcomes if item.plan.trial not in to_run])
    return tally


def _watched_launch(prepare: Callable[[Job], Path], watch: FolderWatch, *, is_offered: bool) -> Callable[[Job], Path]:
    def launch(job: Job) -> Path:
        path = prepare(job)
        watch.launching(job, is_offered=is_offered)
        return path

    return launch


def _heard_by(listeners: Sequence[Listener], watch: FolderWatch | None) -> Listener:
    """Passes an event to the watch over a shared folder, then to the listeners in their order."""

    def take(event: Event) -> None:
        if watch is not None and isinstance(event, TrialStarted):
            watch.started(event.trial, event.outputs, is_late=event.is_late)
        elif watch is not None and isinstance(event, TrialEnded):
            watch.ended(event.trial, event.state)
        elif watch is not None and isinstance(event, TrialRetried | TrialSetAside):
            watch.ended(event.trial, "pending")
        elif watch is not None and isinstance(event, Tick):
            watch.look()
        for listen in listeners:
            listen(event)

    return take


def _job(folder: TrialFolder, trial: PlannedTrial, at_work: int | None) -> Job:
    """The job of a trial. `at_work` is the number of the attempt that a worker has, None where none has it."""
    files = read_trial(folder)
    if at_work is not None:
        earlier = tuple(attempt for attempt in files.attempts if attempt.attempt < at_work)
        return Job(trial.trial, earlier, is_at_work=True)
    failed = unrecorded_attempt(folder, files.result, files.attempts) if files.result is not None else None
    return Job(trial.trial, files.attempts if failed is None else (*files.attempts, failed))


def _room_needed(
    study: OpenStudy, left: Sequence[PlannedTrial], probed: ProbedWorkload, slots: tuple[Slot, ...], watcher: Watcher
) -> DiskNeed:
    """The room on the disk that these trials need; says where there may be too little, raises where there is."""
    need = disk_need(study.spec, left, probed, slots)
    if warning := check_room_to_begin(study.folder.path, need):
        watcher.message(f"warning: {warning}")
    return need


def _limits(spec: StudySpec) -> AttemptLimits:
    resources = spec.resources
    timeout = resources.trial_timeout_seconds
    return AttemptLimits(resources.retries, math.inf if timeout is None else timeout, resources.grace_seconds)


def _note_provenance(
    study: OpenStudy, checked: CheckedStudy, probed: ProbedWorkload, options: RunOptions, watcher: Watcher
) -> None:
    source, backend = checked.signature.file or probed.signature.file, probed.backend
    if (before := last_backend(study.folder)) not in ("", backend.name):
        watcher.message(
            f"note: this run trains with the backend {backend.name}; the last run of this study trained with {before} "
            f"(`--backend {before}`)"
        )
    code = checked.spec.code.values()
    for file in changed_files(study.folder, source, code):
        watcher.message(
            f"warning: {file} has changed since the last run of this study: its trials were not all trained by the "
            "same code"
        )
    now = datetime.now(UTC).astimezone()
    run = describe_run(
        options.command,
        workload_file=Path(source) if source else None,
        study_file=study.spec.file,
        study_folder=study.folder.path,
        now=now,
        uncommitted_diff=study.spec.uncommitted_diff,
        code_files=own_files(code),
        backend=RunBackend(backend.name, options.backend is not None, own_mark()),
    )
    damaged = append_provenance(study.folder, run)
    if damaged is not None:
        path = study.folder.provenance
        study.damage(f"warning: {path}: has been replaced by a new one, and the damaged file is kept as {damaged}")
