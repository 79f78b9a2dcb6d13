"""Loss instability: periods of training in which the loss goes up instead of down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tunectl.analysis.curves.smoothing import MAD_TO_DEVIATION, finite_part, log_loss, near_zero, windowed_median
from tunectl.analysis.results.runs import Floats

LEAST_FACTOR = 1.5
"""The smoothed loss must rise by this factor above its lowest value so far ..."""

DEVIATIONS = 8.0
"""... and by this many deviations of its noise. Of thousands of noisy values the highest is 6 to 8 deviations above the
lowest by chance.
"""

EARLY_UPDATES = 100
EARLY_FRACTION = 0.05
"""Early instability begins in the first 100 updates or the first twentieth, whichever is longer. Catapults come within
tens of updates of the beginning, however long training is; in long training the share keeps the meaning of the word
(and it is the longest warmup that the playbook accepts without more steps).
"""

_FIRST_WIDTH, _FIRST_UPDATES = 3, 20
_EARLY_WIDTH, _WIDTH, _WIDER = 5, 9, 3
_WINDOWS = 8
_NOISE_UPDATES = 50
_LONGEST_TAIL = 3.0
_FIRST_NOISE = 0.65
"""The first loss is a single value, no median, but not the lowest of thousands: this part of DEVIATIONS is enough."""


@dataclass(frozen=True, slots=True)
class UnstablePeriod:
    """A period in which the loss was up: from update `start` to `end` (None: it never came back down).

    `peak` is the update of the highest smoothed loss; `level` is the lowest smoothed loss before. `factor` is their
    ratio, with `near_zero` added to both; it is infinite if the loss stopped being finite. `when` depends on `start`.
    """

    start: int
    peak: int
    end: int | None
    level: float
    factor: float
    when: Literal["early", "mid"]


def early_updates(updates: int) -> int:
    """How many updates of this total count as early."""
    return max(EARLY_UPDATES, math.ceil(EARLY_FRACTION * updates))


def instability(
    loss: Floats,
    *,
    baseline: float | None = None,
    total_updates: int | None = None,
    least_factor: float = LEAST_FACTOR,
) -> list[UnstablePeriod]:
    """The periods in which the loss went up: catapults, blow-ups, rises to the loss of a dead network.

    With y = ln(loss + near_zero), running medians of y are computed over 5 (during the early updates only), 9, 27, 81,
    ... updates, up to an eighth of the series. A period is found where such a median exceeds the lowest one before it
    by more than ln `least_factor` and by more than DEVIATIONS of its noise. The noise is the deviation of neighbouring
    updates, as it remains in the median, or the deviation of neighbouring medians if that is larger (noise of an
    epoch's length); the larger of that around the place and that around the lowest median counts. A period begins after
    the last median within half of the threshold and ends with the next one. A few high updates do not move a median:
    they are `spikes`. A loss that stops being finite is a period from its last low value on, with an infinite factor.
    Narrow medians find short and early periods; wide ones find those that are hidden in noise.

    `near_zero` is that of `smoothing`. `total_updates` (default: the length of the series) is the planned number.
    """
    finite = finite_part(loss)
    if not len(finite):
        return [UnstablePeriod(0, 0, None, math.nan, math.inf, "early")] if len(loss) else []
    early = early_updates(max(len(loss), total_updates or 0))
    y = log_loss(finite, near_zero(finite, baseline))
    found: list[UnstablePeriod] = []
    for width, until in _widths(len(finite), early):
        for period in _periods(y[:until], finite, width, early, math.log(least_factor)):
            near = [other for other in found if _overlap(period, other)]
            apart = [other for other in found if not _overlap(period, other)] if near else found
            found = [*apart, _joined(near, period)]
    if len(finite) < len(loss):
        found = _with_blow_up(found, finite, y, early)
    return sorted(found, key=lambda period: period.start)


def _widths(updates: int, early: int) -> Sequence[tuple[int, int]]:
    """The widths of the medians, each with the number of updates in which it is used."""
    widths = [(_FIRST_WIDTH, _FIRST_UPDATES), (_EARLY_WIDTH, early)]
    width = _WIDTH
    while width * _WINDOWS <= updates:
        widths.append((width, updates))
        width *= _WIDER
    return widths


def _end(period: UnstablePeriod) -> float:
    return math.inf if period.end is None else period.end


def _overlap(one: UnstablePeriod, other: UnstablePeriod) -> bool:
    return one.start <= _end(other) and other.start <= _end(one)


def _joined(narrower: Sequence[UnstablePeriod], wider: UnstablePeriod) -> UnstablePeriod:
    """One period from those that overlap: the narrower medians show better where it begins and how high it rises."""
    if not narrower:
        return wider
    first = min(narrower, key=lambda period: period.start)
    highest = max([*narrower, wider], key=lambda period: period.factor)
    end = max([*narrower, wider], key=_end).end
    return replace(first, end=end, peak=highest.peak, level=highest.level, factor=highest.factor)


def _periods(y: Floats, loss: Floats, width: int, early: int, least_rise: float) -> list[UnstablePeriod]:
    """The periods that the medians of this width show."""
    if len(y) < width:
        return []
    hop = max(1, width // _EARLY_WIDTH)
    smooth = windowed_median(y, width, hop)
    places = np.arange(len(smooth)) * hop + width // 2
    if width <= _EARLY_WIDTH:
        # The first loss is that of the untrained network: a catapult may begin with the first update.
        smooth, places = np.concatenate([y[:1], smooth]), np.concatenate([[0], places])
    lowest = np.minimum.accumulate(smooth)
    rise = smooth - lowest
    noise = _noise(y, smooth, width, places)
    at_lowest = _place_of_lowest(smooth)
    needed = np.maximum(least_rise, DEVIATIONS * np.maximum(noise, noise[at_lowest]))
    found: list[UnstablePeriod] = []
    until = 0
    calm = np.flatnonzero(rise <= needed / 2)
    for alarm in np.flatnonzero(rise > needed).tolist():
        if alarm < until:
            continue
        after = int(np.searchsorted(calm, alarm))
        comes_back = after < len(calm)
        end = int(calm[after]) if comes_back else len(rise)
        start = int(places[calm[after - 1]]) if after else 0
        peak = int(alarm + np.argmax(rise[alarm:end]))
        level, factor = _loss_at(loss, places[at_lowest[peak]], width), math.exp(min(float(rise[peak]), 700.0))
        cut_short = len(y) < len(loss) and not comes_back
        period_end = None if end == len(rise) and not cut_short else int(places[min(end, len(rise) - 1)])
        found.append(UnstablePeriod(start, int(places[peak]), period_end, level, factor, _when(start, early)))
        until = end
    return found


def _loss_at(loss: Floats, place: int, width: int) -> float:
    if place == 0:
        return float(loss[0])
    return float(np.median(loss[max(0, place - width // 2) : place + width // 2 + 1]))


def _when(start: int, early: int) -> Literal["early", "mid"]:
    return "early" if start < early else "mid"


def _place_of_lowest(smooth: Floats) -> NDArray[np.intp]:
    new_low = np.concatenate([[True], smooth[1:] < np.minimum.accumulate(smooth)[:-1]])
    return np.maximum.accumulate(np.where(new_low, np.arange(len(smooth)), 0))


def _noise(y: Floats, smooth: Floats, width: int, places: NDArray[np.intp]) -> Floats:
    """The deviation of the smoothed values, at each of them."""
    single = _tail(np.diff(y)) * _local_deviation(np.diff(y), max(_NOISE_UPDATES, width))
    # The standard error of a median of n normal values is sqrt(pi/2) times that of their mean.
    of_medians = math.sqrt(math.pi / 2 / width) * single[np.minimum(places.astype(int), len(single) - 1)]
    # Differences of medians a width apart: noise that lasts longer than an update does not average out in a window.
    lag = math.ceil(width / max(1, width // _EARLY_WIDTH))
    if len(smooth) >= 4 * lag:
        between = _local_deviation(smooth[lag:] - smooth[:-lag], max(2 * _NOISE_UPDATES, 12 * lag))
        of_medians = np.maximum(of_medians, between[np.clip(np.arange(len(smooth)) - lag // 2, 0, len(between) - 1)])
    if width <= _EARLY_WIDTH:
        of_medians[0] = _FIRST_NOISE * single[0]
    return np.asarray(of_medians)


def _tail(differences: Floats) -> float:
    """How much wider the noise is than its middle suggests: 1 for a normal distribution, at most _LONGEST_TAIL."""
    if len(differences) < 2 * _NOISE_UPDATES:
        return 1.0
    middle, outer = np.quantile(np.abs(differences), [0.5, 0.9])
    # The quantiles of the absolute value of a normal variable.
    return float(np.clip((outer / 1.645) / max(middle / 0.6745, 1e-300), 1.0, _LONGEST_TAIL))


def _local_deviation(differences: Floats, width: int) -> Floats:
    """A robust deviation of the noise around each difference, from `width` of them.

    The smaller of two that agree on pure noise: the median absolute difference from the local median, which a steady
    fall does not raise, and the median fall, which growth does not raise and which is 0 where hardly anything falls.
    """
    width = min(width, len(differences))
    if width < 2:
        return np.zeros(max(1, len(differences)))
    hop = max(1, width // 10)
    windows = sliding_window_view(differences, width)[::hop]
    middles = np.arange(len(windows)) * hop + width // 2
    away = np.median(np.abs(windows - np.median(windows, axis=1, keepdims=True)), axis=1)
    # The quantile that is the median fall if half of the differences are falls.
    fall = np.maximum(-np.quantile(windows, 0.25, axis=1), 0.0)
    noise = MAD_TO_DEVIATION / math.sqrt(2.0) * np.minimum(away, fall)
    return np.asarray(np.interp(np.arange(len(differences)), middles, noise))


def _with_blow_up(found: list[UnstablePeriod], loss: Floats, y: Floats, early: int) -> list[UnstablePeriod]:
    """The periods, with the one at whose end the loss is no longer finite."""
    last = [period for period in found if period.end is None]
    if last:
        start, level = last[-1].start, last[-1].level
    else:
        lowest = float(y.min())
        start = int(np.flatnonzero(y <= lowest + math.log(LEAST_FACTOR))[-1])
        level = float(loss[start])
    rest = [period for period in found if period.end is not None and period.end <= start]
    return [*rest, UnstablePeriod(start, len(loss), None, level, math.inf, _when(start, early))]
