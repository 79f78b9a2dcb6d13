"""Which stage is judged, and that nothing compares trials of two.

Tests analysis/results/stages.py, and what uses it in outcomes.py, retrains.py and session/run_progress.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunectl.analysis.results.outcomes import best_outcome, settings_summary
from tunectl.analysis.results.retrains import best_searched, retrained
from tunectl.analysis.results.stages import judged_stage, of_judged_stage
from tunectl.core.objective import Objective
from tunectl.core.records import STOPPED_FOR_GOOD, PlannedTrial, State, TrialOutcome
from tunectl.session.run_progress import Tally

OBJECTIVE = Objective("valid/error_rate", "minimize")


def row(trial: int, stage: int, value: float, state: State = "completed", *, setting: int = 0, point: int = 0):
    plan = PlannedTrial(trial, setting, point, 0, (), {}, trial, stage=stage)
    return TrialOutcome(plan, state, best_step=10, best_value=value)


def again(item: TrialOutcome, trial: int, value: float) -> TrialOutcome:
    plan = replace(item.plan, trial=trial, repeat=1, trial_kind="retrain")
    return replace(item, plan=plan, best_value=value)


SHORT = [row(0, 0, 0.1, point=0), row(1, 0, 0.2, point=1), row(2, 0, 0.3, setting=1, point=0)]
LONG = [row(3, 1, 0.5, point=0), row(4, 1, 0.4, point=1)]


@pytest.mark.parametrize(
    ("states", "judged"),
    [
        ([(0, "completed"), (0, "pending")], 0),
        ([(0, "completed"), (0, "failed")], 0),
        ([(0, "completed"), (1, "completed"), (1, "running")], 0),
        ([(0, "completed"), (1, "infeasible"), (1, "failed")], 1),
        ([(0, "pending"), (1, "completed")], 1),  # more short trials were asked for: the long ones have all ended
        ([(0, "completed"), (1, "completed"), (2, "pending")], 1),
        ([], 0),
    ],
)
def test_the_last_stage_of_which_all_trials_have_ended_is_judged(states, judged):
    assert judged_stage([row(trial, stage, 0.1, state) for trial, (stage, state) in enumerate(states)]) == judged


def test_a_trial_that_was_stopped_for_good_has_ended_and_an_interrupted_one_has_not():
    stopped, interrupted = (
        replace(row(6, 1, 0.1, "cancelled"), reason=reason) for reason in (STOPPED_FOR_GOOD, "cancelled")
    )
    assert judged_stage([*SHORT, *LONG, stopped]) == 1
    assert judged_stage([*SHORT, *LONG, interrupted]) == 0
    assert best_outcome([*SHORT, *LONG, stopped], OBJECTIVE) == LONG[1], "and is never the best"


def test_retrains_do_not_make_a_stage_incomplete():
    pending = replace(again(LONG[0], 5, 0.1), state="pending")
    assert judged_stage([*SHORT, *LONG, pending]) == 1


def test_the_best_are_of_the_judged_stage_also_where_short_trials_are_better():
    outcomes = [*SHORT, *LONG]
    best = best_outcome(outcomes, OBJECTIVE)
    assert best is not None
    assert best.plan.trial == 4
    assert [item.plan.trial for item in best_searched(outcomes, OBJECTIVE, 5)] == [4, 3]
    assert of_judged_stage(of_judged_stage(outcomes)) == LONG


def test_a_setting_without_a_promoted_trial_is_listed_with_none():
    with_long, without = settings_summary([*SHORT, *LONG], (), OBJECTIVE)
    assert (with_long.trials, with_long.best_trial, with_long.stage) == (2, 4, 1)
    assert (without.setting, without.trials, without.best_trial, without.stage) == (1, 0, None, 1)
    first = settings_summary([*SHORT, *LONG], (), OBJECTIVE, 0)
    assert [(item.trials, item.best_trial) for item in first] == [(2, 0), (1, 2)]


def test_a_retrain_belongs_to_the_trial_of_its_own_stage():
    outcomes = [*SHORT, *LONG, again(SHORT[0], 5, 0.11), again(LONG[0], 6, 0.51)]
    assert [(item.searched.plan.trial, item.values) for item in retrained(outcomes, OBJECTIVE)] == [
        (0, (0.11,)),
        (3, (0.51,)),
    ]


def test_the_progress_of_a_run_shows_the_best_of_the_judged_stage():
    outcomes = [*SHORT, *LONG]
    tally = Tally(
        OBJECTIVE,
        {item.plan.trial: 10 for item in outcomes},
        0.0,
        stages={item.plan.trial: item.plan.stage for item in outcomes},
    )
    tally.before(SHORT)
    shown = []
    for item in LONG:
        tally.end(item)
        best = tally.progress(1.0).best
        shown.append(None if best is None else best.plan.trial)
    assert shown == [0, 4]
    assert tally.progress(1.0).stages == 2
