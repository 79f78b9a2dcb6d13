"""The median rule on made-up curves. Tests median_rule.py."""

from __future__ import annotations

import math

import pytest

from tunectl.analysis.search.median_rule import Comparison, Reached, worse_than_most
from tunectl.core.objective import Objective
from tunectl.space.search_space import StopEarly

LOSS = Objective("valid/loss", "minimize")
RULE = StopEarly("median", grace=0.25, min_trials=3)


def reached(
    *values: float | None, objective: Objective = LOSS, ended: bool = False, infeasible: bool = False
) -> Reached:
    """A trial with these values at the steps 10, 20, ... of 100."""
    found = Reached(objective, ended=ended, infeasible=infeasible)
    for place, value in enumerate(values, start=1):
        found.add(10 * place, value)
    return found


THREE = (reached(5, 4, 3, 2), reached(5, 4, 2, 1), reached(5, 4, 1, 1))


def test_a_trial_worse_than_the_median_of_the_others_at_its_step_is_stopped():
    assert worse_than_most(reached(9, 9, 2.5), THREE, RULE, 100) == Comparison(30, 2.5, 2, 3)
    assert worse_than_most(reached(9, 9, 2), THREE, RULE, 100) is None, "it equals the median"


def test_the_best_value_until_then_counts_and_the_last_one_where_the_last_evaluation_does():
    final = Objective("valid/loss", "minimize", "final")
    others = [reached(5, 4, value, objective=final) for value in (3, 2, 1)]
    assert worse_than_most(reached(9, 1.5, 9), THREE, RULE, 100) is None
    assert worse_than_most(reached(9, 1.5, 9, objective=final), others, RULE, 100) == Comparison(30, 9, 2, 3)


def test_larger_values_are_better_where_the_objective_is_maximised():
    accuracy = Objective("valid/accuracy", "maximize")
    others = [reached(0.1, 0.2, value, objective=accuracy) for value in (0.3, 0.5, 0.7)]
    assert worse_than_most(reached(0, 0, 0.4, objective=accuracy), others, RULE, 100) == Comparison(30, -0.4, -0.5, 3)
    assert worse_than_most(reached(0, 0, 0.6, objective=accuracy), others, RULE, 100) is None


def test_no_trial_is_stopped_in_the_first_part_of_its_steps_or_at_the_last_one():
    assert worse_than_most(reached(9, 9), THREE, RULE, 100) is None
    assert worse_than_most(reached(9, 9, 9), THREE, RULE, 30) is None
    assert worse_than_most(reached(), THREE, RULE, 100) is None


def test_others_count_only_where_they_have_come_as_far():
    slow = [reached(1, 1), reached(1, 1), *THREE[:2]]
    assert worse_than_most(reached(9, 9, 9), slow, RULE, 100) is None, "two others are known at this step"


def test_a_trial_that_was_stopped_before_stays_among_the_others():
    # Among the two survivors alone, a trial with 2.5 would be worse than both.
    others = [reached(9, 8, ended=True), reached(9, 7, ended=True), reached(5, 4, 2), reached(5, 4, 1)]
    assert worse_than_most(reached(9, 9, 2.5), others, RULE, 100) is None


def test_an_infeasible_trial_is_worse_than_every_other():
    others = [reached(1, ended=True, infeasible=True), reached(ended=True, infeasible=True), *THREE[:2]]
    assert worse_than_most(reached(9, 9, 9), others, RULE, 100) is None, (
        "of an even number the larger one in the middle"
    )
    assert worse_than_most(reached(9, 9, 9), [*others, THREE[2]], RULE, 100) == Comparison(30, 9, 3, 5)


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_trial_without_a_finite_value_is_judged_at_its_end(value):
    assert worse_than_most(reached(value, value, value), THREE, RULE, 100) is None


def test_steps_between_evaluations_of_others_count_with_the_last_one_before():
    other = reached(5, 4, 3)
    assert other.cost_at(25) == 4
    assert other.cost_at(5) is None
    assert other.cost_at(31) is None
    other.ended = True
    assert other.cost_at(31) == 3


def test_step_0_and_evaluations_that_are_read_again_are_passed_over():
    found = reached(5, 4)
    found.add(0, 1)
    found.add(20, 1)
    assert (found.steps, found.costs) == ([10, 20], [5, 4])
