"""Whether evaluations go up and down with a period: a sign of data in an order that comes again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.curve_shapes import detrended
from tunectl.analysis.runs import Floats

FEWEST_EVALUATIONS = 13
"""Fewer evaluations have too few frequencies to tell one from the others."""

LEAST_CYCLES = 3
"""A period is seen so many times at least; what comes less often is the trend's."""

_MOST_CORRELATED = 0.9


@dataclass(frozen=True)
class Period:
    """A period of `evaluations` evaluations, the chance of so clear a one, and its part of the variance."""

    evaluations: float
    chance: float
    share: float


def period(curves: Sequence[Floats]) -> Period | None:
    """The period that evenly spaced curves of one length have in common; None where they are too short, or constant.

    Of each curve the trend (a cubic) and the correlation of neighbours (a positive one of the first order, so that
    slow noise is no period) are taken away. At each of the K frequencies with LEAST_CYCLES cycles or more the share g
    of the power has, in white noise, the chance (1 - g)^(K - 1) to be so large (Fisher, "Tests of significance in
    harmonic analysis", 1929); Fisher's combination over the curves is exact, and the best of the K is corrected for
    their number.
    """
    shares = [powers for curve in curves if (powers := _power_shares(curve)) is not None]
    if not shares:
        return None
    table = np.stack(shares)
    count, frequencies = table.shape
    surprise = -(frequencies - 1) * np.log(np.maximum(1 - table, 1e-300)).sum(axis=0)
    at = int(np.argmax(surprise))
    chance = min(1.0, frequencies * _erlang_tail(count, float(surprise[at])))
    length = _odd(len(curves[0]) - 1)
    return Period(length / (at + LEAST_CYCLES), chance, float(table[:, at].mean()))


def _odd(count: int) -> int:
    return count if count % 2 else count - 1


def _power_shares(curve: Floats) -> Floats | None:
    """The power at each frequency from LEAST_CYCLES cycles on, as a share of all of it."""
    if len(curve) < FEWEST_EVALUATIONS:
        return None
    rest = detrended(curve)
    size = float(rest @ rest)
    if size <= (1e-9 * float(np.abs(curve).max())) ** 2 * len(curve):
        return None
    correlation = float(np.clip(rest[1:] @ rest[:-1] / size, 0.0, _MOST_CORRELATED))
    white = rest[1:] - correlation * rest[:-1]
    # An odd number: then every frequency has a cosine and a sine, and the distribution is the exact one.
    spectrum = np.abs(np.fft.rfft(white[-_odd(len(white)) :])[LEAST_CYCLES:]) ** 2
    return np.asarray(spectrum / spectrum.sum())


def _erlang_tail(count: int, at: float) -> float:
    """The chance that the sum of so many exponential variables of mean 1 exceeds `at`."""
    if at <= 0:
        return 1.0
    terms = np.array([k * math.log(at) - math.lgamma(k + 1) for k in range(count)])
    return float(min(1.0, math.exp(-at + terms.max()) * np.exp(terms - terms.max()).sum()))
