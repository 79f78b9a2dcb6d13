"""What a worker tries to claim next, and how it sees the run that offers.

Tests offer_queue.py, offering_run.py and beginning_run.py.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from moved_clock import Clock
from offered_studies import offered_study, state_of

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.execution import beginning_run, offering_run, runner_lock
from tunectl.execution.offer_queue import OfferQueue
from tunectl.execution.offering_run import OfferingRun
from tunectl.store import claimed_trials, provenance, run_state
from tunectl.store.provenance import RunDescription
from tunectl.store.run_state import RunPhase, RunState


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return offered_study(tmp_path / "study", 1)


@pytest.fixture
def offers(tmp_path: Path) -> StudyFolder:
    """A study with many offered trials."""
    return offered_study(tmp_path / "study", 40)


def taken(queue: OfferQueue, count: int, *, reverse: bool = False) -> list[int]:
    found = []
    for _ in range(count):
        assert queue.has_any(reverse=reverse)
        trial = queue.next()
        assert trial is not None
        found.append(trial)
    return found


def test_a_worker_alone_takes_the_offers_in_their_order(offers: StudyFolder, clock: Clock) -> None:
    assert taken(OfferQueue(offers, Random(0), clock), 40) == list(range(40))


def test_offers_are_taken_from_the_last_one_on_where_the_run_wishes_so(offers: StudyFolder, clock: Clock) -> None:
    assert taken(OfferQueue(offers, Random(0), clock), 5, reverse=True) == [39, 38, 37, 36, 35]


def test_a_worker_that_comes_too_late_chooses_among_more_of_the_first_offers(offers: StudyFolder, clock: Clock) -> None:
    queue = OfferQueue(offers, Random(0), clock)
    for _ in range(6):
        queue.came_late()
    found = taken(queue, 40)
    assert sorted(found) == list(range(40))
    assert found != list(range(40))
    assert max(found[:5]) < 20


def test_a_worker_that_is_in_time_again_goes_back_to_the_order(offers: StudyFolder, clock: Clock) -> None:
    queue = OfferQueue(offers, Random(0), clock)
    queue.came_late()
    queue.came_late()
    for _ in range(3):
        queue.claimed()
    assert taken(queue, 5) == [0, 1, 2, 3, 4]


def test_workers_that_have_come_too_late_seldom_want_the_same_trial_at_the_same_time(
    offers: StudyFolder, clock: Clock
) -> None:
    queues = [OfferQueue(offers, Random(seed), clock) for seed in range(8)]
    for queue in queues:
        for _ in range(4):
            queue.came_late()
    assert len({taken(queue, 1)[0] for queue in queues}) > 3


def test_an_offer_that_another_worker_has_claimed_counts_as_too_late(offers: StudyFolder, clock: Clock) -> None:
    queue = OfferQueue(offers, Random(0), clock)
    assert queue.has_any()
    for trial in range(10):
        claimed_trials.claim_trial(offers, trial)
    found = taken(queue, 30)
    assert sorted(found) == list(range(10, 40))
    assert found != sorted(found)


def test_a_trial_that_the_worker_still_has_is_not_wanted_again(offers: StudyFolder, clock: Clock) -> None:
    queue = OfferQueue(offers, Random(0), clock)
    assert queue.has_any()
    assert queue.next(without=range(40)) is None
    assert queue.next(without=range(39)) == 39, (
        "a list that is late may begin with more of its own than it chooses among"
    )


def test_offers_are_listed_again_when_the_list_is_old_or_was_used_up(offers: StudyFolder, clock: Clock) -> None:
    queue = OfferQueue(offers, Random(0), clock)
    taken(queue, 40)
    assert not queue.has_any()
    clock.now += 1
    assert queue.has_any()
    for trial in range(40):
        claimed_trials.claim_trial(offers, trial)
    clock.now += 5
    assert queue.has_any()
    assert queue.next() is None  # none of the list is offered any more
    queue.list_again()
    assert not queue.has_any()


def look(run: OfferingRun, clock: Clock, seconds: float, act: Callable[[], None] = lambda: None) -> None:
    for _ in range(round(seconds)):
        clock.now += 1
        act()
        run.look()


def written(study: StudyFolder, **changes: Any) -> RunState:
    state = dataclasses.replace(state_of(study, 0, "at_work"), heartbeat_seconds=2.0, **changes)
    run_state.write_run_state(study, state)
    return state


def test_a_worker_waits_for_offers_as_long_as_the_heartbeat_of_the_run_changes(
    study: StudyFolder, clock: Clock
) -> None:
    written(study)
    run = OfferingRun(study, clock, None)
    count = iter(range(1000))
    look(run, clock, 60, lambda: run_state.write_run_beat(study, next(count)))
    assert run.why_nothing_comes(has_offers=False) == ""
    look(run, clock, 11)
    assert run.why_nothing_comes(has_offers=False) == ""
    look(run, clock, 2)
    assert "does not run any more" in run.why_nothing_comes(has_offers=False)
    assert run.why_nothing_comes(has_offers=True) == ""


def test_a_worker_that_was_suspended_has_not_seen_that_the_run_is_silent(study: StudyFolder, clock: Clock) -> None:
    written(study)
    run = OfferingRun(study, clock, None)
    run.look()
    clock.now += 3600
    run.look()
    assert run.why_nothing_comes(has_offers=False) == ""


def test_a_worker_ends_when_nothing_was_offered_for_its_idle_seconds(study: StudyFolder, clock: Clock) -> None:
    written(study)
    run = OfferingRun(study, clock, 30.0)
    count = iter(range(1000))
    beat = lambda: run_state.write_run_beat(study, next(count))  # noqa: E731
    look(run, clock, 10, beat)
    assert run.why_nothing_comes(has_offers=True) == ""
    look(run, clock, 20, beat)
    assert run.why_nothing_comes(has_offers=False) == ""
    look(run, clock, 29, beat)
    assert run.why_nothing_comes(has_offers=False) == ""
    look(run, clock, 1, beat)
    assert run.why_nothing_comes(has_offers=False) == "no trial was offered for 30 seconds"


class Runner:
    """The lock of a study folder, held by this process as a run holds it; `said` has the lines of a worker."""

    def __init__(self, study: StudyFolder) -> None:
        self.study, self.said = study, list[str]()
        self.has_ended = False
        self._lock = runner_lock.acquire(study.lock)

    def end(self) -> None:
        self.has_ended = True
        self._lock.release()

    def worker(self, clock: Clock, idle_seconds: float | None = None) -> OfferingRun:
        run = OfferingRun(self.study, clock, idle_seconds, self.said.append)
        run.look()
        return run

    def note(self, backend: str, runner: str) -> None:
        entry = {"time": "2026-01-01T00:00:00+00:00", "command": [], "backend": backend, "runner": runner}
        provenance.append_provenance(self.study, RunDescription(entry))


@pytest.fixture
def runner(study: StudyFolder) -> Iterator[Runner]:
    found = Runner(study)
    yield found
    if not found.has_ended:
        found.end()


def waits(run: OfferingRun, clock: Clock, seconds: float) -> str:
    """Why the worker ends within this time, "" where it still waits."""
    for _ in range(round(seconds)):
        run.look()
        if why := run.why_nothing_comes(has_offers=False):
            return why
        clock.now += 1
    return ""


@pytest.mark.parametrize(("idle_seconds", "waited"), [(None, beginning_run.UNSEEN_SECONDS), (30.0, 30.0), (0.0, 0.0)])
def test_where_no_run_is_seen_a_worker_waits_a_minute_for_one_or_its_idle_seconds(
    study: StudyFolder, clock: Clock, idle_seconds: float | None, waited: float
) -> None:
    said: list[str] = []
    run = OfferingRun(study, clock, idle_seconds, said.append)
    assert waits(run, clock, waited) == ""
    assert waits(run, clock, 1) == "no run offers trials to workers here"
    assert said == ([f"no run is seen at work here; waiting {waited:g} s for one"] if waited else [])


def test_a_worker_waits_for_a_run_that_holds_the_folder_as_long_as_it_does(runner: Runner, clock: Clock) -> None:
    run = runner.worker(clock)
    assert waits(run, clock, 150) == ""
    (line,) = runner.said
    assert f"waiting for the run at work here (process {os.getpid()} on" in line
    runner.end()  # it has ended without an offer
    clock.now += 1
    assert waits(run, clock, beginning_run.UNSEEN_SECONDS) == ""
    assert waits(run, clock, 1) == "no run offers trials to workers here"


def test_a_worker_that_waits_for_a_run_takes_what_it_offers_then(
    study: StudyFolder, runner: Runner, clock: Clock
) -> None:
    run = runner.worker(clock)
    assert waits(run, clock, 10) == ""
    written(study)
    run.look()
    assert run.may_offer


def test_idle_seconds_count_also_while_a_run_holds_the_folder(runner: Runner, clock: Clock) -> None:
    run = runner.worker(clock, 30.0)
    assert waits(run, clock, 30) == ""
    assert waits(run, clock, 1) == "no trial was offered for 30 seconds"


def test_a_run_that_was_killed_is_waited_for_no_longer_than_none(study: StudyFolder, clock: Clock) -> None:
    study.lock.write_text(f'{{"pid": 4194303, "host": "{socket.gethostname()}", "started": 5}}\n')
    run = OfferingRun(study, clock, None)
    assert waits(run, clock, beginning_run.UNSEEN_SECONDS + 1) == "no run offers trials to workers here"


def test_a_claim_of_another_host_whose_run_may_have_been_killed_ends_the_wait_after_a_minute(
    study: StudyFolder, clock: Clock
) -> None:
    study.lock.write_text('{"pid": 7, "host": "elsewhere", "started": 5}\n')
    study.claim.write_text('{"pid": 7, "host": "elsewhere", "started": 5}\n')
    assert runner_lock.is_held(study.lock)
    run = OfferingRun(study, clock, None)
    assert waits(run, clock, beginning_run.UNSEEN_SECONDS + 1) == "no run offers trials to workers here"


def test_a_run_on_another_host_whose_lock_is_seen_is_waited_for(
    study: StudyFolder, runner: Runner, clock: Clock
) -> None:
    study.lock.write_text('{"pid": 7, "host": "elsewhere", "started": 5}\n')
    assert waits(runner.worker(clock), clock, 150) == ""
    assert "process 7 on elsewhere" in runner.said[0]


def test_a_run_that_trains_by_itself_is_said_at_once(runner: Runner, clock: Clock) -> None:
    runner.note("local", "of an earlier run")
    run = runner.worker(clock)
    assert waits(run, clock, 10) == ""
    runner.note("local", runner_lock.own_mark())
    why = waits(run, clock, 10)
    assert why.startswith(f"the run at work here (process {os.getpid()} on")
    assert "trains by itself; start it with --backend external" in why


@pytest.mark.parametrize("phase", ["left", "at_work"])
def test_what_an_earlier_run_has_left_ends_no_worker_while_another_run_holds_the_folder(
    study: StudyFolder, runner: Runner, clock: Clock, phase: RunPhase
) -> None:
    written(study, host="elsewhere", pid=7)
    run_state.write_run_state(study, dataclasses.replace(state_of(study, 0, phase), host="elsewhere", pid=7))
    run = runner.worker(clock)
    assert waits(run, clock, 30) == ""
    assert len(runner.said) == 1
    runner.end()
    clock.now += 1
    assert waits(run, clock, 10).startswith("no trial is left")


def test_a_run_that_leaves_its_trials_and_writes_its_tables_keeps_no_worker(
    study: StudyFolder, runner: Runner, clock: Clock
) -> None:
    state = dataclasses.replace(state_of(study, 0, "left"), host=socket.gethostname(), pid=os.getpid())
    run_state.write_run_state(study, state)
    assert waits(runner.worker(clock), clock, 1) == "no trial is left"


def test_a_run_whose_state_was_removed_is_over(study: StudyFolder, clock: Clock) -> None:
    written(study)
    run = OfferingRun(study, clock, 30.0)
    run.look()
    study.run_state.unlink()
    look(run, clock, 1)
    assert run.why_nothing_comes(has_offers=True) == "the run is over"


def test_while_the_state_of_a_run_cannot_be_read_it_is_as_before_and_offers_nothing(
    study: StudyFolder, clock: Clock
) -> None:
    state = written(study)
    run = OfferingRun(study, clock, None)
    run.look()
    study.run_state.write_text('{"tok')
    with pytest.raises(FolderError):
        look(run, clock, 1)
    assert (run.state, run.may_offer) == (state, False)
    written(study)
    look(run, clock, 1)
    assert run.may_offer


def test_a_state_of_another_format_is_refused(study: StudyFolder, clock: Clock) -> None:
    written(study, format=run_state.FORMAT + 1)
    with pytest.raises(FolderError, match="has format 2, and this version of tunectl knows format 1"):
        OfferingRun(study, clock, None).look()


def test_a_study_folder_that_disappears_is_an_error_and_no_end_of_the_run(study: StudyFolder, clock: Clock) -> None:
    written(study)
    run = OfferingRun(study, clock, None)
    run.look()
    shutil.rmtree(study.path)
    clock.now += 1
    with pytest.raises(FolderError, match="was it moved, or unmounted"):
        run.look()


def test_a_run_that_cannot_be_read_now_is_no_run_that_is_missing(
    study: StudyFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(study)
    run = OfferingRun(study, clock, None)

    def fails(_study: StudyFolder) -> RunState:
        raise FolderError("Stale file handle")

    with monkeypatch.context() as patching:
        patching.setattr(offering_run, "read_run_state", fails)
        for _ in range(2):
            with pytest.raises(FolderError):
                run.look()
        assert run.why_nothing_comes(has_offers=False) == ""
    run.look()
    assert run.may_offer
