"""The best learning rate of a sweep under seeds that had no part in choosing it.

The best of a dozen rates under three seeds is in part the luckiest, and near the edge of stability one seed in four may
be lost, which three do not show. So the best few rates run again under fresh seeds, and these name the best.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunectl.analysis.results.runs import Run
from tunectl.core.objective import Objective
from tunectl.core.records import Scalar
from tunectl.procedures.lr_phases import CONFIRMED
from tunectl.procedures.procedure import Results, Wish, has_all, runs_of
from tunectl.procedures.recipes import FRESH

CONTENDERS = 3
"""At most this number of the best rates run again: those that the seeds of the sweep cannot distinguish."""

MORE_LOWER = 3
"""Where each of them loses a seed, at most this number of lower rates, one after the other, until one loses none."""

APART = 2.0
"""Two means differ when they lie this number of standard errors apart."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A rate, its runs under fresh seeds, and all of its runs."""

    rate: float
    fresh: Sequence[Run]
    runs: Sequence[Run]

    @property
    def lost(self) -> int:
        """How many of all its seeds are infeasible."""
        return sum(not run.feasible for run in self.runs)

    def mean(self, objective: Objective) -> float:
        """The mean cost of the fresh seeds that are not lost; infinite where all are."""
        found = _finite(self.fresh, objective)
        return statistics.fmean(found) if found else math.inf

    def rank(self, objective: Objective) -> tuple[float, float, float]:
        """The lower the better: one that loses no seed, then the mean of the fresh ones, then the lower rate."""
        return (self.lost, self.mean(objective), self.rate)

    def is_as_good_as(self, best: Confirmed, objective: Objective) -> bool:
        """Whether the fresh seeds cannot distinguish the two; a pair of runs has the same seed."""
        pairs = [
            (here.cost(objective), there.cost(objective)) for here, there in zip(self.fresh, best.fresh, strict=False)
        ]
        worse = [here - there for here, there in pairs if math.isfinite(here) and math.isfinite(there)]
        if len(worse) < 2:
            return False
        return abs(statistics.fmean(worse)) <= APART * statistics.stdev(worse) / math.sqrt(len(worse))


def contenders(swept: Mapping[float, Sequence[Run]], objective: Objective) -> list[float]:
    """The rates that are worth running again, the best first.

    A rate is ranked by the mean of its seeds, in which a lost one is infinite, then by their median. Those come along
    that are not worse than the first by more than APART standard errors, by the deviation of the seeds at it and at
    its two neighbours.
    """
    ranked = sorted((_rank(rate, runs, objective) for rate, runs in swept.items()), key=lambda item: item[:3])
    ranked = [item for item in ranked if math.isfinite(item[1])]
    if not ranked:
        return []
    first = ranked[0][2]
    rates = sorted(swept)
    index = rates.index(first)
    near = [_finite(swept[rate], objective) for rate in rates[max(0, index - 1) : index + 2]]
    variances = [statistics.variance(values) for values in near if len(values) > 1]
    error = math.sqrt(statistics.fmean(variances) * 2 / len(swept[first])) if variances else 0.0
    limit = statistics.fmean(_finite(swept[first], objective)) + APART * error
    level = [rate for mean, median, rate in ranked if statistics.fmean(_finite(swept[rate], objective)) <= limit]
    return level[:CONTENDERS]


def _rank(rate: float, runs: Sequence[Run], objective: Objective) -> tuple[float, float, float]:
    losses = [run.cost(objective) for run in runs]
    return statistics.fmean(losses), statistics.median(losses), rate


def _finite(runs: Sequence[Run], objective: Objective) -> list[float]:
    return [loss for run in runs if math.isfinite(loss := run.cost(objective))]


def confirming(
    results: Results,
    swept: Mapping[float, Sequence[Run]],
    objective: Objective,
    changes: Mapping[str, Scalar | None],
    training: Mapping[str, int],
) -> list[Wish]:
    """The contenders under fresh seeds; where each of them loses a seed, lower rates, until one loses none."""
    rates = sorted(swept)
    first = contenders(swept, objective)
    if not first:
        return []
    tried = list(first)
    lower = [rate for rate in reversed(rates) if rate < min(first) and all(run.feasible for run in swept[rate])]
    del lower[MORE_LOWER:]
    while True:
        wishes = [
            Wish(CONFIRMED, rates.index(rate), repeat, {**changes, "learning_rate": rate}, training)
            for rate in tried
            for repeat in FRESH
        ]
        if not has_all(results, wishes) or not lower:
            return wishes
        if any(item.rate in tried and not item.lost for item in confirmed(results, swept)):
            return wishes
        tried.append(lower.pop(0))


def confirmed(results: Results, swept: Mapping[float, Sequence[Run]]) -> list[Confirmed]:
    """The rates that ran under fresh seeds, with all of their runs, by rate."""
    found = []
    for runs in runs_of(results, CONFIRMED).values():
        rate = float(runs[0].plan.hyperparameters["learning_rate"])
        found.append(Confirmed(rate, runs, [*swept.get(rate, []), *runs]))
    return sorted(found, key=lambda item: item.rate)


def chosen(found: Sequence[Confirmed], objective: Objective) -> Confirmed | None:
    """The best of the confirmed rates; None where none was confirmed, or all of its fresh seeds are lost."""
    best = min(found, key=lambda item: item.rank(objective), default=None)
    return best if best is not None and math.isfinite(best.mean(objective)) else None
