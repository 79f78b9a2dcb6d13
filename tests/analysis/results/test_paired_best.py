"""Which of two settings wins with k points each: exact, checked by trying every draw."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest
from narrowing import present

from tunectl.analysis.results.paired_best import PairedBest, chance_to_win, chance_to_win_apart, paired_best


def won(left, right):
    return 0.5 if left == right else float(left < right)


def compared(left: Mapping[int, float], right: Mapping[int, float]) -> PairedBest:
    return present(paired_best(left, right))


def test_the_chance_to_win_is_that_of_every_draw_tried_with_ties_and_infeasible_trials():
    generator = np.random.default_rng(0)
    for _ in range(150):
        points = int(generator.integers(1, 8))
        k = int(generator.integers(1, points + 1))
        first = generator.choice([1.0, 2.0, 3.0, 4.0, math.inf], points)
        second = generator.choice([1.0, 2.0, 3.0, 5.0, math.inf], points)
        draws = [list(draw) for draw in itertools.combinations(range(points), k)]
        wanted = np.mean([won(first[draw].min(), second[draw].min()) for draw in draws])
        assert chance_to_win(first, second, k) == pytest.approx(wanted, abs=1e-12)


def test_settings_that_share_no_points_are_drawn_independently():
    generator = np.random.default_rng(1)
    for _ in range(50):
        sizes, k = generator.integers(3, 6, size=2), int(generator.integers(1, 4))
        first, second = (generator.choice([1.0, 2.0, 3.0, math.inf], int(size)) for size in sizes)
        pairs = itertools.product(itertools.combinations(first.tolist(), k), itertools.combinations(second.tolist(), k))
        wanted = np.mean([won(min(left), min(right)) for left, right in pairs])
        assert chance_to_win_apart(first, second, k) == pytest.approx(wanted, abs=1e-12)
    apart = compared({0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}, {10: 5.0, 11: 6.0, 12: 7.0, 13: 8.0})
    assert (apart.points, apart.k) == (4, 2)
    assert apart.wins == pytest.approx(1)


def test_a_setting_that_is_better_at_every_point_is_preferred_and_equal_ones_are_not():
    generator = np.random.default_rng(2)
    losses = generator.uniform(1, 5, size=20)
    better = compared(dict(enumerate(losses)), dict(enumerate(1.1 * losses)))
    assert (better.points, better.k) == (20, 10)
    assert better.has_winner
    assert better.wins == pytest.approx(1)
    same = compared(dict(enumerate(losses)), dict(enumerate(losses)))
    assert same.wins == 0.5
    assert not same.has_winner
    assert same.times is None


def test_equal_settings_are_distinguished_in_at_most_one_of_ten_studies():
    generator = np.random.default_rng(3)
    told = [
        compared(dict(enumerate(generator.normal(size=24))), dict(enumerate(generator.normal(size=24)))).has_winner
        for _ in range(400)
    ]
    assert np.mean(told) <= 0.1


def test_few_trials_do_not_decide_and_none_cannot_be_compared():
    assert paired_best({}, {0: 1.0}) is None
    one = compared({0: 1.0}, {0: 9.0})
    assert (one.points, one.k, one.wins, one.quarter, one.has_winner) == (1, 1, 1.0, None, False)
    lost = compared(dict.fromkeys(range(8), math.inf), dict.fromkeys(range(8), math.inf))
    assert (lost.wins, lost.has_winner) == (0.5, False)
    nothing = compared(dict.fromkeys(range(8), math.nan), dict.fromkeys(range(8), 1.0))
    assert (nothing.wins, nothing.has_winner) == (0.0, True)


def test_more_trials_are_proposed_only_where_their_number_has_helped():
    generator = np.random.default_rng(4)
    losses = np.sort(generator.uniform(0, 1, size=24))
    slightly = compared(dict(enumerate(losses)), dict(enumerate(generator.permutation(losses) + 0.02)))
    assert slightly.times is None or 1 < slightly.times <= 16


def test_many_points_can_be_compared():
    generator = np.random.default_rng(5)
    first, second = generator.normal(size=(2, 10_000))
    assert 0 <= chance_to_win(first, second, 5_000) <= 1
