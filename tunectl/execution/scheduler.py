"""The trial scheduler: decides which trial runs when and on which slot, and what the end of its process means."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunectl.core import real_folders
from tunectl.core.errors import FolderError
from tunectl.core.folders import TrialFolder
from tunectl.core.log_reader import log_bytes
from tunectl.core.records import CANCELLED, STOPPED_FOR_GOOD, State
from tunectl.execution.backends.backend import Backend, BackendEvent, BackendReady, ProcessEnded, ProcessStarted
from tunectl.execution.failures import CircuitBreaker, explain_end, took_too_long, was_stopped
from tunectl.execution.folder_errors import is_of_one_trial, unwritten_message
from tunectl.execution.jobs import (
    LOST,
    MOST_IDLE_RELEASES,
    OUT_OF_MEMORY,
    RELEASED,
    AttemptLimits,
    Event,
    Hopeless,
    Job,
    StoppedByFailures,
    TrialEnded,
    TrialRetried,
    TrialSetAside,
    named_reason,
)
from tunectl.execution.protocol import EXIT_UNWRITTEN
from tunectl.execution.run_control import RunControl
from tunectl.execution.running_trials import Running, late_result, next_launch, on_device, tick
from tunectl.execution.shared_places import OWN_PLACES, Places
from tunectl.execution.slots import Slot
from tunectl.store.trial_files import write_result
from tunectl.store.trial_progress import progress_made

KILL_WAIT_SECONDS = 10.0
"""How long to wait for a killed trial to end: a process that waits for a dead file system cannot be killed."""

LAUNCHES_A_ROUND = 100
"""How many trials are launched before the events of the backend are read again: a queue takes any number."""

QUEUE_ANSWER_SECONDS = 30.0
"""How long a worker may take to see that it is asked to stop a trial; it kills the trial itself after its grace."""

WAIT_SECONDS = 0.02
"""How often a run that waits for places of other runs looks: meanwhile a place that was left is unused."""


@dataclass(slots=True)
class _Schedule:
    backend: Backend
    slots: Sequence[Slot]
    limits: AttemptLimits
    prepare: Callable[[Job], Path]
    on_event: Callable[[Event], None]
    stop_requested: Callable[[], int]
    may_launch: Callable[[int], bool]
    clock: Callable[[], float]
    waiting: deque[Job]
    places: Places = OWN_PLACES
    hopeless: Callable[[], Mapping[int, Hopeless]] = dict
    control: RunControl = field(default_factory=RunControl)
    waits_for_places: bool = False
    running: dict[int, Running] = field(default_factory=dict)
    states: dict[int, State] = field(default_factory=dict)
    trouble: OSError | FolderError | None = None
    unrecorded: list[tuple[Running, ProcessEnded]] = field(default_factory=list)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    stop_explained: bool = False

    def emit(self, event: Event) -> None:
        """Pass an event to the listener. Where it cannot write what happened, the study is stopped as by a request."""
        try:
            self.on_event(event)
        except (OSError, FolderError) as error:
            self.trouble = self.trouble or error

    @property
    def stopping(self) -> int:
        """0: do not stop, 1: stop and let the running trials save, 2: kill them."""
        return max(self.stop_requested(), int(self.trouble is not None or self.breaker.tripped is not None))

    def is_over(self) -> bool:
        """Whether there is nothing more to wait for. To be called when the free slots have been filled."""
        is_waiting = self.waits_for_places or (self.control.is_paused and self.waiting)
        if self.control.leaves and not (self.waiting and self._may_fill()):
            return True
        if is_waiting and self.stopping == 0:
            return False
        # A trial that was killed and does not end keeps its slot; nothing can start in its place.
        limit = self.clock() - KILL_WAIT_SECONDS
        return all(
            running.kill_sent is not None and running.kill_sent < limit and not running.slot.is_queue
            for running in self.running.values()
        )

    def take_requests(self) -> None:
        """Add the trials that were added, and end those that wait and were stopped for good."""
        self.waiting.extend(self.control.take_added())
        for job in [job for job in self.waiting if job.trial in self.control.stopped] if self.control.stopped else ():
            self.waiting.remove(job)
            message = self.control.stopped[job.trial]
            try:
                self.control.record_end(job.trial)
            except (OSError, FolderError) as error:
                self.trouble = self.trouble or error
                self.waiting.appendleft(job)
                return
            self._end(job, CANCELLED, STOPPED_FOR_GOOD, message, 0.0)

    def fill_slots(self) -> None:
        """Launch as many trials as may be launched now."""
        self._launch_trials()
        # In a pause it does not wait for places: those that wait behind it are next.
        wants_places = bool(self.waiting) and not self.control.is_paused
        self.waits_for_places = self.places.end_round(jobs_left=wants_places, running=len(self.running))

    def _launch_trials(self) -> None:
        launched = 0
        while self._may_fill() and launched < LAUNCHES_A_ROUND:
            choice = next_launch(self.waiting, self.running.values(), self.slots, self.places)
            if choice is None:
                return
            job, slot = choice
            self.waiting.remove(job)
            try:
                self._launch(job, slot)
                launched += 1
            except (OSError, FolderError) as error:
                self.running.pop(job.trial, None)
                self.places.give_back(slot)
                if is_of_one_trial(error):
                    self._end(job, "failed", "crashed", str(error), 0.0)
                    continue
                self.trouble = error
                self.waiting.appendleft(job)
                return

    def _launch(self, job: Job, slot: Slot) -> None:
        folder = TrialFolder(self.prepare(job))
        if not job.is_at_work:
            if (ended := late_result(folder, job.attempt)) is not None:
                self.places.give_back(slot)
                self._end(job, ended.state, ended.reason, ended.message, 0.0, ended.where)
                return
            # A damaged result, or one of a trial to be run again; a trial may have made a folder of it. A result that
            # is there later shows that this attempt ended by itself.
            real_folders.remove_all(folder.result, folder.study)
        company = on_device(self.running.values(), slot)
        running = Running(job, slot, folder, self.clock(), bool(company), began=not slot.is_queue)
        running.device = "" if slot.is_queue else slot.device.label
        running.log_bytes = 0 if job.is_at_work else log_bytes(folder.log)
        self.running[job.trial] = running
        self.backend.launch(job.trial, folder.path, slot, job.attempt)
        for other in company:
            other.had_company = True

    def _may_fill(self) -> bool:
        return (
            bool(self.waiting)
            and not self.control.is_paused
            and self.may_launch(len(self.running))
            and self.stopping == 0
        )

    def handle(self, event: BackendEvent) -> None:
        """Handle an event of the backend."""
        if isinstance(event, BackendReady):
            self.emit(event)
        elif isinstance(event, ProcessStarted):
            running = self.running.get(event.trial)
            if running is not None:
                self.emit(running.begin(event, self.clock()))
        else:
            running = self.running.pop(event.trial, None)
            if running is not None:
                running.timed_out = running.timed_out or event.timed_out
                running.had_company = running.had_company or event.had_company
                judge = self._take_back if event.never_began else self._judge
                judge(running, event)
                self.places.give_back(running.slot)

    def stop_or_kill(self) -> None:
        """Stop the running trials, or kill them, where that was requested or their time is over."""
        now, stopping, hopeless = self.clock(), self.stopping, self.hopeless()
        concerns_all = stopping or self.control.stopped or self.control.is_paused
        # Else of thousands in a queue only those that began.
        items = [
            item for item in self.running.items() if concerns_all or item[1].began or item[1].stop_sent is not None
        ]
        for trial, running in items:
            if running.began:
                running.timed_out = running.timed_out or now - running.launched >= self.limits.trial_timeout_seconds
            running.hopeless = running.hopeless or hopeless.get(trial)
            # In a pause that lets the running trials run on, no worker may take another one.
            is_set_aside = self.control.is_paused and (self.control.sets_aside or not running.began)
            is_unwanted = running.hopeless is not None or trial in self.control.stopped or is_set_aside
            if running.stop_sent is None and (stopping >= 1 or running.timed_out or is_unwanted):
                running.stop_sent = now
                self.backend.stop(trial)
            grace = self.limits.grace_seconds + (QUEUE_ANSWER_SECONDS if running.slot.is_queue else 0.0)
            out_of_grace = running.stop_sent is not None and now - running.stop_sent >= grace
            if running.kill_sent is None and (stopping >= 2 or out_of_grace):
                running.kill_sent = now
                self.backend.kill(trial)

    def _judge(self, running: Running, ended: ProcessEnded) -> None:
        job = running.job
        try:
            self._decide(running, ended)
        except (OSError, FolderError) as error:
            if not is_of_one_trial(error):
                self.trouble = self.trouble or error
                self.states.setdefault(job.trial, "pending")
                self.unrecorded.append((running, ended))
                return
            self._end(job, "failed", "crashed", str(error), ended.seconds)
        self.backend.end_recorded(job.trial)

    def _decide(self, running: Running, ended: ProcessEnded) -> None:
        """Record what the end of an attempt means; raises OSError or FolderError where that cannot be written."""
        job, result = running.job, running.own_result()
        is_unwanted = job.trial in self.control.stopped
        is_whole = result is not None and not (result.provisional and self._had_company(running))
        if result is not None and not is_whole and not is_unwanted:
            # The trial beside it may have taken the memory: the result counts only where the trial ran alone.
            self._try_again(running, OUT_OF_MEMORY, result.message or "ran out of memory beside another trial")
        elif result is not None and is_whole:
            if result.provisional:
                write_result(running.folder, replace(result, provisional=False))
            self._end(job, result.state, result.reason, result.message, ended.seconds, result.where)
        elif ended.verdict == EXIT_UNWRITTEN and not running.may_fit_elsewhere(ended):
            # The disk is at fault, not the trial: the others would end the same way.
            self.trouble = self.trouble or FolderError(unwritten_message(running.folder, ended.message))
            self._cancel(running, ended.seconds)
        elif is_unwanted:
            self._stop_for_good(running, ended.seconds)
        elif running.hopeless is not None and was_stopped(ended):
            self._stop_early(running, running.hopeless, ended.seconds)
        elif running.timed_out and was_stopped(ended):
            self._time_out(running, ended.seconds)
        elif self.stopping > 0 and was_stopped(ended):
            self._cancel(running, ended.seconds)
        elif running.stop_sent is not None and was_stopped(ended):
            self._set_aside(running)
        elif ended.released or ended.is_excused:
            self._release(running, ended)
        else:
            self._fail(running, ended)

    def _had_company(self, running: Running) -> bool:
        return running.had_company or (not running.job.alone and self.places.has_company(running.slot))

    def _fail(self, running: Running, ended: ProcessEnded) -> None:
        reason = named_reason(LOST, ended.cause) if ended.lost else "crashed"
        message = running.with_log(ended.message or explain_end(ended))
        reached = progress_made(running.folder) if ended.lost else None
        if running.job.failures_with(reason, reached) <= self.limits.retries:
            self._try_again(running, reason, message, reached)
            return
        attempt = running.record(reason, message, final=True, reached=reached)
        self._end(running.job, "failed", reason, attempt.message, ended.seconds)

    def _time_out(self, running: Running, seconds: float) -> None:
        message = running.with_log(took_too_long(self.limits.trial_timeout_seconds))
        running.record("timeout", message, final=True)
        self._end(running.job, "failed", "timeout", message, seconds)

    def _stop_early(self, running: Running, hopeless: Hopeless, seconds: float) -> None:
        result = running.stopped_early(hopeless)
        self._end(running.job, result.state, result.reason, result.message, seconds)

    def _release(self, running: Running, ended: ProcessEnded) -> None:
        """Let a trial go on elsewhere; where it is released again and again without a further update, it has failed."""
        reason, reached = named_reason(RELEASED, ended.cause), progress_made(running.folder)
        if (times := running.job.idle_releases(reached)) < MOST_IDLE_RELEASES:
            self._try_again(running, reason, ended.message, reached)
            return
        message = f"was released {times} times in a row without a further update; the last time: {ended.message}"
        running.record(reason, message, final=True, reached=reached)
        self._end(running.job, "failed", reason, message, ended.seconds)

    def _try_again(self, running: Running, reason: str, message: str, reached: int | None = None) -> None:
        attempt = running.record(reason, message, final=False, reached=reached)
        self.waiting.appendleft(running.job.after(attempt))
        self.emit(TrialRetried(running.job.trial, reason, message, running.job.attempt))

    def _cancel(self, running: Running, seconds: float) -> None:
        running.record("cancelled", "", final=False)
        self._end(running.job, "cancelled", "", "", seconds)

    def _set_aside(self, running: Running) -> None:
        """Let a trial wait until the pause is over for which it was stopped."""
        attempt = running.record(CANCELLED, "the run was paused", final=False)
        self.waiting.appendleft(running.job.after(attempt))
        self.emit(TrialSetAside(running.job.trial, running.job.attempt))

    def _take_back(self, running: Running, _ended: ProcessEnded) -> None:
        """Let a trial wait again that no worker has taken: it is as if it had not been launched."""
        self.waiting.append(replace(running.job, is_at_work=False))

    def _stop_for_good(self, running: Running, seconds: float) -> None:
        message = self.control.stopped[running.job.trial]
        running.record(CANCELLED, message, final=True)
        self._end(running.job, CANCELLED, STOPPED_FOR_GOOD, message, seconds)

    def _end(self, job: Job, state: State, reason: str, message: str, seconds: float, where: str = "") -> None:
        self.states[job.trial] = state
        if state != "cancelled":
            self.breaker.trial_ended(job.trial, state, reason, message, where)
        self.emit(TrialEnded(job.trial, state, reason, message, seconds, job.attempt, where))

    def explain_stop(self) -> None:
        """Emit once that the first trials failed for one cause, where that leaves other trials without a run."""
        if self.breaker.tripped is not None and not self.stop_explained and (self.waiting or self.running):
            self.stop_explained = True
            self.emit(StoppedByFailures(self.breaker.tripped, len(self.waiting) + len(self.running)))

    def give_up(self) -> None:
        """Leave the trials that could not be killed; what never ran, or would be tried again, is pending.

        An end that could not be recorded is recorded where that can be done now, as where the disk has room again.
        """
        unrecorded, self.unrecorded = self.unrecorded, []
        for running, ended in unrecorded:
            self._judge(running, ended)
        for trial in sorted(self.running):
            running = self.running.pop(trial)
            if running.slot.is_queue:  # workers go on with it
                self.states[trial] = "pending"
                continue
            leave = self._time_out if running.timed_out else self._cancel
            leave(running, self.clock() - running.launched)
        self.states.update((job.trial, "pending") for job in self.waiting)


def run_trials(
    jobs: Iterable[Job],
    backend: Backend,
    slots: Sequence[Slot],
    *,
    limits: AttemptLimits,
    prepare: Callable[[Job], Path],
    on_event: Callable[[Event], None],
    stop_requested: Callable[[], int],
    may_launch: Callable[[int], bool] = lambda _running: True,
    places: Places = OWN_PLACES,
    hopeless: Callable[[], Mapping[int, Hopeless]] = dict,
    control: RunControl | None = None,
    poll_seconds: float = 0.2,
    clock: Callable[[], float] = time.monotonic,
) -> Mapping[int, State]:
    """Run the trials in this order on a backend that was started, and give the state of each at the end.

    `prepare` makes a trial's folder, with its request.json, and gives its path; a result.json that is in it is removed.
    A trial that crashed or was lost is tried again at once, and goes on from its resume.pt. `stop_requested` gives how
    often a stop was requested. After the first request no trial is launched, and the running ones may save for
    `limits.grace_seconds`; then, or after a second request, they are killed. Where the first trials all fail for one
    cause, the study is stopped as by one request, and StoppedByFailures says why. Trials that never ran, and those that
    would have been tried again, are pending. `may_launch` is called before each launch, with the number of running
    trials; it must allow the launch where none runs. `places` are those of the slots; trials wait where other runs use
    them. `hopeless` gives trials that are to be stopped early: they may save, and have then ended for good. `control`
    has what users request of this run meanwhile; a trial that they stop for good is cancelled (see
    `is_stopped_for_good`), and a run that they leave ends while workers go on with its trials, which are pending. For a
    job that is at work already, `prepare` only gives the folder. The caller closes the backend.

    Raises FolderError or OSError where the runner or a trial cannot write the trial's folder, after the running trials
    were stopped.
    """
    if not slots:
        raise ValueError("expected at least one slot, got none")
    schedule = _Schedule(
        *(backend, slots, limits, prepare, on_event, stop_requested, may_launch, clock, deque(jobs), places, hopeless),
        control=control or RunControl(),
    )
    while True:
        schedule.take_requests()
        schedule.fill_slots()
        if schedule.is_over():
            break
        schedule.stop_or_kill()
        for event in backend.poll(min(poll_seconds, WAIT_SECONDS) if schedule.waits_for_places else poll_seconds):
            schedule.handle(event)
        schedule.explain_stop()
        is_asked = schedule.stop_requested() > 0
        schedule.emit(tick(schedule.running.values(), len(schedule.waiting), schedule.stopping, is_asked=is_asked))
    schedule.give_up()
    if schedule.trouble is not None:
        raise schedule.trouble
    return schedule.states
