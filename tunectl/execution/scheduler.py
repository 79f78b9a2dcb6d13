"""The trial scheduler: which trial runs when and where, and what becomes of it."""

from __future__ import annotations

import errno
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunectl.core import jsontext, real_folders
from tunectl.core.errors import FolderError
from tunectl.core.folders import TrialFolder
from tunectl.core.log_reader import log_bytes
from tunectl.core.records import AttemptEnd, State
from tunectl.execution.backends import Backend, Ended, Started
from tunectl.execution.breaker import CircuitBreaker
from tunectl.execution.endings import explain, was_stopped, with_last_words
from tunectl.execution.events import (
    Event,
    ServerReady,
    StoppedByFailures,
    Tick,
    TrialEnded,
    TrialRetried,
    TrialStarted,
)
from tunectl.execution.jobs import OUT_OF_MEMORY, Job, Limits
from tunectl.execution.protocol import EXIT_UNWRITTEN
from tunectl.execution.slots import Slot
from tunectl.store.trial_files import append_attempt, read_result, write_result

KILL_PATIENCE_SECONDS = 10.0
"""How long a killed trial is waited for: a process inside a dead file system cannot be killed."""

_OF_ONE_FOLDER = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.EACCES})


@dataclass(slots=True)
class _Running:
    job: Job
    slot: Slot
    folder: TrialFolder
    launched: float
    had_company: bool
    log_bytes: int = 0
    stop_sent: float | None = None
    kill_sent: float | None = None
    timed_out: bool = False


