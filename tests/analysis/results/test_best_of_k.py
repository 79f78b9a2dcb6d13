"""The best of k of n trials is exact: checked by trying every draw, and by drawing."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from narrowing import present

from tunectl.analysis.results.best_of_k import QUANTILES, best_by_budget, best_of_k, budgets, expected_gain_of_doubling

TIED = np.array([0.3, 0.1, 0.1, math.inf, math.nan, 0.5, 0.2])


def every_best(losses, k):
    known = np.where(np.isnan(losses), np.inf, losses)
    return sorted(min(draw) for draw in itertools.combinations(known.tolist(), k))


@pytest.mark.parametrize("k", range(1, 8))
def test_the_distribution_is_that_of_every_draw_tried(k):
    values, chances = best_of_k(TIED, k)
    bests = every_best(TIED, k)
    assert chances.sum() == pytest.approx(1)
    for value in set(bests):
        assert chances[values == value].sum() == pytest.approx(float(Fraction(bests.count(value), len(bests))))


@pytest.mark.parametrize("k", range(1, 8))
def test_quantiles_mean_and_infeasibility_are_those_of_every_draw_tried(k):
    (found,) = best_by_budget(TIED, [k])
    bests = every_best(TIED, k)
    # The value that at least this part of the draws reaches.
    wanted = [bests[math.ceil(Fraction(str(share)) * len(bests)) - 1] for share in QUANTILES]
    assert list(found.quantiles) == wanted
    assert found.all_infeasible == pytest.approx(bests.count(math.inf) / len(bests))
    assert found.expected == (pytest.approx(np.mean(bests)) if math.isfinite(bests[-1]) else math.inf)
    assert found.median == wanted[2]


def test_it_agrees_with_drawing_from_many_trials():
    generator = np.random.default_rng(0)
    losses = np.where(generator.uniform(size=60) < 0.3, np.inf, generator.gamma(2.0, size=60))
    drawn = [losses[generator.permutation(60)[:10]].min() for _ in range(20_000)]
    (found,) = best_by_budget(losses, [10])
    for share, quantile in zip(QUANTILES, found.quantiles, strict=True):
        assert np.mean(np.array(drawn) <= quantile) >= share - 0.01
        assert np.mean(np.array(drawn) < quantile) <= share + 0.01


def test_budgets_go_up_to_half_of_the_trials_and_stay_few():
    assert budgets(0) == []
    assert budgets(1) == budgets(2) == budgets(3) == [1]
    assert budgets(21) == list(range(1, 11))
    many = budgets(10_000)
    assert (many[0], many[-1]) == (1, 5_000)
    assert len(many) <= 40
    assert many == sorted(set(many))


@pytest.mark.parametrize("losses", [[], [1.0], [math.inf], [math.inf] * 6, [math.nan] * 6, [2.0] * 6, [1.0, math.inf]])
def test_degenerate_studies_have_a_distribution_and_no_extrapolation(losses):
    found = best_by_budget(np.array(losses, dtype=float))
    assert len(found) == len(budgets(len(losses)))
    assert expected_gain_of_doubling(np.array(losses, dtype=float)) is None
    for item in found:
        assert not any(math.isnan(number) for number in (item.expected, item.all_infeasible, *item.quantiles))


@pytest.mark.parametrize("k", [0, 4])
def test_a_draw_of_no_trial_or_of_more_than_there_are_is_refused(k):
    with pytest.raises(ValueError, match="between 1 and 3"):
        best_of_k(np.zeros(3), k)


def test_losses_of_another_sign_are_taken_as_they_are():
    (found,) = best_by_budget(np.array([-3.0, -1.0, 2.0]), [1])
    assert found.expected == pytest.approx(-2 / 3)
    assert found.median == -1.0


def test_equal_trials_promise_no_gain_and_infeasible_ones_do_not_count_as_gain():
    assert expected_gain_of_doubling(np.full(20, 0.3)) == 0
    generator = np.random.default_rng(1)
    losses = generator.uniform(size=24)
    with_lost = np.concatenate([losses, np.full(24, np.inf)])
    assert expected_gain_of_doubling(with_lost) == expected_gain_of_doubling(losses)


def test_the_expected_gain_of_doubling_is_near_that_of_doubling():
    generator = np.random.default_rng(2)
    promised, gained = [], []
    for _ in range(300):
        losses = np.sum(generator.uniform(-1, 1, size=(80, 2)) ** 2, axis=1)
        promised.append(present(expected_gain_of_doubling(losses[:40])))
        gained.append(losses[:40].min() - losses.min())
    assert 0.5 < np.mean(promised) / np.mean(gained) < 2


def test_a_doubling_gains_no_more_than_the_one_before_it():
    """Of a steep response half of the trials show much larger gains than all of them still have."""
    for seed in range(20):
        costs = 10 ** np.random.default_rng(seed).uniform(-1.2, 0, size=14)
        (half,) = best_by_budget(costs, [7])
        assert 0 <= present(expected_gain_of_doubling(costs)) <= half.expected - costs.min() + 1e-12
