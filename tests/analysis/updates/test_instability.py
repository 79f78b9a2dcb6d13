from __future__ import annotations

import math

import numpy as np
import pytest
from loss_curves import LN_10, calm, catapult, climbs, dies, healthy, mid_rise
from narrowing import present

from tunectl.analysis.updates.instability import early_updates, instability

SEEDS = 120


@pytest.mark.parametrize(("curve", "when"), [(catapult, "early"), (mid_rise, "mid"), (dies, "mid"), (climbs, "mid")])
def test_a_planted_rise_is_found_in_19_of_20_curves_as_early_or_mid(curve, when):
    found = 0
    for seed in range(SEEDS // 4):
        loss, _ = curve(np.random.default_rng(seed))
        found += any(period.when == when for period in instability(loss))
    assert found >= 0.95 * (SEEDS // 4)


def test_clean_noisy_curves_are_stable_in_98_of_100():
    alarms = sum(bool(instability(healthy(np.random.default_rng(seed)))) for seed in range(SEEDS))
    assert alarms <= 0.02 * SEEDS


@pytest.mark.parametrize("baseline", [LN_10, None])
def test_noise_at_the_floor_of_small_batches_is_no_instability(baseline):
    alarms = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        # Mean 0.01 and deviation 0.02, with the long tail of small batches.
        loss = LN_10 * np.exp(-np.arange(1500) / 60) + 0.01 * generator.gamma(0.25, 4.0, size=1500)
        alarms += bool(instability(loss, baseline=baseline))
    assert alarms == 0


def test_a_single_outlying_minibatch_is_no_instability():
    loss = calm(np.random.default_rng(0), 600)
    loss[[5, 200, 201, 400]] *= 100
    assert instability(loss) == []


def test_a_monotone_loss_however_slow_and_a_constant_one_are_stable():
    t = np.arange(1000, dtype=np.float64)
    for loss in (LN_10 - 1e-6 * t, LN_10 / (1 + 0.001 * t), np.full(1000, LN_10), np.zeros(1000), 1e-9 / (1 + t)):
        assert instability(loss) == []


def test_a_converged_loss_may_vary_over_orders_of_magnitude():
    t = np.arange(1000)
    loss = LN_10 * np.exp(-t / 20) + 1e-6 * 10 ** (2 * np.sin(t / 50))
    assert instability(loss) == []


def test_the_period_says_where_it_begins_peaks_and_ends_and_how_high_it_is():
    loss = np.full(1000, 1.0)
    loss[400:500] = 8.0
    (period,) = instability(loss)
    assert abs(period.start - 400) <= 3
    assert 400 <= period.peak < 500
    assert abs(present(period.end) - 500) <= 5
    assert period.level == 1.0
    assert period.factor == pytest.approx(8.0, rel=0.01)
    assert period.when == "mid"


def test_a_network_that_dies_after_having_learned_never_comes_back():
    loss = calm(np.random.default_rng(3), 800)
    loss[300:] = LN_10
    (period,) = instability(loss)
    assert period.end is None
    assert abs(period.start - 300) < 10


def test_a_catapult_of_three_updates_at_the_very_beginning_is_found():
    # A real one: digits, depth 6, initialisation times 2, learning rate 0.03; it ends dead, never a NaN.
    noise = 0.003 * np.random.default_rng(0).normal(size=594)
    loss = np.concatenate([[231.035, 259.582, 1802.913, 373.248, 22.0, 4.895], 2.3026 + noise])
    (period,) = instability(loss, baseline=2.3026)
    assert (period.when, period.level) == ("early", 231.035)
    assert period.start <= 2
    assert present(period.end) <= 6


@pytest.mark.parametrize("end", [math.nan, math.inf])
def test_a_loss_that_stops_being_finite_is_unstable_from_where_it_last_was_low(end):
    loss = np.array([195.1, 378.0, 337.7, 1051.0, 1838.0, 5.1e5, 6.8e11, end])
    (period,) = instability(loss)
    assert (period.start, period.peak, period.end, period.factor) == (0, 7, None, math.inf)
    assert instability(np.array([end]))[0].start == 0


def test_growth_that_ends_while_the_loss_is_still_finite_is_found():
    (period,) = instability(np.array([195.0, 751.0, 2661.0, 5.7e4, 1.7e8, 7.0e23]))
    assert period.end is None
    assert period.factor > 1e3


def test_a_rise_in_a_negative_loss_is_found():
    generator = np.random.default_rng(0)
    loss = 5 - 100 * (1 - np.exp(-np.arange(1000) / 100)) + generator.normal(size=1000)
    assert instability(loss) == []
    loss[500:600] += 60
    assert [period.when for period in instability(loss)] == ["mid"]


def test_the_loss_s_unit_changes_nothing():
    loss, _ = mid_rise(np.random.default_rng(4))
    found, scaled = instability(loss), instability(1000 * loss)
    assert [(item.start, item.peak, item.end) for item in found] == [
        (item.start, item.peak, item.end) for item in scaled
    ]
    assert scaled[0].level == pytest.approx(1000 * found[0].level)


def test_early_is_the_first_hundred_updates_or_the_first_twentieth():
    assert [early_updates(updates) for updates in (50, 2000, 2001, 40_000)] == [100, 100, 101, 2000]
    loss = np.full(1000, 1.0)
    loss[150:200] = 8.0
    assert instability(loss)[0].when == "mid"
    assert instability(loss, total_updates=10_000)[0].when == "early"


@pytest.mark.parametrize("updates", range(12))
def test_series_of_any_length_are_accepted(updates):
    assert instability(np.linspace(2.0, 1.0, updates)) == []
