"""The time of measuring curvature beside that of training, over the trials of a study."""

from __future__ import annotations

from tunectl.analysis.results.curvature_time import CurvatureTime, curvature_time
from tunectl.core.records import PlannedTrial, State, TrialOutcome


def outcome(trial: int, train_seconds: float | None) -> TrialOutcome:
    state: State = "pending" if train_seconds is None else "completed"
    return TrialOutcome(PlannedTrial(trial, 0, trial, 0, (), {}, trial), state, train_seconds=train_seconds)


def test_it_is_a_sum_over_the_trials_that_measured_and_have_ended() -> None:
    outcomes = [outcome(0, 10.0), outcome(1, 30.0), outcome(2, 500.0), outcome(3, None)]
    found = curvature_time({0: 1.0, 1: 3.0, 3: 70.0}, outcomes)
    assert found == CurvatureTime(4.0, 40.0)
    assert found.to_json() == {"seconds": 4.0, "train_seconds": 40.0, "share": 0.1}


def test_there_is_none_where_no_trial_measured_or_none_has_ended() -> None:
    assert curvature_time({}, [outcome(0, 10.0)]) is None
    assert curvature_time({3: 1.0}, [outcome(3, None)]) is None


def test_a_trial_that_did_not_train_has_no_share() -> None:
    found = curvature_time({0: 2.0}, [outcome(0, 0.0)])
    assert found is not None
    assert found.share == float("inf")
    assert found.to_json()["share"] is None
