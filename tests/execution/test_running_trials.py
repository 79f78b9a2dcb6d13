"""Trials that wait in the queue of a backend, and the scheduler. Tests running_trials.py; slots: test_scheduler.py."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.records import AttemptEnd, TrialResult
from tunectl.execution.backends.backend import Backend, BackendEvent, ProcessEnded, ProcessStarted
from tunectl.execution.devices import CPU
from tunectl.execution.jobs import AttemptLimits, Event, Job, Tick, TrialEnded, TrialRetried, TrialStarted
from tunectl.execution.protocol import EXIT_STOPPED
from tunectl.execution.run_control import RunControl
from tunectl.execution.running_trials import late_result
from tunectl.execution.scheduler import run_trials
from tunectl.execution.slots import Slot
from tunectl.store.trial_files import read_trial, write_result

QUEUE = (Slot(0, CPU, {}, "cpu", is_queue=True),)


@dataclass
class QueueBackend:
    """Two workers take the first trials of a queue; each attempt goes as `play` says, one poll after it was taken."""

    root: Path
    play: Callable[[int, int], ProcessEnded | None] = lambda _trial, _attempt: None
    offered: dict[int, int] = field(default_factory=dict)
    taken: dict[int, int] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    alone: list[int] = field(default_factory=list)
    events: list[BackendEvent] = field(default_factory=list)
    now: float = 0.0
    workers: int = 2

    def launch(self, trial: int, _folder: Path, slot: Slot, attempt: int) -> None:
        self.offered[trial] = attempt
        if slot.is_alone:
            self.alone.append(trial)

    def end_recorded(self, trial: int) -> None: ...

    def poll(self, timeout_seconds: float) -> Sequence[BackendEvent]:
        self.now += timeout_seconds
        events, self.events = self.events, []
        for trial, attempt in list(self.taken.items()):
            ended = self.play(trial, attempt)
            if ended is None:
                folder = TrialFolder(self.root / "trials" / f"{trial:05d}")
                folder.result.write_text(json.dumps({"trial": trial, "state": "completed", "attempt": attempt}))
                ended = ProcessEnded(trial, 0, None, 1.0)
            if ended.seconds >= 0:  # else it runs on
                del self.taken[trial]
                events.append(ended)
        for trial in list(self.offered)[: self.workers - len(self.taken)]:
            self.taken[trial] = self.offered.pop(trial)
            events.append(ProcessStarted(trial, 100, "GPU-a", "node-1 (slurm job 7)"))
        return events

    def stop(self, trial: int) -> None:
        self.asked.append(("stop", trial))
        if self.offered.pop(trial, None) is not None:
            self.events.append(ProcessEnded(trial, None, None, 0.0, never_began=True))

    def kill(self, trial: int) -> None:
        self.asked.append(("kill", trial))


@dataclass
class Run:
    root: Path
    backend: QueueBackend
    control: RunControl = field(default_factory=RunControl)
    events: list[Event] = field(default_factory=list)
    prepared: list[int] = field(default_factory=list)
    stops: Callable[[], int] = lambda: 0
    timeout: float = 1e9

    def prepare(self, job: Job) -> Path:
        folder = StudyFolder(self.root).home(job.trial)
        folder.path.mkdir(parents=True, exist_ok=True)
        if not job.is_at_work:
            self.prepared.append(job.trial)
            folder.request.write_text(json.dumps({"attempt": job.attempt}))
        return folder.path

    def run(self, jobs: Sequence[Job], on_event: Callable[[Event], None] = lambda _event: None) -> dict[int, str]:
        def heard(event: Event) -> None:
            self.events.append(event)
            on_event(event)

        return dict(
            run_trials(
                jobs,
                cast("Backend", self.backend),
                QUEUE,
                limits=AttemptLimits(retries=1, trial_timeout_seconds=self.timeout, grace_seconds=5.0),
                prepare=self.prepare,
                on_event=heard,
                stop_requested=lambda: self.stops(),
                control=self.control,
                clock=lambda: self.backend.now,
            )
        )

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def attempts(self, trial: int) -> list[AttemptEnd]:
        return list(read_trial(StudyFolder(self.root).home(trial)).attempts)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, QueueBackend(tmp_path))


def runs_on(trial: int) -> ProcessEnded:
    return ProcessEnded(trial, None, None, -1.0)


def test_a_queue_takes_all_trials_at_once_and_a_trial_starts_when_a_worker_takes_it(run: Run) -> None:
    assert run.run([Job(trial) for trial in range(5)]) == dict.fromkeys(range(5), "completed")
    started = [event for event in run.events if isinstance(event, TrialStarted)]
    assert [event.trial for event in started] == [0, 1, 2, 3, 4]
    first = next(event for event in run.events if isinstance(event, Tick))
    assert (first.running, first.offered, first.waiting) == (2, 3, 0)
    assert {(event.device, event.where) for event in started} == {("GPU-a", "node-1 (slurm job 7)")}


def test_ten_thousand_trials_are_offered_without_a_quadratic_search(run: Run) -> None:
    folder = run.prepare(Job(0, is_at_work=True))
    run.control.leaves, run.backend.workers = True, 0
    backend = run.backend
    began = time.process_time()
    states = run_trials(
        [Job(trial) for trial in range(10_000)],
        cast("Backend", backend),
        QUEUE,
        limits=AttemptLimits(),
        prepare=lambda _job: folder,
        on_event=lambda _event: None,
        stop_requested=lambda: 0,
        control=run.control,
        clock=lambda: backend.now,
    )
    assert states == dict.fromkeys(range(10_000), "pending")
    assert len(backend.offered) == 10_000
    assert time.process_time() - began < 10.0  # 3 s on a slow machine; a search over all for each takes minutes


def test_a_run_that_leaves_ends_when_all_is_offered_and_records_nothing(run: Run) -> None:
    run.backend.workers = 0
    run.control.leaves = True
    assert run.run([Job(trial) for trial in range(3)]) == dict.fromkeys(range(3), "pending")
    assert list(run.backend.offered) == [0, 1, 2]
    assert run.backend.asked == []
    assert not StudyFolder(run.root).home(0).attempts.exists()


def test_a_trial_that_was_only_offered_is_pending_after_a_stop_without_an_attempt(run: Run) -> None:
    run.stops = lambda: int(run.backend.now > 1.0)
    run.backend.play = lambda trial, _attempt: (
        ProcessEnded(trial, EXIT_STOPPED, None, 1.0) if ("stop", trial) in run.backend.asked else runs_on(trial)
    )
    states = run.run([Job(trial) for trial in range(4)])
    assert states == {0: "cancelled", 1: "cancelled", 2: "pending", 3: "pending"}
    assert [attempt.reason for attempt in run.attempts(0)] == ["cancelled"]
    assert not StudyFolder(run.root).home(3).attempts.exists()


def test_in_a_pause_that_lets_trials_run_on_no_worker_takes_another_one(run: Run) -> None:
    run.control.is_paused, paused = False, []

    def pause(event: Event) -> None:
        if isinstance(event, TrialStarted) and event.trial == 1:
            run.control.is_paused = run.control.lets_run = True
        if isinstance(event, TrialEnded):
            paused.append(event.trial)
            if len(paused) == 2:
                run.control.is_paused = False

    assert run.run([Job(trial) for trial in range(4)], pause) == dict.fromkeys(range(4), "completed")
    assert paused[:2] == [0, 1]
    assert {trial for verb, trial in run.backend.asked if verb == "stop"} == {2, 3}
    assert run.attempts(2) == []


def test_a_trial_that_its_worker_released_goes_on_and_is_not_counted_as_failed(run: Run) -> None:
    def released(trial: int, attempt: int) -> ProcessEnded | None:
        return ProcessEnded(trial, 75, None, 1.0, released=True, message="its time is short") if attempt < 5 else None

    run.backend.play = released
    assert run.run([Job(0)]) == {0: "completed"}
    assert [(item.attempt, item.reason) for item in run.attempts(0)] == [(n, "released") for n in range(1, 5)]
    assert [event.reason for event in run.events if isinstance(event, TrialRetried)] == ["released"] * 4


@pytest.mark.parametrize(
    ("cause", "is_excused", "state", "reasons"),
    [
        ("NODE_FAIL", False, "failed", ["lost (NODE_FAIL)"] * 2),
        ("PREEMPTED", True, "completed", ["released (PREEMPTED)"] * 4),
        ("", False, "failed", ["lost"] * 2),
    ],
)
def test_the_word_of_the_engine_is_in_the_reason_and_says_whether_it_counts(
    run: Run, cause: str, is_excused: bool, state: str, reasons: list[str]
) -> None:
    run.backend.play = lambda trial, attempt: (
        ProcessEnded(trial, None, None, 1.0, lost=True, message="silent", cause=cause, is_excused=is_excused)
        if attempt < 5
        else None
    )
    assert run.run([Job(0)]) == {0: state}
    assert [item.reason for item in run.attempts(0)] == reasons


def test_the_time_limit_counts_from_the_start_and_not_from_the_offer(run: Run) -> None:
    run.timeout = 3.0
    run.backend.workers = 0

    def hire(_event: Event) -> None:
        run.backend.workers = 2 if run.backend.now > 10.0 else 0

    assert run.run([Job(0)], hire) == {0: "completed"}


def test_a_trial_that_is_at_work_is_watched_and_neither_prepared_nor_changed(run: Run) -> None:
    earlier = (AttemptEnd(1, "crashed"),)
    assert run.run([Job(0, earlier, is_at_work=True), Job(1)]) == {0: "completed", 1: "completed"}
    assert run.prepared == [1]
    assert [event.attempt for event in run.events if isinstance(event, TrialStarted)] == [2, 1]


def test_a_trial_that_ran_out_of_memory_beside_another_is_offered_alone(run: Run) -> None:
    run.run([Job(0, (AttemptEnd(1, "out_of_memory"),)), Job(1)])
    assert run.backend.alone == [0]


@pytest.mark.parametrize(("attempt", "is_one"), [(3, False), (2, True), (1, True)])
def test_only_a_result_of_the_last_attempt_is_one_that_shows_late(tmp_path: Path, attempt: int, is_one: bool) -> None:
    folder = TrialFolder(tmp_path / "study" / "trials" / "00000")
    folder.path.mkdir(parents=True)
    result = TrialResult(0, "completed", attempt=1)
    write_result(folder, result)
    assert (late_result(folder, attempt) is not None) == is_one
    for other in (replace(result, provisional=True), replace(result, state="failed")):
        write_result(folder, other)
        assert late_result(folder, attempt) is None
