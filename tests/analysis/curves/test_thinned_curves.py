from __future__ import annotations

import math

import numpy as np
import pytest

from tunectl.analysis.curves.thinned_curves import with_extremes


def test_a_short_curve_is_not_thinned():
    steps, values = np.arange(100.0), np.arange(100.0)
    assert with_extremes(steps, values, 100)[1] is values


@pytest.mark.parametrize("length", [101, 1000, 100_003])
def test_thinning_keeps_the_ends_the_best_every_spike_and_every_gap_of_a_long_curve(length):
    generator = np.random.default_rng(length)
    steps, values = np.cumsum(generator.integers(1, 2**30, size=length)).astype(float), generator.normal(size=length)
    best, spike, gap = (length * place // 10 for place in (2, 5, 7))
    values[best], values[spike], values[gap] = -50.0, 60.0, math.nan
    thin_steps, thin = with_extremes(steps, values, 100)
    assert len(thin) <= 110
    assert np.all(np.diff(thin_steps) > 0)
    places = np.searchsorted(steps, thin_steps)
    assert np.array_equal(values[places], thin, equal_nan=True)
    assert {0, length - 1, best, spike, gap} <= set(places.tolist())


def test_a_long_curve_of_nothing_but_gaps_is_thinned_too():
    assert np.isnan(with_extremes(np.arange(1000.0), np.full(1000, math.nan), 100)[1]).all()
