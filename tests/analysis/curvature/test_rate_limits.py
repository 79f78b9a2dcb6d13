"""Tests curvature/rate_limits.py."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tunectl.analysis.curvature.rate_limits import RateGroup, rate_limit

RATES = np.geomspace(1e-3, 1, 10)


def group(unstable=0.2, *, best=None, batch=None, reaches=None):
    """Ten rates; those from `unstable` on diverge, and the cost is lowest near `best`."""
    diverged = unstable <= RATES
    costs = np.where(diverged, math.inf, np.abs(np.log(RATES / (unstable if best is None else best))))
    return RateGroup(RATES, costs, diverged, batch, reaches)


def test_the_largest_stable_rate_is_best_in_every_group():
    found = rate_limit({0: group(batch=32), 1: group(batch=128)})
    assert found is not None
    assert list(found.best.values()) == pytest.approx([0.1, 0.1])
    assert list(found.diverges.values()) == pytest.approx([RATES[7]] * 2)
    assert found.chance == pytest.approx(1 / 49)
    assert (found.growth, found.batches) == (1.0, 4.0)


def test_a_best_rate_inside_in_any_group_is_none():
    assert rate_limit({0: group(), 1: group(best=0.01)}) is None


def test_without_divergence_or_with_divergence_below_it_is_none():
    calm = replace(group(best=2.0), costs=np.abs(np.log(RATES / 2)), diverged=np.zeros(10, dtype=bool))
    assert rate_limit({0: group(), 1: calm}) is None
    lost = group()
    assert rate_limit({0: group(), 1: replace(lost, costs=np.where(np.arange(10) < 4, math.inf, lost.costs))}) is None


def test_one_group_is_too_few_unless_the_measured_curvature_agrees():
    assert rate_limit({0: group()}) is None
    found = rate_limit({0: group(reaches=True)})
    assert found is not None
    assert found.measured


def test_measured_curvature_far_below_the_bound_excludes_it():
    assert rate_limit({0: group(), 1: group(reaches=False)}) is None


def test_a_best_rate_in_proportion_to_the_batch_is_noise():
    assert rate_limit({0: group(0.05, batch=32), 1: group(0.2, batch=128)}) is None


def test_no_groups_few_rates_and_no_trained_trial_are_none():
    assert rate_limit({}) is None
    few = RateGroup(RATES[:3], np.array([2.0, 1.0, math.inf]), np.array([False, False, True]))
    assert rate_limit({0: few, 1: few}) is None
    none = RateGroup(RATES, np.full(10, math.inf), np.ones(10, dtype=bool))
    assert rate_limit({0: none}) is None
