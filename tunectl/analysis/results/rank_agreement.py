"""How well two orders of the same few trials agree: a rank correlation within groups, with an interval.

The groups are settings, whose values are not compared with each other: ranks are taken within each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from tunectl.analysis.results.runs import Floats
from tunectl.analysis.search.permutations import chance_of_pairing, normal_scores, ranks

Verdict = Literal["agree", "disagree", "unknown"]

LEVEL = 0.05
"""The interval holds the true correlation in 95 % of all cases: each end is missed in half of LEVEL."""

_DRAWS, _FEWEST_DRAWS = 4_000, 1_000
_MOST_VALUES = 640_000
"""With more values in all there are fewer draws: the intervals of many trials are short, and take long."""
_HALVINGS = 12
_EXTREME = 0.999


@dataclass(frozen=True, slots=True)
class Agreement:
    """The rank correlation of `trials` trials, in [-1, 1], and the interval of the true one.

    The true one is that of two normal variables whose ranks would correlate as much.
    """

    correlation: float
    low: float
    high: float
    trials: int

    @property
    def verdict(self) -> Verdict:
        """Whether the interval lies above or below 0, or holds it."""
        return "agree" if self.low > 0 else "disagree" if self.high < 0 else "unknown"


def agreement(groups: Sequence[tuple[Floats, Floats]]) -> Agreement | None:
    """The agreement of two columns, shape [trials] each, over groups; None where no group has two different values.

    Spearman's correlation of ranks within groups, each group counted by the variance of its ranks. The interval has the
    correlations of normal variables under which a rank correlation so large, or so small, is not rarer than half of
    LEVEL, by simulation with always the same draws: with four trials even a perfect order leaves it wide.
    """
    groups = [(ranks(left), ranks(right)) for left, right in groups if len(left) > 1]
    left, right = (np.concatenate([pair[side] - pair[side].mean() for pair in groups] or [[]]) for side in (0, 1))
    spread = math.sqrt(float(left @ left) * float(right @ right))
    if spread == 0:
        return None
    seen = round(float(left @ right) / spread, 12)
    sizes = tuple(sorted(len(pair[0]) for pair in groups))
    return Agreement(seen, _end(sizes, seen), -_end(sizes, -seen), len(left))


@lru_cache(maxsize=1024)
def _end(sizes: tuple[int, ...], seen: float) -> float:
    """The smallest true correlation under which a rank correlation of at least `seen` is not too rare."""

    def chance(true: float) -> float:
        return float(np.mean(_simulated(sizes, true) >= seen - 1e-9))

    low, high = -_EXTREME, _EXTREME
    if chance(low) > LEVEL / 2:
        return -1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if chance(middle) <= LEVEL / 2 else (low, middle)
    return high


def _simulated(sizes: tuple[int, ...], true: float) -> Floats:
    """Rank correlations of groups of these sizes, of normal variables that correlate by `true`; shape [draws]."""
    draws = min(_DRAWS, max(_FEWEST_DRAWS, _MOST_VALUES // sum(sizes)))
    top, left_spread = np.zeros(draws), 0.0
    for place, size in enumerate(sizes):
        first, left, second = (values[:draws] for values in _normal(size, place))
        both = true * first + math.sqrt(1 - true**2) * second
        right = both.argsort(axis=1).argsort(axis=1) - (size - 1) / 2
        top += (left * right).sum(axis=1)
        left_spread += size * (size**2 - 1) / 12
    return top / left_spread


@lru_cache(maxsize=64)
def _normal(size: int, place: int) -> tuple[Floats, Floats, Floats]:
    """Normal values, their ranks around 0, and other normal values; shape [_DRAWS, size] each."""
    generator = np.random.default_rng([0, size, place])
    first, second = generator.normal(size=(_DRAWS, size)), generator.normal(size=(_DRAWS, size))
    places = first.argsort(axis=1).argsort(axis=1).astype(np.float64)
    return first, places - (size - 1) / 2, second


def chance_of_drift(groups: Sequence[tuple[Floats, Floats, Floats]]) -> tuple[bool, float]:
    """Whether trials at higher positions gain from the first to the second column of costs, and the chance of it.

    The groups are (positions, first costs, second costs), each of shape [trials]. What the second cost of a trial is
    beyond what its first one predicts, in normal scores within its group, is paired with its position: a two-sided
    permutation test.
    """
    positions, rests = [], []
    for at, first, second in groups:
        before, after = normal_scores(first), normal_scores(second)
        spread = float(before @ before)
        slope = float(before @ after) / spread if spread > 0 else 0.0
        positions.append(at - at.mean())
        rests.append(after - slope * before)
    where, rest = np.concatenate(positions), np.concatenate(rests)
    up, down = chance_of_pairing(where, -rest), chance_of_pairing(where, rest)
    return up < down, min(1.0, 2 * min(up, down))
