"""Random plans, slots, devices, endings, stops and faults through the scheduler: every trial ends in one state.

Tests scheduler.py and jobs.py.
"""

from __future__ import annotations

import json
import math
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st

from tunectl.core.errors import FolderError
from tunectl.core.folders import TrialFolder
from tunectl.core.records import ENDED, AttemptEnd, State
from tunectl.execution.backends.backend import Backend, ProcessEnded, ProcessStarted
from tunectl.execution.devices import CPU, Device
from tunectl.execution.jobs import (
    OUT_OF_MEMORY,
    AttemptLimits,
    Event,
    Job,
    StoppedByFailures,
    TrialEnded,
    TrialRetried,
    TrialStarted,
)
from tunectl.execution.protocol import EXIT_STOPPED, EXIT_UNWRITTEN
from tunectl.execution.scheduler import KILL_WAIT_SECONDS, run_trials
from tunectl.execution.slots import Slot, make_slots
from tunectl.store.trial_files import read_trial, trial_state

_FEW = 50
_MOST_SECONDS = 5000.0
GPUS = (Device("cuda", 0, "A", "GPU-a"), Device("cuda", 1, "B", "GPU-b"), Device("cuda", 2, "C", "GPU-c"))
RESULTS = {
    "completed": ("completed", "", ""),
    "infeasible": ("infeasible", "nan_loss", ""),
    "failed": ("failed", "error", "model.py:7"),
    "failed_elsewhere": ("failed", "error", "model.py:9"),
    "out_of_memory": ("infeasible", "out_of_memory", ""),
}
_DEAD = ProcessEnded(0, None, None, 0.0)
DEATHS = {
    "segfault": replace(_DEAD, signal=signal.SIGSEGV),
    "sigkill": replace(_DEAD, signal=signal.SIGKILL),
    "sigterm": replace(_DEAD, signal=signal.SIGTERM),
    "exit_0": replace(_DEAD, code=0),
    "exit_3": replace(_DEAD, code=3),
    "exit_75": replace(_DEAD, code=EXIT_STOPPED),
    "unwritten": replace(_DEAD, code=EXIT_UNWRITTEN),
    "lost": replace(_DEAD, lost=True, message="the server died"),
    "unstartable": replace(_DEAD, message="its process could not be started"),
}
COMMON = ["completed"] * 6 + ["infeasible", "failed", "out_of_memory", "out_of_memory", "segfault", "lost"]


@dataclass(frozen=True)
class Course:
    """How one attempt goes: when and how it ends by itself, and what it does when it is asked to stop or killed."""

    seconds: float = 5.0
    ending: str = "completed"
    saves_in: float | None = 1.0
    killable: bool = True
    dies_after_result: bool = False
    torn_result: bool = False
    is_announced: bool = True


@dataclass
class Attempt:
    """What the backend knows of an attempt."""

    trial: int
    number: int
    slot: Slot
    folder: TrialFolder
    course: Course
    begun: float
    stopped: float | None = None
    killed: float | None = None
    ended: float = math.inf

    @property
    def dies_by_itself(self) -> bool:
        return self.killed is None and self.ended < math.inf and self.ended - self.begun >= self.course.seconds

    def overlaps(self, other: Attempt) -> bool:
        return self.begun < other.ended and other.begun < self.ended


