"""Tests report/page_trials.py: the table of trials on the page."""

from __future__ import annotations

from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial, Scalar, State, TrialOutcome
from tunectl.report.page_trials import trials_on_page

LOSS = Objective("valid/loss", "minimize")
NAMES = ("optimizer", "batch_size", "learning_rate")


def outcome(trial: int, value: float | None, state: State = "completed", **values: Scalar) -> TrialOutcome:
    plan = PlannedTrial(trial, 0, trial, 0, (), {"optimizer": "sgd", "batch_size": 64, **values}, seed=trial)
    return TrialOutcome(plan, state, best_value=value, best_step=10, device="cpu", message="why" if trial == 2 else "")


OUTCOMES = [
    outcome(0, 0.5, learning_rate=0.1),
    outcome(1, 0.2, learning_rate=0.2),
    outcome(2, 0.01, "infeasible", learning_rate=9.0),
    outcome(3, None, "pending", learning_rate=0.3),
]


def test_the_best_trial_is_first_and_those_that_are_not_completed_are_last():
    (table,) = trials_on_page(OUTCOMES, LOSS, NAMES, ["learning_rate"])
    assert [row[0] for row in table.table.rows] == [1, 0, 2, 3]
    assert table.sorted_by == ("best_value", True)
    (table,) = trials_on_page(OUTCOMES, Objective("valid/accuracy", "maximize"), NAMES, ["learning_rate"])
    assert [row[0] for row in table.table.rows] == [0, 1, 2, 3]
    assert table.sorted_by == ("best_value", False)


def test_value_and_varying_hyperparameters_come_first_and_what_is_the_same_in_all_is_folded():
    (table,) = trials_on_page(OUTCOMES, LOSS, NAMES, ["learning_rate"])
    assert table.table.header[:4] == ("trial", "best_value", "learning_rate", "state")
    constants = dict(table.constants)
    assert constants["batch_size"] == "64"
    assert constants["optimizer"] == "sgd"
    assert list(constants)[:2] == ["optimizer", "batch_size"], "hyperparameters come before other columns"
    assert not set(constants) & set(table.table.header)


def test_a_hyperparameter_that_varies_keeps_its_column_though_all_trials_have_one_value():
    (table,) = trials_on_page(OUTCOMES, LOSS, NAMES, ["learning_rate", "optimizer"])
    assert table.table.header[:4] == ("trial", "best_value", "optimizer", "learning_rate")


def test_a_hyperparameter_that_is_called_like_a_hidden_column_is_shown():
    outcomes = [outcome(place, 0.1 * place, device=f"d{place}") for place in range(3)]
    (table,) = trials_on_page(outcomes, LOSS, [*NAMES, "message"], [])
    assert "message" not in table.hidden
    assert "seed" in table.hidden


def test_one_trial_has_all_its_columns_and_none_has_no_table():
    (table,) = trials_on_page(OUTCOMES[:1], LOSS, NAMES, [])
    assert "batch_size" in table.table.header
    assert table.constants == []
    assert trials_on_page([], LOSS, NAMES, []) == []