@dataclass(slots=True)
class _Schedule:
    backend: Backend
    slots: Sequence[Slot]
    limits: Limits
    prepare: Callable[[Job], Path]
    on_event: Callable[[Event], None]
    stop_requested: Callable[[], int]
    may_launch: Callable[[int], bool]
    clock: Callable[[], float]
    waiting: deque[Job]
    running: dict[int, _Running] = field(default_factory=dict)
    states: dict[int, State] = field(default_factory=dict)
    trouble: OSError | FolderError | None = None
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    told: bool = False

    def tell(self, event: Event) -> None:
        """Tell the listener; where it cannot note what happened, the running trials are stopped as at a request."""
        try:
            self.on_event(event)
        except (OSError, FolderError) as error:
            self.trouble = self.trouble or error

    @property
    def stopping(self) -> int:
        """How urgently to stop: 0 not at all, 1 let the running trials save, 2 kill them."""
        return max(self.stop_requested(), int(self.trouble is not None or self.breaker.tripped is not None))

    def is_over(self) -> bool:
        """Whether there is nothing more to wait for."""
        # Asked when the free slots have been filled: where nothing runs, or nothing that can end, nothing follows.
        return all(self._is_stuck(running) for running in self.running.values())

    def _is_stuck(self, running: _Running) -> bool:
        """Whether a trial was killed and does not die; its slot stays taken."""
        return running.kill_sent is not None and self.clock() - running.kill_sent > KILL_PATIENCE_SECONDS

    def fill_slots(self) -> None:
        """Launch what may be launched now."""
        while self.waiting and self.may_launch(len(self.running)) and self.stopping == 0:
            choice = self._next()
            if choice is None:
                return
            job, slot = choice
            self.waiting.remove(job)
            try:
                folder = TrialFolder(self.prepare(job))
                _remove_result(folder)
            except (OSError, FolderError) as error:
                if _is_one_trial_s(error):
                    self._end(job, "failed", "crashed", str(error), 0.0)
                    continue
                self.trouble = error
                self.waiting.appendleft(job)
                return
            company = self._on_device(slot)
            for other in company:
                other.had_company = True
            self.running[job.trial] = _Running(
                job, slot, folder, self.clock(), bool(company), log_bytes=log_bytes(folder.log)
            )
            self.backend.launch(job.trial, folder.path, slot, job.attempt)

    def _next(self) -> tuple[Job, Slot] | None:
        taken = {running.slot.index for running in self.running.values()}
        # Spread over the devices; a device that a trial has for itself gets no other trial.
        free = sorted(
            (len(self._on_device(slot)), slot.index, slot)
            for slot in self.slots
            if slot.index not in taken and not any(running.job.alone for running in self._on_device(slot))
        )
        for job in self.waiting:
            if not free:
                return None
            company, _, slot = free[0]
            if not job.alone or company == 0:
                return job, slot
            # It waits for the emptiest device, which is kept from the others until nothing runs there.
            free = [place for place in free if place[2].device != slot.device]
        return None

    def _on_device(self, slot: Slot) -> list[_Running]:
        return [running for running in self.running.values() if running.slot.device == slot.device]

    def take(self, report: Started | Ended | ServerReady) -> None:
        """Learn what the backend reports."""
        if isinstance(report, ServerReady):
            self.tell(report)
        elif isinstance(report, Started):
            running = self.running.get(report.trial)
            if running is not None:
                self.tell(TrialStarted(report.trial, running.slot, running.job.attempt, report.pid))
        else:
            running = self.running.pop(report.trial, None)
            if running is not None:
                self._judge(running, report)

    def press_to_stop(self) -> None:
        """Tell running trials to stop, or end them, as far as that was asked for or their time is over."""
        now, stopping = self.clock(), self.stopping
        for trial, running in self.running.items():
            running.timed_out = running.timed_out or now - running.launched >= self.limits.trial_timeout_seconds
            if running.stop_sent is None and (stopping >= 1 or running.timed_out):
                running.stop_sent = now
                self.backend.stop(trial)
            out_of_grace = running.stop_sent is not None and now - running.stop_sent >= self.limits.grace_seconds
            if running.kill_sent is None and (stopping >= 2 or out_of_grace):
                running.kill_sent = now
                self.backend.kill(trial)

    def _judge(self, running: _Running, ended: Ended) -> None:
        job = running.job
        try:
            result = read_result(running.folder)
            if result is not None and result.provisional and running.had_company:
                # Its neighbour may be the one that took the memory: the trial has to try by itself before it counts.
                self._try_again(running, OUT_OF_MEMORY, result.message or "ran out of memory beside another trial")
            elif result is not None:
                if result.provisional:
                    write_result(running.folder, replace(result, provisional=False))
                self._end(job, result.state, result.reason, result.message, ended.seconds, result.where)
            elif ended.verdict == EXIT_UNWRITTEN:
                # The disk is at fault, not the trial: the others would end alike.
                self.trouble = self.trouble or FolderError(_unwritten(running.folder, ended.message))
                self._cancel(running, ended.seconds)
            elif running.timed_out and was_stopped(ended):
                self._time_out(running, ended.seconds)
            elif self.stopping > 0 and was_stopped(ended):
                self._cancel(running, ended.seconds)
            else:
                self._fail(running, ended)
        except (OSError, FolderError) as error:
            if _is_one_trial_s(error):
                self._end(job, "failed", "crashed", str(error), ended.seconds)
                return
            self.trouble = self.trouble or error
            self.states.setdefault(job.trial, "pending")

    def _fail(self, running: _Running, ended: Ended) -> None:
        reason = "lost" if ended.lost else "crashed"
        message = with_last_words(ended.message or explain(ended), running.folder.log, running.log_bytes)
        if running.job.failures < self.limits.retries:
            self._try_again(running, reason, message)
            return
        attempt = self._record(running, reason, message, final=True)
        self._end(running.job, "failed", reason, attempt.message, ended.seconds)

    def _time_out(self, running: _Running, seconds: float) -> None:
        message = f"it took longer than trial_timeout_seconds: {self.limits.trial_timeout_seconds:g}"
        message = with_last_words(message, running.folder.log, running.log_bytes)
        self._record(running, "timeout", message, final=True)
        self._end(running.job, "failed", "timeout", message, seconds)

    def _try_again(self, running: _Running, reason: str, message: str) -> None:
        attempt = self._record(running, reason, message, final=False)
        self.waiting.appendleft(running.job.after(attempt))
        self.tell(TrialRetried(running.job.trial, reason, message, running.job.attempt))

    def _cancel(self, running: _Running, seconds: float) -> None:
        self._record(running, "cancelled", "", final=False)
        self._end(running.job, "cancelled", "", "", seconds)

    def _record(self, running: _Running, reason: str, message: str, *, final: bool) -> AttemptEnd:
        attempt = AttemptEnd(running.job.attempt, reason, message, final, running.slot.device.label)
        append_attempt(running.folder, attempt)
        return attempt

    def _end(self, job: Job, state: State, reason: str, message: str, seconds: float, where: str = "") -> None:
        self.states[job.trial] = state
        if state != "cancelled":
            self.breaker.take(job.trial, state, reason, message, where)
        self.tell(TrialEnded(job.trial, state, reason, message, seconds, job.attempt, where))

    def tell_why_it_stops(self) -> None:
        """Say once that the first trials failed alike, where there are others that are not run for it."""
        if self.breaker.tripped is not None and not self.told and (self.waiting or self.running):
            self.told = True
            self.tell(StoppedByFailures(self.breaker.tripped, len(self.waiting) + len(self.running)))

    def give_up(self) -> None:
        """Let go of the trials that did not die; all that never ran, or would be tried again, stay pending."""
        for trial in sorted(self.running):
            running = self.running.pop(trial)
            leave = self._time_out if running.timed_out else self._cancel
            leave(running, self.clock() - running.launched)
        for job in self.waiting:
            self.states[job.trial] = "pending"


