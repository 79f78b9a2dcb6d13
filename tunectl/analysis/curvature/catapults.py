"""Catapults: the loss rises while the ratio to the bound is above 1, then both fall and training goes on.

Lewkowycz et al. 2020, "The large learning rate phase of deep learning: the catapult mechanism"; Gilmer et al. 2021,
section 3: "the loss increases early until a flatter region of the loss surface is found".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunectl.analysis.curvature.curvature_curves import (
    CurvatureCurve,
    bounded_eigenvalue_curve,
    has_every_update,
    ratio_curve,
)
from tunectl.analysis.curvature.stability_intervals import AT_BOUND, CLEARLY_ABOVE
from tunectl.analysis.results.runs import Floats, Run
from tunectl.analysis.updates.instability import UnstablePeriod, instability
from tunectl.core.measurement_kinds import CURVATURE

LEAST_FALL = 0.8
"""The ratio and the eigenvalue fall to at most this part of what they were: at the edge of stability they go up and
down by a tenth without a catapult.
"""

LINES_AFTER = 3
"""The lowest of this many lines after the loss has come back is taken: soon after it λ1 may grow again."""


@dataclass(frozen=True, slots=True)
class Catapult:
    """A catapult: the steps where the loss begins to rise, where it is highest and where it has come back, the factor
    by which it rose, and the ratio before and after.
    """

    start: int
    peak: int
    end: int
    factor: float
    ratio_before: float
    ratio_after: float


def catapults(run: Run) -> list[Catapult]:
    """The catapults of a trial, by step.

    A rise of the loss is a period of `instability` (a factor of 1.5, and eight deviations of the noise of its
    neighbours) that comes back down; it is looked for in the minibatch losses of the updates and in the loss of the
    measured examples, which has no noise of batches but fewer points. It is a catapult if the ratio is above 1 at a
    line from the last one at or before its start to its peak, and if at one of the LINES_AFTER known lines after its
    peak both the ratio and the eigenvalue have fallen to LEAST_FALL of that, the ratio to at most CLEARLY_ABOVE.
    Training goes on for at least as long afterwards as the rise lasted.
    """
    ratio, eigenvalue = ratio_curve(run), bounded_eigenvalue_curve(run)
    if not (ratio.values > AT_BOUND).any():
        return []
    found: list[Catapult] = []
    for loss, steps in _losses(run):
        for period in instability(loss, baseline=run.baseline_loss):
            catapult = _catapult(period, steps, ratio, eigenvalue)
            if catapult is not None and all(catapult.start > item.end or item.start > catapult.end for item in found):
                found.append(catapult)
    return sorted(found, key=lambda catapult: catapult.start)


def _losses(run: Run) -> list[tuple[Floats, Floats]]:
    """The series of the loss in which rises are looked for, each with the steps of its values."""
    steps, loss = run.curve(CURVATURE.column("loss"))
    updates = run.updates.loss
    found = [(updates, np.arange(len(updates), dtype=float))] if has_every_update(run) else []
    return [(series, at) for series, at in [*found, (loss, steps)] if len(series)]


def _catapult(
    period: UnstablePeriod, steps: Floats, ratio: CurvatureCurve, eigenvalue: CurvatureCurve
) -> Catapult | None:
    if period.end is None or 2 * period.end - period.start >= len(steps):
        return None
    start, peak, end = (int(steps[place]) for place in (period.start, period.peak, period.end))
    before = _before(ratio, start, peak)
    after = _after(ratio, peak)
    sharp_before, sharp_after = _before(eigenvalue, start, peak), _after(eigenvalue, peak)
    if before is None or after is None or sharp_before is None or before <= AT_BOUND:
        return None
    falls = after <= min(LEAST_FALL * before, CLEARLY_ABOVE)
    # Where the eigenvalue is not positive any more, it has no line of its own.
    if not falls or (sharp_after is not None and sharp_after > LEAST_FALL * sharp_before):
        return None
    return Catapult(start, peak, end, period.factor, before, after)


def _before(curve: CurvatureCurve, start: int, peak: int) -> float | None:
    """The highest value from the last line at or before the start to the peak."""
    first = max(int(np.searchsorted(curve.steps, start, side="right")) - 1, 0)
    values = curve.values[first : int(np.searchsorted(curve.steps, peak, side="right"))]
    return float(values.max()) if len(values) else None


def _after(curve: CurvatureCurve, peak: int) -> float | None:
    """The lowest of the first LINES_AFTER known values after the peak."""
    values = curve.values[(curve.steps > peak) & curve.known][:LINES_AFTER]
    return float(values.min()) if len(values) else None
