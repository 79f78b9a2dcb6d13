"""The learning-rate range test: what a run with an exponentially rising learning rate says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.runs import Floats
from tunectl.analysis.smoothing import deviation, windowed_median

BANDWIDTH_DECADES = 0.12
"""The smoothing's deviation on the axis of log10(learning rate): descents are about a decade wide."""

WIDER_DECADES = 0.3
"""That of a noisy curve, whose fall is less than CLEAN_RATIO times its noise."""

CLEAN_RATIO = 50.0

GRID_PER_DECADE = 100

FALL_ERRORS = 6.0
"""A fall counts when it is so many standard errors of the smoothed loss ..."""

LEAST_FALL = 0.02
"""... and this part of the loss at the beginning."""

RANGE_SLOPE = 0.5
"""The range is where the loss falls at least this part as steeply as at the suggestion."""

END_DECADES = 0.2
"""A lowest loss so close to the highest rate tested means that the loss fell everywhere."""

LEAST_UPDATES = 20


@dataclass(frozen=True, slots=True)
class RangeSuggestion:
    """The learning rate of the steepest descent, the range of steep descent around it, the rate of the lowest loss.

    `clear` says whether the curve says so; where it is False, `why` has the reason, and the rates are None where there
    are none at all.
    """

    suggestion: float | None
    low: float | None
    high: float | None
    lowest_at: float | None
    clear: bool
    why: str = ""


def range_suggestion(learning_rate: Floats, loss: Floats) -> RangeSuggestion:
    """Where the smoothed loss falls most steeply against the *logarithm* of the learning rate, before its lowest point.

    Both of shape [updates], the rates rising. The loss is taken up to its first value that is not finite, after a
    running median of 3, cut at the level of the beginning plus the depth of the fall (a blow-up must not reach into
    the smoothing), and smoothed by a local linear fit with Gaussian weights on log10(rate), of BANDWIDTH_DECADES, of
    WIDER_DECADES where noise asks for it; the fit's slope is the descent. Against the rate itself the steepest descent
    would lie at far too small rates. Unclear: fewer than LEAST_UPDATES finite updates; no fall beyond the noise; the
    lowest loss at the end of the tested rates.
    """
    keep = np.cumsum(~np.isfinite(loss)) == 0
    x, y = learning_rate[keep], loss[keep]
    x, y = x[positive := x > 0], y[positive]
    if len(x) < LEAST_UPDATES:
        return RangeSuggestion(None, None, None, None, False, "too few updates with a finite loss")
    x = np.log10(x)
    first = max(5, len(y) // 20)
    start = float(np.median(y[:first]))
    calm = np.concatenate([y[:1], windowed_median(y, 3), y[-1:]])
    calm = np.minimum(calm, start + max(start - float(calm.min()), 0.0))
    grid = np.linspace(x[0], x[-1], max(50, math.ceil(GRID_PER_DECADE * (x[-1] - x[0]))))
    width = BANDWIDTH_DECADES
    smooth, slope = _local_linear(x, calm, grid, width)
    # Noise is told from the updates before the lowest loss: a blow-up is none.
    before = int(np.searchsorted(x, grid[np.argmin(smooth)]))
    noise = deviation(np.diff(y[: max(LEAST_UPDATES, before)]))
    if start - smooth.min() < CLEAN_RATIO * noise:
        width = WIDER_DECADES
        smooth, slope = _local_linear(x, calm, grid, width)
    lowest = int(np.argmin(smooth))
    weight = len(x) / max(x[-1] - x[0], 1e-9) * width * 2 * math.sqrt(math.pi)
    error = noise * math.sqrt(1 / max(weight, 1.0) + math.pi / 2 / first)
    fall = start - float(smooth[lowest])
    weight = len(x) / max(x[-1] - x[0], 1e-9) * width * 2 * math.sqrt(math.pi)
    error = noise * math.sqrt(1 / max(weight, 1.0) + math.pi / 2 / first)
    if fall <= max(FALL_ERRORS * error, LEAST_FALL * abs(start)):
        return RangeSuggestion(None, None, None, None, False, "the loss does not fall beyond its noise")
    return _around_steepest(grid, slope, lowest, cut_short=not keep.all())


def _around_steepest(grid: Floats, slope: Floats, lowest: int, *, cut_short: bool) -> RangeSuggestion:
    before = slope[: lowest + 1]
    steepest = int(np.argmin(before))
    gentle = before > RANGE_SLOPE * before[steepest]
    left = np.flatnonzero(gentle[:steepest])
    right = np.flatnonzero(gentle[steepest:])
    low = int(left[-1]) + 1 if len(left) else 0
    high = steepest + int(right[0]) - 1 if len(right) else lowest
    at, least, most, minimum = (float(10 ** grid[place]) for place in (steepest, low, high, lowest))
    if not cut_short and grid[-1] - grid[lowest] < END_DECADES:
        return RangeSuggestion(at, least, most, minimum, False, "the loss still falls at the highest rate tested")
    return RangeSuggestion(at, least, most, minimum, True)


def _local_linear(x: Floats, y: Floats, grid: Floats, width: float) -> tuple[Floats, Floats]:
    """Value and slope, at each point of `grid`, of the straight line fitted with weights exp(-(distance/width)²/2)."""
    offset = x[None, :] - grid[:, None]
    weight = np.exp(-0.5 * (offset / width) ** 2)
    w, wy = weight.sum(axis=1), weight @ y
    weight *= offset
    wx, wxy, wxx = weight.sum(axis=1), weight @ y, (weight * offset).sum(axis=1)
    determinant = w * wxx - wx * wx
    # Where one update alone has a weight there is no slope; a weight of 0 all over is a gap in the rates.
    usable = determinant > 1e-12 * w * w
    slope = np.where(usable, w * wxy - wx * wy, 0.0) / np.where(usable, determinant, 1.0)
    value = (wy - slope * wx) / np.maximum(w, np.finfo(float).tiny)
    return np.where(w > 0, value, y[0]), slope
