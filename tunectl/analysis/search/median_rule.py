"""The median rule: whether a trial is stopped because it is worse than most others were at the same step.

Golovin et al., "Google Vizier: A Service for Black-Box Optimization" (2017), section 3.2.2, in which a trial is stopped
at step s if its best value until then is worse than the median of what other trials had reached there. Other than in
that paper, a trial that was itself stopped before s, or was infeasible, stays among the others: without those, each
median would be one of survivors, and ever more trials would be worse than it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median_high

from tunectl.core.objective import Objective
from tunectl.space.search_space import StopEarly


@dataclass(slots=True)
class Reached:
    """What a trial has reached at its evaluations: `costs` are numbers to minimise at the increasing `steps`, the best
    until each step, or the last one where the last evaluation counts (`checkpoint: final`).

    `ended`: it trains no further. `infeasible`: because of its hyperparameters.
    """

    objective: Objective
    steps: list[int] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    ended: bool = False
    infeasible: bool = False

    def add(self, step: int, value: float | None) -> None:
        """Add the objective's metric at an evaluation; one at step 0, or not after the last one, is passed over."""
        if step <= (self.steps[-1] if self.steps else 0):
            return
        cost = self.objective.metric_cost(value)
        if self.costs and self.objective.checkpoint == "best":
            cost = min(cost, self.costs[-1])
        self.steps.append(step)
        self.costs.append(cost)

    def cost_at(self, step: int) -> float | None:
        """The cost at a step, infinite for an infeasible trial; None where it is not known yet."""
        if self.infeasible:
            return math.inf
        if not self.steps or (self.steps[-1] < step and not self.ended):
            return None
        place = bisect.bisect_right(self.steps, step)
        return self.costs[place - 1] if place else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A trial that is worse at a step than the median of others: the two costs, and the number of others."""

    step: int
    cost: float
    median: float
    others: int


def worse_than_most(own: Reached, others: Iterable[Reached], rule: StopEarly, total_steps: int) -> Comparison | None:
    """The comparison by which a trial is to be stopped at its last evaluation; None where it goes on.

    `others` are the trials with which it can be compared. It goes on within the first part `grace` of its
    `total_steps`, at its last step, where fewer than `min_trials` others are known at this step, where it equals the
    median, and where it has no finite value: that is judged at its end.
    """
    if not own.steps or not rule.grace * total_steps <= own.steps[-1] < total_steps:
        return None
    step, cost = own.steps[-1], own.costs[-1]
    known = [found for other in others if (found := other.cost_at(step)) is not None]
    if len(known) < rule.min_trials or not math.isfinite(cost):
        return None
    # Of an even number the larger of the two: where it is not clear, the trial goes on.
    middle = median_high(known)
    return Comparison(step, cost, middle, len(known)) if cost > middle else None
