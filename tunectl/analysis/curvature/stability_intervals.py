"""Where a trial is above its stability bound: the intervals, the crossings, and how much of training they are.

The bound is that of a quadratic with the measured curvature: above it the step along the steepest direction grows from
update to update (Gilmer et al. 2021, "A loss curvature perspective on training instability in deep learning", section
3: successful training is mainly where λ1 ≤ 2/η). What happens between two measured lines is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.curvature.curvature_curves import CurvatureCurve

AT_BOUND = 1.0
"""The ratio of an eigenvalue that is at the bound."""

CLEARLY_ABOVE = 1.25
"""At the edge of stability the ratio goes up and down about 1, and the largest eigenvalue of a sample of the examples
differs from that of all; a quarter is more than both in full-batch training (`edge_of_stability` has the band).
"""

FEWEST_LINES = 3
LEAST_SHARE = 0.05
"""A trial is above the bound for long where at least FEWEST_LINES lines in a row are, over LEAST_SHARE of the measured
updates: a catapult at the beginning is over sooner.
"""


@dataclass(frozen=True, slots=True)
class IntervalAbove:
    """Lines in a row at which the ratio is above a level: the steps of the first and of the last one, how many lines,
    and the median and the highest ratio with its step. It may begin and end up to a line earlier and later.
    """

    start: int
    end: int
    lines: int
    median: float
    highest: float
    highest_at: int

    @property
    def updates(self) -> int:
        """The updates from the first line to the last one."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Crossing:
    """Two lines in a row between which the ratio crosses the bound; `up` where it is above it at `after`."""

    before: int
    after: int
    up: bool


def intervals_above(ratio: CurvatureCurve, level: float = AT_BOUND) -> list[IntervalAbove]:
    """The intervals in which a ratio is above a level, by step.

    Lines at which it is not known whether the ratio is above (lower bounds below the level) are left out.
    """
    curve = ratio.decided(level)
    above = np.concatenate([[False], curve.values > level, [False]])
    edges = np.flatnonzero(np.diff(above.astype(int))).reshape(-1, 2)
    found = []
    for first, after in edges.tolist():
        values = curve.values[first:after]
        peak = first + int(np.argmax(values))
        found.append(
            IntervalAbove(
                start=int(curve.steps[first]),
                end=int(curve.steps[after - 1]),
                lines=after - first,
                median=float(np.median(values)),
                highest=float(curve.values[peak]),
                highest_at=int(curve.steps[peak]),
            )
        )
    return found


def crossings(ratio: CurvatureCurve) -> list[Crossing]:
    """The pairs of decided lines between which a ratio crosses the bound, by step; one below the bound is known."""
    curve = ratio.decided(AT_BOUND)
    above = curve.values > AT_BOUND
    places = np.flatnonzero(above[1:] != above[:-1]).tolist()
    return [Crossing(int(curve.steps[at]), int(curve.steps[at + 1]), bool(above[at + 1])) for at in places]


@dataclass(frozen=True, slots=True)
class TimeAbove:
    """For how long a trial is clearly above its bound: the intervals that count, and their updates as a share of those
    from the first to the last line. `to_the_end` says that it is above at every line up to its divergence.
    """

    intervals: Sequence[IntervalAbove]
    share: float
    to_the_end: bool = False

    @property
    def highest(self) -> IntervalAbove:
        """The interval with the highest ratio."""
        return max(self.intervals, key=lambda interval: interval.highest)


def time_above(ratio: CurvatureCurve, *, diverged: bool = False) -> TimeAbove | None:
    """For how long a ratio is clearly above the bound; None where that is not for long.

    An interval with a ratio above 1 counts where its median is at least CLEARLY_ABOVE and it has FEWEST_LINES lines;
    together they must be LEAST_SHARE of the measured updates. A trial that diverged counts, too, if all its lines are
    above 1 and their median is clearly so: it may have no more than one line.
    """
    found = [interval for interval in intervals_above(ratio) if interval.median >= CLEARLY_ABOVE]
    if diverged and len(found) == 1 and found[0].lines == len(ratio):
        return TimeAbove(found, 1.0, to_the_end=True)
    measured = float(ratio.steps[-1] - ratio.steps[0]) if len(ratio) else 0.0
    long = [interval for interval in found if interval.lines >= FEWEST_LINES]
    share = sum(interval.updates for interval in long) / measured if measured > 0 else 0.0
    return TimeAbove(long, share) if long and share >= LEAST_SHARE else None
