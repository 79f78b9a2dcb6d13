"""Which trials had not begun when a shared folder was looked at."""

from __future__ import annotations

import pytest
from moved_clock import Clock

from tunectl.session import possible_writers
from tunectl.session.possible_writers import PossibleWriters
from tunectl.store.heartbeats import LATE_SECONDS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writers(clock: Clock) -> PossibleWriters:
    """Of trials 0 to 4, which were all offered, at the first look."""
    made = PossibleWriters(clock)
    for trial in range(5):
        made.offered(trial)
    made.asked()
    made.look(1)
    return made


def test_trials_that_begin_soon_after_a_look_may_have_begun_before_it(clock: Clock, writers: PossibleWriters) -> None:
    clock.now = 1.0
    writers.asked()
    writers.began(0, is_late=False)
    clock.now = 30.0
    writers.began(1, is_late=True)
    writers.began(2, is_late=False)  # the run was busy all the time since the look
    for _ in range(2):
        writers.asked()
    writers.began(3, is_late=False)
    assert list(writers.known_unbegun(is_over=False)) == []
    clock.now = LATE_SECONDS
    assert list(writers.known_unbegun(is_over=False)) == [(1, {3, 4})]
    assert list(writers.known_unbegun(is_over=True)) == []


def test_a_trial_that_ended_and_was_never_seen_to_begin_may_have_run_all_the_time(writers: PossibleWriters) -> None:
    writers.ended(4)
    assert list(writers.known_unbegun(is_over=True)) == [(1, {0, 1, 2, 3})]


def test_what_a_trial_of_another_host_wrote_may_show_for_a_while_after_its_end(
    clock: Clock, writers: PossibleWriters
) -> None:
    writers.began(0, is_late=True)
    writers.began(1, is_late=False)
    for trial in (0, 1):
        writers.ended(trial)
    assert writers.still_showing() == {0}
    clock.now = LATE_SECONDS
    assert writers.still_showing() == set()


def test_no_more_is_noted_than_memory_has_room_for(writers: PossibleWriters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(possible_writers, "_MOST_NOTED", 12)
    for look in (2, 3):
        writers.look(look)
    assert [look for look, _ in writers.known_unbegun(is_over=True)] == [2, 3]
