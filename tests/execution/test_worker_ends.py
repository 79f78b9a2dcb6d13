"""What a worker says of why it ends: the word for its time limit, or that it was asked to."""

from __future__ import annotations

import signal

import pytest

from tunectl.core.records import WorkloadReference
from tunectl.execution.held_trials import WorkerName
from tunectl.execution.worker_ends import end_by_signal, end_of_time, is_time_short
from tunectl.execution.worker_options import WorkerOptions
from tunectl.execution.worker_stops import WorkerStops
from tunectl.language.study_spec import ResourcesSection
from tunectl.store.claimed_trials import Ending
from tunectl.store.run_state import RunState, WorkerNeeds

NOW = 1000.0
STATE = RunState("token", "at_work", WorkerNeeds(WorkloadReference("x")), ResourcesSection(grace_seconds=30.0))


def options(ends_at: float | None = None, end_cause: str = "") -> WorkerOptions:
    return WorkerOptions(WorkerName("w", "slurm", "12_3"), ends_at=ends_at, end_cause=end_cause)


def after(number: signal.Signals) -> WorkerStops:
    stops = WorkerStops(lambda: NOW)
    stops.take_signal(number)
    return stops


@pytest.mark.parametrize(
    ("number", "given", "cause", "was_asked"),
    [
        (signal.SIGUSR2, options(NOW + 90, "TIMEOUT"), "TIMEOUT", False),
        (signal.SIGUSR2, options(None, "TIMEOUT"), "TIMEOUT", False),
        # Slurm's PreemptParameters=send_user_signal sends it ahead of a pre-emption.
        (signal.SIGUSR2, options(NOW + 3600, "TIMEOUT"), "", True),
        (signal.SIGUSR2, options(NOW + 90), "", True),
        (signal.SIGTERM, options(NOW + 90, "TIMEOUT"), "", True),
    ],
)
def test_a_warning_is_that_of_the_time_limit_only_where_that_is_near(
    number: signal.Signals, given: WorkerOptions, cause: str, was_asked: bool
) -> None:
    end = end_by_signal(after(number), given, STATE, NOW)
    assert (end.cause, end.was_asked) == (cause, was_asked)
    released, crashed = Ending(1, code=75, released=True), Ending(1, code=1)
    assert (end.of_trial(released).cause, end.of_trial(released).was_asked) == (cause, was_asked)
    assert end.of_trial(crashed) == crashed


@pytest.mark.parametrize(("word", "expected"), [("TIMEOUT", "TIMEOUT"), ("", "")])
def test_the_time_of_a_worker_is_its_jobs_or_the_one_that_a_user_has_set(word: str, expected: str) -> None:
    end = end_of_time(options(NOW + 10, word))
    assert (end.cause, end.was_asked) == (expected, False)


def test_time_is_short_when_trials_must_save_now_and_at_most_half_of_it_is_for_that() -> None:
    for seconds, expected in ((39.0, True), (41.0, False)):
        assert is_time_short(options(NOW + seconds), STATE, 0.0, NOW) is expected
    assert not is_time_short(options(NOW + 21.0), STATE, NOW - 19.0, NOW)
    assert is_time_short(options(NOW + 19.0), STATE, NOW - 21.0, NOW)
    assert not is_time_short(options(None), STATE, 0.0, NOW)