def run_trials(
    jobs: Iterable[Job],
    backend: Backend,
    slots: Sequence[Slot],
    *,
    limits: Limits,
    prepare: Callable[[Job], Path],
    on_event: Callable[[Event], None],
    stop_requested: Callable[[], int],
    may_launch: Callable[[int], bool] = lambda _running: True,
    poll_seconds: float = 0.2,
    clock: Callable[[], float] = time.monotonic,
) -> Mapping[int, State]:
    """Run the trials in this order on a backend that was started, and give the state in which each was left.

    `prepare` makes a trial's folder, with its request.json, and gives its path; a result.json that lies there is
    removed. A trial that crashed or was lost is tried again at once and goes on from its resume.pt. `stop_requested`
    says how often a stop was asked for: after the first nothing is launched, the running trials may save for
    `limits.grace_seconds`, and are killed then, or at the second. Where the first trials all fail alike, the study is
    stopped as after one request, and `StoppedByFailures` tells why. What never ran, and what would have been tried
    again, is pending; the caller closes the backend. `may_launch` is asked before each launch, with the number of
    trials that run, and must not refuse where none does.

    Raises FolderError or OSError where a trial's folder cannot be written, by the runner or by the trial: after the
    running trials were stopped likewise.
    """
    if not slots:
        raise ValueError("there is no slot to run trials on")
    schedule = _Schedule(backend, slots, limits, prepare, on_event, stop_requested, may_launch, clock, deque(jobs))
    while True:
        schedule.fill_slots()
        if schedule.is_over():
            break
        schedule.press_to_stop()
        for report in backend.poll(poll_seconds):
            schedule.take(report)
        schedule.tell_why_it_stops()
        is_asked = schedule.stop_requested() > 0
        schedule.tell(Tick(len(schedule.running), len(schedule.waiting), schedule.stopping, is_asked))
    schedule.give_up()
    if schedule.trouble is not None:
        raise schedule.trouble
    return schedule.states


def _remove_result(folder: TrialFolder) -> None:
    """Remove a damaged result, or that of a trial to be run anew: a later one means that this attempt ended by itself.

    A trial may have made a folder of it.
    """
    real_folders.remove_all(folder.result, folder.study)


def _is_one_trial_s(error: OSError | FolderError) -> bool:
    """Whether it is one trial's folder that cannot be used, so that the others can go on."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _OF_ONE_FOLDER


def _unwritten(folder: TrialFolder, why: str) -> str:
    found = "; ".join(filter(None, [jsontext.one_line(why), f"{_free_space(folder.path)}, see {folder.log.name}"]))
    return (
        f"{folder.path}: the trial could not write its files ({found}); make room and run the same command again: it "
        "goes on from there"
    )


def _free_space(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(path).free / 1e6:,.0f} MB are free"
    except OSError as error:
        return str(error)
