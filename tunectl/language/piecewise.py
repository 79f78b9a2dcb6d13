"""The points of a piecewise schedule, as a study writes them: `50%: 0.1, 75%: 0.01`, or `3000: 0.1, 4500: 0.01`."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

EXPECTED = "points such as '50%: 0.1, 75%: 0.01' (or '3000: 0.1': updates after the warmup), each later than the last"
"""What the text is expected to be, in words."""

_POINT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*:\s*(\S+)\s*")
_MOST_POINTS = 1000


@dataclass(frozen=True, slots=True)
class Point:
    """From `at` on the rate is `factor` times the base rate. `at` is a share of the updates after the warmup and the
    constant rate that follows it where `is_share`, else a number of these updates.
    """

    at: float
    is_share: bool
    factor: float

    def update(self, updates: int) -> float:
        """The update of the point, of this number of `updates`; a share may give a fraction."""
        return self.at * updates if self.is_share else self.at


@functools.lru_cache(maxsize=256)
def read_points(text: str) -> tuple[Point, ...]:
    """The points of a text; raises ValueError where it is not one (see EXPECTED).

    All of them are shares, or all numbers of updates; a factor is a finite number of at least 0.
    """
    points = [_point(part) for part in text.split(",")]
    if len(points) > _MOST_POINTS or len({point.is_share for point in points}) > 1:
        raise ValueError(EXPECTED)
    if any(later.at <= earlier.at for earlier, later in itertools.pairwise(points)):
        raise ValueError(EXPECTED)
    return tuple(points)


def _point(part: str) -> Point:
    found = _POINT.fullmatch(part)
    if found is None:
        raise ValueError(EXPECTED)
    at, is_share, factor = float(found[1]), bool(found[2]), float(found[3])  # float() raises ValueError itself
    if not (math.isfinite(factor) and factor >= 0) or (at > 100 if is_share else at != int(at)):
        raise ValueError(EXPECTED)
    return Point(at / 100 if is_share else at, is_share, factor)


def factor_at(points: Sequence[Point], update: float, updates: int, *, linear: bool) -> float:
    """The factor of the base rate at an update, of `updates` in all.

    Before the first point it is 1. Where `linear`, it changes in a straight line from one point to the next, beginning
    with 1 at update 0; else it is that of the last point that was reached. After the last point it stays.
    """
    before, factor = 0.0, 1.0
    for point in points:
        at = point.update(updates)
        if update < at:
            return factor + (point.factor - factor) * (update - before) / (at - before) if linear else factor
        before, factor = at, point.factor
    return factor


def stretched(text: str, growth: float) -> str:
    """The text with its numbers of updates times `growth`, at least one apart; shares stay as they are."""
    points, found = read_points(text), list[Point]()
    if points[0].is_share:
        return text
    for point in points:
        least = found[-1].at + 1 if found else 0
        found.append(replace(point, at=max(least, round(point.at * growth))))
    return ", ".join(f"{int(point.at)}: {point.factor!r}" for point in found)
