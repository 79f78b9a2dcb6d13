"""Whether to adopt a change: a candidate is compared with the current choice, by retrains of the best trial of each.

Deep Learning Tuning Playbook, "Determining whether to adopt a training pipeline change or hyperparameter
configuration": a difference counts if it is larger than what retraining the same configuration (*trial variance*) and
searching again (*study variance*) give by chance.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from tunectl.analysis.results.best_of_k import best_of_k
from tunectl.analysis.results.runs import LARGEST
from tunectl.analysis.results.seed_variation import NO_VARIATION
from tunectl.analysis.search.permutations import ranks

AdoptionVerdict = Literal["adopt", "do not adopt", "not enough evidence"]

LEVEL = 0.05
"""A difference counts if chance gives it less often than this."""

POWER = 0.8
"""With the proposed number of retrains, a true difference as large as the measured one is found this often."""

FEWEST_RETRAINS = 3
"""With 3 retrains of each, all those of one are better by chance in 1 of 20 cases; with fewer, more often."""

FIRST_RETRAINS = 5
"""The number of retrains that is proposed first: fewer say little about their own variance."""

NOT_REACHED = 1e300
"""The cost of a trial that completed and never reached the objective's target: above every number of steps, and below
the infinite cost of an infeasible one. Only ranks use it: like an infinite cost it has no place in a mean.
"""

_NORMAL = statistics.NormalDist()
_MOST_ARRANGEMENTS = 50_000
_FEWEST_SEARCHED = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """One side of a comparison: the value of the best trial of its search, and the costs of that trial's retrains.

    `costs` are the retrains as numbers to minimise, infinite for those that ended without a value, and NOT_REACHED for
    those that never reached a target. `study_deviation`
    is the standard deviation of the search's best trial if other points were drawn, None if unknown. `identical`: the
    retrains have different seeds and exactly the same results, so they are no sample.
    """

    name: str
    search_value: float
    costs: tuple[float, ...]
    study_deviation: float | None = None
    identical: bool = False

    @property
    def lacks_retrains(self) -> bool:
        """Whether there are too few retrains to compute a variance."""
        return len(self.costs) < 2

    @property
    def retrain_deviation(self) -> float | None:
        """The standard deviation of the retrains (n - 1); None with fewer than two, if one has no value, and if seeds
        change nothing.
        """
        if self.identical or self.lacks_retrains or not _have_values(self.costs):
            return None
        return statistics.stdev(self.costs)

    @property
    def not_reached(self) -> int:
        """How many of the retrains never reached the target."""
        return sum(cost == NOT_REACHED for cost in self.costs)


def _have_values(costs: Sequence[float]) -> bool:
    """Whether each cost is a value: finite, and not that of a target that was never reached."""
    return all(math.isfinite(cost) and cost != NOT_REACHED for cost in costs)


def within(costs: Sequence[float], limit: float) -> tuple[float, ...]:
    """Numbers of steps as they are known within `limit` steps: those beyond it are NOT_REACHED by then.

    Where a trial that never reached a target trained for `limit` steps, it is not known to be worse than one that
    reached it later than that.
    """
    return tuple(NOT_REACHED if limit < cost < math.inf else cost for cost in costs)


def study_deviation(costs: Sequence[float]) -> float | None:
    """The standard deviation of the best of half of a search's trials, over all halves.

    It is the change that other points would give by chance, a little larger than for the whole search. None with fewer
    than four trials, and if all trials of a half may be infeasible, or may never have reached a target.
    """
    if len(costs) < _FEWEST_SEARCHED:
        return None
    values, chances = best_of_k(np.array(costs, dtype=float), len(costs) // 2)
    drawn = chances > 0
    if not _have_values(values[drawn].tolist()):
        return None
    mean = float(values[drawn] @ chances[drawn])
    return math.sqrt(float((values[drawn] - mean) ** 2 @ chances[drawn]))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing the retrains of two candidates.

    `improvement` is the fall of the mean cost from the old to the new one, None if a retrain has no value; `interval`
    is its 90 % confidence interval (Welch). `p_better` is how often chance alone ranks the new one's retrains so high,
    `p_worse` so low (exact rank test, one-sided); None without retrains. `more` is the number of retrains of each with
    which a difference as large as the measured one would be found, None if that is not known. `seeds_change_nothing`
    are the names of the candidates whose retrains are identical: more retrains would not help.
    """

    verdict: AdoptionVerdict
    reason: str
    improvement: float | None = None
    interval: tuple[float, float] | None = None
    p_better: float | None = None
    p_worse: float | None = None
    more: int | None = None
    seeds_change_nothing: tuple[str, ...] = ()


