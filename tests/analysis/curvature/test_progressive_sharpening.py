"""Tests curvature/progressive_sharpening.py."""

from __future__ import annotations

import numpy as np
import pytest
from planted_curvature import measured_run

from tunectl.analysis.curvature.curvature_curves import learning_rates, sharpness_curve
from tunectl.analysis.curvature.progressive_sharpening import progressive_sharpening


def sharpening(sharpness, rate=0.1, known=None, steps=None):
    sharpness = np.asarray(sharpness, dtype=float)
    rate = np.broadcast_to(np.asarray(rate, dtype=float), sharpness.shape)
    steps = np.arange(len(sharpness)) * 10 if steps is None else steps
    run = measured_run(steps, sharpness * np.maximum(rate, 1e-12) / 2, rate=np.maximum(rate, 1e-12), known=known)
    curve = sharpness_curve(run)
    return progressive_sharpening(curve, learning_rates(run, curve.steps))


GROWING = np.geomspace(2, 40, 20)


def test_growth_at_a_constant_rate_is_found_with_its_ends():
    found = sharpening(GROWING)
    assert found is not None
    assert (found.start, found.end) == (10, 180)
    assert found.factor == pytest.approx(GROWING[18] / GROWING[1])


def test_less_growth_none_and_a_fall_are_not():
    assert sharpening(np.geomspace(2, 3.5, 20)) is None
    assert sharpening(np.full(20, 3.0)) is None
    assert sharpening(GROWING[::-1]) is None
    assert sharpening(GROWING[::5]) is None
    assert sharpening([]) is None


def test_growth_that_a_falling_rate_explains_is_not():
    rate = 0.1 * GROWING[0] / GROWING
    assert sharpening(GROWING, rate=rate) is None
    # It grows more than the rate falls.
    assert sharpening(GROWING**2, rate=rate) is not None


def test_a_warmup_that_pushes_it_down_is_not_but_growth_during_a_warmup_is():
    rate = np.minimum(np.arange(1, 21) / 20, 1)
    assert sharpening(2 / rate, rate=rate) is None
    assert sharpening(GROWING, rate=np.arange(20) / 20) is not None


def test_one_high_line_is_not_and_growth_that_goes_back_is_not():
    one = np.full(30, 2.0)
    one[15] = 100.0
    assert sharpening(one) is None
    assert sharpening([*GROWING[:8], *np.full(30, 2.0)]) is None


def test_growth_within_the_noise_is_not():
    generator = np.random.default_rng(3)
    assert sharpening(10 * np.exp(0.4 * generator.normal(size=60))) is None


def test_a_lower_bound_may_be_the_end_of_growth_and_not_its_beginning():
    early = np.arange(20) < 15
    assert sharpening(GROWING, known=early) is not None
    assert sharpening(GROWING, known=~early) is None


def test_nothing_is_said_where_the_rate_is_not_known():
    run = measured_run(np.arange(20), GROWING)
    curve = sharpness_curve(run)
    assert progressive_sharpening(curve, np.full(20, np.nan)) is None


def test_a_thousand_lines_are_judged_like_few():
    found = sharpening(np.geomspace(2, 40, 5000))
    assert found is not None
    assert found.factor == pytest.approx(20, rel=0.05)
