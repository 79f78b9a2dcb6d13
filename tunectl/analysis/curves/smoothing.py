"""Robust levels and spreads of a series of updates."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tunectl.analysis.results.runs import Floats, usable

MAD_TO_DEVIATION = 1.4826
"""The median absolute deviation times this is the standard deviation of a normal distribution."""

NORMAL_95 = 1.645
"""The 95th percentile of the normal distribution."""

START_UPDATES = 5
"""The level at the beginning is the median of this many losses."""

NEAR_ZERO = 1e-2
BASELINE_NEAR_ZERO = 5e-2
"""Losses below this part of the loss at the beginning, or of the loss of a constant prediction, count as zero: small
batches of a converged model vary there over orders of magnitude. The first is smaller because a bad initialisation may
begin at a hundred times the second.
"""

_ROWS_AT_ONCE = 20_000
_VALUES_AT_ONCE = 1_000_000


def finite_part(series: Floats) -> Floats:
    """The series up to its first value that is NaN, infinite, or too large to compute with."""
    bad = np.flatnonzero(~usable(series))
    return series[: bad[0]] if len(bad) else series


def near_zero(loss: Floats, baseline: float | None = None) -> float | None:
    """The loss below which a loss counts as zero; None if the loss at the beginning is not positive.

    BASELINE_NEAR_ZERO of the smaller of `baseline` and the loss at the beginning (the median of START_UPDATES), or
    NEAR_ZERO of the latter if `baseline` is None or not positive.
    """
    start = float(np.median(loss[:START_UPDATES])) if len(loss) else 0.0
    if start <= 0:
        return None
    if baseline is None or baseline <= 0:
        return NEAR_ZERO * start
    return BASELINE_NEAR_ZERO * min(baseline, start)


def log_loss(loss: Floats, none: float | None) -> Floats:
    """The loss on a scale on which equal factors are equal distances: ln(loss + none), shape [updates]; all finite.

    `none` (see `near_zero`) prevents large factors between losses that are practically zero. If a loss becomes
    negative, its lowest value replaces zero, and `none` is a tenth of the distance of its 10th and 90th percentiles;
    also if `none` is None.
    """
    if not len(loss):
        return np.zeros(0)
    low = float(loss.min())
    if low < 0 or none is None:
        spread = float(np.subtract(*np.percentile(loss, [90, 10])))
        return np.asarray(np.log(loss - low + max(0.1 * spread, 1e-12 * max(1.0, abs(low)))))
    return np.asarray(np.log(loss + max(none, np.finfo(float).tiny)))


def running_median(series: Floats, width: int) -> Floats:
    """The medians of all windows of `width`, shape [n - width + 1].

    Memory and time grow with n, even if the width does too.
    """
    if (len(series) - width + 1) * width <= _VALUES_AT_ONCE:
        return np.asarray(np.median(sliding_window_view(series, width), axis=1))
    from scipy.ndimage import rank_filter

    middles = [rank_filter(series, rank, size=width) for rank in {(width - 1) // 2, width // 2}]
    # scipy's window for a place begins width // 2 before it.
    first = width // 2
    return np.asarray(sum(middles)[first : first + len(series) - width + 1] / len(middles))


def windowed_median(series: Floats, width: int, hop: int = 1) -> Floats:
    """The medians of the windows of `width` that begin at 0, hop, 2·hop, ..., shape [(n - width) // hop + 1]."""
    windows = sliding_window_view(series, width)[::hop]
    parts = [_sorted_quantile(np.sort(part, axis=1), 0.5) for part in _parts(windows)]
    return np.concatenate(parts)


def windowed_level(series: Floats, width: int) -> tuple[Floats, Floats]:
    """Median and upward spread of every window of `width`, shape [n - width + 1] each.

    The spread is the standard deviation from the median absolute deviation, or from the distance of the 95th percentile
    if that is larger: minibatch losses near zero have a long upper tail.
    """
    levels, spreads = [], []
    for windows in _parts(sliding_window_view(series, width)):
        part = np.sort(windows, axis=1)
        level = _sorted_quantile(part, 0.5)
        levels.append(level)
        middle = MAD_TO_DEVIATION * _sorted_quantile(np.sort(np.abs(part - level[:, None]), axis=1), 0.5)
        spreads.append(np.maximum(middle, (_sorted_quantile(part, 0.95) - level) / NORMAL_95))
    return np.concatenate(levels), np.concatenate(spreads)


def _parts(windows: Floats) -> list[Floats]:
    return [windows[at : at + _ROWS_AT_ONCE] for at in range(0, len(windows), _ROWS_AT_ONCE)]


def _sorted_quantile(rows: Floats, quantile: float) -> Floats:
    """The quantile of each row of a sorted array, as np.quantile computes it, but without sorting again."""
    place = quantile * (rows.shape[1] - 1)
    low = int(place)
    high = min(low + 1, rows.shape[1] - 1)
    return np.asarray(rows[:, low] + (place - low) * (rows[:, high] - rows[:, low]))


def deviation(differences: Floats) -> float:
    """A robust standard deviation of noise, from the differences of independent pairs."""
    if len(differences) < 2:
        return 0.0
    centred = differences - np.median(differences)
    return float(MAD_TO_DEVIATION * np.median(np.abs(centred)) / np.sqrt(2.0))
