"""Tests comparison/comparison.py: the rank test against scipy, the verdicts on made-up retrains."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tunectl.analysis.comparison.comparison import (
    NOT_REACHED,
    Candidate,
    compare,
    rank_test,
    retrains_needed,
    study_deviation,
    within,
)


def candidate(*losses: float) -> Candidate:
    return Candidate("a candidate", 0.1, losses)


@pytest.mark.parametrize(("first", "second"), [(3, 3), (5, 6), (2, 9)])
def test_the_rank_test_is_the_exact_one_of_mann_and_whitney(first, second):
    generator = np.random.default_rng(first)
    lower, higher = generator.normal(size=first), generator.normal(size=second) + 0.5
    oracle = stats.mannwhitneyu(lower, higher, alternative="less", method="exact").pvalue
    assert rank_test(lower, higher) == pytest.approx(oracle, rel=1e-12)


def test_with_many_values_the_rank_test_is_the_normal_approximation_with_ties():
    generator = np.random.default_rng(1)
    lower, higher = generator.integers(0, 9, 30) / 8, generator.integers(1, 11, 26) / 8
    oracle = stats.mannwhitneyu(lower, higher, alternative="less", method="asymptotic").pvalue
    assert rank_test(lower.tolist(), higher.tolist()) == pytest.approx(oracle, rel=1e-9)


def test_under_ties_the_p_value_is_that_of_all_arrangements():
    # By hand: of the 6 ways to choose two of (1, 1, 1, 2), 3 have the sum of ranks 4 and 3 have 6.
    assert rank_test([1.0, 1.0], [1.0, 2.0]) == pytest.approx(0.5)
    assert rank_test([1.0, 2.0], [1.0, 1.0]) == 1.0
    assert rank_test([1.0] * 40, [1.0] * 40) == 1.0


def test_retrains_that_are_all_better_are_adopted_and_all_worse_are_not():
    old, new = candidate(0.30, 0.31, 0.32), candidate(0.20, 0.21, 0.22)
    adopted = compare(old, new)
    assert adopted.verdict == "adopt"
    assert adopted.improvement == pytest.approx(0.1)
    assert adopted.p_better == pytest.approx(1 / 20)
    oracle = stats.ttest_ind(old.costs, new.costs, equal_var=False).confidence_interval(0.90)
    assert adopted.interval == pytest.approx((oracle.low, oracle.high), rel=1e-9)
    assert compare(new, old).verdict == "do not adopt"


def test_overlapping_retrains_are_not_enough_and_the_number_needed_is_given():
    found = compare(candidate(0.30, 0.31, 0.32), candidate(0.25, 0.33, 0.31))
    assert found.verdict == "not enough evidence"
    assert found.more is not None
    assert found.improvement is not None
    deviation = np.sqrt((np.var([0.30, 0.31, 0.32], ddof=1) + np.var([0.25, 0.33, 0.31], ddof=1)) / 2)
    assert found.more == retrains_needed(found.improvement, deviation)


@pytest.mark.parametrize("difference", [0.75, -1.25, 2.0])
def test_with_the_proposed_retrains_the_difference_is_found_in_four_of_five_cases(difference):
    """By simulation, judged by scipy's exact test: with them it is, and with three quarters of them it is not."""
    needed = retrains_needed(difference, 1.0)
    assert needed is not None
    for count, enough in ((needed, True), (needed - math.ceil(needed / 4), False)):
        old, new = np.random.default_rng(count).normal(size=(2, count, 4000))
        p = stats.mannwhitneyu(new, old + abs(difference), alternative="less", method="exact").pvalue
        power = float(np.mean(p <= 0.05))
        assert (0.77 <= power <= 0.9) if enough else power < 0.75


def test_at_least_three_retrains_are_proposed_and_none_without_a_difference():
    assert compare(candidate(0.3, 0.31), candidate(0.1, 0.11)).verdict == "not enough evidence"
    assert retrains_needed(9.0, 1.0) == retrains_needed(1.0, 0.0) == 3
    assert retrains_needed(0.0, 1.0) is None
    assert retrains_needed(math.inf, 1.0) is None


@pytest.mark.parametrize("losses", [(), (0.2,)])
def test_with_one_retrain_the_variance_is_unknown(losses):
    found = compare(candidate(0.3, 0.31, 0.32), candidate(*losses))
    assert found.verdict == "not enough evidence"
    assert "varianc" in found.reason
    assert found.improvement is None


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ((0.1, 0.2), (), "b has no retrains, so the variance is unknown: retrain its best trial 5 times"),
        ((0.1,), (), "a has one retrain and b has no retrains, so the variance is unknown: "
                     "retrain the best trial of each 5 times"),
    ],
)  # fmt: skip
def test_it_names_the_one_that_lacks_retrains_and_one_number_of_them(old, new, reason):
    assert compare(Candidate("a", 0.1, old), Candidate("b", 0.1, new)).reason == reason


def test_an_infeasible_retrain_is_worse_than_any_other_and_leaves_no_mean():
    found = compare(candidate(math.inf, math.inf, math.inf, 0.5), candidate(0.3, 0.31, 0.32, 0.33))
    assert found.verdict == "adopt"
    assert found.improvement is None
    assert candidate(math.inf, 0.1).retrain_deviation is None


def test_equal_retrains_propose_no_number_of_more():
    found = compare(candidate(0.1, 0.1, 0.1), candidate(0.1, 0.1, 0.1))
    assert (found.verdict, found.improvement, found.interval, found.more) == ("not enough evidence", 0, (0, 0), None)


def test_retrains_that_never_reached_a_target_rank_below_all_that_did_and_above_infeasible_ones():
    # Of the 20 ways to choose three of six ranks, only one has the sum 1 + 2 + 3.
    found = compare(candidate(100.0, NOT_REACHED, NOT_REACHED), candidate(20.0, 40.0, 60.0))
    assert found.verdict == "adopt"
    assert found.p_better == pytest.approx(1 / 20)
    assert (found.improvement, found.interval, found.more) == (None, None, None), "they have no mean"
    lost = compare(candidate(*[math.inf] * 3), candidate(*[NOT_REACHED] * 3))
    assert lost.verdict == "adopt"
    assert lost.p_better == pytest.approx(1 / 20)
    same = compare(candidate(*[NOT_REACHED] * 3), candidate(*[NOT_REACHED] * 3))
    assert (same.verdict, same.p_better, same.p_worse) == ("not enough evidence", 1.0, 1.0)


def test_a_deviation_of_steps_is_not_known_where_a_target_may_not_be_reached():
    assert candidate(20.0, 40.0, NOT_REACHED).retrain_deviation is None
    assert candidate(20.0, 40.0, NOT_REACHED).not_reached == 1
    assert study_deviation([20.0, 40.0, NOT_REACHED, NOT_REACHED]) is None, "both of a half may be these"
    # The best of two of four, one of which never reached it, is one of the others: 20 in 3 of 6, 40 in 2, 60 in 1.
    mean = (3 * 20 + 2 * 40 + 60) / 6
    variance = (3 * (20 - mean) ** 2 + 2 * (40 - mean) ** 2 + (60 - mean) ** 2) / 6
    assert study_deviation([20.0, 40.0, 60.0, NOT_REACHED]) == pytest.approx(math.sqrt(variance))


def test_steps_beyond_the_shortest_trial_that_never_reached_it_are_not_known_to_be_fewer():
    costs = (90.0, 100.0, 140.0, NOT_REACHED, math.inf)
    assert within(costs, 100.0) == (90.0, 100.0, NOT_REACHED, NOT_REACHED, math.inf)
    assert within(costs, math.inf) == costs
