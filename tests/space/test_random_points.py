"""The random sampler: uniform, independent, and never changing.

Tests space/halton.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunectl.space.halton import random_points

GOLDEN = [
    [0.18221927839879493, 0.7307884674569513, 0.02937929936468564],
    [0.5441306520778629, 0.005555498778632706, 0.3029731339306604],
    [0.7186346762502306, 0.48747519723753585, 0.24097808498821116],
]


def test_the_points_never_change():
    assert random_points(0, 3, 0, 3).tolist() == GOLDEN


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_each_coordinate_is_uniform_in_the_open_interval(seed):
    points = random_points(seed, 3, 0, 2_000)
    assert points.shape == (2_000, 3)
    assert points.min() > 0
    assert points.max() < 1
    for column in points.T:
        assert stats.kstest(column, "uniform").pvalue > 0.001


def test_coordinates_seeds_and_neighbours_are_independent():
    points = random_points(5, 2, 0, 2_000)
    other = random_points(6, 2, 0, 2_000)
    pairs = [(points[:, 0], points[:, 1]), (points[:, 0], other[:, 0]), (points[1:, 0], points[:-1, 0])]
    for one, two in pairs:
        table, *_ = np.histogram2d(one, two, bins=6, range=[[0, 1], [0, 1]])
        assert stats.chisquare(table.ravel()).pvalue > 0.001


def test_a_point_depends_on_seed_coordinate_and_index_alone_and_on_no_count():
    whole = random_points(3, 5, 0, 30)
    np.testing.assert_array_equal(random_points(3, 5, 0, 20), whole[:20])
    np.testing.assert_array_equal(random_points(3, 2, 10, 20), whole[10:, :2])


def test_no_coordinates_and_no_points_have_their_shape():
    assert random_points(0, 0, 0, 4).shape == (4, 0)
    assert random_points(0, 4, 0, 0).shape == (0, 4)
