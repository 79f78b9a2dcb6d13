from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from tunectl.analysis.curves import smoothing
from tunectl.analysis.curves.smoothing import running_median


@pytest.mark.parametrize("width", [2, 3, 60, 61, 299, 300])
@pytest.mark.parametrize("values_at_once", [0, 10**9])
def test_a_running_median_is_that_of_every_window_with_either_algorithm(width, values_at_once, monkeypatch):
    monkeypatch.setattr(smoothing, "_VALUES_AT_ONCE", values_at_once)
    series = np.random.default_rng(width).normal(size=300)
    series[50:80] = 0.25  # equal values
    windows = sliding_window_view(series, width)
    assert running_median(series, width).tolist() == [float(np.median(window)) for window in windows]
