from __future__ import annotations

from dataclasses import replace

from tunectl.analysis.results.best_steps import best_steps
from tunectl.core.records import PlannedTrial, State, TrialOutcome


def outcome(trial: int, point: int, step: int | None, *, repeat: int = 0, state: State = "completed") -> TrialOutcome:
    plan = PlannedTrial(trial, 0, point, repeat, (), {}, 1, trial_kind="retrain" if repeat else "search")
    return TrialOutcome(plan, state, best_step=step)


def test_the_typical_step_is_the_median_over_a_trial_and_its_retrains() -> None:
    trial = outcome(1, 1, 900)
    others = [outcome(0, 0, 10), trial, outcome(2, 1, 300, repeat=1), outcome(3, 1, 400, repeat=2)]
    found = best_steps(others, trial)
    assert found.by_trial == {1: 900, 2: 300, 3: 400}
    assert found.typical == 400
    assert best_steps(others[:3], trial).typical == 600
    assert best_steps([trial], trial).typical == 900


def test_retrains_that_did_not_complete_and_other_stages_do_not_count() -> None:
    trial = outcome(1, 1, 900)
    longer = outcome(4, 1, 5000)
    longer = replace(longer, plan=replace(longer.plan, stage=1))
    others = [trial, outcome(2, 1, 3, repeat=1, state="infeasible"), outcome(3, 1, None, repeat=2), longer]
    assert best_steps(others, trial).by_trial == {1: 900}
    assert best_steps(others, longer).by_trial == {4: 5000}
