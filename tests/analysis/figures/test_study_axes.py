"""Tests figures/study_axes.py: axes are chosen by where the good trials are."""

from __future__ import annotations

import pytest
from narrowing import present

from tunectl.analysis.figures.figures import Curve, scale_of_curves
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


def test_an_accuracy_is_never_pressed_to_the_end_of_a_logarithmic_axis():
    values = [0.01, 0.02, 0.04, 0.05, 0.6, 0.8, 0.9, 0.91, 0.92, 0.93]
    assert value_axis(ACCURACY, values).scale == "linear"
    assert value_axis(ACCURACY, values, [0.93]).scale == "linear"
    assert value_axis(LOSS, values).scale == "log"


def test_a_reward_whose_good_trials_span_decades_has_a_logarithmic_axis():
    reward = Objective("valid/reward", "maximize")
    assert value_axis(reward, [10.0**place for place in range(9)]).scale == "log"
    assert value_axis(reward, [-1.0, 1.0, 1e3, 1e6, 1e9]).scale == "linear"


def test_the_curves_of_a_metric_that_rises_have_a_linear_axis_unless_their_ends_span_decades():
    rising = [Curve([0, 1], [0.01, 0.9], "a"), Curve([0, 1], [0.02, 0.8], "b")]
    dimmed = [Curve([0, 1], [0.03, 0.02], dimmed=True)] * 5
    assert scale_of_curves([*dimmed, *rising], [0.01, 0.9]) == "linear"
    assert scale_of_curves([Curve([0, 1], [2.0, 0.01])], [2.0, 0.01]) == "log"
    assert scale_of_curves([Curve([0, 1], [1.0, 2.0]), Curve([0, 1], [1.0, 1e4])], [1.0, 1e4]) == "log"