@dataclass
class RandomBackend:
    """Goes through courses on a clock that only `poll` moves, and refuses what no backend may be asked."""

    course_of: Callable[[int, int], Course]
    stops: Callable[[float], int]
    limits: AttemptLimits
    now: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)
    reports: list[ProcessStarted | ProcessEnded] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    @property
    def running(self) -> dict[int, Attempt]:
        return {item.trial: item for item in self.attempts if item.ended == math.inf}

    def launch(self, trial: int, folder: Path, slot: Slot, attempt: int) -> None:
        assert self.stops(self.now) == 0, "nothing is launched after a stop was asked for"
        assert trial not in self.running, "a trial runs once at a time"
        assert all(slot.index != item.slot.index for item in self.running.values()), "a slot holds one trial"
        assert not (folder / "result.json").exists(), "a result shows that this attempt has ended"
        made = Attempt(trial, attempt, slot, TrialFolder(folder), self.course_of(trial, attempt), self.now)
        self.attempts.append(made)
        if made.course.is_announced:
            self.reports.append(ProcessStarted(trial, 1000 + trial))

    def end_recorded(self, trial: int) -> None: ...

    def stop(self, trial: int) -> None:
        attempt = self.running[trial]
        assert attempt.stopped is None, "SIGTERM once"
        attempt.stopped = self.now

    def kill(self, trial: int) -> None:
        attempt = self.running[trial]
        assert attempt.killed is None, "SIGKILL once"
        assert attempt.stopped is not None, "it may save first"
        assert self.stops(self.now) >= 2 or self.now - attempt.stopped >= self.limits.grace_seconds
        attempt.killed = self.now

    def poll(self, timeout_seconds: float) -> Sequence[ProcessStarted | ProcessEnded]:
        self.now += timeout_seconds
        assert self.now < _MOST_SECONDS, "the run comes to an end"
        reports, self.reports = self.reports, []
        for attempt in sorted(self.running.values(), key=lambda item: (item.course.seconds, item.trial)):
            ended = self._end_of(attempt)
            if ended is not None:
                attempt.ended = self.now
                reports.append(ended)
        return reports

    def _end_of(self, attempt: Attempt) -> ProcessEnded | None:
        course, seconds = attempt.course, self.now - attempt.begun
        if not course.killable:
            return None
        if attempt.killed is not None:
            return ProcessEnded(attempt.trial, None, signal.SIGKILL, seconds)
        if seconds >= course.seconds:
            return self._by_itself(attempt, seconds)
        saves_in = math.inf if course.saves_in is None else course.saves_in
        if attempt.stopped is not None and self.now - attempt.stopped >= saves_in:
            return ProcessEnded(attempt.trial, EXIT_STOPPED, None, seconds)
        return None

    def _by_itself(self, attempt: Attempt, seconds: float) -> ProcessEnded:
        course = attempt.course
        if course.ending not in RESULTS:
            if course.torn_result:
                attempt.folder.result.write_text('{"trial": ')
            return replace(DEATHS[course.ending], trial=attempt.trial, seconds=seconds)
        state, reason, where = RESULTS[course.ending]
        content = {"trial": attempt.trial, "state": state, "reason": reason, "message": "ValueError: x", "where": where}
        attempt.folder.result.write_text(
            json.dumps({**content, "attempt": attempt.number, "provisional": reason == OUT_OF_MEMORY})
        )
        if course.dies_after_result:
            return ProcessEnded(attempt.trial, None, signal.SIGSEGV, seconds)
        return ProcessEnded(attempt.trial, 0, None, seconds)


@dataclass(frozen=True)
class Plan:
    """All that is drawn for one run."""

    slots: tuple[Slot, ...]
    limits: AttemptLimits
    earlier: tuple[tuple[AttemptEnd, ...], ...]
    stop_at: float = math.inf
    second_stop_after: float = math.inf
    broken_folders: frozenset[int] = frozenset()

    def stops(self, now: float) -> int:
        return int(now >= self.stop_at) + int(now >= self.stop_at + self.second_stop_after)

    @property
    def ends_all(self) -> bool:
        """Whether a trial that does not end by itself is asked to."""
        return self.stop_at < math.inf or self.limits.trial_timeout_seconds < math.inf


@dataclass
class Run:
    """What became of a plan."""

    plan: Plan
    root: Path
    backend: RandomBackend
    events: list[Event] = field(default_factory=list)
    states: Mapping[int, State] | None = None

    def folder(self, trial: int) -> TrialFolder:
        return TrialFolder(self.root / f"{trial:05d}")

    def prepare(self, job: Job) -> Path:
        if job.trial in self.plan.broken_folders:
            raise OSError(28, "No space left on device")
        self.folder(job.trial).path.mkdir(exist_ok=True)
        return self.folder(job.trial).path

    def go(self) -> None:
        """The one place where the scheduler is called; a fault of the disk leaves `states` None."""
        jobs = [Job(trial, earlier) for trial, earlier in enumerate(self.plan.earlier)]
        try:
            self.states = run_trials(
                jobs,
                cast(Backend, self.backend),  # the scheduler calls none of the other methods
                self.plan.slots,
                limits=self.plan.limits,
                prepare=self.prepare,
                on_event=self.events.append,
                stop_requested=lambda: self.plan.stops(self.backend.now),
                poll_seconds=1.0,
                clock=self.backend.clock,
            )
        except (OSError, FolderError):
            assert self.plan.broken_folders or any(item.course.ending == "unwritten" for item in self.backend.attempts)


