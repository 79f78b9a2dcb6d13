"""What the unclipped gradient norms of the updates show: outliers, a clipping threshold, how much is clipped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tunectl.analysis.curves.smoothing import MAD_TO_DEVIATION, windowed_median
from tunectl.analysis.results.runs import Floats, UpdateSeries, usable

OUTLIER_WINDOW = 101
"""A norm is compared with this many around it, because the typical norm changes by orders of magnitude in training."""

OUTLIER_DEVIATIONS = 6.0
"""The logarithm of an outlier is this many robust standard deviations above the median of the window; a smaller number
would find some among thousands of clean norms.
"""

OUTLIER_FACTOR = 2.0
"""An outlier is at least this many times the median: clipping just above the typical norm does not change the rest."""

CLIP_PERCENTILE = 90.0
"""The playbook's first threshold, "Gradient clipping"."""

AGGRESSIVE_FRACTION = 0.5
"""If more of the updates are clipped, clipping only lowers the learning rate; source as above."""


@dataclass(frozen=True, slots=True)
class OutlierNorms:
    """The updates whose norm is far above those around it; their share of all updates; the median norm.

    A norm that is not finite counts as an outlier.
    """

    updates: tuple[int, ...]
    share: float
    typical: float


def outlier_norms(gradient_norm: Floats) -> OutlierNorms:
    """The updates whose gradient norm is an outlier, shape [updates].

    The logarithm of an outlier exceeds the median of the OUTLIER_WINDOW finite, positive norms around it (all of them
    if there are fewer) by more than OUTLIER_DEVIATIONS robust standard deviations, and by ln OUTLIER_FACTOR. `typical`
    is the median over all finite norms, NaN if there are none.
    """
    finite = usable(gradient_norm)
    typical = float(np.median(gradient_norm[finite])) if finite.any() else math.nan
    outlying: NDArray[np.bool_] = ~finite
    positive = np.flatnonzero(finite & (gradient_norm > 0))
    if len(positive) >= 10:
        logs = np.log(gradient_norm[positive])
        width = min(OUTLIER_WINDOW, len(logs))
        levels = windowed_median(logs, width)
        place = np.clip(np.arange(len(logs)) - width // 2, 0, len(levels) - 1)
        away = logs - levels[place]
        # The spread is computed only around the few that are high enough.
        high = np.flatnonzero(away > math.log(OUTLIER_FACTOR))
        around = sliding_window_view(np.abs(away), width)[place[high]]
        outlying[positive[high]] = away[high] > OUTLIER_DEVIATIONS * MAD_TO_DEVIATION * np.median(around, axis=1)
    updates = tuple(np.flatnonzero(outlying).tolist())
    return OutlierNorms(updates, len(updates) / max(1, len(gradient_norm)), typical)


def clip_threshold(gradient_norm: Floats, percentile: float = CLIP_PERCENTILE) -> float | None:
    """The percentile of the finite unclipped norms; None if no finite norm is above 0."""
    finite = gradient_norm[usable(gradient_norm)]
    if not (finite > 0).any():
        return None
    threshold = float(np.percentile(finite, percentile))
    return threshold if threshold > 0 else None


def clipped_fraction(updates: UpdateSeries) -> float:
    """The share of the updates whose gradient was scaled down; 0 without updates."""
    return float(updates.clipped.mean()) if len(updates.clipped) else 0.0
