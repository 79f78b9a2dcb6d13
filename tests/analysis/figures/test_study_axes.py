"""Tests figures/study_axes.py: axes are chosen by where the good trials are."""

from __future__ import annotations

import pytest
from narrowing import present

from tunectl.analysis.figures.study_axes import value_axis
from tunectl.core.objective import Objective

LOSS = Objective("valid/loss", "minimize")
ACCURACY = Objective("valid/accuracy", "maximize")
GOOD = [0.20, 0.21, 0.22, 0.23, 0.24, 0.25, 0.26]


def test_bad_trials_far_away_are_cut_off_so_that_the_good_half_takes_up_a_third():
    bad = [2.0, 2.1, 2.2, 2.3, 2.3]
    axis = value_axis(LOSS, [*GOOD, *bad], [0.20])
    low, high = present(axis.shown)
    assert axis.scale == "linear"
    assert low == 0.20
    assert high == pytest.approx(0.20 + 3 * (0.26 - 0.20))


def test_of_an_accuracy_it_is_the_low_end_that_is_cut_off():
    axis = value_axis(ACCURACY, [0.93, 0.925, 0.92, 0.915, 0.91, 0.905, 0.1, 0.1, 0.1, 0.1], [0.93])
    low, high = present(axis.shown)
    assert high == 0.93
    assert 0.8 < low < 0.905


def test_nothing_is_cut_off_where_the_good_half_is_spread_out_already():
    values = [0.2 + 0.01 * place for place in range(20)]
    assert value_axis(LOSS, values, values[:1]).shown is None


def test_an_axis_of_many_decades_is_logarithmic_and_not_cut_off():
    values = [10.0 ** (-6 + place / 2) for place in range(13)]
    axis = value_axis(LOSS, values, values[:1])
    assert (axis.scale, axis.shown) == ("log", None)


def test_the_best_trial_of_every_setting_stays_on_the_axis():
    bad = [2.0, 2.1, 2.2, 2.3, 2.3]
    _, high = present(value_axis(LOSS, [*GOOD, 1.5, *bad], [0.20, 1.5]).shown)
    assert high == 1.5


def test_few_trials_values_that_are_all_alike_and_steps_to_a_target_are_shown_whole():
    assert value_axis(LOSS, [0.1, 0.11, 5.0], [0.1]).shown is None
    assert value_axis(LOSS, [0.1] * 20, [0.1]).shown is None
    target = Objective("valid/loss", "minimize", steps_to=0.5)
    assert value_axis(target, [10, 11, 12, 13, 14, 15, 16, 900, 1000.0], [10]).shown is None


def test_where_most_trials_have_the_best_value_the_next_ones_are_shown_too():
    values = [0.0] * 10 + [0.01, 0.02, 0.03, 5.0]
    _, high = present(value_axis(LOSS, values, [0.0]).shown)
    assert 0.02 < high < 1
