"""What a worker tries to claim next, and how it sees the run that offers. Tests offer_queue.py and offering_run.py."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from offered_studies import offered_study, state_of

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.execution import offering_run
from tunectl.execution.offer_queue import OfferQueue
from tunectl.execution.offering_run import OfferingRun
from tunectl.store import claimed_trials, run_state
from tunectl.store.run_state import RunState


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return offered_study(tmp_path / "study", 40)


def taken(queue: OfferQueue, count: int, *, reverse: bool = False) -> list[int]:
    found = []
    for _ in range(count):
        assert queue.has_any(reverse=reverse)
        trial = queue.next()
        assert trial is not None
        found.append(trial)
    return found


def test_offers_are_taken_from_the_first_ones_on_each_once(study: StudyFolder, clock: Clock) -> None:
    found = taken(OfferQueue(study, Random(0), clock), 40)
    assert sorted(found) == list(range(40))
    assert max(found[:5]) < 20
    assert found != list(range(40))


def test_offers_are_taken_from_the_last_ones_on_where_the_run_wishes_so(study: StudyFolder, clock: Clock) -> None:
    assert min(taken(OfferQueue(study, Random(0), clock), 5, reverse=True)) >= 20


def test_two_workers_seldom_want_the_same_trial_at_the_same_time(study: StudyFolder, clock: Clock) -> None:
    firsts = {taken(OfferQueue(study, Random(seed), clock), 1)[0] for seed in range(8)}
    assert len(firsts) > 3


def test_a_trial_that_the_worker_still_has_is_not_wanted_again(study: StudyFolder, clock: Clock) -> None:
    queue = OfferQueue(study, Random(0), clock)
    assert queue.has_any()
    assert queue.next(without=range(40)) is None


def test_offers_are_listed_again_when_the_list_is_old_or_was_used_up(study: StudyFolder, clock: Clock) -> None:
    queue = OfferQueue(study, Random(0), clock)
    taken(queue, 40)
    assert not queue.has_any()
    clock.now += 1
    assert queue.has_any()
    for trial in range(40):
        claimed_trials.claim_trial(study, trial)
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


def test_where_no_run_offers_trials_a_worker_with_idle_seconds_waits_for_one(study: StudyFolder, clock: Clock) -> None:
    patient, hasty = OfferingRun(study, clock, 30.0), OfferingRun(study, clock, None)
    patient.look()
    hasty.look()
    assert hasty.why_nothing_comes(has_offers=False) == "no run offers trials to workers here"
    assert patient.why_nothing_comes(has_offers=False) == ""
    clock.now += 30
    assert patient.why_nothing_comes(has_offers=False) == "no run offers trials to workers here"


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
