"""Whether the best learning rates are the largest ones that do not diverge: conditioning is the limit, not noise.

Gilmer et al. 2021, section 6 and figure 6: for an ill-conditioned model the best rate is the same at every batch size,
the largest that does not diverge; for a well-conditioned one it is inside, and grows with the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunectl.analysis.results.runs import Floats

NEXT_TO_LARGEST = 1.5
"""A rate counts as the largest within this factor of it: of nearly equal rates the best one is found by luck."""

FEWEST_FEASIBLE = 3
FEASIBLE_BELOW = 0.8
"""A group says something where at least FEWEST_FEASIBLE trials trained, at different rates, and where nearly all trials
below the largest rate that trained did: otherwise the rate is not what decides.
"""

SURE = 0.05
SURE_WITH_CURVATURE = 0.2
"""The largest chance, over all groups together, that each best rate is the largest one by accident; the second where
the measured curvature says the same in every group.
"""


@dataclass(frozen=True, slots=True, eq=False)
class RateGroup:
    """The trials of one setting and batch size, each array of shape [trials].

    `rates` are the (base or peak) learning rates, `costs` numbers to minimise, infinite for a trial that did not train,
    `diverged` which of these diverged. `batch_size` is None where it is not known. `reaches_bound` says whether the
    measured ratio of the best trial comes near the bound, None where it was not measured.
    """

    rates: Floats
    costs: Floats
    diverged: NDArray[np.bool_]
    batch_size: int | None = None
    reaches_bound: bool | None = None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The best rate of each group is the largest that does not diverge.

    `best` and `diverges` are, by group, the best rate and the lowest diverged rate above it. `chance` is that of all
    best rates being the largest by accident. `growth` is the factor by which the best rate grows from the smallest to
    the largest batch size, and `batches` that of the batch sizes; 1 where there is one batch size. `measured` says
    whether the measured curvature agrees in every group.
    """

    best: Mapping[int, float]
    diverges: Mapping[int, float]
    chance: float
    growth: float
    batches: float
    measured: bool


def rate_limit(groups: Mapping[int, RateGroup]) -> RateLimit | None:
    """Whether the best rate of every group is the largest that does not diverge; None if not, or if a group is unclear.

    In each group the best trial has a rate within NEXT_TO_LARGEST of the largest rate of a trial that trained, a trial
    above that one diverged, and below it nearly all trained. If the rate made no difference, that would happen in one
    group by the share of its trained trials that are next to the largest rate; the product over the groups must be at
    most SURE. Where the measured ratio of the best trial of every group comes near the bound, SURE_WITH_CURVATURE is
    enough; where it was measured and does not in some group, curvature is not the limit. If there are several batch
    sizes, the best rate may grow by at most the square root of their ratio: it would be proportional to the batch where
    noise is the limit, and constant where conditioning is.
    """
    if not groups:
        return None
    best: dict[int, float] = {}
    diverges: dict[int, float] = {}
    chance = 1.0
    for name, group in groups.items():
        found = _at_limit(group)
        if found is None or group.reaches_bound is False:
            return None
        best[name], diverges[name], share = found
        chance *= share
    measured = all(group.reaches_bound for group in groups.values())
    growth, batches = _growth(groups, best)
    if chance > (SURE_WITH_CURVATURE if measured else SURE) or growth > math.sqrt(batches):
        return None
    return RateLimit(best, diverges, chance, growth, batches, measured)


def _at_limit(group: RateGroup) -> tuple[float, float, float] | None:
    """The best rate, the lowest diverged rate above the largest that trained, and the chance of that; None if the best
    rate is not the largest.
    """
    trained = np.isfinite(group.costs)
    rates = group.rates[trained]
    if len(np.unique(rates)) < FEWEST_FEASIBLE:
        return None
    largest, best = float(rates.max()), float(rates[np.argmin(group.costs[trained])])
    above = group.rates[group.diverged & (group.rates > largest)]
    below = trained[group.rates <= largest]
    near = rates >= largest / NEXT_TO_LARGEST
    if best < largest / NEXT_TO_LARGEST or not len(above) or below.mean() < FEASIBLE_BELOW:
        return None
    return best, float(above.min()), float(near.mean())


def _growth(groups: Mapping[int, RateGroup], best: Mapping[int, float]) -> tuple[float, float]:
    """How many times larger the best rate of the largest batch is than that of the smallest, by the medians over the
    groups of a batch size, and how many times larger that batch is; 1 and 1 where there is one batch size.
    """
    by_batch: dict[int, list[float]] = {}
    for name, group in groups.items():
        if group.batch_size is not None:
            by_batch.setdefault(group.batch_size, []).append(best[name])
    if len(by_batch) < 2:
        return 1.0, 1.0
    small, large = min(by_batch), max(by_batch)
    return float(np.median(by_batch[large]) / np.median(by_batch[small])), large / small
