"""Requests to a run, as the scheduler obeys them, on the backend of test_scheduler. Tests run_control.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from test_scheduler import Script, Study, by_trial, jobs

from tunectl.core.folders import TrialFolder
from tunectl.core.records import STOPPED_FOR_GOOD
from tunectl.execution.backends.backend import Backend
from tunectl.execution.devices import CPU
from tunectl.execution.jobs import AttemptLimits, Job, Tick, TrialEnded, TrialSetAside, TrialStarted
from tunectl.execution.run_control import RunControl
from tunectl.execution.scheduler import run_trials
from tunectl.execution.slots import make_slots
from tunectl.store.trial_files import read_trial, record_end, trial_state

ONE_SLOT = make_slots([CPU], count=1)


class Requested(Study):
    """A run with requests: `at` maps a time of the backend's clock to what is asked then."""

    def __init__(self, root: Path, scripts: Any, at: dict[float, Callable[[RunControl], object]], **more: Any) -> None:
        super().__init__(root, scripts, **more)
        self.control = RunControl(record_end=lambda trial: record_end(self.home(trial), "by request", final=True))
        self.at = dict(at)

    def home(self, trial: int) -> TrialFolder:
        # A folder of trials, as a study has one.
        return TrialFolder(self.root / f"{trial:05d}")

    def note_event(self, event: Any) -> None:
        self.events.append(event)
        if isinstance(event, Tick):
            for time in [time for time in self.at if time <= self.backend.now]:
                self.at.pop(time)(self.control)

    def run(self, waiting: list[Job]) -> Any:
        return run_trials(
            waiting,
            cast(Backend, self.backend),
            self.slots,
            limits=AttemptLimits(self.retries, self.timeout, self.grace),
            prepare=self.prepare,
            on_event=self.note_event,
            stop_requested=lambda: self.stops(self.backend.now),
            control=self.control,
            poll_seconds=1.0,
            clock=self.backend.clock,
        )

    def ended(self) -> dict[int, tuple[str, str]]:
        return {event.trial: (event.state, event.reason) for event in self.of(TrialEnded)}


@pytest.fixture
def trials(tmp_path: Path) -> Path:
    root = tmp_path / "study" / "trials"
    root.mkdir(parents=True)
    return root


def stop(*numbers: int) -> Callable[[RunControl], None]:
    return lambda control: control.stopped.update(dict.fromkeys(numbers, "by request"))


def pause(control: RunControl) -> None:
    control.is_paused = True


def let_run(control: RunControl) -> None:
    control.is_paused = control.lets_run = True


def resume(control: RunControl) -> None:
    control.is_paused = control.lets_run = False


def test_a_running_trial_that_is_stopped_for_good_saves_and_the_others_go_on(trials: Path) -> None:
    study = Requested(trials, by_trial(), {3.0: stop(0)}, slots=ONE_SLOT)
    assert study.run(jobs(2)) == {0: "cancelled", 1: "completed"}
    assert study.ended() == {0: ("cancelled", STOPPED_FOR_GOOD), 1: ("completed", "")}
    assert study.attempts(0) == [(1, "cancelled", True)]
    assert trial_state(read_trial(study.home(0))) == ("cancelled", STOPPED_FOR_GOOD, "by request")


def test_a_trial_that_does_not_save_in_time_is_killed_and_stopped_all_the_same(trials: Path) -> None:
    study = Requested(trials, by_trial(t0=Script(500, heeds=False)), {3.0: stop(0)}, grace=5.0)
    assert study.run(jobs(1)) == {0: "cancelled"}
    assert study.backend.now < 15
    assert study.ended() == {0: ("cancelled", STOPPED_FOR_GOOD)}


