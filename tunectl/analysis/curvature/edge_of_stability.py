"""Training at the edge of stability: the ratio to the bound stays near 1, whatever the learning rate does.

Cohen et al. 2021, "Gradient descent on neural networks typically occurs at the edge of stability": λ1 grows until 2/η
and then stays just above or about it. With minibatches it settles lower, the lower the smaller the batch (Gilmer et
al. 2021, figure 16), and then nothing is said here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunectl.analysis.curvature.curvature_curves import CurvatureCurve
from tunectl.analysis.curvature.stability_intervals import CLEARLY_ABOVE
from tunectl.analysis.results.runs import Floats

LOWEST_AT_EDGE = 1 / CLEARLY_ABOVE
MOSTLY_IN_BAND = 0.8
"""The ratio is near 1 from LOWEST_AT_EDGE to CLEARLY_ABOVE; of a stretch at least MOSTLY_IN_BAND of the lines are
there, as catapults and the fall after them go further.
"""

FEWEST_LINES = 6
LEAST_SHARE = 0.25
LARGEST_GAP = 0.5
"""A stretch has FEWEST_LINES lines and LEAST_SHARE of the measured updates, and no two lines in a row are more than
LARGEST_GAP of it apart: between lines at steps 10, 100 and 1,000 the ratio is not known.
"""

ARRIVED = 0.05
"""A stretch begins where the ratio first comes this near to 1: it approaches the bound ever more slowly."""

MIDDLE = (0.9, 1.15)
LARGEST_DRIFT = 1.12
TOUCHING = 0.1
TOUCHES_FROM = 0.98
"""To stay near 1 by chance, or on the way through, does not count: the median is in MIDDLE, the medians of the first
and the last third differ by at most the factor LARGEST_DRIFT (a ratio that grows steadily through the band: 1.2), and
the ratio is at TOUCHES_FROM or above at TOUCHING of the lines (after a catapult, full-batch training stays at 0.997).
"""


@dataclass(frozen=True, slots=True)
class EdgeStretch:
    """A stretch at the edge of stability: the steps of its first and last line, how many lines, the median ratio, and
    its updates as a share of those from the trial's first line to its last one.
    """

    start: int
    end: int
    lines: int
    median: float
    share: float


def edge_stretch(ratio: CurvatureCurve) -> EdgeStretch | None:
    """The longest stretch in which a ratio stays near 1, None if there is none that counts.

    Only known ratios are judged: a lower bound in the band may belong to a ratio far above it.
    """
    curve = ratio.decided(CLEARLY_ABOVE)
    if len(curve) < FEWEST_LINES:
        return None
    in_band = (curve.values >= LOWEST_AT_EDGE) & (curve.values <= CLEARLY_ABOVE)
    first, last = _longest(in_band, curve.steps)
    first += _arrival(curve.values[first : last + 1])
    steps, values = curve.steps[first : last + 1], curve.values[first : last + 1]
    length, measured = float(steps[-1] - steps[0]), float(curve.steps[-1] - curve.steps[0])
    if len(steps) < FEWEST_LINES or length < LEAST_SHARE * measured or np.diff(steps).max() > LARGEST_GAP * length:
        return None
    third = max(1, len(steps) // 3)
    middle, drift = float(np.median(values)), float(np.median(values[:third]) / np.median(values[-third:]))
    is_flat = 1 / LARGEST_DRIFT <= drift <= LARGEST_DRIFT
    if not MIDDLE[0] <= middle <= MIDDLE[1] or not is_flat or np.mean(values >= TOUCHES_FROM) < TOUCHING:
        return None
    return EdgeStretch(int(steps[0]), int(steps[-1]), len(steps), middle, length / measured)


def _arrival(values: Floats) -> int:
    """The first line at which the ratio has come near 1 from the side on which it begins; 0 where it never does."""
    near = values >= 1 - ARRIVED if values[0] < 1 else values <= 1 + ARRIVED
    return int(np.argmax(near))


def _longest(in_band: NDArray[np.bool_], steps: Floats) -> tuple[int, int]:
    """The first and last line of the stretch with the most updates of which MOSTLY_IN_BAND lines are in the band, both
    ends among them; two equal places where no line is.
    """
    inside = np.flatnonzero(in_band)
    if not len(inside):
        return 0, 0
    # A stretch has enough lines in the band where the sum of (1 - share) for those in it and -share for the others is
    # not negative: the last such end for each start is found in the running maximum from the end.
    weight = np.where(in_band, 1 - MOSTLY_IN_BAND, -MOSTLY_IN_BAND)
    total = np.concatenate([[0.0], np.cumsum(weight)])
    best_after = np.maximum.accumulate(total[::-1])[::-1]
    ends = np.searchsorted(-best_after, -total[inside] + 1e-9, side="right") - 1
    last = np.maximum(ends - 1, inside)
    last = inside[np.searchsorted(inside, last, side="right") - 1]
    longest = int(np.argmax(steps[last] - steps[inside]))
    return int(inside[longest]), int(last[longest])
