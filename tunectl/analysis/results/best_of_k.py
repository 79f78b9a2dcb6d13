"""The best of k trials: the playbook's "how many trials are needed", computed exactly from order statistics.

Deep Learning Tuning Playbook, figure 3: different budgets are simulated by drawing from the trials of a study, and the
best of each draw is shown as a box plot. Here all draws of k different trials of the n are equally probable; an
infeasible trial is a draw of the worst value. k goes up to n/2: beyond that most draws contain the same best trial.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.results.runs import Floats

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The whiskers, the quartiles and the median of a box plot."""

MOST_BUDGETS = 40
"""A curve needs no more points, even with many more trials."""

_FEWEST_TO_EXTRAPOLATE = 8
"""With fewer trials there are no two doublings below half of them."""


@dataclass(frozen=True, slots=True)
class BestOfK:
    """The distribution of the lowest cost of `trials` trials.

    `expected` is its mean, infinite where all of them may be infeasible; the probability of that is `all_infeasible`.
    `quantiles` are those at QUANTILES; they may be infinite too.
    """

    trials: int
    expected: float
    quantiles: tuple[float, ...]
    all_infeasible: float

    @property
    def median(self) -> float:
        """The cost that half of such studies would reach."""
        return self.quantiles[QUANTILES.index(0.5)]


def best_of_k(costs: Floats, k: int) -> tuple[Floats, Floats]:
    """The sorted costs and the probability of each to be the lowest of k drawn trials, both of shape [trials].

    `costs` are numbers to minimise; NaN counts as infinite, as for an infeasible trial. The lowest of the draw is the
    i-th of n in order, from 0 on, with probability C(n-1-i, k-1) / C(n, k). Raises ValueError unless 1 <= k <= n.
    """
    count = len(costs)
    if not 1 <= k <= count:
        raise ValueError(f"expected a number of trials between 1 and {count}, got {k}")
    ordered = np.sort(np.where(np.isnan(costs), np.inf, costs))
    return ordered, _chances(count, k)


def _chances(count: int, k: int) -> Floats:
    # Differences of C(n-i, k) / C(n, k), the probability that the first i are not drawn; in logarithms, as it is huge.
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    left = np.arange(count, k - 1, -1)
    beyond = np.zeros(count + 1)
    beyond[: len(left)] = np.exp(factorials[left] - factorials[left - k] - factorials[count] + factorials[count - k])
    return beyond[:-1] - beyond[1:]


def budgets(trials: int) -> list[int]:
    """The numbers of trials k for which the best is shown, increasing: from 1 to half of the trials."""
    most = max(1, trials // 2) if trials else 0
    if most <= MOST_BUDGETS:
        return list(range(1, most + 1))
    return sorted({round(k) for k in np.geomspace(1, most, MOST_BUDGETS).tolist()})


def best_by_budget(costs: Floats, counts: Sequence[int] | None = None) -> list[BestOfK]:
    """The distribution of the best for each number of trials, by default for `budgets`; [] without any trial."""
    found = []
    for k in budgets(len(costs)) if counts is None else counts:
        values, chances = best_of_k(costs, k)
        feasible = np.isfinite(values)
        reached = np.cumsum(chances)
        # Rounding may leave the sum a little below 1.
        places = [min(int(np.searchsorted(reached, share - 1e-12)), len(values) - 1) for share in QUANTILES]
        expected = float(values[feasible] @ chances[feasible])
        missing = float(chances[~feasible].sum())
        found.append(
            BestOfK(
                trials=k,
                expected=expected if missing <= 1e-15 and feasible.any() else math.inf,
                quantiles=tuple(float(values[place]) for place in places),
                all_infeasible=missing,
            )
        )
    return found


def expected_gain_of_doubling(costs: Floats) -> float | None:
    """The expected fall of the best cost with twice as many trials: an extrapolation, never a measurement.

    For a smooth response the expected best of k trials approaches its limit by a power of k, so each doubling gains the
    same part of what the one before it gained. That part and the gain are taken from the last two doublings up to half
    of the feasible trials. It is at most what the doubling from half of the trials to all of them gained, which is
    known. None for fewer than 8 of them.
    """
    feasible = costs[np.isfinite(costs)]
    count = len(feasible)
    if count < _FEWEST_TO_EXTRAPOLATE:
        return None
    eighth, quarter, half = (item.expected for item in best_by_budget(feasible, [count // 8, count // 4, count // 2]))
    before, last = max(eighth - quarter, 0.0), max(quarter - half, 0.0)
    if not math.isfinite(before + last):
        return None
    part = min(last / before, 1.0) if before > 0 else 0.0
    return min(last * part**2, max(half - float(feasible.min()), 0.0))
