"""What goes wrong in training, detected after the trial in the loss and the gradient norm of every update.

All functions take the minibatch losses (or unclipped gradient norms) of the updates from 0 on, shape [updates], and
depend on nothing else. A series is used up to its first value that is not finite, which counts as a rise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.curves.smoothing import (
    START_UPDATES,
    deviation,
    finite_part,
    log_loss,
    near_zero,
    windowed_level,
    windowed_median,
)
from tunectl.analysis.results.runs import Floats, MeasuredCurve, Run, usable

SPIKE_WINDOW = 50
"""A spike is compared with the median of this many updates before it: fewer give a poor deviation."""

SPIKE_DEVIATIONS = 8.0
"""A spike rises above that level by this many robust standard deviations of the log loss ..."""

SPIKE_FACTOR = 2.0
"""... and by at least this factor: a converged full-batch loss has almost no deviation."""

_FIRST_STRIDE = 5
"""Before the first window is full, the level is computed again at every _FIRST_STRIDE-th update."""

_FIRST_LOOK = 256

EXPLOSION_FACTOR = 1e3
"""Three orders of magnitude: no healthy loss or gradient norm ends so far above its lowest level."""

EXPLOSION_NEAR_ZERO = 1e-2
"""That level is at least this part of the first one, so an explosion ends at least ten times above the beginning."""

DIVERGED_FACTOR = 2.0
DIVERGED_DEVIATIONS = 5.0
"""A loss has diverged when it ends above this factor of the first minibatch loss and above that loss by this many
standard deviations of the last losses. (`core.divergence` has the rule for the loss at step 0 of all examples.)
"""


FLAT_FALL = 0.01
"""A loss that falls by less than this part of itself over the stretch counts as flat, whatever its noise."""

FLAT_ERRORS = 3.0
"""A fall of less than this number of standard errors is noise ..."""

FLAT_RESOLUTION = 0.2
"""... unless that many are more than this part of the level: then there is too much noise to decide."""

FLAT_BLOCKS = 20
"""The stretch is cut into this many blocks, whose medians are taken as independent."""

PLATEAU_FRACTION = 1 / 3
FEWEST_FOR_A_PLATEAU = 60
"""With fewer updates there is no plateau: a block needs three of them for a median."""


@dataclass(frozen=True, slots=True)
class Spike:
    """A sudden rise: its first update, its highest update, and the first one back near the level before it, if any."""

    start: int
    peak: int
    recovered: int | None


def spikes(loss: Floats, *, baseline: float | None = None, window: int = SPIKE_WINDOW) -> list[Spike]:
    """Sudden rises of the minibatch loss above its running level.

    With y = ln(loss + `near_zero`), a spike begins at the update t where y(t) exceeds the median of
    y(t - window .. t - 1) by more than SPIKE_DEVIATIONS times their robust standard deviation and by more than
    ln SPIKE_FACTOR. It ends where y comes back down to half of that above the earlier level. The first updates are
    compared with those before them, from the tenth on; `instability` finds earlier rises. A value that is not finite
    is no spike.
    """
    finite = finite_part(loss)
    least = min(10, window)
    if len(finite) <= least:
        return []
    y = log_loss(finite, near_zero(finite, baseline))
    levels, spreads = _levels_before(y, window, least)
    needed = np.maximum(SPIKE_DEVIATIONS * spreads, math.log(SPIKE_FACTOR))
    found: list[Spike] = []
    until = 0
    for start in np.flatnonzero(y > levels + needed).tolist():
        if start < until:
            continue
        end = _first_at_most(y, start, levels[start] + needed[start] / 2)
        peak = start + int(np.argmax(y[start:end]))
        found.append(Spike(start, peak, end if end < len(y) else None))
        until = end
    return found


def _first_at_most(y: Floats, start: int, most: float) -> int:
    """The first place from `start` on with a value of at most `most`; the length if there is none."""
    length = _FIRST_LOOK
    # In growing steps: with thousands of spikes, each would otherwise compare all that follows.
    while start < len(y):
        found = np.flatnonzero(y[start : start + length] <= most)
        if len(found):
            return start + int(found[0])
        start, length = start + length, 2 * length
    return len(y)


def _levels_before(y: Floats, window: int, least: int) -> tuple[Floats, Floats]:
    """Median and spread of the `window` values before each; infinite where there are fewer than `least`."""
    levels, spreads = np.full(len(y), np.inf), np.zeros(len(y))
    end = min(window, len(y))
    for at in range(least, end, _FIRST_STRIDE):
        level, spread = windowed_level(y[:at], at)
        till = min(at + _FIRST_STRIDE, end)
        # The deviation of a few values may be far too small by chance, so it is enlarged.
        levels[at:till], spreads[at:till] = level[0], spread[0] * math.sqrt(window / at)
    if len(y) > window:
        levels[window:], spreads[window:] = windowed_level(y[:-1], window)
    return levels, spreads


@dataclass(frozen=True, slots=True)
class Explosion:
    """Growth that does not come back: the update where it began, and its factor (which may be infinite)."""

    start: int
    factor: float


def explosion(series: Floats) -> Explosion | None:
    """Growth of a gradient norm or a loss by orders of magnitude, to infinity or to the end of the series.

    The level before is the lowest median of 5 updates (of fewer if there are fewer than 20), but at least
    EXPLOSION_NEAR_ZERO of the first value. The level at the end is the median of as many, or infinite if the series
    ends in a value that is not finite after it rose to at least ten times the level before (a single NaN is no growth).
    It is an explosion if the second is EXPLOSION_FACTOR times the first; it begins after the last update within ten
    times the level before.
    """
    finite = finite_part(series)
    if not len(finite) or not (finite > 0).any():
        return None
    sizes = np.abs(finite)
    width = max(1, min(START_UPDATES, len(sizes) // 4))
    lowest = min(float(windowed_median(sizes, width).min()), float(sizes[0]))
    level = max(lowest, EXPLOSION_NEAR_ZERO * float(sizes[0]), np.finfo(float).tiny)
    below = np.flatnonzero(sizes <= 10 * level)
    start = int(below[-1]) + 1 if len(below) else 0
    if len(finite) < len(series):
        grown = float(sizes[-1]) > 10 * level or (start == len(finite) and np.isposinf(series[start]))
        return Explosion(start, math.inf) if grown else None
    factor = float(np.median(sizes[-width:])) / level
    return Explosion(start, factor) if factor >= EXPLOSION_FACTOR else None


def diverged(loss: Floats) -> bool:
    """Whether the loss ends far above its first value, or ends in a value that is not finite.

    The mean of the last twentieth of the updates (at least 10) is compared with the loss of the first update, which is
    the loss of the untrained network. It must be higher by |first loss| and by 5 standard deviations of the noise of
    the last updates.
    """
    if not len(loss):
        return False
    tail = loss[-min(len(loss), max(10, len(loss) // 20)) :]
    if not usable(tail).all():
        return True
    noise = deviation(np.diff(tail))
    return bool(tail.mean() > loss[0] + max((DIVERGED_FACTOR - 1) * abs(float(loss[0])), DIVERGED_DEVIATIONS * noise))


@dataclass(frozen=True, slots=True)
class Plateau:
    """A flat stretch up to the end: its first update, and the median loss over it."""

    start: int
    level: float


def plateau(loss: Floats, *, baseline: float | None = None, fraction: float = PLATEAU_FRACTION) -> Plateau | None:
    """The stretch at the end over which the loss no longer falls, if it is at least `fraction` of the series.

    The last `fraction` is cut into FLAT_BLOCKS blocks. It is flat if the mean of the block medians differs between its
    two halves by less than FLAT_FALL of the level, or by less than FLAT_ERRORS standard errors, if these are small
    enough to detect a fall by FLAT_RESOLUTION; a larger rise is no plateau either. A level below `near_zero` is no
    plateau: the loss has converged. The stretch begins with the first block of that size from which on the medians of
    five blocks stay within twice that tolerance, or FLAT_ERRORS deviations of the blocks, of the level.
    """
    finite = finite_part(loss)
    stretch = int(len(finite) * fraction)
    if len(finite) < len(loss) or stretch < FEWEST_FOR_A_PLATEAU:
        return None
    size = stretch // FLAT_BLOCKS
    medians = windowed_median(finite[len(finite) % size :], size, size)
    last = medians[-FLAT_BLOCKS:]
    level = float(np.median(last))
    if level <= (near_zero(finite, baseline) or -math.inf):
        return None
    tolerance = _flat_tolerance(last, level)
    half = FLAT_BLOCKS // 2
    if tolerance is None or abs(last[:half].mean() - last[half:].mean()) > tolerance:
        return None
    smooth = windowed_median(medians, min(5, len(medians)))
    spread = max(2 * tolerance, FLAT_ERRORS * float(np.std(last, ddof=1)))
    away = np.flatnonzero(np.abs(smooth - level) > spread)
    first = int(away[-1]) + 3 if len(away) else 0
    return Plateau(min(len(finite) % size + first * size, len(finite) - stretch), level)


def _flat_tolerance(blocks: Floats, level: float) -> float | None:
    """The difference of the two halves' means that still counts as flat; None if there is too much noise to decide."""
    error = 2.0 * deviation(np.diff(blocks)) / math.sqrt(len(blocks))
    if FLAT_ERRORS * error > FLAT_RESOLUTION * abs(level):
        return None
    return max(FLAT_FALL * abs(level), FLAT_ERRORS * error)


@dataclass(frozen=True, slots=True)
class PerfectFit:
    """The first evaluation at which the model fits its training data, and the one before it."""

    step: int
    before: int


def misfit(run: Run, metric: str | None = None) -> MeasuredCurve:
    """The metric that is 0, or below a threshold, for a perfect fit: the named one, else `train/error_rate`, or
    1 - `train/accuracy` if that was measured instead; empty if neither was.
    """
    if metric is not None:
        return run.curve(metric)
    steps, values = run.curve("train/error_rate")
    if len(steps):
        return steps, values
    steps, accuracies = run.curve("train/accuracy")
    return steps, 1.0 - accuracies


def fits_perfectly(run: Run, metric: str | None = None, threshold: float = 0.0) -> PerfectFit | None:
    """When the model first fits its training data after step 0; None if it never does.

    That is where `misfit` is 0, or at most `threshold` if a metric is named. Deviations below 1e-9 are rounding.
    """
    steps, values = misfit(run, metric)
    fitting = np.flatnonzero((steps > 0) & (values <= (1e-9 if metric is None else threshold)))
    if not len(fitting):
        return None
    first = int(fitting[0])
    return PerfectFit(int(steps[first]), int(steps[first - 1]) if first > 0 else 0)
