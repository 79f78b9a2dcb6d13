from __future__ import annotations

import math

import numpy as np
import pytest
from narrowing import present

from tunectl.analysis.results.runs import UpdateSeries
from tunectl.analysis.updates.gradient_norms import clip_threshold, clipped_fraction, outlier_norms


def clean_norms(seed, updates=2000):
    """Falls over two orders of magnitude, with noise."""
    generator = np.random.default_rng(seed)
    return 10 * np.exp(-np.arange(updates) / (updates / 4.6)) * np.exp(0.3 * generator.normal(size=updates))


def test_planted_huge_gradients_are_found_at_any_level():
    norms = clean_norms(0)
    planted = [3, 500, 1200, 1201, 1999]
    norms[planted] *= 50
    found = outlier_norms(norms)
    assert found.updates == tuple(planted)
    assert found.share == 5 / 2000
    assert found.typical == float(np.median(norms))


def test_clean_norms_have_next_to_no_outliers():
    assert sum(len(outlier_norms(clean_norms(seed)).updates) for seed in range(20)) <= 4


def test_norms_that_are_not_finite_are_outliers_and_not_part_of_the_typical_norm():
    norms = np.concatenate([np.full(50, 2.0), [math.nan, math.inf]])
    found = outlier_norms(norms)
    assert (found.updates, found.typical) == ((50, 51), 2.0)
    assert math.isnan(outlier_norms(np.array([math.nan])).typical)
    assert outlier_norms(np.zeros(0)).share == 0


def test_zero_norms_and_equal_norms_are_accepted():
    assert outlier_norms(np.zeros(100)).updates == ()
    assert outlier_norms(np.full(100, 3.0)).updates == ()
    assert outlier_norms(np.concatenate([np.full(99, 3.0), [300.0]])).updates == (99,)


@pytest.mark.parametrize("percentile", [50, 90, 99])
def test_the_threshold_is_the_percentile_of_the_finite_norms(percentile):
    norms = np.random.default_rng(0).permutation(np.arange(1.0, 102.0))
    broken = np.concatenate([norms, [math.nan, math.inf]])
    assert clip_threshold(broken, percentile) == pytest.approx(percentile + 1)


def test_without_a_finite_positive_norm_there_is_no_threshold():
    assert clip_threshold(np.zeros(0)) is None
    assert clip_threshold(np.array([math.nan, math.inf])) is None
    assert clip_threshold(np.zeros(5)) is None


def test_rare_huge_gradients_leave_the_threshold_just_above_the_typical_norm():
    norms = np.exp(0.2 * np.random.default_rng(0).normal(size=5000))
    norms[::50] *= 1000
    assert 1.0 < present(clip_threshold(norms)) < 1.5


def test_the_clipped_fraction_counts_updates():
    assert clipped_fraction(UpdateSeries(clipped=np.array([True, False, False, True]))) == 0.5
    assert clipped_fraction(UpdateSeries()) == 0.0
