"""What happens to a trial's curvature, as symbols on its curves: crossings of the bound, catapults, divergence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tunectl.analysis.curvature.catapults import Catapult, catapults
from tunectl.analysis.curvature.curvature_curves import CurvatureCurve, ratio_curve
from tunectl.analysis.curvature.divergences import has_diverged
from tunectl.analysis.curvature.stability_intervals import AT_BOUND, Crossing, crossings
from tunectl.analysis.figures.figures import Event, EventKind
from tunectl.analysis.results.runs import Floats, Run, usable
from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.wording import short_number

MOST_CROSSINGS = 24
"""At most this many crossings of a trial are marked, evenly: at the edge of stability the ratio crosses 1 all the time.
"""

EVENT_NOTES: dict[EventKind, str] = {
    "rise": "▲ rises above the bound",
    "fall": "▼ falls below the bound",
    "catapult": "◆ catapult",
    "divergence": "× diverges",
}
"""What each symbol is, in words."""


def ratio_events(run: Run, series: str) -> list[Event]:
    """The events of a trial on its curve of the ratio; crossings are marked of a trial in front alone (with a series).

    A crossing is where the line between the two measurements crosses the bound.
    """
    ratio = ratio_curve(run)
    found = [_crossing(run, series, ratio, item) for item in _some(crossings(ratio))] if series else []
    steps, values = run.curve(CURVATURE.column("ratio"))
    return [*found, *_lasting(run, series, steps, values)]


def loss_events(run: Run, series: str) -> list[Event]:
    """The catapults of a trial, and its divergence, on its curve of the loss over the measured examples."""
    return _lasting(run, series, *run.curve(CURVATURE.column("loss")))


def _some(found: Sequence[Crossing]) -> list[Crossing]:
    count = min(len(found), MOST_CROSSINGS)
    return [found[place * len(found) // count] for place in range(count)]


def _crossing(run: Run, series: str, ratio: CurvatureCurve, crossing: Crossing) -> Event:
    before, after = np.searchsorted(ratio.steps, (crossing.before, crossing.after)).tolist()
    low, high = float(ratio.values[before]), float(ratio.values[after])
    # On a logarithmic axis; a ratio of 0 or below is not drawn, so there the curve begins at the line after it.
    share = math.log(AT_BOUND / low) / math.log(high / low) if low > 0 and high > 0 else 1.0 if crossing.up else 0.0
    at = crossing.before + share * (crossing.after - crossing.before)
    way = "above" if crossing.up else "below"
    between = f"between steps {crossing.before:,} and {crossing.after:,}"
    label = f"trial {run.plan.trial} goes {way} the stability bound {between}"
    return Event(at, AT_BOUND, "rise" if crossing.up else "fall", series, label, run.plan.trial, not series)


def _lasting(run: Run, series: str, steps: Floats, values: Floats) -> list[Event]:
    """The catapults and the divergence on a curve on a logarithmic axis, at the height that it has there."""
    drawn = usable(values) & (values > 0)
    steps, values = steps[drawn], values[drawn]
    if not len(steps):
        return []
    number = run.plan.trial
    heights = np.log(values)
    found = [
        Event(
            item.peak,
            math.exp(float(np.interp(item.peak, steps, heights))),
            "catapult",
            series,
            f"trial {number}: {_catapult_words(item)}",
            number,
            not series,
        )
        for item in catapults(run)
        if steps[0] <= item.peak <= steps[-1]
    ]
    if has_diverged(run):
        at = "" if run.infeasible_step is None else f" at step {run.infeasible_step:,}"
        label = f"trial {number} diverges{at} ({run.reason})"
        found.append(Event(float(steps[-1]), float(values[-1]), "divergence", series, label, number, not series))
    return found


def _catapult_words(item: Catapult) -> str:
    return (
        f"catapult: the loss rises by a factor of {short_number(item.factor, 3)} from step {item.start:,} to "
        f"{item.peak:,} and is back at step {item.end:,}; eigenvalue / bound falls from "
        f"{short_number(item.ratio_before, 3)} to {short_number(item.ratio_after, 3)}"
    )
