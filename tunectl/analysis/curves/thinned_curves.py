"""Long curves with fewer points that look the same."""

from __future__ import annotations

import numpy as np

from tunectl.analysis.results.runs import Floats, MeasuredCurve, usable

MOST_CURVE_POINTS = 20_000
"""Curves up to this length are not thinned. A plot shows a tenth of these points, so nothing visible is lost."""

_POINTS_OF_A_STRETCH = 5


def with_extremes(steps: Floats, values: Floats, most: int = MOST_CURVE_POINTS) -> MeasuredCurve:
    """About `most` points of a curve at most, as two arrays of shape [points].

    The curve is cut into pieces of equal length. Of each the first, the lowest, the highest and the last point are
    kept, and the first that cannot be drawn (it is not finite): so the ends, the best value, every spike and every gap
    remain.
    """
    if len(values) <= most:
        return steps, values
    length = -(-len(values) // max(1, most // _POINTS_OF_A_STRETCH))
    begins = np.arange(0, len(values), length)
    known = usable(values)
    low = _of_stretches(np.where(known, values, np.inf), begins, length)
    high = _of_stretches(np.where(known, -values, np.inf), begins, length)
    gap = _of_stretches(np.where(known, 1.0, 0.0), begins, length)
    ends = np.minimum(begins + length, len(values)) - 1
    kept = np.unique(np.concatenate([begins, low, high, gap, ends]))
    return steps[kept], values[kept]


def _of_stretches(values: Floats, begins: np.ndarray[tuple[int], np.dtype[np.intp]], length: int) -> Floats:
    """The index of the first lowest value of each piece."""
    whole = len(values) // length
    places = begins[:whole] + values[: whole * length].reshape(whole, length).argmin(axis=1)
    if whole == len(begins):
        return np.asarray(places)
    return np.append(places, begins[whole] + values[whole * length :].argmin())
