from __future__ import annotations

import math
import random
from dataclasses import replace

import pandas as pd
import pytest
from narrowing import present

from tunectl.analysis.results.outcomes import best_outcome, outcome, settings_summary
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective
from tunectl.core.records import AttemptEnd, PlannedTrial, TrialOutcome, TrialResult
from tunectl.store.trial_files import TrialFiles, trial_state

OBJECTIVE = Objective("valid/error_rate", "minimize")
MEASURED = (Measurement(0, {"valid/error_rate": 0.9}), Measurement(10, {"valid/error_rate": 0.3}, checkpoint="a.pt"))


def plan(trial, setting=0, **values):
    return PlannedTrial(trial, setting, trial, 0, (), values, 1)


def row(trial, state="completed", value=0.5, setting=0, step=10, **values):
    return TrialOutcome(plan(trial, setting, **values), state, best_step=step, best_value=value)


@pytest.mark.parametrize(("state", "reason"), [("completed", ""), ("infeasible", "nan_loss"), ("failed", "error")])
def test_an_ended_trial_keeps_its_best_whatever_its_state(state, reason):
    result = TrialResult(7, state, reason, "said", infeasible_step=12, train_seconds=2.0, device="cuda:0")
    files = TrialFiles(MEASURED, result)
    found = outcome(plan(7), files, trial_state(files), OBJECTIVE, {"a.pt"})
    assert (found.state, found.reason, found.message) == (state, reason, "said")
    assert (found.best_step, found.best_value, found.final_step, found.final_value) == (10, 0.3, 10, 0.3)
    assert found.best_checkpoint == "trials/00007/checkpoints/a.pt"
    assert found.metrics_at_best == {"valid/error_rate": 0.3}
    assert (found.infeasible_step, found.train_seconds, found.device) == (12, 2.0, "cuda:0")


def test_an_unfinished_trial_has_no_times():
    files = TrialFiles(MEASURED, None, (AttemptEnd(1, "cancelled", device="cpu"),))
    found = outcome(plan(7), files, trial_state(files), OBJECTIVE)
    assert (found.state, found.best_value, found.best_checkpoint) == ("cancelled", 0.3, None)
    assert (found.train_seconds, found.eval_seconds, found.startup_seconds, found.device) == (None, None, None, "cpu")


def test_attempts_count_every_launch():
    recorded = (AttemptEnd(1, "cancelled"), AttemptEnd(2, "crashed"))
    assert outcome(plan(7), TrialFiles(), ("pending", "", ""), OBJECTIVE).attempts == 0
    assert outcome(plan(7), TrialFiles(attempts=recorded), ("pending", "", ""), OBJECTIVE).attempts == 2
    files = TrialFiles(MEASURED, TrialResult(7, "completed", attempt=3), recorded)
    assert outcome(plan(7), files, trial_state(files), OBJECTIVE).attempts == 3


def test_a_trial_without_files_is_empty():
    found = outcome(plan(7), TrialFiles(), ("pending", "", ""), OBJECTIVE)
    assert found == TrialOutcome(plan(7), "pending")


def test_settings_agree_with_a_data_frame():
    generator = random.Random(0)
    states = ["pending", "completed", "completed", "infeasible", "failed", "cancelled", "running"]
    for direction in ("minimize", "maximize"):
        objective = Objective("valid/x", direction)
        for _ in range(30):
            rows = [
                row(
                    trial,
                    generator.choice(states),
                    generator.choice([0.1, 0.2, 0.3, None]),
                    generator.randrange(3),
                    a=1,
                )
                for trial in range(generator.randrange(1, 15))
            ]
            frame = pd.DataFrame(
                [(r.plan.trial, r.plan.setting, r.state, r.best_value) for r in rows],
                columns=["trial", "setting", "state", "value"],
            )
            generator.shuffle(rows)
            found = settings_summary(rows, ["a"], objective)
            assert [item.setting for item in found] == sorted(frame["setting"].unique())
            for item in found:
                part = frame[frame["setting"] == item.setting]
                assert item.trials == len(part)
                for state in ("completed", "infeasible", "failed"):
                    assert getattr(item, state) == (part["state"] == state).sum()
                done = part[(part["state"] == "completed") & part["value"].notna()]
                ordered = done.sort_values(["value", "trial"], ascending=[direction == "minimize", True])
                best = None if ordered.empty else int(ordered.iloc[0]["trial"])
                assert item.best_trial == best


def test_infeasible_failed_and_unfinished_trials_are_never_the_best():
    rows = [row(0, "infeasible", 0.1), row(1, "failed", 0.1), row(2, "cancelled", 0.1), row(3, "running", 0.1), row(4)]
    assert best_outcome(rows, OBJECTIVE) is rows[4]
    assert best_outcome(rows[:4], OBJECTIVE) is None
    (setting,) = settings_summary(rows[:4], [], OBJECTIVE)
    assert (setting.trials, setting.completed, setting.infeasible, setting.failed) == (4, 0, 1, 1)
    assert (setting.best_trial, setting.best_value, setting.best_step) == (None, None, None)


def test_a_tie_between_trials_goes_to_the_smaller_id():
    assert present(best_outcome([row(3), row(1), row(2)], OBJECTIVE)).plan.trial == 1


def test_no_value_and_no_finite_value_are_never_the_best():
    assert best_outcome([row(0, value=None), row(1, value=math.nan), row(2, value=-math.inf)], OBJECTIVE) is None


def test_no_trials_make_no_settings():
    assert settings_summary([], ["a"], OBJECTIVE) == []


def test_scientific_values_are_those_that_the_setting_shares():
    rows = [
        row(0, setting=0, decay=False, weight_decay=0),
        row(1, setting=1, decay=True, weight_decay=0.1),
        row(2, setting=1, decay=True, weight_decay=0.2),
    ]
    first, second = settings_summary(rows, ["decay", "weight_decay", "absent"], OBJECTIVE)
    assert first.scientific == {"decay": False, "weight_decay": 0}
    assert second.scientific == {"decay": True}


def test_trials_that_were_stopped_early_are_counted_where_a_study_stops_some():
    rows = [row(0), row(1, "stopped"), row(2, "cancelled"), row(3, setting=1)]
    first, second = settings_summary(rows, (), OBJECTIVE)
    assert (first.trials, first.completed, first.stopped, second.stopped) == (3, 1, 1, 0)
    assert first.to_json()["stopped"] == 1
    (none,) = settings_summary(rows[:1], (), OBJECTIVE)
    assert none.stopped is None
    assert "stopped" not in none.to_json()
    (yet,) = settings_summary(rows[:1], (), OBJECTIVE, stops_early=True)
    assert yet.stopped == 0


def test_retrains_are_no_trials_of_their_setting():
    again = [
        replace(row(2 + at, "infeasible"), plan=replace(plan(2 + at), trial_kind="retrain", point=0)) for at in range(3)
    ]
    (found,) = settings_summary([row(0), row(1, "failed"), *again], (), OBJECTIVE)
    assert (found.trials, found.completed, found.infeasible, found.failed) == (2, 1, 0, 1)
