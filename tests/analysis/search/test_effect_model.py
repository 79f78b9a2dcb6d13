"""Tests analysis/search/effect_model.py and effect_tests.py against numpy's least squares and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunectl.analysis.search.effect_model import Factor, Questions, effect_model
from tunectl.analysis.search.effect_tests import (
    family_chances,
    group_of,
    own_part,
    sums_of_squares,
    unit_columns,
)

GENERATOR = np.random.default_rng(0)
TRIALS = 30


def constant(trials=TRIALS):
    return np.full((trials, 1), trials**-0.5)


def columns(count):
    return unit_columns(list(GENERATOR.normal(size=(count, TRIALS))), TRIALS)


def residual(response, regressors):
    return response - regressors @ np.linalg.lstsq(regressors, response, rcond=None)[0]


def test_sums_of_squares_are_those_of_nested_least_squares():
    first, second = columns(2), columns(3)
    response = GENERATOR.normal(size=TRIALS)
    response -= response.mean()
    beside = np.concatenate([constant(), own_part(first, constant())], axis=1)
    sums = sums_of_squares(response, second, beside)
    without = residual(response, beside)
    whole = residual(response, np.concatenate([beside, second], axis=1))
    assert sums.left == pytest.approx(whole @ whole)
    assert sums.shown == pytest.approx(without @ without - whole @ whole)
    assert (sums.terms, sums.freedom) == (3, TRIALS - 6)


def test_a_column_that_the_others_contain_has_no_own_part():
    first = columns(2)
    alike = unit_columns([first[:, 0] + first[:, 1]], TRIALS)
    assert own_part(alike, own_part(first, constant())).shape == (TRIALS, 0)


def test_the_chance_of_one_group_is_that_of_the_f_test_where_noise_is_normal():
    """With one group and no controls the permutation test agrees with Fisher's within its own error."""
    wrong = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        own = unit_columns(list(generator.normal(size=(2, TRIALS))), TRIALS)
        response = generator.normal(size=TRIALS) + 1.5 * own[:, 0]
        sums = sums_of_squares(response - response.mean(), own, constant())
        exact = stats.f.sf(sums.shown / 2 / (sums.left / sums.freedom), 2, sums.freedom)
        group = group_of(own, np.empty((TRIALS, 0)), constant())
        (chance,) = family_chances(response, constant(), [group], 4000, by_signs=False)
        wrong += abs(chance - exact) > 0.1 * exact + 0.02
    assert wrong <= 1


def test_with_more_groups_the_same_effect_is_less_sure():
    own, response = columns(1), GENERATOR.normal(size=TRIALS)
    response = response + 2 * own[:, 0]
    none = np.empty((TRIALS, 0))
    groups = [group_of(part, none, constant()) for part in (own, *(columns(1) for _ in range(9)))]
    alone = family_chances(response, constant(), groups[:1], 2000, by_signs=False)[0]
    assert family_chances(response, constant(), groups, 2000, by_signs=False)[0] > alone


def factors(positions):
    active = np.full(len(positions), True)
    return [
        Factor((str(place),), (column - column.mean(),), (True,), active) for place, column in enumerate(positions.T)
    ]


def test_a_bent_sum_is_no_interaction_and_a_product_is_one():
    """The exponential of a sum of two squares: the best value of neither depends on the other."""
    positions = np.random.default_rng(1).uniform(size=(80, 3)) - 0.5
    noise = 0.05 * np.random.default_rng(2).normal(size=80)
    bent = np.exp(4 * ((positions[:, 0] - 0.2) ** 2 + (positions[:, 1] + 0.2) ** 2)) + noise
    questions = Questions(1, 1, 1000)
    model = effect_model(bent, factors(positions), questions)
    assert model.responding == [0, 1] or model.responding == [1, 0]
    assert not any(pair.found for pair in model.pairs.values())
    product = effect_model(positions[:, 0] * positions[:, 1] + noise, factors(positions), questions)
    assert [pair for pair, effect in product.pairs.items() if effect.found] == [(0, 1)]
    assert product.pairs[0, 1].sign == 1
