"""When a training loss has diverged, and when it is below a baseline: one rule for tunectl's loop and for own code."""

from __future__ import annotations

import math

FAR_ABOVE = 5.0
"""A loss has diverged that is more than this number of standard deviations above the mean loss at step 0; the standard
deviation is that of the examples' losses at step 0.
"""

LEAST_SPREAD = 0.05
"""The smallest standard deviation, relative to the mean: a last layer of zeros gives every example the same loss."""

STANDARD_ERRORS = 3.0
"""A mean is below the baseline where the difference is more than this number of its standard errors ..."""

BASELINE_TOLERANCE = 1e-3
"""... and more than this part of the baseline, which may be the entropy of other labels than those the mean is over."""


def deviations_above(smoothed: float, start_mean: float, start_spread: float) -> float:
    """How far a smoothed training loss is above the mean loss at step 0, in standard deviations of the examples'
    losses.
    """
    unit = max(start_spread, LEAST_SPREAD * abs(start_mean))
    return (smoothed - start_mean) / unit if unit > 0 else math.nan


def start_in_training(start_mean: float, start_spread: float, first_loss: float | None, examples: int) -> float:
    """The mean loss at step 0 as training has it, from that in evaluation mode and the loss of the first minibatch.

    Batch normalisation has no statistics yet in evaluation mode, so that the losses of both modes can be far apart at
    the start. The first minibatch counts where it is above the mean by more than its `examples` losses are by chance.
    """
    if first_loss is None or not is_diverged(first_loss, start_mean, start_spread / math.sqrt(max(examples, 1))):
        return start_mean
    return first_loss if math.isfinite(first_loss) else start_mean


def is_diverged(smoothed: float, start_mean: float, start_spread: float) -> bool:
    """Whether a smoothed training loss is more than FAR_ABOVE deviations higher; false if the start is not finite."""
    return (
        math.isfinite(start_mean)
        and math.isfinite(start_spread)
        and deviations_above(smoothed, start_mean, start_spread) > FAR_ABOVE
    )


def is_clearly_below(baseline: float, mean: float, spread: float, count: int) -> bool:
    """Whether the mean of `count` losses with standard deviation `spread` is below the baseline, and not by chance."""
    error = STANDARD_ERRORS * spread / math.sqrt(max(count, 1)) if math.isfinite(spread) else 0.0
    return mean < baseline - max(error, BASELINE_TOLERANCE * abs(baseline))