seconds = st.integers(0, 8).map(float)
courses = st.builds(
    Course,
    seconds=seconds | st.just(60.0),
    ending=st.sampled_from(COMMON * 3 + [*RESULTS, *DEATHS]),
    saves_in=st.none() | seconds,
    killable=st.sampled_from([True] * 12 + [False]),
    dies_after_result=st.booleans(),
    torn_result=st.booleans(),
    is_announced=st.sampled_from([True] * 5 + [False]),
)
reasons = st.sampled_from(["crashed", "cancelled", "lost", "out_of_memory", "timeout", "error"])
earlier_attempts = st.lists(st.tuples(reasons, st.booleans()), max_size=3).map(
    lambda drawn: tuple(AttemptEnd(number, reason, "", final) for number, (reason, final) in enumerate(drawn, start=1))
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    gpus, per_device = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    slots = make_slots(GPUS[:gpus], per_device) if gpus else make_slots([CPU], count=per_device)
    timeout = draw(st.sampled_from([math.inf, math.inf, 2.0, 5.0]))
    trials = draw(st.lists(st.just(()) | earlier_attempts, max_size=9))
    return Plan(
        slots,
        AttemptLimits(draw(st.integers(0, 2)), timeout, draw(seconds)),
        tuple(trials),
        stop_at=draw(st.just(math.inf) | st.integers(0, 25).map(float)),
        second_stop_after=draw(st.just(math.inf) | seconds),
        broken_folders=frozenset(draw(st.sampled_from([(), (), (), (0,), (3,), (7,)]))),
    )


def carry_out(plan: Plan, data: st.DataObject, root: Path) -> Run:
    last: dict[int, Course] = {}

    def course_of(trial: int, attempt: int) -> Course:
        again = trial in last and data.draw(st.booleans(), label="as before")
        course = last[trial] if again else data.draw(courses, label=f"attempt {attempt} of trial {trial}")
        last[trial] = course
        return course if plan.ends_all or course.killable else Course(course.seconds, course.ending)

    run = Run(plan, root, RandomBackend(course_of, plan.stops, plan.limits))
    run.go()
    return run


def assert_slots_and_devices_were_shared_rightly(run: Run) -> None:
    attempts = run.backend.attempts
    alone = {
        (item.trial, item.number)
        for item in attempts
        if "out_of_memory" in reasons_before(run, item.trial, item.number)
    }
    for place, item in enumerate(attempts):
        for other in attempts[place + 1 :]:
            if not item.overlaps(other):
                continue
            assert item.slot.index != other.slot.index, "a slot holds one trial at a time"
            if item.slot.device == other.slot.device:
                assert not {(item.trial, item.number), (other.trial, other.number)} & alone, "it has its device alone"


def reasons_before(run: Run, trial: int, number: int) -> list[str]:
    earlier = [item.reason for item in run.plan.earlier[trial]]
    return earlier + [item.reason for item in read_trial(run.folder(trial)).attempts if item.attempt < number]


def assert_attempts_are_counted(run: Run) -> None:
    for trial, earlier in enumerate(run.plan.earlier):
        launched = [item.number for item in run.backend.attempts if item.trial == trial]
        assert launched == list(range(len(earlier) + 1, len(earlier) + 1 + len(launched))), (
            "no number twice or left out"
        )
        files = read_trial(run.folder(trial))
        recorded = [item.attempt for item in files.attempts]
        result = [files.result.attempt] if files.result else []
        assert recorded + result == launched, "each attempt left one line, or the result"
        assert all(not item.final for item in files.attempts[:-1]), "after a final one nothing is tried again"
        counted = [item for item in files.attempts if item.reason in ("crashed", "lost")]
        last_final = max((place for place, item in enumerate(earlier) if item.final), default=-1)
        before = [item for item in earlier[last_final + 1 :] if item.reason in ("crashed", "lost")]
        assert len(counted) <= max(run.plan.limits.retries + 1 - len(before), 1)
        assert sum(item.reason == "out_of_memory" for item in files.attempts) <= 1
        assert all(item.reason in ("crashed", "lost", "out_of_memory") for item in files.attempts[:-1])


def assert_every_trial_is_in_one_state(run: Run) -> None:
    ends = {event.trial: event for event in run.events if isinstance(event, TrialEnded)}
    assert len(ends) == sum(isinstance(event, TrialEnded) for event in run.events), "a trial ends once"
    kept = {trial: trial_state(read_trial(run.folder(trial))) for trial in range(len(run.plan.earlier))}
    assert {trial: event.state for trial, event in ends.items()} == {
        trial: state for trial, (state, *_) in kept.items() if state != "pending"
    }, "what was said is what the files say"
    assert all(event.reason == kept[trial][1] or event.state == "cancelled" for trial, event in ends.items())
    if run.states is not None:
        assert dict(run.states) == {trial: state for trial, (state, *_) in kept.items()}
        was_stopped = run.plan.stop_at <= run.backend.now or any(
            isinstance(event, StoppedByFailures) for event in run.events
        )
        stuck = [item for item in run.backend.running.values() if item.killed is not None]
        assert was_stopped or stuck or set(run.states.values()) <= ENDED, "all is done unless something stopped it"


def assert_it_was_told(run: Run) -> None:
    stopped = [place for place, event in enumerate(run.events) if isinstance(event, StoppedByFailures)]
    assert len(stopped) <= 1
    assert not any(isinstance(event, TrialStarted) for place in stopped for event in run.events[place:])
    unwritten = [
        item.ended for item in run.backend.attempts if item.course.ending == "unwritten" and item.dies_by_itself
    ]
    assert all(item.begun < min(unwritten, default=math.inf) for item in run.backend.attempts), "the disk is full"
    announced = [(item.trial, item.number) for item in run.backend.attempts if item.course.is_announced]
    told = [(event.trial, event.attempt) for event in run.events if isinstance(event, TrialStarted)]
    assert sorted(told) == sorted(announced)
    for event in [event for event in run.events if isinstance(event, TrialRetried)]:
        (line,) = [item for item in read_trial(run.folder(event.trial)).attempts if item.attempt == event.attempt]
        assert (line.reason, line.final) == (event.reason, False)


def assert_nobody_is_waited_for_in_vain(run: Run) -> None:
    for item in run.backend.running.values():
        assert not item.course.killable, "only what cannot be killed is left running"
        assert item.killed is not None
        assert run.backend.now - item.killed > KILL_WAIT_SECONDS


def assert_they_began_in_the_order_of_the_jobs(run: Run) -> None:
    earlier = run.plan.earlier
    first = [item.trial for item in run.backend.attempts if item.number == len(earlier[item.trial]) + 1]
    # One that must have its device for itself may have to wait.
    first = [trial for trial in first if all(item.reason != "out_of_memory" for item in earlier[trial])]
    assert first == sorted(first)


def assert_every_attempt_left_what_it_should(run: Run) -> None:
    for item in run.backend.attempts:
        if item.ended < math.inf:
            files = read_trial(run.folder(item.trial))
            found = [line.reason for line in files.attempts if line.attempt == item.number] or ["result"]
            assert found[0] in allowed_reasons(run, item), item


def allowed_reasons(run: Run, item: Attempt) -> set[str]:
    """What attempts.jsonl may call an attempt; "result" where it must not be there."""
    others = [other for other in run.backend.attempts if other is not item and other.slot.device == item.slot.device]
    last_look = item.ended - 1.0
    ending = item.course.ending if item.dies_by_itself else "sigkill" if item.killed is not None else "exit_75"
    if ending in RESULTS:
        return {"out_of_memory" if ending == "out_of_memory" and any(map(item.overlaps, others)) else "result"}
    if ending == "unwritten":
        return {"cancelled"}
    fault = "lost" if ending == "lost" else "crashed"
    if ending not in ("lost", "exit_75", "sigterm", "sigkill"):
        return {fault}
    if last_look - item.begun >= run.plan.limits.trial_timeout_seconds:
        return {"timeout"}
    if run.plan.stops(item.ended) or item.stopped is not None:
        return {"cancelled"}
    # A failure of the others may have stopped the study in the very moment.
    failed = any(isinstance(event, StoppedByFailures) for event in run.events) or run.states is None
    return {fault, "cancelled"} if failed else {fault}


@examples(_FEW)
@given(plan=plans(), data=st.data())
def test_every_trial_ends_in_one_state_whatever_happens(plan: Plan, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as root:
        run = carry_out(plan, data, Path(root))
        assert_nobody_is_waited_for_in_vain(run)
        assert_they_began_in_the_order_of_the_jobs(run)
        assert_every_attempt_left_what_it_should(run)
        assert_slots_and_devices_were_shared_rightly(run)
        assert_attempts_are_counted(run)
        assert_every_trial_is_in_one_state(run)
        assert_it_was_told(run)
