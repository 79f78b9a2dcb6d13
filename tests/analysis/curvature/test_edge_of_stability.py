"""Tests curvature/edge_of_stability.py."""

from __future__ import annotations

import numpy as np
from planted_curvature import measured_run

from tunectl.analysis.curvature.curvature_curves import ratio_curve
from tunectl.analysis.curvature.edge_of_stability import LOWEST_AT_EDGE, MOSTLY_IN_BAND, _longest, edge_stretch
from tunectl.analysis.curvature.stability_intervals import CLEARLY_ABOVE


def stretch(ratio, steps=None, known=None):
    return edge_stretch(ratio_curve(measured_run(range(len(ratio)) if steps is None else steps, ratio, known=known)))


HOVERING = [1.05, 0.97, 1.08, 0.99, 1.03, 1.01, 0.96, 1.04]


def test_a_ratio_that_grows_to_one_and_stays_is_at_the_edge():
    found = stretch([0.2, 0.4, 0.6, *HOVERING])
    assert found is not None
    assert (found.start, found.end, found.lines) == (3, 10, 8)
    assert found.share == 0.7


def test_a_catapult_in_between_does_not_end_the_stretch():
    found = stretch([*HOVERING, 1.6, 0.5, *HOVERING])
    assert found is not None
    assert (found.start, found.end) == (0, 17)


def test_a_level_below_the_bound_a_steady_growth_through_it_and_few_lines_are_not():
    assert stretch([0.85, 0.82, 0.86, 0.84, 0.85, 0.83, 0.86, 0.84]) is None
    assert stretch([0.95] * 10) is None
    assert stretch(np.geomspace(0.6, 1.7, 30)) is None
    assert stretch(HOVERING[:5]) is None
    assert stretch([]) is None


def test_a_short_part_of_training_and_lines_far_apart_are_not():
    assert stretch([*HOVERING, *[0.3] * 40]) is None
    assert stretch(HOVERING, steps=[1, 2, 3, 4, 5, 6, 7, 1000]) is None


def test_lower_bounds_near_one_do_not_count():
    assert stretch(HOVERING, known=[False] * 8) is None


def test_the_longest_stretch_agrees_with_a_search_over_all_pairs():
    generator = np.random.default_rng(1)
    for _ in range(100):
        values = np.exp(0.25 * generator.normal(size=25))
        steps = np.cumsum(generator.integers(1, 20, size=25)).astype(float)
        inside = (values >= LOWEST_AT_EDGE) & (values <= CLEARLY_ABOVE)
        pairs = [
            (steps[last] - steps[first])
            for first in np.flatnonzero(inside)
            for last in np.flatnonzero(inside)
            if last >= first and inside[first : last + 1].mean() >= MOSTLY_IN_BAND - 1e-9
        ]
        first, last = _longest(inside, steps)
        assert steps[last] - steps[first] == max(pairs, default=0.0)
