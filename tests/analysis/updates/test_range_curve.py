from __future__ import annotations

import math

import numpy as np
import pytest
from narrowing import as_number, as_numbers

from tunectl.analysis.updates.range_curve import range_suggestion


def curve(rates, centre, width=0.2, room=1.0):
    """Falls by 1.8 as a logistic function of log10(rate), most steeply at `centre`; blows up `room` decades above."""
    x = np.log10(rates)
    blow_up = np.where(x > math.log10(centre) + room, np.expm1(np.minimum((x - math.log10(centre) - room) * 12, 60)), 0)
    return 2.3 - 1.8 / (1 + np.exp(-(x - math.log10(centre)) / width)) + blow_up


@pytest.mark.parametrize("updates", [100, 500])
@pytest.mark.parametrize("width", [0.1, 0.35])
@pytest.mark.parametrize("room", [0.7, 1.5])
def test_a_clean_curve_gives_the_rate_of_its_steepest_descent(updates, width, room):
    rates = np.geomspace(1e-7, 10, updates)
    for centre in (2e-4, 3e-3):
        found = range_suggestion(rates, curve(rates, centre, width, room))
        assert found.clear
        assert found.suggestion == pytest.approx(centre, rel=0.25)
        low, suggestion, high, lowest_at = as_numbers((found.low, found.suggestion, found.high, found.lowest_at))
        assert low < suggestion < high <= lowest_at * 1.001


def test_a_noisy_curve_gives_it_within_a_factor_of_two_in_95_of_100():
    good = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        centre = 10 ** generator.uniform(-4, -1.5)
        rates = np.geomspace(1e-7, 10, 200)
        found = range_suggestion(rates, curve(rates, centre) * np.exp(0.1 * generator.normal(size=200)))
        good += found.clear and 0.5 <= as_number(found.suggestion) / centre <= 2
    assert good >= 95


def test_noise_without_a_fall_is_unclear_with_and_without_a_blow_up():
    for seed in range(30):
        generator = np.random.default_rng(seed)
        rates = np.geomspace(1e-7, 10, int(generator.integers(60, 400)))
        loss = 2.3 * np.exp(0.1 * generator.normal(size=len(rates)))
        assert not range_suggestion(rates, loss).clear
        loss[rates > 0.1] *= 50
        assert not range_suggestion(rates, loss).clear


def test_a_loss_that_falls_up_to_the_highest_rate_is_unclear_but_gives_its_rates():
    rates = np.geomspace(1e-7, 1e-2, 200)
    found = range_suggestion(rates, curve(rates, 1e-2))
    assert not found.clear
    assert "highest" in found.why
    assert found.suggestion is not None


def test_a_loss_that_stops_being_finite_ends_the_curve():
    rates = np.geomspace(1e-7, 10, 200)
    loss = curve(rates, 1e-3)
    loss[rates > 0.02] = math.nan
    loss[rates > 0.5] = 0.0
    found = range_suggestion(rates, loss)
    assert found.clear
    assert found.suggestion == pytest.approx(1e-3, rel=0.25)


@pytest.mark.parametrize("loss", [np.full(100, math.nan), np.full(100, 2.3), np.zeros(100), np.zeros(0)])
def test_without_any_fall_nothing_is_suggested(loss):
    found = range_suggestion(np.geomspace(1e-7, 1, 100)[: len(loss)], loss)
    assert (found.clear, found.suggestion, bool(found.why)) == (False, None, True)


def test_a_single_outlier_does_not_move_the_suggestion():
    rates = np.geomspace(1e-7, 10, 300)
    loss = curve(rates, 1e-3)
    loss[np.searchsorted(rates, 1e-5)] = 50.0
    assert range_suggestion(rates, loss).suggestion == pytest.approx(1e-3, rel=0.25)


def test_the_steepest_descent_against_the_rate_itself_would_be_far_off():
    # Falls by a constant amount per decade, then steeply over one: per unit of the rate the beginning is the steepest.
    rates = np.geomspace(1e-7, 10, 400)
    loss = curve(rates, 1e-2) - 0.05 * np.log10(rates)
    found = range_suggestion(rates, loss)
    naive = rates[np.argmin(np.gradient(loss, rates))]
    assert found.suggestion == pytest.approx(1e-2, rel=0.25)
    assert naive < 1e-5


def wild(rates, start, generator, useful_from=3e-4, useful_to=1e-2):
    """Falls from `start` to ln 10 below `useful_from`, by a constant factor a decade; then from there to a hundredth of
    it at `useful_to`, and blows up beyond.
    """
    x = np.log10(rates)
    knots = np.log10([1e-7, 1e-6, useful_from, useful_to, 4 * useful_to, 40 * useful_to])
    levels = [start, start, math.log(10), 0.023, 0.1, 1e6]
    return np.exp(np.interp(x, knots, np.log(levels)) + 0.15 * generator.normal(size=len(rates)))


@pytest.mark.parametrize("start", [8.0, 80.0, 1e4])
@pytest.mark.parametrize("seed", range(5))
def test_a_wild_initialisation_s_first_fall_does_not_count(start, seed):
    rates = np.geomspace(1e-7, 10, 500)
    loss = wild(rates, start, np.random.default_rng(seed))
    found = range_suggestion(rates, loss, math.log(10))
    assert found.clear
    low, suggestion, high = as_numbers((found.low, found.suggestion, found.high))
    assert 2e-4 < low <= suggestion < high < 2e-2
    assert found.suggestion == pytest.approx(math.sqrt(3e-4 * 1e-2), rel=0.8)
    assert found.high == pytest.approx(1e-2, rel=0.5), "the rate of the lowest loss"


def test_without_a_known_baseline_a_fall_over_three_decades_is_judged_by_its_lower_half():
    rates = np.geomspace(1e-7, 10, 500)
    found = range_suggestion(rates, wild(rates, 1e4, np.random.default_rng(0)))
    assert found.clear
    assert as_number(found.low) > 3e-5
    assert 5e-5 < as_number(found.suggestion) < 1e-2


def test_an_ordinary_initialisation_is_judged_alike_with_and_without_its_baseline():
    rates = np.geomspace(1e-7, 10, 300)
    for factor in (1.0, 1.5):
        loss = curve(rates, 1e-3) + (factor - 1) * 2.3
        assert range_suggestion(rates, loss, 2.3) == range_suggestion(rates, loss)


def test_a_wild_loss_that_never_comes_below_that_of_a_constant_prediction_is_unclear():
    rates = np.geomspace(1e-7, 10, 500)
    loss = 80 - 70 / (1 + np.exp(-(np.log10(rates) + 4) * 4))
    found = range_suggestion(rates, loss, math.log(10))
    assert (found.clear, found.suggestion) == (False, None)
    assert "does not fall below 2.3" in found.why


def test_losses_may_be_zero_or_negative():
    rates = np.geomspace(1e-7, 10, 300)
    assert range_suggestion(rates, curve(rates, 1e-3) - 5).suggestion == pytest.approx(1e-3, rel=0.25)
    loss = wild(rates, 80.0, np.random.default_rng(1))
    loss[np.searchsorted(rates, 5e-3)] = 0.0
    assert range_suggestion(rates, loss, math.log(10)).clear
