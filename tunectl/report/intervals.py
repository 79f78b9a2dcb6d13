"""The interval that an axis shows, its ticks and bins, and curves with no more points than can be seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_MARGIN = 0.04
_FEW_DECADES = 2.5
_MANY_DECADES = 8
_SMALLEST = 1e-300


@dataclass(frozen=True, slots=True)
class Interval:
    """The part of an axis that is drawn, from `low` to `high`, on a linear or a log scale; low < high."""

    low: float
    high: float
    log: bool = False

    @staticmethod
    def around(values: Sequence[float], *, log: bool = False) -> Interval:
        """The values with a margin; one value alone gets room on both sides, none at all gives 0 to 1 (log: 0.1 to 1).

        Values are of a size below 1e300, and above 1e-300 for `log`.
        """
        if not values:
            return Interval(0.1, 1.0, True) if log else Interval(0.0, 1.0)
        low, high = (math.log10(min(values)), math.log10(max(values))) if log else (min(values), max(values))
        span = high - low
        if span <= 1e-9 * max(abs(low), abs(high)):
            span = 1.0 if log or abs(low) < _SMALLEST else 0.5 * abs(low)
            margin = span / 2
        else:
            margin = _MARGIN * span
        low, high = low - margin, high + margin
        return Interval(10 ** max(low, -305.0), 10 ** min(high, 305.0), True) if log else Interval(low, high)

    def share(self, value: float) -> float:
        """How far along the axis the value is: 0 at `low`, 1 at `high`."""
        if self.log:
            low = math.log10(self.low)
            return (math.log10(value) - low) / (math.log10(self.high) - low)
        return (value - self.low) / (self.high - self.low)

    def at_share(self, share: float) -> float:
        """The value at this share of the axis, from 0 at `low` to 1 at `high`."""
        if self.log:
            low = math.log10(self.low)
            return float(10 ** min(low + share * (math.log10(self.high) - low), 305.0))
        return self.low + share * (self.high - self.low)

    def log_ticks(self) -> list[float]:
        """The powers of ten inside, thinned where they are many, with 2 and 5 times them where they are few."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        decades = math.log10(self.high / self.low) if self.low > 1e-300 else last - first
        step = max(1, math.ceil((last - first) / _MANY_DECADES))
        factors: tuple[float, ...] = (1.0, 2.0, 5.0) if decades < _FEW_DECADES else (1.0,)
        if decades < 0.35:
            factors = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
        exponents = [power for power in range(first, last + 1) if power % step == 0]
        # Decimal text gives the nearest float to 2e-5; a product of floats may not.
        ticks = [float(f"{factor}e{power}") for power in exponents for factor in factors]
        return [tick for tick in ticks if self.low <= tick <= self.high]


def bins(values: Sequence[float], interval: Interval, count: int) -> list[tuple[float, float, int]]:
    """How many values lie in each of `count` bins of equal width on the axis: (from, to, how many)."""
    edges = [interval.at_share(place / count) for place in range(count + 1)]
    counts = [0] * count
    for value in values:
        counts[min(count - 1, max(0, math.floor(interval.share(value) * count)))] += 1
    return list(zip(edges[:-1], edges[1:], counts, strict=True))


def thinned(
    x: Sequence[float], y: Sequence[float | None], most: int, interval: Interval
) -> list[tuple[float, float | None]]:
    """The points (x ascending) of a curve, at most about `most` of them, that look like all.

    The axis is cut into most/4 stretches, and of each the first, lowest, highest and last points are kept, in their
    order: a spike of one update stays. None in `y` (a gap) is kept, one of those that follow each other.
    """
    points = list(zip(x, y, strict=True))
    if len(points) <= most:
        return points
    stretches = max(1, most // 4)
    groups: dict[int, list[int]] = {}
    for place, (at, _) in enumerate(points):
        groups.setdefault(min(stretches - 1, max(0, int(interval.share(at) * stretches))), []).append(place)
    kept: list[int] = []
    for group in groups.values():
        known = [place for place in group if points[place][1] is not None]
        chosen = {group[0], group[-1]}
        if known:
            chosen |= {min(known, key=lambda place: points[place][1] or 0.0)}
            chosen |= {max(known, key=lambda place: points[place][1] or 0.0)}
        if len(known) < len(group):
            chosen.add(next(place for place in group if points[place][1] is None))
        kept.extend(sorted(chosen))
    return [points[place] for place in kept]
