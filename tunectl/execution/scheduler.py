"""The trial scheduler: which trial runs when and where, and what becomes of it."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunectl.core.errors import FolderError
from tunectl.core.folders import TrialFolder
from tunectl.core.records import AttemptEnd, State, TrialResult
from tunectl.execution import processes
from tunectl.execution.backends import Backend, Ended, Started
from tunectl.execution.events import Event, ServerReady, Tick, TrialEnded, TrialRetried, TrialStarted
from tunectl.execution.protocol import EXIT_BROKEN, EXIT_STOPPED, EXIT_UNWRITTEN
from tunectl.execution.slots import Slot
from tunectl.store.trial_files import append_attempt, read_trial

KILL_PATIENCE_SECONDS = 10.0
"""How long a killed trial is waited for: a process inside a dead file system cannot be killed."""

_COUNTED = frozenset({"crashed", "lost"})
_OUT_OF_MEMORY = "out_of_memory"


@dataclass(frozen=True, slots=True)
class Job:
    """A trial to run.

    `earlier_attempts` are the attempts that did not end by themselves, those of earlier runs included (attempts.jsonl).
    """

    trial: int
    earlier_attempts: tuple[AttemptEnd, ...] = ()

    @property
    def attempt(self) -> int:
        """The number of the next attempt, from 1."""
        return len(self.earlier_attempts) + 1

    @property
    def failures(self) -> int:
        """The attempts that count against the retries: those that crashed or were lost."""
        return sum(1 for attempt in self.earlier_attempts if attempt.reason in _COUNTED)

    @property
    def alone(self) -> bool:
        """Whether the trial must have its device for itself: it ran out of memory beside another one."""
        return any(attempt.reason == _OUT_OF_MEMORY for attempt in self.earlier_attempts)

    def after(self, attempt: AttemptEnd) -> Job:
        """The job with one attempt more behind it."""
        return Job(self.trial, (*self.earlier_attempts, attempt))


@dataclass(slots=True)
class _Running:
    job: Job
    slot: Slot
    folder: TrialFolder
    launched: float
    had_company: bool


@dataclass(slots=True)
class _Schedule:
    backend: Backend
    slots: Sequence[Slot]
    retries: int
    prepare: Callable[[Job], Path]
    on_event: Callable[[Event], None]
    stop_requested: Callable[[], int]
    grace_seconds: float
    clock: Callable[[], float]
    waiting: deque[Job]
    running: dict[int, _Running] = field(default_factory=dict)
    states: dict[int, State] = field(default_factory=dict)
    trouble: OSError | FolderError | None = None
    stop_sent: float | None = None
    kill_sent: float | None = None

    @property
    def stopping(self) -> int:
        """How urgently to stop: 0 not at all, 1 let the running trials save, 2 kill them."""
        return max(self.stop_requested(), 1 if self.trouble is not None else 0)

    def is_over(self) -> bool:
        """Whether there is nothing more to wait for."""
        if not self.running:
            return not self.waiting or self.stopping > 0
        return self.kill_sent is not None and self.clock() - self.kill_sent > KILL_PATIENCE_SECONDS

    def fill_slots(self) -> None:
        """Launch what may be launched now."""
        while self.stopping == 0:
            choice = self._next()
            if choice is None:
                return
            job, slot = choice
            self.waiting.remove(job)
            try:
                folder = TrialFolder(self.prepare(job))
                # A damaged one, or that of a trial to be run anew: from here on it means that this attempt ended by
                # itself.
                folder.result.unlink(missing_ok=True)
            except (OSError, FolderError) as error:
                self.trouble = error
                self.waiting.appendleft(job)
                return
            company = self._on_device(slot)
            for other in company:
                other.had_company = True
            self.running[job.trial] = _Running(job, slot, folder, self.clock(), bool(company))
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
            self.on_event(report)
        elif isinstance(report, Started):
            running = self.running.get(report.trial)
            if running is not None:
                self.on_event(TrialStarted(report.trial, running.slot, running.job.attempt, report.pid))
        else:
            running = self.running.pop(report.trial, None)
            if running is not None:
                self._judge(running, report)

    def press_to_stop(self) -> None:
        """Tell the running trials to stop, or end them, as far as that was asked for."""
        now = self.clock()
        if self.stopping >= 1 and self.stop_sent is None:
            self.stop_sent = now
            for trial in self.running:
                self.backend.stop(trial)
        out_of_grace = self.stop_sent is not None and now - self.stop_sent >= self.grace_seconds
        if self.kill_sent is None and (self.stopping >= 2 or out_of_grace):
            self.kill_sent = now
            for trial in self.running:
                self.backend.kill(trial)

    def _judge(self, running: _Running, ended: Ended) -> None:
        job = running.job
        try:
            result = read_trial(running.folder).result
            if result is not None and _is_out_of_memory(result) and running.had_company:
                # Its neighbour may be the one that took the memory: the trial has to try by itself before it counts.
                running.folder.result.unlink()
                self._try_again(running, _OUT_OF_MEMORY, result.message or "ran out of memory beside another trial")
            elif result is not None:
                self._end(job, result.state, result.reason, result.message, ended.seconds, result.where)
            elif self.stopping > 0 and _was_stopped(ended):
                self._cancel(running, ended.seconds)
            else:
                self._fail(running, ended)
        except (OSError, FolderError) as error:
            self.trouble = self.trouble or error
            self.states.setdefault(job.trial, "pending")

    def _fail(self, running: _Running, ended: Ended) -> None:
        reason = "lost" if ended.lost else "crashed"
        message = ended.message or _explain(ended)
        if running.job.failures < self.retries:
            self._try_again(running, reason, message)
            return
        attempt = self._record(running, reason, message, final=True)
        self._end(running.job, "failed", reason, attempt.message, ended.seconds)

    def _try_again(self, running: _Running, reason: str, message: str) -> None:
        attempt = self._record(running, reason, message, final=False)
        self.waiting.appendleft(running.job.after(attempt))
        self.on_event(TrialRetried(running.job.trial, reason, message, running.job.attempt))

    def _cancel(self, running: _Running, seconds: float) -> None:
        self._record(running, "cancelled", "", final=False)
        self._end(running.job, "cancelled", "", "", seconds)

    def _record(self, running: _Running, reason: str, message: str, *, final: bool) -> AttemptEnd:
        attempt = AttemptEnd(running.job.attempt, reason, message, final, running.slot.device.label)
        append_attempt(running.folder, attempt)
        return attempt

    def _end(self, job: Job, state: State, reason: str, message: str, seconds: float, where: str = "") -> None:
        self.states[job.trial] = state
        self.on_event(TrialEnded(job.trial, state, reason, message, seconds, job.attempt, where))

    def give_up(self) -> None:
        """Let go of the trials that did not die; all that never ran, or would be tried again, stay pending."""
        for trial in sorted(self.running):
            running = self.running.pop(trial)
            self._cancel(running, self.clock() - running.launched)
        for job in self.waiting:
            self.states[job.trial] = "pending"


def run_trials(
    jobs: Iterable[Job],
    backend: Backend,
    slots: Sequence[Slot],
    *,
    retries: int,
    prepare: Callable[[Job], Path],
    on_event: Callable[[Event], None],
    stop_requested: Callable[[], int],
    poll_seconds: float = 0.2,
    grace_seconds: float = 30.0,
    clock: Callable[[], float] = time.monotonic,
) -> Mapping[int, State]:
    """Run the trials in this order on a backend that was started, and give the state in which each was left.

    `prepare` makes a trial's folder, with its request.json, and gives its path; a result.json that lies there is
    removed. `retries` is how often a trial that crashed or was lost is tried again, at once; it goes on from its
    resume.pt. `stop_requested` says how often a stop was asked for: after the first nothing is launched, the running
    trials may save for `grace_seconds`, and are killed then, or at the second. What never ran, and what would have
    been tried again, is pending; the caller closes the backend.

    Raises FolderError or OSError where a trial's folder cannot be written: after the running trials were stopped
    likewise.
    """
    if not slots:
        raise ValueError("there is no slot to run trials on")
    schedule = _Schedule(
        backend, slots, retries, prepare, on_event, stop_requested, grace_seconds, clock, waiting=deque(jobs)
    )
    while True:
        schedule.fill_slots()
        if schedule.is_over():
            break
        schedule.press_to_stop()
        for report in backend.poll(poll_seconds):
            schedule.take(report)
        on_event(Tick(len(schedule.running), len(schedule.waiting), schedule.stopping))
    schedule.give_up()
    if schedule.trouble is not None:
        raise schedule.trouble
    return schedule.states


def _is_out_of_memory(result: TrialResult) -> bool:
    return result.state == "infeasible" and result.reason == _OUT_OF_MEMORY


def _was_stopped(ended: Ended) -> bool:
    return ended.lost or ended.code == EXIT_STOPPED or ended.signal in (signal.SIGTERM, signal.SIGKILL)


def _explain(ended: Ended) -> str:
    how = processes.describe_exit(ended.code, ended.signal)
    match ended.code, ended.signal:
        case (_, signal.SIGKILL):
            return f"{how}: by hand, or by the system for want of memory"
        case (code, None) if code == EXIT_STOPPED:
            return f"{how}: it was told to stop by another process than tunectl"
        case (code, None) if code == EXIT_UNWRITTEN:
            return f"{how}: its result could not be written, see log.txt"
        case (code, None) if code == EXIT_BROKEN:
            return f"{how}: tunectl's own part failed, see log.txt"
        case (_, None):
            return f"{how} before its result was written: the workload's code may have called sys.exit or os._exit"
        case _:
            return f"{how}, see log.txt"
