"""Permutation tests of a linear statistic, against all permutations, against drawing, and against SciPy."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from tunectl.analysis.search.permutations import chance_of_pairing, normal_scores, ranks


def test_ranks_and_normal_scores_are_scipys():
    values = np.array([3.0, 1.0, 1.0, 2.0, -5.0, 3.0, 3.0])
    assert ranks(values) == pytest.approx(rankdata(values))
    assert normal_scores(values) == pytest.approx(norm.ppf((rankdata(values) - 0.5) / 7))


@pytest.mark.parametrize("count", [2, 5, 7, 8])
def test_the_chance_is_that_of_all_permutations(count):
    generator = np.random.default_rng(count)
    left, right = np.sort(generator.gamma(1.0, size=count)), np.sort(generator.uniform(size=count) ** 6)
    right[[0, 1, -2, -1]] = right[[1, 0, -1, -2]][:count] if count > 3 else right[[0, 1, -2, -1]]
    sums = np.array(list(permutations(right))) @ left
    wanted = float(np.mean(sums >= left @ right - 1e-12))
    assert chance_of_pairing(left, right) == pytest.approx(wanted, rel=1e-9 if count <= 7 else 0.25)


@pytest.mark.parametrize("count", [500, 2000])
def test_the_approximation_for_many_agrees_with_drawing(count):
    generator = np.random.default_rng(count)
    left = -np.log(np.arange(1, count + 1) / (count + 1))
    right = np.sort(generator.uniform(size=count)) ** 6
    pairings = [right[generator.permutation(count)] for _ in range(4000)]
    order = np.argsort([pairing @ left for pairing in pairings])[::-1]
    for share in (0.2, 0.05, 0.01):
        at_share = pairings[order[int(share * len(order))]]
        assert chance_of_pairing(left, at_share) == pytest.approx(share, rel=0.35)


def test_a_constant_column_shows_nothing():
    assert chance_of_pairing(np.ones(9), np.arange(9.0)) == 1
    assert chance_of_pairing(np.arange(9.0), np.zeros(9)) == 1
    assert chance_of_pairing(np.array([1.0]), np.array([2.0])) == 1
    assert chance_of_pairing(np.zeros(0), np.zeros(0)) == 1


def test_the_chance_is_uniform_where_nothing_is_paired():
    generator = np.random.default_rng(0)
    chances = [chance_of_pairing(generator.gamma(1.0, size=20), generator.uniform(size=20) ** 6) for _ in range(300)]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(chances) <= level) == pytest.approx(level, abs=0.08)


def test_the_same_question_has_the_same_answer():
    left, right = np.arange(30.0), np.arange(30.0) ** 2
    right[:8] = right[7::-1]
    assert chance_of_pairing(left, right) == chance_of_pairing(left, right) > 0