def test_a_waiting_trial_that_is_stopped_is_never_launched(trials: Path) -> None:
    study = Requested(trials, by_trial(), {3.0: stop(1, 2)}, slots=ONE_SLOT)
    assert study.run(jobs(4)) == {0: "completed", 1: "cancelled", 2: "cancelled", 3: "completed"}
    assert [launch[0] for launch in study.backend.launches] == [0, 3]
    assert study.attempts(1) == [(0, "cancelled", True)], "it was stopped before its first attempt"
    assert trial_state(read_trial(study.home(1)))[:2] == ("cancelled", STOPPED_FOR_GOOD)


def test_a_trial_that_completes_while_it_is_stopped_is_completed(trials: Path) -> None:
    study = Requested(trials, by_trial(t0=Script(4, heeds=False)), {3.0: stop(0)})
    assert study.run(jobs(1)) == {0: "completed"}
    assert study.attempts(0) == []


@pytest.mark.parametrize("ending", ["crash", "out_of_memory", "exit_0"])
def test_a_trial_that_is_stopped_is_not_tried_again_however_it_ends(trials: Path, ending: str) -> None:
    scripts = by_trial(t0=Script(4, ending, heeds=False), t1=Script(20))
    study = Requested(trials, scripts, {3.0: stop(0)})
    assert study.run(jobs(2))[0] == "cancelled"
    assert [launch[0] for launch in study.backend.launches] == [0, 1]


def test_while_a_run_is_paused_nothing_runs_and_afterwards_its_trials_go_on(trials: Path) -> None:
    study = Requested(trials, by_trial(), {3.0: pause, 50.0: resume})
    assert study.run(jobs(3)) == dict.fromkeys(range(3), "completed")
    assert {event.trial for event in study.of(TrialSetAside)} == {0, 1}
    assert [launch[3] for launch in study.backend.launches[2:4]] == [50.0, 50.0], "the first two again"
    assert {launch[:2] for launch in study.backend.launches} == {(0, 1), (1, 1), (0, 2), (1, 2), (2, 1)}
    assert study.attempts(0) == [(1, "cancelled", False)]


def test_a_pause_may_let_the_running_trials_run_to_their_end(trials: Path) -> None:
    study = Requested(trials, by_trial(), {3.0: let_run, 50.0: resume}, slots=ONE_SLOT)
    assert study.run(jobs(2)) == dict.fromkeys(range(2), "completed")
    assert study.of(TrialSetAside) == []
    assert [launch[3] for launch in study.backend.launches] == [0.0, 50.0]


def test_a_paused_run_can_be_stopped(trials: Path) -> None:
    study = Requested(trials, by_trial(), {3.0: pause}, stops=lambda now: int(now > 20))
    assert study.run(jobs(3)) == dict.fromkeys(range(3), "pending")
    assert study.backend.now < 25


def test_a_paused_run_whose_waiting_trials_are_all_stopped_ends(trials: Path) -> None:
    study = Requested(trials, by_trial(), {3.0: let_run, 20.0: stop(1)}, slots=ONE_SLOT)
    assert study.run(jobs(2)) == {0: "completed", 1: "cancelled"}
    assert study.backend.now < 25


def test_added_trials_are_run_after_those_that_wait(trials: Path) -> None:
    def add(control: RunControl) -> None:
        control.added += [Job(2), Job(3)]

    study = Requested(trials, by_trial(), {3.0: add}, slots=ONE_SLOT)
    assert study.run(jobs(2)) == dict.fromkeys(range(4), "completed")
    assert [event.trial for event in study.of(TrialStarted)] == [0, 1, 2, 3]


def test_a_record_that_cannot_be_written_stops_the_run_and_not_the_trial(trials: Path) -> None:
    study = Requested(trials, by_trial(), {3.0: stop(1)}, slots=ONE_SLOT)

    def fails(_trial: int) -> None:
        raise OSError(28, "No space left on device")

    study.control.record_end = fails
    with pytest.raises(OSError, match="No space left"):
        study.run(jobs(2))
    assert study.ended() == {0: ("cancelled", "")}, "it saved"
