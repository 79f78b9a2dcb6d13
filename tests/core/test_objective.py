"""Which of two evaluations, or trials, is better."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunectl.core.objective import Objective, first_step_reaching

LOWER = Objective("valid/loss", "minimize")
HIGHER = Objective("valid/accuracy", "maximize")
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(finite, finite)
def test_the_lower_value_ranks_first_when_minimized_and_the_higher_when_maximized(a, b):
    assert (LOWER.rank(a, 0) < LOWER.rank(b, 0)) == (a < b)
    assert (HIGHER.rank(a, 0) < HIGHER.rank(b, 0)) == (a > b)


@pytest.mark.parametrize("objective", [LOWER, HIGHER])
@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
def test_missing_nan_and_either_infinity_rank_behind_every_finite_value(objective, bad):
    assert objective.cost(bad) == math.inf
    for value in (-1.7e308, -1.0, 0.0, 1.0, 1.7e308):
        assert objective.rank(value, 10**9) < objective.rank(bad, 1)


@pytest.mark.parametrize("objective", [LOWER, HIGHER])
def test_a_tie_goes_to_the_earlier_step(objective):
    steps = [300, 100, 200]
    assert min(steps, key=lambda step: objective.rank(0.5, step)) == 100


def test_minus_zero_ties_with_zero():
    assert LOWER.rank(-0.0, 1)[0] == LOWER.rank(0.0, 1)[0]
    assert HIGHER.rank(0.0, 2) > HIGHER.rank(-0.0, 1)


@given(finite)
def test_the_value_of_a_cost_is_the_value_that_has_it(value):
    for objective in (LOWER, HIGHER):
        assert objective.value(objective.cost(value)) == value
    assert (LOWER.value(math.inf), HIGHER.value(math.inf)) == (math.inf, -math.inf)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5, 0.7, 0.84, 0.86, 0.9], 30),
        ([0.5, 0.7, 0.85, 0.86, 0.9], 20),  # a value at the target has reached it
        ([0.5, 0.7, 0.86, 0.6, 0.9], 20),  # one that leaves it again, too
        ([0.9, 0.7, 0.8, 0.84, 0.83], None),  # step 0 is before any training
        ([0.9, 0.9, 0.8, 0.84, 0.83], 10),
        ([0.5, math.nan, math.inf, None, 0.9], 40),
        ([0.5, math.nan, math.inf, None, -math.inf], None),
    ],
)
def test_the_first_step_after_0_at_the_target_or_beyond_counts(values, expected):
    steps = [0, 10, 20, 30, 40]
    assert first_step_reaching(steps, values, 0.85, "maximize") == expected
    mirrored = [None if value is None else -value for value in values]
    assert first_step_reaching(steps, mirrored, -0.85, "minimize") == expected


def test_steps_in_any_order_and_as_arrays_give_the_first_one():
    steps, values = np.array([30, 10, 20, 0]), np.array([0.1, 0.4, 0.2, 0.0])
    found = first_step_reaching(steps, values, 0.2, "minimize")
    assert found == 20
    assert type(found) is int
    assert first_step_reaching([], [], 0.2, "minimize") is None


TARGET = Objective("valid/accuracy", "maximize", steps_to=0.85)


def test_with_a_target_trials_are_compared_by_their_steps_and_evaluations_by_their_metric():
    assert TARGET.best_direction == "minimize"
    assert TARGET.rank(200.0, 7) < TARGET.rank(300.0, 1) < TARGET.rank(None, 0)
    assert (TARGET.cost(200.0), TARGET.value(200.0), TARGET.value(math.inf)) == (200.0, 200.0, math.inf)
    assert TARGET.metric_rank(0.9, 300) < TARGET.metric_rank(0.8, 100)
    assert TARGET.by_metric == HIGHER
    for objective in (LOWER, HIGHER):
        assert objective.cost(0.3) == objective.metric_cost(0.3)
        assert objective.by_metric == objective


def test_a_target_is_named_with_the_side_on_which_it_is_reached():
    assert (TARGET.title, TARGET.target) == ("steps to valid/accuracy ≥ 0.85", "valid/accuracy ≥ 0.85")
    assert Objective("valid/loss", "minimize", steps_to=1e-5).target == "valid/loss ≤ 1e-05"
    assert (HIGHER.title, HIGHER.target) == ("valid/accuracy", "")


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (HIGHER, [40, 20, 30, 10, 50]),  # 20 and 30 are equal: the earlier one first
        (TARGET, [20, 40, 30, 10, 50]),
        (Objective("valid/accuracy", "maximize", steps_to=0.95), [40, 20, 30, 10, 50]),
        (Objective("valid/accuracy", "maximize", "final"), [50, 40, 30, 20, 10]),
    ],
)
def test_the_checkpoint_of_the_first_evaluation_at_the_target_is_kept_before_better_ones(objective, expected):
    evaluations = [(30, 0.88), (10, 0.5), (50, math.nan), (20, 0.88), (40, 0.9)]
    assert objective.best_first(evaluations) == expected
