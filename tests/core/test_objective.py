"""Which of two evaluations, or trials, is better."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunectl.core.objective import Objective

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
