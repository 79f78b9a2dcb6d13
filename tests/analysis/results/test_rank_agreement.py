"""Rank correlations within groups with their interval, against enumeration, scipy and simulated pairs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from tunectl.analysis.results.rank_agreement import LEVEL, agreement, chance_of_drift


def test_in_one_group_it_is_spearman_s_correlation() -> None:
    generator = np.random.default_rng(0)
    for size in (3, 6, 20):
        left, right = generator.normal(size=(2, size))
        right[0] = right[1]  # a tie
        found = agreement([(left, right)])
        assert found is not None
        assert found.correlation == pytest.approx(stats.spearmanr(left, right).statistic)
        assert found.trials == size


def test_groups_are_not_compared_with_each_other() -> None:
    better, worse = np.array([0.1, 0.2, 0.3]), np.array([0.7, 0.8, 0.9])
    found = agreement([(better, better[::-1]), (worse, worse[::-1])])
    assert found is not None
    assert found.correlation == -1


def test_nothing_is_said_without_an_order() -> None:
    one = np.array([0.5])
    assert agreement([]) is None
    assert agreement([(one, one)]) is None
    assert agreement([(np.array([0.5, 0.5]), np.array([0.1, 0.2]))]) is None


@pytest.mark.parametrize("size", [4, 5, 6])
def test_the_interval_leaves_out_0_exactly_where_all_orders_say_so(size: int) -> None:
    first = np.arange(float(size))
    orders = [np.array(order, dtype=float) for order in itertools.permutations(range(size))]
    sums = np.array([float(first @ order) for order in orders])
    for order in orders[:: max(1, len(orders) // 12)]:
        chance = float(np.mean(sums >= float(first @ order) - 1e-9))
        found = agreement([(first, order)])
        assert found is not None
        if abs(chance - LEVEL / 2) > 0.01:  # by simulation
            assert (found.verdict == "agree") == (chance < LEVEL / 2)


@pytest.mark.parametrize("true", [-0.7, 0.0, 0.9])
@pytest.mark.parametrize("sizes", [(5,), (3, 4)], ids=["5", "3-4"])
def test_the_interval_holds_the_true_correlation_in_95_of_100_cases(true: float, sizes: tuple[int, ...]) -> None:
    generator = np.random.default_rng(7)
    held = 0
    for _ in range(200):
        groups = []
        for size in sizes:
            left = generator.normal(size=size)
            groups.append((left, true * left + math.sqrt(1 - true**2) * generator.normal(size=size)))
        found = agreement(groups)
        assert found is not None
        assert found.low <= found.correlation <= found.high
        held += found.low <= true <= found.high
    assert held >= 182  # 190 expected, with a deviation of 3


def test_a_perfect_order_of_a_few_trials_leaves_the_interval_wide() -> None:
    four, eight = (agreement([(np.arange(n), np.arange(n))]) for n in (4.0, 8.0))
    assert four is not None
    assert eight is not None
    assert (four.verdict, eight.verdict) == ("unknown", "agree")
    assert [four.high, eight.high] == pytest.approx([1, 1], abs=0.01)


def test_higher_positions_that_gain_are_found_and_chance_is_uniform_without() -> None:
    generator = np.random.default_rng(3)
    at = np.linspace(0, 1, 10)
    short = generator.normal(size=10)
    up, chance = chance_of_drift([(at, short, short - 5 * at)])
    assert (up, chance < 0.01) == (True, True)
    down, chance = chance_of_drift([(at, short, short + 5 * at)])
    assert (down, chance < 0.01) == (False, True)
    chances = [chance_of_drift([(at, generator.normal(size=10), generator.normal(size=10))])[1] for _ in range(300)]
    assert 0.02 <= float(np.mean(np.array(chances) <= 0.05)) <= 0.09
