"""Trials trained again with new seeds: how much of a result is luck.

Deep Learning Tuning Playbook, "Determining whether to adopt": *trial variance* is the variance between retrains of one
configuration. The selected trial itself is left out: it was selected because it was lucky.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tunectl.analysis.results.seed_variation import outcomes_are_identical
from tunectl.analysis.results.stages import of_judged_stage
from tunectl.core.objective import Objective
from tunectl.core.records import HAS_RESULT, TrialOutcome


@dataclass(frozen=True, slots=True)
class Retrained:
    """A trial of the search and its retrains, in the order of their repeats, finished or not.

    `values` are the best values of the completed ones; `mean` is their mean, None without any; `standard_deviation`
    (with n - 1) is None with fewer than two, and if seeds change nothing. `lost` is the number of retrains that ended
    without a value: infeasible and failed ones. `not_reached` is the number of those that completed without reaching
    the objective's target, whose values are only known to be larger than their steps: then mean and deviation are None,
    since those of the others would be too small.
    """

    searched: TrialOutcome
    retrains: tuple[TrialOutcome, ...]
    has_target: bool = False

    @property
    def values(self) -> tuple[float, ...]:
        """The values of the retrains that completed."""
        found = (item.best_value for item in self.retrains if item.state == "completed")
        return tuple(value for value in found if value is not None and math.isfinite(value))

    @property
    def ended(self) -> tuple[TrialOutcome, ...]:
        """The retrains that completed or are infeasible."""
        return tuple(item for item in self.retrains if item.state in HAS_RESULT)

    @property
    def lost(self) -> int:
        """The number of retrains that ended without a value."""
        ended = sum(item.state in ("completed", "infeasible", "failed") for item in self.retrains)
        return ended - len(self.values) - self.not_reached

    @property
    def not_reached(self) -> int:
        """The number of retrains that completed and never reached the target."""
        completed = sum(item.state == "completed" for item in self.retrains)
        return completed - len(self.values) if self.has_target else 0

    @property
    def identical(self) -> bool:
        """Whether seeds change nothing: the retrains are exactly equal, or a single one equals the trial itself."""
        ended = self.ended
        return outcomes_are_identical(ended if len(ended) > 1 else [self.searched, *ended])

    @property
    def mean(self) -> float | None:
        """The mean of the values."""
        return statistics.mean(self.values) if self.values and not self.not_reached else None

    @property
    def standard_deviation(self) -> float | None:
        """The standard deviation of the values, with n - 1."""
        known = len(self.values) > 1 and not self.not_reached and not self.identical
        return statistics.stdev(self.values) if known else None


def retrained(outcomes: Sequence[TrialOutcome], objective: Objective) -> list[Retrained]:
    """Every trial of the search that was trained again, by id; the outcomes are those under this objective."""
    searched = {item.plan.origin: item for item in outcomes if item.plan.trial_kind == "search"}
    again: dict[tuple[int, int, int], list[TrialOutcome]] = {}
    for item in outcomes:
        key = item.plan.origin
        if item.plan.trial_kind == "retrain" and key in searched:
            again.setdefault(key, []).append(item)
    pairs = sorted((searched[key].plan.trial, key) for key in again)
    has_target = objective.steps_to is not None
    return [
        Retrained(searched[key], tuple(sorted(again[key], key=lambda item: item.plan.repeat)), has_target)
        for _, key in pairs
    ]


def best_searched(outcomes: Sequence[TrialOutcome], objective: Objective, count: int) -> list[TrialOutcome]:
    """The best `count` completed trials of the search, the best first; of equal ones the smaller id first.

    Of several stages the judged one counts.
    """
    found = [
        item
        for item in of_judged_stage(outcomes)
        if item.plan.trial_kind == "search" and item.state == "completed" and objective.cost(item.best_value) < math.inf
    ]
    return sorted(found, key=lambda item: objective.rank(item.best_value, item.plan.trial))[:count]
