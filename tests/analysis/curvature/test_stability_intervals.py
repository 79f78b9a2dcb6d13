"""Tests curvature/stability_intervals.py."""

from __future__ import annotations

import numpy as np
import pytest
from planted_curvature import measured_run

from tunectl.analysis.curvature.curvature_curves import ratio_curve
from tunectl.analysis.curvature.stability_intervals import Crossing, crossings, intervals_above, time_above


def curve(ratio, known=None, steps=None):
    return ratio_curve(measured_run(range(0, 10 * len(ratio), 10) if steps is None else steps, ratio, known=known))


def test_intervals_have_the_steps_of_their_first_and_last_line_and_the_highest_ratio():
    first, second = intervals_above(curve([0.5, 1.5, 2.0, 0.9, 1.1]))
    assert (first.start, first.end, first.lines, first.updates) == (10, 20, 2, 10)
    assert (first.highest, first.highest_at, first.median) == (2.0, 20, 1.75)
    assert (second.start, second.end, second.updates) == (40, 40, 0)


def test_there_are_no_intervals_and_no_crossings_below_the_bound_or_without_lines():
    assert intervals_above(curve([0.5, 1.0, 0.2])) == []
    assert crossings(curve([0.5, 1.0, 0.2])) == []
    assert intervals_above(curve([])) == []
    assert crossings(curve([])) == []


def test_crossings_go_both_ways():
    assert crossings(curve([0.5, 1.5, 0.9])) == [Crossing(0, 10, True), Crossing(10, 20, False)]


def test_a_lower_bound_above_one_counts_and_one_below_says_nothing():
    found = curve([0.5, 0.8, 1.5, 0.9, 1.4], known=[True, False, False, False, True])
    assert [(item.start, item.end) for item in intervals_above(found)] == [(20, 40)]
    assert crossings(found) == [Crossing(0, 20, True)]


def test_intervals_agree_with_a_plain_loop_over_random_curves():
    generator = np.random.default_rng(0)
    for _ in range(50):
        ratio = np.exp(generator.normal(size=30))
        expected, begun = [], None
        for place, value in enumerate([*ratio, 0.0]):
            if value > 1 and begun is None:
                begun = place
            if value <= 1 and begun is not None:
                expected.append((10 * begun, 10 * (place - 1)))
                begun = None
        assert [(item.start, item.end) for item in intervals_above(curve(ratio))] == expected


def test_the_time_above_is_a_share_of_the_measured_updates():
    found = time_above(curve([0.5, 1.5, 1.6, 1.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]))
    assert found is not None
    assert found.share == pytest.approx(0.2)
    assert found.highest.highest_at == 20


def test_a_blip_and_the_edge_of_stability_are_not_long_above():
    assert time_above(curve([0.5, 0.5, 3.0, 0.5, 0.5, 0.5])) is None
    assert time_above(curve([1.1, 1.05, 1.1, 1.2, 1.02, 1.1])) is None
    assert time_above(curve([])) is None


def test_one_line_is_enough_for_a_trial_that_diverged_above_the_bound():
    assert time_above(curve([2.5])) is None
    found = time_above(curve([2.5]), diverged=True)
    assert found is not None
    assert found.to_the_end
    assert time_above(curve([1.1]), diverged=True) is None
    assert time_above(curve([0.5, 2.5]), diverged=True) is None
