"""Trials that diverge, and whether they left the stable region shortly before.

Gilmer et al. 2021, figure 13: a model that starts below 2/η, leaves the stable region, and diverges soon after.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunectl.analysis.curvature.curvature_curves import CurvatureCurve, has_every_update, ratio_curve
from tunectl.analysis.curvature.edge_of_stability import LOWEST_AT_EDGE
from tunectl.analysis.curvature.stability_intervals import CLEARLY_ABOVE, crossings
from tunectl.analysis.results.runs import Run
from tunectl.analysis.updates.instability import early_updates, instability

ENDED_BY_NAN = ("nan_loss", "nan_gradient")
"""The reasons of trials that end at the first update that is not finite."""

DIVERGED = (*ENDED_BY_NAN, "diverged")
"""The reasons of trials whose training diverged."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a trial diverged: the step from which on its loss rises and does not come back, and the step at which it
    was found to be lost (the first update that is not finite, or the last one).
    """

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Departure:
    """The ratio crosses the bound before a divergence: the steps of the last line below it and of the first one above
    it, the highest ratio from there on, and the divergence.
    """

    below: int
    above: int
    highest: float
    divergence: Divergence


def has_diverged(run: Run) -> bool:
    """Whether a trial's training diverged."""
    return run.state == "infeasible" and run.reason in DIVERGED


def divergence(run: Run) -> Divergence | None:
    """Where a trial diverged; None if it did not, or if the step is not known."""
    if not has_diverged(run) or run.infeasible_step is None:
        return None
    end = run.infeasible_step
    periods = instability(run.updates.loss, baseline=run.baseline_loss) if has_every_update(run) else []
    starts = [period.start for period in periods if period.end is None]
    return Divergence(min([*starts, end]), end)


def departure(run: Run) -> Departure | None:
    """Whether a trial left the stable region shortly before it diverged; None if it did not, or if that is not known.

    The ratio is known to be at most 1 at a line before the loss begins to rise for good, is above 1 at the next one,
    and stays so until that rise begins. "Shortly" is within `early_updates` of that rise (100 updates, or a twentieth
    of training): with a ratio of 1.1 the step along the steepest direction grows by 1.2 an update, so a divergence
    takes tens of updates. At the edge of stability the ratio crosses 1 again and again without diverging: where it has
    crossed 1 before, or the median of the lines before is near 1, some line after must be CLEARLY_ABOVE the bound.
    """
    where = divergence(run)
    if where is None:
        return None
    ratio = _until(ratio_curve(run), where.end)
    ups = [crossing for crossing in crossings(ratio) if crossing.up and crossing.before <= where.start]
    if not ups:
        return None
    last = ups[-1]
    back = [item for item in crossings(ratio) if not item.up and last.after < item.after <= where.start]
    highest = float(ratio.values[ratio.steps >= last.after].max())
    was_near = len(ups) > 1 or float(np.median(ratio.values[ratio.steps < last.after])) >= LOWEST_AT_EDGE
    if back or where.start - last.after > early_updates(where.end) or (was_near and highest < CLEARLY_ABOVE):
        return None
    return Departure(last.before, last.after, highest, where)


def _until(curve: CurvatureCurve, step: int) -> CurvatureCurve:
    return curve.chosen(curve.steps <= step)
