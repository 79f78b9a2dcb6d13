"""When a training loss has diverged: one rule for tunectl's own loop and for own code. Imports no torch."""

from __future__ import annotations

import math

FAR_ABOVE = 5.0
"""`diverged` begins so many standard deviations of the examples' losses at step 0 above their mean."""

LEAST_SPREAD = 0.05
"""The least such standard deviation, relative to the mean: a last layer of zeros gives every example the same loss."""


def deviations_above(smoothed: float, start_mean: float, start_spread: float) -> float:
    """How many standard deviations of the examples' losses at step 0 a smoothed training loss lies above their mean."""
    unit = max(start_spread, LEAST_SPREAD * abs(start_mean))
    return (smoothed - start_mean) / unit if unit > 0 else math.nan


def is_diverged(smoothed: float, start_mean: float, start_spread: float) -> bool:
    """Whether a smoothed training loss lies more than FAR_ABOVE of these above; not where the start is not finite."""
    return (
        math.isfinite(start_mean)
        and math.isfinite(start_spread)
        and deviations_above(smoothed, start_mean, start_spread) > FAR_ABOVE
    )
