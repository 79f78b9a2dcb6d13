"""When a training loss has diverged: one rule for tunectl's own loop and for own code. Imports no torch."""

from __future__ import annotations

import math

FAR_ABOVE = 5.0
"""A trial is `diverged` above this many standard deviations over the mean of the examples' losses at step 0."""

LEAST_SPREAD = 0.05
"""The smallest deviation that is used, relative to the mean: with a last layer of zeros all losses are equal."""


def deviations_above(smoothed: float, start_mean: float, start_spread: float) -> float:
    """The distance of a smoothed training loss from the mean of the examples' losses at step 0, in their deviations."""
    unit = max(start_spread, LEAST_SPREAD * abs(start_mean))
    return (smoothed - start_mean) / unit if unit > 0 else math.nan


def is_diverged(smoothed: float, start_mean: float, start_spread: float) -> bool:
    """Whether a smoothed training loss is more than FAR_ABOVE deviations higher; false if the start is not finite."""
    return (
        math.isfinite(start_mean)
        and math.isfinite(start_spread)
        and deviations_above(smoothed, start_mean, start_spread) > FAR_ABOVE
    )
