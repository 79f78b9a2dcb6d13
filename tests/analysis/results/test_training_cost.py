"""What a configuration and a study cost."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tunectl.analysis.results.training_cost import StudyCost, study_cost, training_cost
from tunectl.core.records import PlannedTrial, TrialOutcome


def outcome(trial: int = 0, values: dict[str, Any] | None = None, **fields: Any) -> TrialOutcome:
    plan = PlannedTrial(trial, 0, trial, 0, (), values or {}, 1, "search")
    known: dict[str, Any] = {"train_seconds": 10.0, "eval_seconds": 2.0, "startup_seconds": 1.0, "final_step": 100}
    return TrialOutcome(
        plan, **{"state": "completed", "best_step": 40, "device": "cpu", "attempts": 1, **known, **fields}
    )


def test_the_time_until_the_best_step_is_shared_with_the_retrains():
    retrains = [outcome(1, train_seconds=30.0), outcome(2, train_seconds=None), outcome(3, final_step=None)]
    cost = training_cost(outcome(values={"batch_size": 32}), retrains, own_code=False)
    assert cost.seconds_per_step == pytest.approx(40 / 200)
    assert cost.seconds_to_best == pytest.approx(8)
    assert (cost.examples_to_best, cost.trials, cost.where) == (32 * 40, 2, "cpu")


def test_the_examples_of_an_update_do_not_depend_on_its_micro_batches():
    cost = training_cost(outcome(values={"batch_size": 32, "accumulate_steps": 4}), [], own_code=False)
    assert cost.examples_to_best == 32 * 40
    assert training_cost(outcome(), [], own_code=False).examples_to_best == 64 * 40


def test_what_is_not_known_is_none():
    cost = training_cost(outcome(train_seconds=None, best_step=None), [], own_code=True)
    assert (cost.seconds_per_step, cost.seconds_to_best, cost.examples_to_best) == (None, None, None)
    assert (cost.where, training_cost(outcome(train_seconds=0.0), [], own_code=True).seconds_per_step) == ("", None)


def test_many_devices_are_counted():
    others = [outcome(number, device=f"cuda {number}") for number in (1, 2)]
    assert training_cost(outcome(), others, own_code=False).where == "3 devices"


def test_a_study_costs_the_time_of_all_trials_on_all_their_devices():
    running = outcome(1, train_seconds=None, eval_seconds=None, startup_seconds=None, final_step=20)
    pending = dataclasses.replace(running, attempts=0)
    trials = [outcome(values={"batch_size": 10}), running, pending]
    cost = study_cost(trials, own_code=False, devices=lambda trial: 2 if trial == 0 else 5)
    assert cost == StudyCost(trials=2, device_seconds=26.0, examples=1000 + 64 * 20, untimed=1)
    assert study_cost([outcome()], own_code=True).examples is None


def test_costs_add_up_and_unknown_examples_stay_unknown():
    known, unknown = StudyCost(1, 2.0, 3), StudyCost(4, 5.0, None, 1)
    assert known + known == StudyCost(2, 4.0, 6)
    assert known + unknown == StudyCost(5, 7.0, None, 1)
