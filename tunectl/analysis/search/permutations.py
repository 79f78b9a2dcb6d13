"""Ranks, and permutation tests on them: how often chance pairs two columns at least as well as they are paired."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import permutations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tunectl.analysis.results.runs import Floats

_NORMAL = NormalDist()

_ALL_PERMUTATIONS = 7
"""For up to this many numbers every permutation is tried: 5,040."""

FIRST_DRAWN = 1_000
_DRAWN_PERMUTATIONS = 10_000
ENOUGH_EXCEEDING = 50
"""If this many of the first permutations reach the sum, a more exact chance makes no difference."""

_DRAWN_UP_TO = 400
"""With more numbers the approximation is good to a few per cent far into the tail, and permuting is slow."""

_WORTH_DRAWING = 0.3
"""Above this chance, by the approximation, a more exact one makes no difference."""


def ranks(values: Floats) -> Floats:
    """The rank of each value from 1 on, with the mean rank for equal values; shape [values]."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def normal_scores(values: Floats) -> Floats:
    """The values' ranks as quantiles of the normal distribution (van der Waerden), shape [values]."""
    shares, place = np.unique((ranks(values) - 0.5) / max(len(values), 1), return_inverse=True)
    return np.array([_NORMAL.inv_cdf(share) for share in shares.tolist()], dtype=float)[place]


def scores_within(values: Floats, groups: NDArray[np.int_]) -> Floats:
    """The normal scores of the values within each group, shape [values]; `groups` has the number of each one's."""
    scores = np.zeros(len(values))
    for group in np.unique(groups):
        here = groups == group
        scores[here] = normal_scores(values[here])
    return scores


def chance_of_pairing(left: Floats, right: Floats) -> float:
    """The chance that a sum of products is as large as this one if the columns are paired at random; in (0, 1].

    The one-sided permutation test of a linear statistic, for columns of one length: exact for few numbers, from drawn
    permutations (always the same ones) for more, from the first three moments for many. 1 if a column is constant.
    """
    count = len(left)
    if count < 2:
        return 1.0
    left, right = left - left.mean(), right - right.mean()
    spread = float(left @ left) * float(right @ right)
    if spread <= 1e-20:
        return 1.0
    sum_seen = float(left @ right)
    enough = sum_seen - 1e-9 * math.sqrt(spread)
    if count <= _ALL_PERMUTATIONS:
        return float(np.mean(right[drawn_orders(count)] @ left >= enough))
    approximate = _by_moments(left, right, sum_seen)
    if approximate > _WORTH_DRAWING or count > _DRAWN_UP_TO:
        return approximate
    orders = drawn_orders(count)
    exceeding = int(np.count_nonzero(right[orders[:FIRST_DRAWN]] @ left >= enough))
    draws = FIRST_DRAWN
    if exceeding < ENOUGH_EXCEEDING:
        exceeding, draws = int(np.count_nonzero(right[orders] @ left >= enough)), len(orders)
    drawn = (1 + exceeding) / (1 + draws)
    # If no draw reaches it, the approximation, which errs upwards here, is closer than one over the number of draws.
    return min(drawn, approximate) if exceeding == 0 else drawn


@lru_cache(maxsize=16)
def drawn_orders(count: int) -> NDArray[np.uint16]:
    """Orders of `count` numbers, shape [orders, count]: all of up to 7 numbers, else always the same 10,000."""
    if count <= _ALL_PERMUTATIONS:
        return np.array(list(permutations(range(count))), dtype=np.uint16)
    places = np.tile(np.arange(count, dtype=np.uint16), (_DRAWN_PERMUTATIONS, 1))
    return np.random.default_rng(0).permuted(places, axis=1)


def is_every_order(count: int) -> bool:
    """Whether `drawn_orders` are all orders of `count` numbers, and not a sample of them."""
    return count <= _ALL_PERMUTATIONS


def _by_moments(left: Floats, right: Floats, sum_seen: float) -> float:
    """By a Pearson type III distribution with the statistic's variance and skewness (Wilson and Hilferty's tail)."""
    count = len(left)
    variance = float(left @ left) * float(right @ right) / (count - 1)
    third = count * float(np.sum(left**3)) * float(np.sum(right**3)) / ((count - 1) * (count - 2))
    away, skewness = sum_seen / math.sqrt(variance), third / variance**1.5
    if abs(skewness) < 1e-3:
        return max(_NORMAL.cdf(-away), 1e-300)
    shape = 4 / skewness**2
    root = max(1 + skewness * away / 2, 0.0) ** (1 / 3)
    normal = 3 * math.sqrt(shape) * (root - 1 + 1 / (9 * shape))
    return max(_NORMAL.cdf(-normal if skewness > 0 else normal), 1e-300)
