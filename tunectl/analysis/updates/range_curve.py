"""The learning-rate range test: what the loss shows while the learning rate rises exponentially."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.curves.smoothing import deviation, windowed_median
from tunectl.analysis.results.runs import Floats

BANDWIDTH_DECADES = 0.12
"""The deviation of the smoothing on the axis of log10(learning rate): descents are about a decade wide."""

WIDER_DECADES = 0.3
"""The same for a noisy curve, whose fall is less than CLEAN_RATIO times its noise."""

CLEAN_RATIO = 50.0

GRID_PER_DECADE = 100

FALL_ERRORS = 6.0
"""A fall counts if it is this many standard errors of the smoothed loss ..."""

LEAST_FALL = 0.02
"""... and this part of the loss at the beginning."""

RANGE_SLOPE = 0.5
"""The range begins where the loss falls with this part of its steepest slope."""

END_DECADES = 0.2
"""If the lowest loss is this close to the highest rate tested, the loss fell everywhere."""

FEWEST_FOR_A_RANGE = 20

_WEIGHTS_AT_ONCE = 2_000_000

WILD_START = 2.0
"""A loss that begins above this many times that of a constant prediction first corrects its initialisation ..."""

WILD_SPAN = 1000.0
"""... and so does one that falls to a thousandth, if the loss of a constant prediction is not known: classifiers that
memorise their examples reach a hundredth and less.
"""

LEVEL_UPDATES = 9
"""The loss is below a level when the running median over this many updates is."""


@dataclass(frozen=True, slots=True)
class RangeSuggestion:
    """The learning rate of the steepest descent, and the range from where it begins to the rate of the lowest loss.

    `clear` says whether the curve shows them clearly; if not, `why` is the reason, and rates that do not exist are
    None.
    """

    suggestion: float | None
    low: float | None
    high: float | None
    lowest_at: float | None
    clear: bool
    why: str = ""


def range_suggestion(learning_rate: Floats, loss: Floats, baseline_loss: float | None = None) -> RangeSuggestion:
    """Where the smoothed loss falls most steeply against the *logarithm* of the learning rate, before its lowest point.

    `learning_rate` and `loss` are of shape [updates], with rising rates; `baseline_loss` is that of a constant
    prediction. The loss is used up to its first value that is not finite. Against the rate itself the steepest descent
    would be at far too small rates.

    A wild initialisation (WILD_START, WILD_SPAN) is a different case: its loss falls most, in its own unit, while the
    scale of the output is corrected, for which any small rate is enough. Then the fall of the *logarithm* of the loss
    counts, and only from where the loss falls below `baseline_loss`, or, if that is None, below the geometric mean of
    its first and its lowest level. Such a fall is about equally steep over a decade or two, and the middle of that
    stretch is suggested.

    The range ends at the rate of the lowest loss, above which training gets worse; the best rate is more often between
    the two than at the steepest descent. Unclear are: fewer than FEWEST_FOR_A_RANGE finite updates; no fall beyond the
    noise, or none below the level; the lowest loss at the end of the tested rates.
    """
    keep = np.cumsum(~np.isfinite(loss)) == 0
    x, y = learning_rate[keep], loss[keep]
    x, y = np.log10(x[x > 0]), y[x > 0]
    if len(x) < FEWEST_FOR_A_RANGE:
        return _unclear("too few updates with a finite loss")
    cut_short = not keep.all()
    level = _level_of_interest(y, baseline_loss)
    if level is None:
        return _suggested(x, y, LEAST_FALL * abs(_beginning(y)), cut_short=cut_short)
    below = np.flatnonzero(windowed_median(y, LEVEL_UPDATES) < level)
    begin = int(below[0]) + LEVEL_UPDATES // 2 if len(below) else len(x)
    if len(x) - begin < FEWEST_FOR_A_RANGE:
        return _unclear(f"the loss does not fall below {level:.3g} and stay there")
    return _suggested(x, np.log(np.maximum(y, np.finfo(float).tiny)), LEAST_FALL, begin, cut_short=cut_short)


def _unclear(why: str) -> RangeSuggestion:
    return RangeSuggestion(None, None, None, None, False, why)


def _beginning(y: Floats) -> float:
    return float(np.median(y[: _first(y)]))


def _first(y: Floats) -> int:
    return max(5, len(y) // 20)


def _level_of_interest(y: Floats, baseline_loss: float | None) -> float | None:
    """The level below which the loss of a wild initialisation counts; None for an ordinary one."""
    start = _beginning(y)
    if baseline_loss is not None and baseline_loss > 0:
        return baseline_loss if start > WILD_START * baseline_loss else None
    lowest = float(windowed_median(y, LEVEL_UPDATES).min())
    return math.sqrt(start * lowest) if lowest > 0 and start > WILD_SPAN * lowest else None


def _suggested(x: Floats, y: Floats, least_fall: float, begin: int = 0, *, cut_short: bool) -> RangeSuggestion:
    """The suggestion for a curve over x = log10(rate), from its update `begin` on.

    After a running median of 3 the curve is cut off at the level of the beginning plus the depth of the fall (so that a
    blow-up does not affect the smoothing), and smoothed by a local linear fit with Gaussian weights, of
    BANDWIDTH_DECADES, or WIDER_DECADES if there is much noise; the descent is the slope of the fit.
    """
    start = _beginning(y[begin:])
    calm = np.concatenate([y[:1], windowed_median(y, 3), y[-1:]])
    calm[begin:] = np.minimum(calm[begin:], start + max(start - float(calm.min()), 0.0))
    grid = np.linspace(x[0], x[-1], max(50, math.ceil(GRID_PER_DECADE * (x[-1] - x[0]))))
    width = BANDWIDTH_DECADES
    smooth, slope = _local_linear(x, calm, grid, width)
    # The noise is measured before the lowest loss, without a later blow-up.
    before = int(np.searchsorted(x, grid[np.argmin(smooth)]))
    noise = deviation(np.diff(y[: max(FEWEST_FOR_A_RANGE, before)]))
    if start - smooth.min() < CLEAN_RATIO * noise:
        width = WIDER_DECADES
        smooth, slope = _local_linear(x, calm, grid, width)
    lowest = int(np.argmin(smooth))
    weight = len(x) / max(x[-1] - x[0], 1e-9) * width * 2 * math.sqrt(math.pi)
    error = noise * math.sqrt(1 / max(weight, 1.0) + math.pi / 2 / _first(y[begin:]))
    if start - float(smooth[lowest]) <= max(FALL_ERRORS * error, least_fall):
        return _unclear("the loss does not fall beyond its noise")
    since = int(np.searchsorted(grid, x[begin]))
    if since >= lowest:
        return _unclear("the loss no longer falls at the rates that count")
    return _around_steepest(grid[since:], slope[since:], lowest - since, whole=begin == 0, cut_short=cut_short)


def _around_steepest(grid: Floats, slope: Floats, lowest: int, *, whole: bool, cut_short: bool) -> RangeSuggestion:
    before = slope[: lowest + 1]
    steepest = int(np.argmin(before))
    left = np.flatnonzero(before[:steepest] > RANGE_SLOPE * before[steepest])
    low = int(left[-1]) + 1 if len(left) else 0
    if not whole:
        right = np.flatnonzero(before[steepest:] > RANGE_SLOPE * before[steepest])
        steepest = (low + steepest + int(right[0]) if len(right) else low + lowest) // 2
    at, least, minimum = (float(10 ** grid[place]) for place in (steepest, low, lowest))
    if not cut_short and grid[-1] - grid[lowest] < END_DECADES:
        return RangeSuggestion(at, least, minimum, minimum, False, "the loss still falls at the highest rate tested")
    return RangeSuggestion(at, least, minimum, minimum, True)


def _local_linear(x: Floats, y: Floats, grid: Floats, width: float) -> tuple[Floats, Floats]:
    """Value and slope, at each point of `grid`, of the straight line fitted with weights exp(-(distance/width)²/2)."""
    parts = np.array_split(grid, math.ceil(len(grid) * len(x) / _WEIGHTS_AT_ONCE))
    fitted = [_local_linear_at_once(x, y, part, width) for part in parts if len(part)]
    return np.concatenate([value for value, _ in fitted]), np.concatenate([slope for _, slope in fitted])


def _local_linear_at_once(x: Floats, y: Floats, grid: Floats, width: float) -> tuple[Floats, Floats]:
    offset = x[None, :] - grid[:, None]
    weight = np.exp(-0.5 * (offset / width) ** 2)
    w, wy = weight.sum(axis=1), weight @ y
    weight *= offset
    wx, wxy, wxx = weight.sum(axis=1), weight @ y, (weight * offset).sum(axis=1)
    determinant = w * wxx - wx * wx
    # Where a single update has all the weight there is no slope; a weight of 0 everywhere is a gap in the rates.
    usable = determinant > 1e-12 * w * w
    slope = np.where(usable, w * wxy - wx * wy, 0.0) / np.where(usable, determinant, 1.0)
    value = (wy - slope * wx) / np.maximum(w, np.finfo(float).tiny)
    return np.where(w > 0, value, y[0]), slope