def compare(old: Candidate, new: Candidate) -> Comparison:
    """Judge whether to adopt `new` in place of `old`; at least two retrains of each are necessary."""
    identical = tuple(candidate.name for candidate in (old, new) if candidate.identical)
    if identical:
        reason = f"{NO_VARIATION} ({' and '.join(identical)})"
        return Comparison("not enough evidence", reason, seeds_change_nothing=identical)
    lacking = [candidate for candidate in (old, new) if candidate.lacks_retrains]
    if lacking:
        names = [f"{candidate.name} has {'one retrain' if candidate.costs else 'no retrains'}" for candidate in lacking]
        which = "its best trial" if len(lacking) == 1 else "the best trial of each"
        reason = f"{' and '.join(names)}, so the variance is unknown: retrain {which} {FIRST_RETRAINS} times"
        return Comparison("not enough evidence", reason)
    p_better, p_worse = rank_test(new.costs, old.costs), rank_test(old.costs, new.costs)
    improvement, interval = _improvement(old.costs, new.costs)
    verdict: AdoptionVerdict = "not enough evidence"
    if p_better <= LEVEL:
        verdict, reason = "adopt", f"its retrains are better, which chance alone gives with p = {p_better:.3g}"
    elif p_worse <= LEVEL:
        verdict, reason = "do not adopt", f"its retrains are worse, which chance alone gives with p = {p_worse:.3g}"
    else:
        reason = f"chance alone gives such a difference with p = {min(p_better, p_worse):.3g}"
    more = _more_retrains(old, new, improvement) if verdict == "not enough evidence" else None
    return Comparison(verdict, reason, improvement, interval, p_better, p_worse, more)


def rank_test(lower: Sequence[float], higher: Sequence[float]) -> float:
    """The one-sided p-value of the rank-sum test that `lower` tends to be below `higher`.

    Exact also with ties, from all arrangements; with too many arrangements, the normal approximation with its
    correction for ties. Infinite values are ties at the end.
    """
    values = np.array([*lower, *higher], dtype=float)
    rank = ranks(values)
    first, count = len(lower), len(values)
    seen = float(rank[:first].sum())
    if math.comb(count, first) <= _MOST_ARRANGEMENTS:
        arrangements = np.array(list(combinations(range(count), first)))
        return float(np.mean(rank[arrangements].sum(axis=1) <= seen + 1e-9))
    mean = first * (count + 1) / 2
    _, ties = np.unique(values, return_counts=True)
    spread = count + 1 - float((ties**3 - ties).sum()) / (count * (count - 1))
    deviation = math.sqrt(first * (count - first) * spread / 12)
    if deviation == 0:
        return 1.0
    return 0.5 * math.erfc(-(seen + 0.5 - mean) / deviation / math.sqrt(2))


def _improvement(old: Sequence[float], new: Sequence[float]) -> tuple[float | None, tuple[float, float] | None]:
    if not _have_values([*old, *new]):
        return None, None
    improvement = statistics.fmean(old) - statistics.fmean(new)
    parts = [statistics.variance(costs) / len(costs) for costs in (old, new)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return improvement, (improvement, improvement)
    from scipy import stats

    shares = sum(part**2 / (len(costs) - 1) for part, costs in zip(parts, (old, new), strict=True))
    reach = float(stats.t.ppf(1 - LEVEL, sum(parts) ** 2 / shares)) * error
    return improvement, (improvement - reach, improvement + reach)


def _more_retrains(old: Candidate, new: Candidate, improvement: float | None) -> int | None:
    deviations = (old.retrain_deviation, new.retrain_deviation)
    if improvement is None or None in deviations:
        return None
    variance = sum(deviation**2 for deviation in deviations if deviation is not None) / 2
    wanted = retrains_needed(improvement, math.sqrt(variance))
    return None if wanted is None else max(wanted, len(old.costs) + 1, len(new.costs) + 1)


def retrains_needed(difference: float, deviation: float) -> int | None:
    """The number of retrains of each of two trials with which `compare` finds a difference of their means, with POWER.

    `deviation` is the standard deviation between retrains. It is the sample size of a one-sided test of two means at
    LEVEL, divided by the rank test's relative efficiency for normal values, 3/pi, plus one because its p takes few
    values. None if there is no difference to find.
    """
    if difference == 0 or not math.isfinite(difference):
        return None
    quantiles = _NORMAL.inv_cdf(1 - LEVEL) + _NORMAL.inv_cdf(POWER)
    apart = quantiles * deviation / difference
    if abs(apart) >= LARGEST:
        return None
    needed = 2 * apart**2 * math.pi / 3
    return max(FEWEST_RETRAINS, math.ceil(needed) + 1)


def detectable_difference(retrains: int, deviation: float) -> float | None:
    """The difference of two means that `compare` finds with POWER from this many retrains of each; the inverse of
    `retrains_needed`. None with too few retrains for any.
    """
    if retrains < FEWEST_RETRAINS:
        return None
    quantiles = _NORMAL.inv_cdf(1 - LEVEL) + _NORMAL.inv_cdf(POWER)
    return quantiles * deviation * math.sqrt(2 * math.pi / 3 / (retrains - 1))


def smallest_p(one: int, other: int) -> float:
    """The smallest p-value that the rank test can give with these numbers of retrains: all of one are better."""
    return 1 / math.comb(one + other, one)
