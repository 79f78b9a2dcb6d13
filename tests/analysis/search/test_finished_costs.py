"""The costs of finished trials for a model."""

from __future__ import annotations

import math

import pytest

from tunectl.analysis.search.finished_costs import finished_costs
from tunectl.core.objective import Objective
from tunectl.core.records import State

Trial = tuple[State, float | None, int | None]


@pytest.mark.parametrize(
    ("direction", "expected"), [("minimize", [0.3, 0.1, None, None]), ("maximize", [-0.3, -0.1, None, None])]
)
def test_a_cost_is_a_number_to_minimise_and_an_infeasible_trial_has_none(direction, expected) -> None:
    trials: list[Trial] = [
        ("completed", 0.3, 100),
        ("completed", 0.1, 100),
        ("infeasible", 0.01, 20),
        ("completed", None, 100),
    ]
    assert finished_costs(trials, Objective("valid/x", direction)) == expected


def test_a_value_that_is_not_finite_is_none() -> None:
    trials: list[Trial] = [("completed", math.nan, 100), ("completed", math.inf, 100), ("completed", 1.0, 100)]
    assert finished_costs(trials, Objective("valid/x", "minimize")) == [None, None, 1.0]


def test_trials_that_never_reached_a_target_come_after_all_that_did() -> None:
    trials: list[Trial] = [
        ("completed", 40.0, 100),
        ("completed", None, 120),
        ("infeasible", None, 500),
        ("completed", 120.0, 130),
    ]
    costs = finished_costs(trials, Objective("valid/x", "maximize", steps_to=0.9))
    assert costs == [40.0, 501.0, None, 120.0]
