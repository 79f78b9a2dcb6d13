"""Retrains: the trials that they belong to, and their results."""

from __future__ import annotations

import math
import statistics

from narrowing import present

from tunectl.analysis.results.outcomes import best_outcome
from tunectl.analysis.results.retrains import best_searched, retrained
from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial, TrialOutcome

OBJECTIVE = Objective("valid/error_rate", "minimize")


def outcome(trial, value, *, setting=0, point=0, repeat=0, trial_kind="search", state="completed"):
    plan = PlannedTrial(trial, setting, point, repeat, (), {}, trial, trial_kind)
    return TrialOutcome(plan, state, best_value=value)


def test_retrains_belong_to_the_searched_trial_of_their_point_in_the_order_of_repeats():
    outcomes = [
        outcome(0, 0.3),
        outcome(1, 0.2, point=1),
        outcome(2, 0.25, point=1, repeat=2, trial_kind="retrain"),
        outcome(3, 0.23, point=1, repeat=1, trial_kind="retrain"),
    ]
    (found,) = retrained(outcomes, OBJECTIVE)
    assert found.searched.plan.trial == 1
    assert found.values == (0.23, 0.25)
    assert found.mean == statistics.fmean([0.23, 0.25])
    assert found.standard_deviation == statistics.stdev([0.23, 0.25])


def test_retrains_without_a_value_are_counted_as_lost_and_unfinished_ones_are_not():
    outcomes = [
        outcome(0, 0.3),
        outcome(1, 0.1, repeat=1, trial_kind="retrain", state="infeasible"),
        outcome(2, None, repeat=2, trial_kind="retrain", state="failed"),
        outcome(3, 0.2, repeat=3, trial_kind="retrain", state="running"),
        outcome(4, math.nan, repeat=4, trial_kind="retrain"),
    ]
    (found,) = retrained(outcomes, OBJECTIVE)
    assert (found.values, found.lost, found.mean, found.standard_deviation) == ((), 3, None, None)


def test_a_lucky_retrain_is_neither_the_best_of_its_study_nor_chosen_to_be_retrained():
    outcomes = [outcome(0, 0.3), outcome(1, 0.25, point=1), outcome(2, 0.01, repeat=1, trial_kind="retrain")]
    assert present(best_outcome(outcomes, OBJECTIVE)).plan.trial == 1
    assert [item.plan.trial for item in best_searched(outcomes, OBJECTIVE, 5)] == [1, 0]


def test_infeasible_trials_and_those_without_a_number_are_never_chosen():
    outcomes = [outcome(0, 0.1, state="infeasible"), outcome(1, math.inf, point=1), outcome(2, None, point=2)]
    assert best_searched(outcomes, OBJECTIVE, 5) == []
    assert (
        best_searched([outcome(0, 0.1), outcome(1, 0.4, point=1)], Objective("valid/accuracy", "maximize"), 1)[
            0
        ].best_value
        == 0.4
    )


def test_retrains_that_never_reached_the_target_are_counted_and_leave_no_mean_of_the_others():
    objective = Objective("valid/error_rate", "minimize", steps_to=0.1)
    outcomes = [
        outcome(0, 100.0),
        outcome(1, 80.0, repeat=1, trial_kind="retrain"),
        outcome(2, 120.0, repeat=2, trial_kind="retrain"),
        outcome(3, None, repeat=3, trial_kind="retrain"),
        outcome(4, 40.0, repeat=4, trial_kind="retrain", state="infeasible"),
    ]
    (found,) = retrained(outcomes, objective)
    assert (found.values, found.not_reached, found.lost) == ((80.0, 120.0), 1, 1)
    assert (found.mean, found.standard_deviation) == (None, None)
    (all_reached,) = retrained(outcomes[:3], objective)
    assert (all_reached.mean, all_reached.not_reached) == (100.0, 0)
    assert best_searched([outcome(0, None), outcome(1, 300.0, point=1), outcome(2, 200.0, point=2)], objective, 3) == [
        outcome(2, 200.0, point=2),
        outcome(1, 300.0, point=1),
    ]
