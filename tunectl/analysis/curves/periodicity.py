"""Whether evaluations go up and down with a period: a sign of data in an order that repeats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.curves.curve_shapes import detrended
from tunectl.analysis.results.runs import Floats

FEWEST_FOR_A_PERIOD = 13
"""With fewer evaluations a period cannot be separated from the trend and the noise."""

LEAST_CYCLES = 2.5
"""A period must be seen at least this many times; what is slower belongs to the trend."""

_MOST_CORRELATED = 0.9

_TREND_TERMS = 4
_PLACES_A_CYCLE = 8
"""Numbers of cycles are tried in steps of 1 / _PLACES_A_CYCLE: the best is within a hundredth of the true maximum."""

_LONG = 4096

_NARROWER = 1.5
"""How much faster than for curves without a trend the power changes with the frequency, with a reserve: with it the
noise of 13 to 50 evaluations reaches a chance no more often than that chance says.
"""


@dataclass(frozen=True)
class Period:
    """A period of `evaluations` evaluations, the chance of such a clear one, and its part of the variance."""

    evaluations: float
    chance: float
    share: float


def period(curves: Sequence[Floats]) -> Period | None:
    """The common period of evenly spaced curves of one length; None where they are too short, or constant.

    First the correlation of neighbours is removed from each curve (a positive one of the first order, so that slow
    noise is not taken for a period). At each frequency a sine is fitted together with the trend (a cubic). The sine
    takes a share g of what the trend leaves of n points; in white noise a share is as large with the chance
    (1 - g)^((n - 6) / 2). These chances are combined over the curves by Fisher's method, which is exact. The best of
    all frequencies is taken; this is corrected for by how often the power rises through a level between them (Baluev,
    "Assessing the statistical significance of periodogram peaks", 2008).
    """
    white = [rest for curve in curves if (rest := _whitened(curve)) is not None]
    if not white:
        return None
    length = len(white[0])
    cycles = _cycles(length)
    table = _power_shares(np.stack(white), cycles)
    surprise = -(length - _TREND_TERMS - 2) / 2 * np.log(np.maximum(1 - table, 1e-300)).sum(axis=0)
    at = int(np.argmax(surprise))
    chance = _chance_of_highest(float(surprise[at]), len(white), float(cycles[-1] - cycles[0]))
    return Period(float(length / cycles[at]), chance, float(table[:, at].mean()))


def _whitened(curve: Floats) -> Floats | None:
    """The curve without the correlation of neighbours; None where it is too short, or constant."""
    if len(curve) < FEWEST_FOR_A_PERIOD:
        return None
    rest = detrended(curve)
    size = float(rest @ rest)
    if size <= (1e-9 * float(np.abs(curve).max())) ** 2 * len(curve):
        return None
    correlation = float(np.clip(rest[1:] @ rest[:-1] / size, 0.0, _MOST_CORRELATED))
    return np.asarray(rest[1:] - correlation * rest[:-1])


def _cycles(length: int) -> Floats:
    """The numbers of cycles in `length` points that are tried; at half of `length` every sine would be zero."""
    places_a_cycle = _transformed(length) / length
    most = (length - 1) / 2
    return np.arange(math.ceil(LEAST_CYCLES * places_a_cycle), math.floor(most * places_a_cycle) + 1) / places_a_cycle


def _transformed(length: int) -> int:
    """The length of the Fourier transform that has _PLACES_A_CYCLE places for each cycle of a series.

    For a long series half as many places are enough, at a power of two: another length may take ten times as long.
    """
    points = _PLACES_A_CYCLE * length
    return points if length < _LONG else 1 << (points // 2 - 1).bit_length()


def _power_shares(white: Floats, cycles: Floats) -> Floats:
    """The share of each curve's variance around its trend that a sine takes, shape [curves, cycles].

    At c cycles in n points, with w = exp(-2 pi i c / n), the fit of a cosine and a sine together with the trend needs
    only sums of x(t) w^t. For all cycles together they are the Fourier transform of the series with zeros appended: it
    takes n log n, while a table of all sines at all cycles takes n squared.
    """
    length = white.shape[1]
    trend = np.linalg.qr(np.vander(np.linspace(-1.0, 1.0, length), _TREND_TERMS))[0]
    size = _transformed(length)
    places = np.round(cycles * size / length).astype(int)
    # The sum of w^(2 t): cosines and sines of c cycles have squares of 2 c cycles.
    turn = np.exp(-4j * np.pi * cycles / length)
    doubled = (1 - turn**length) / (1 - turn)
    cosine, sine, both = (length + doubled.real) / 2, (length - doubled.real) / 2, -doubled.imag / 2
    for column in trend.T:
        along = np.fft.rfft(column, size)[places]
        cosine -= along.real**2
        sine -= along.imag**2
        both += along.real * along.imag
    rest = sine - both**2 / cosine  # what the cosine leaves of the sine
    shares = []
    for curve in white:
        straight = curve - trend @ (curve @ trend)
        seen = np.fft.rfft(straight, size)[places]
        first, second = seen.real, -seen.imag
        taken = first**2 / cosine + (second - both / cosine * first) ** 2 / rest
        shares.append(taken / max(float(straight @ straight), 1e-300))
    return np.stack(shares)


def _chance_of_highest(surprise: float, curves: int, cycles: float) -> float:
    """The chance that the sum of `curves` exponential variables exceeds a level somewhere in a range of cycles."""
    if surprise <= curves:  # below its mean, where it is anywhere
        return 1.0
    crossings = math.exp((curves - 0.5) * math.log(surprise) - surprise - math.lgamma(curves))
    return min(1.0, _erlang_tail(curves, surprise) + _NARROWER * cycles * math.sqrt(math.pi / 3) * crossings)


def _erlang_tail(count: int, at: float) -> float:
    """The chance that the sum of `count` exponential variables of mean 1 exceeds `at`."""
    if at <= 0:
        return 1.0
    terms = np.array([k * math.log(at) - math.lgamma(k + 1) for k in range(count)])
    return float(min(1.0, math.exp(-at + terms.max()) * np.exp(terms - terms.max()).sum()))
