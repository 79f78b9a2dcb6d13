"""Which of two settings has the better best of k trials, and how certain that is, from draws of the existing trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tunectl.analysis.results.best_of_k import best_of_k, budgets
from tunectl.analysis.results.runs import Floats

PREFERRED = 0.985
"""A setting is preferred if it wins in this share of the draws: of two equal ones about one in twenty reaches it."""

FEWEST_PAIRED_POINTS = 5
"""With fewer points one of two equal settings wins every draw in a quarter of all studies."""

_NORMAL = NormalDist()
_MOST_TIMES = 16
"""If more than this many times the trials were needed, no number is given: the settings hardly differ."""


@dataclass(frozen=True, slots=True)
class PairedBest:
    """How two settings compare when each has the same k of the `points` that they share.

    `wins` is the share of the draws in which the first has the better best trial, a tie counted as half; `quarter` is
    the same with half as many points. `times` is how many times the trials would be needed for `wins` to reach
    PREFERRED, growing as it has grown from `quarter`; None if it does not grow, or above 16.
    """

    points: int
    k: int
    wins: float
    quarter: float | None
    times: float | None

    @property
    def has_winner(self) -> bool:
        """Whether one of the two settings is to be preferred."""
        return self.points >= FEWEST_PAIRED_POINTS and max(self.wins, 1 - self.wins) >= PREFERRED


def paired_best(left: Mapping[int, float], right: Mapping[int, float]) -> PairedBest | None:
    """Compare two settings by the costs of their trials at each point; None if one has no trial.

    All draws of k = n/2 of the n shared points are equally probable, so the result is what a bootstrap would estimate.
    With one shared point k is 1. Infinite costs (infeasible trials) never win. Settings that share few points (those
    written by hand) are drawn independently, and n is the smaller number of trials.
    """
    shared = sorted(left.keys() & right.keys())
    fewer = min(len(left), len(right))
    if fewer == 0:
        return None
    if 2 * len(shared) >= fewer:
        chance, points, own = (
            chance_to_win,
            len(shared),
            ([left[point] for point in shared], [right[p] for p in shared]),
        )
    else:
        chance, points, own = chance_to_win_apart, fewer, (list(left.values()), list(right.values()))
    first, second = (np.array(side, dtype=float) for side in own)
    most = budgets(points)[-1]
    wins = chance(first, second, most)
    quarter = chance(first, second, most // 2) if most >= 2 else None
    return PairedBest(points, most, wins, quarter, _times(wins, quarter))


def chance_to_win(first: Floats, second: Floats, k: int) -> float:
    """The probability that the lowest of `first` is below the lowest of `second` at k points drawn without repetition.

    Both have the shape [points]; equal lowest values count as half a win. Raises ValueError unless 1 <= k <= points.
    """
    points = len(first)
    if not 1 <= k <= points:
        raise ValueError(f"expected a number of points between 1 and {points}, got {k}")
    first, second = (np.where(np.isnan(side), np.inf, side) for side in (first, second))
    lowest = np.minimum(first, second)
    values = np.unique(lowest[np.isfinite(lowest)])
    higher = points - np.searchsorted(np.sort(lowest), values, side="right")
    # A value is the lowest of one setting alone in draws of the points above it and of points where that setting alone
    # has it, with at least one of the latter.
    lead = 0.0
    for sign, own, other in ((1, first, second), (-1, second, first)):
        alone = np.sort(own[own < other])
        here = np.searchsorted(alone, values, side="right") - np.searchsorted(alone, values, side="left")
        ways = _share_of_draws(points, higher + here, k) - _share_of_draws(points, higher, k)
        lead += sign * float(ways.sum())
    return min(max(0.5 + 0.5 * lead, 0.0), 1.0)


def _share_of_draws(points: int, among: NDArray[np.int_], k: int) -> Floats:
    """C(among, k) / C(points, k), shape of `among`; in logarithms, as the numbers are huge."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, points + 1)))])
    enough = np.maximum(among, k)
    shares = np.exp(factorials[enough] - factorials[enough - k] - factorials[points] + factorials[points - k])
    return np.where(among >= k, shares, 0.0)


def chance_to_win_apart(first: Floats, second: Floats, k: int) -> float:
    """The same for settings that share no points: k trials of each are drawn independently."""
    values, chances = best_of_k(first, k)
    others, other_chances = best_of_k(second, k)
    reached = np.concatenate([[0.0], np.cumsum(other_chances)])
    lower = reached[np.searchsorted(others, values, side="left")]
    as_low = reached[np.searchsorted(others, values, side="right")]
    return min(max(float(chances @ (1 - (lower + as_low) / 2)), 0.0), 1.0)


def _times(wins: float, quarter: float | None) -> float | None:
    if quarter is None or not 0 < wins < 1 or not 0 < quarter < 1:
        return None
    now, before = _NORMAL.inv_cdf(wins), _NORMAL.inv_cdf(quarter)
    if now < 0:
        now, before = -now, -before
    goal = _NORMAL.inv_cdf(PREFERRED)
    if now >= goal or now - before <= 0:
        return None
    doublings = (goal - now) / (now - before)
    return 2**doublings if doublings <= math.log2(_MOST_TIMES) else None
