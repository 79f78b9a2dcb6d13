"""What retrains, searches and validation sets can show, against SciPy, all arrangements, and simulations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from tunectl.analysis.comparison.adoption import (
    retrain_limits,
    study_variance,
    validation_set,
    weighed_with_examples,
    weighed_with_searches,
)
from tunectl.analysis.comparison.comparison import (
    LEVEL,
    NOT_REACHED,
    POWER,
    Candidate,
    compare,
    detectable_difference,
    rank_test,
    retrains_needed,
    smallest_p,
)


@pytest.mark.parametrize(("one", "other"), [(2, 2), (1, 3), (3, 3), (5, 2)])
def test_the_smallest_p_is_that_of_retrains_that_are_all_better(one, other):
    assert smallest_p(one, other) == pytest.approx(rank_test(range(one), range(10, 10 + other)))


def _arrangements(retrains: int) -> Iterator[tuple[int, ...]]:
    return combinations(range(2 * retrains), retrains)


@pytest.mark.parametrize("retrains", [3, 5, 6])
def test_the_detectable_difference_is_found_as_often_as_said(retrains):
    difference = detectable_difference(retrains, 2.0)
    assert difference is not None
    random = np.random.default_rng(3)
    old, new = random.normal(0, 2, (4000, retrains)), random.normal(-difference, 2, (4000, retrains))
    lower = (new[:, :, None] < old[:, None, :]).sum((1, 2))
    # The U statistic of all arrangements of the ranks.
    every = np.array([retrains**2 - sum(item) + retrains * (retrains - 1) // 2 for item in _arrangements(retrains)])
    least = min(u for u in range(retrains**2 + 1) if np.mean(every >= u) <= LEVEL)
    assert np.mean(lower >= least) == pytest.approx(POWER, abs=0.03)
    assert detectable_difference(2, 2.0) is None
    assert retrains_needed(difference, 2.0) == pytest.approx(retrains, abs=1)


def test_two_retrains_of_each_can_never_decide_and_it_says_so():
    limits = retrain_limits(Candidate("a", 0, (1.0, 1.2)), Candidate("b", 0, (5.0, 5.2)))
    assert limits is not None
    assert not limits.can_decide
    first, second = limits.sentences
    assert "2 and 2 retrains can never decide" in first
    assert "p = 0.167" in first
    assert [count for count, _ in limits.detectable] == [3, 5]
    assert "3 of each about 0.36 and 5 of each about 0.25" in second


def test_enough_retrains_can_decide_and_none_have_no_limits():
    limits = retrain_limits(Candidate("a", 0, (1.0, 1.0, 1.0)), Candidate("b", 0, (1.0, 1.0, 1.0)))
    assert limits is not None
    assert (limits.can_decide, limits.sentences) == (True, ())
    assert retrain_limits(Candidate("a", 0, ()), Candidate("b", 0, (1.0,))) is None


def test_the_difference_between_searches_is_a_t_test_of_their_means():
    old, new = [[5.0, 5.2], [6.0, 6.1], [5.4]], [[4.0, 4.4], [4.9, 5.0]]
    found = study_variance(old, new)
    assert found is not None
    means = [[np.mean(group) for group in side] for side in (old, new)]
    assert found.p_better == pytest.approx(stats.ttest_ind(*means, alternative="greater").pvalue)
    assert (found.old, found.new) == (3, 2)


def test_the_deviation_between_searches_is_what_retrains_do_not_explain():
    random = np.random.default_rng(1)
    true, found = 3.0, []
    for _ in range(400):
        sides = [[list(at + random.normal(0, 1, 3)) for at in random.normal(0, true, 3)] for _ in range(2)]
        variance = study_variance(*sides)
        assert variance is not None
        found.append(variance.deviation**2)
    assert math.sqrt(np.mean(found)) == pytest.approx(true, rel=0.05)


def test_searches_that_do_not_differ_are_rarely_said_to_differ_whatever_their_own_spread():
    random, alarms = np.random.default_rng(2), 0
    for _ in range(600):
        old, new = ([list(at + random.normal(0, 1, 5)) for at in random.normal(0, 4, 2)] for _ in range(2))
        variance = study_variance(old, new)
        found = weighed_with_searches(
            compare(Candidate("a", 0, tuple(old[0])), Candidate("b", 0, tuple(new[0]))), variance
        )
        alarms += found.verdict == "adopt"
    assert alarms <= 0.06 * 600


def test_with_the_proposed_number_of_searches_the_difference_is_found():
    first = study_variance([[5.0], [6.0]], [[4.0], [5.5]])
    assert first is not None
    assert first.more is not None
    random, found = np.random.default_rng(4), 0
    difference, deviation = 0.75, math.sqrt((0.5 + 1.125) / 2)  # those of the four searches
    for _ in range(300):
        old = [[value] for value in random.normal(0, deviation, first.more)]
        new = [[value] for value in random.normal(-difference, deviation, first.more)]
        variance = study_variance(old, new)
        found += variance is not None and variance.is_enough
    assert found >= 0.75 * 300


@pytest.mark.parametrize(
    ("old", "new"),
    [([[1.0]], [[2.0]]), ([[1.0], []], [[2.0]]), ([[1.0], [math.inf]], [[2.0]]), ([[1.0], [NOT_REACHED]], [[2.0]])],
)
def test_one_search_of_each_or_a_retrain_without_a_value_says_nothing(old, new):
    assert study_variance(old, new) is None


def test_a_difference_within_the_luck_of_a_search_is_not_adopted():
    old, new = Candidate("a", 0, (5.0, 5.1, 5.2)), Candidate("b", 0, (4.0, 4.1, 4.2))
    found = compare(old, new)
    assert found.verdict == "adopt"
    luck = study_variance([old.costs, [3.0, 3.1]], [new.costs, [6.0, 6.1]])
    held = weighed_with_searches(found, luck)
    assert held.verdict == "not enough evidence"
    assert "searches with other points differ as much" in held.reason
    clear = study_variance([old.costs, [5.05, 5.15]], [new.costs, [4.05, 4.1]])
    assert weighed_with_searches(found, clear) == found


def test_another_validation_set_is_a_binomial_draw():
    found = validation_set(500, [0.2, 0.2], [0.1, 0.1], 0.1)
    assert found is not None
    random = np.random.default_rng(0)
    apart = (random.binomial(500, 0.2, 20_000) - random.binomial(500, 0.1, 20_000)) / 500
    assert found.most == pytest.approx(apart.std(), rel=0.03)
    # The mistakes of the new one are among those of the old one.
    shared = random.binomial(500, 0.1, 20_000) / 500
    assert found.least == pytest.approx(shared.std(), rel=0.03)
    assert found.better == pytest.approx(50)
    assert found.is_enough


@pytest.mark.parametrize("values", [[0.1234], [1.2], [-0.1], [math.inf], []])
def test_a_metric_that_is_no_count_of_examples_has_no_known_variance(values):
    assert validation_set(300, [0.1, 0.11], values, 0.05) is None


def test_less_than_five_examples_are_not_adopted():
    old, new = Candidate("a", 0, (0.04, 0.04, 0.043)), Candidate("b", 0, (0.03, 0.03, 0.033))
    found = compare(old, new)
    assert found.verdict == "adopt"
    few = validation_set(100, [0.04, 0.04], [0.01, 0.0], 0.035)
    assert few is not None
    assert not few.is_enough
    assert stats.binomtest(4, 4, 0.5, alternative="greater").pvalue > LEVEL
    held = weighed_with_examples(found, few)
    assert (held.verdict, held.improvement) == ("not enough evidence", found.improvement)
    assert "only by 3.5 of 100 validation examples" in held.reason
    many = validation_set(1000, [0.04, 0.04], [0.03, 0.03], 0.01)
    assert weighed_with_examples(found, many) == found
