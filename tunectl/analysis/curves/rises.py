"""Whether a curve rises from some evaluation to its end: a trend test on each of its tails."""

from __future__ import annotations

import math

import numpy as np

from tunectl.analysis.curves.curve_shapes import FEWEST_FOR_A_TURN, LossCurve, Turn
from tunectl.analysis.results.runs import Floats

FEWEST_FOR_A_LINE = 4
"""With fewer evaluations a straight line leaves too few degrees of freedom to measure the noise."""

MOST_TAILS = 40
"""At most this many tails are tried, evenly by their start: those between them hardly differ."""

BINOMIAL_WEIGHT = 10
BINOMIAL_AGREES = 2.0
"""Where the scatter around the line agrees with the binomial variance of an error rate up to BINOMIAL_AGREES, that
variance is averaged in with the weight of BINOMIAL_WEIGHT evaluations. A scatter below it is possible: evaluations of
the same examples share their errors.
"""

_MOST_CORRELATED = 0.9
_FEWEST_FOR_CORRELATION = 8


def lasting_rise(curve: LossCurve) -> tuple[Turn, float] | None:
    """The rise to the end of a curve that is least likely by chance, with that chance; None if nothing rises.

    A straight line is fitted to each tail. Where the level stays constant, its slope has Student's t distribution, with
    the scatter around the line as the noise. Noise that lasts over several evaluations increases the error and reduces
    its degrees of freedom. The chance is multiplied by the number of tails (Bonferroni). The turn's rise and lowest
    level are those of the line.
    """
    from scipy.special import stdtr

    count = len(curve.losses)
    if count < FEWEST_FOR_A_TURN:
        return None
    last = count - FEWEST_FOR_A_LINE
    starts = np.unique(np.linspace(0, last, min(last + 1, MOST_TAILS)).round().astype(int))
    best: tuple[float, float, int, float, float] | None = None
    for start in starts:
        lowest, rise, deviations, freedom = _trend(curve, int(start))
        chance = float(stdtr(freedom, -deviations))
        if rise > 0 and (best is None or (chance, -deviations) < best[:2]):
            best = chance, -deviations, int(start), lowest, rise
    if best is None:
        return None
    chance, negative, start, lowest, rise = best
    part = max(2, (count - start) // 3)
    turn = Turn(
        step=float(curve.steps[start]),
        window=(float(curve.steps[start]), float(curve.steps[start + part - 1])),
        end_window=(float(curve.steps[-part]), float(curve.steps[-1])),
        lowest=lowest,
        rise=rise,
        deviations=-negative,
    )
    return turn, min(1.0, chance * len(starts))


def _trend(curve: LossCurve, start: int) -> tuple[float, float, float, float]:
    """A tail's straight line: its first level, its rise, the rise in standard errors, their degrees of freedom."""
    steps, losses = curve.steps[start:], curve.losses[start:]
    place = steps - steps.mean()
    square = float(place @ place)
    level = float(losses.mean())
    slope = float(place @ (losses - level)) / square
    rest = losses - level - slope * place
    variance, freedom = _variance(rest, level, curve.quantum)
    lasting = _lasting(rest)
    error = math.sqrt(variance * lasting / square)
    lowest = level + slope * float(place[0])
    rise = slope * float(steps[-1] - steps[0])
    return (
        lowest,
        rise,
        min(slope / error, 1e6) if error > 0 else math.copysign(1e6, slope),
        max(1.0, freedom / lasting),
    )


def _variance(rest: Floats, level: float, quantum: float) -> tuple[float, float]:
    """The variance of an evaluation around the line, and its degrees of freedom."""
    freedom = float(len(rest) - 2)
    least = max(quantum / 2, 1e-9 * abs(level)) ** 2
    variance = max(float(rest @ rest) / freedom, least)
    rate = abs(level)
    binomial = rate * (1 - rate) * quantum if rate < 1 else 0.0
    if binomial / BINOMIAL_AGREES**2 <= variance <= binomial * BINOMIAL_AGREES**2:
        variance = (freedom * variance + BINOMIAL_WEIGHT * binomial) / (freedom + BINOMIAL_WEIGHT)
        freedom += BINOMIAL_WEIGHT
    return variance, freedom


def _lasting(rest: Floats) -> float:
    """The factor by which noise that lasts over several evaluations raises the variance of a slope; 1 without any.

    In the n residuals of a line the correlation r of neighbours is too low by about (2 + 4 r) / n, because the line
    takes some of the slow noise with it.
    """
    count, size = len(rest), float(rest @ rest)
    if count < _FEWEST_FOR_CORRELATION or size <= 0:
        return 1.0
    seen = float(rest[1:] @ rest[:-1]) / size
    r = min(max((seen + 2 / count) / (1 - 4 / count), 0.0), _MOST_CORRELATED)
    return (1 + r) / (1 - r)
