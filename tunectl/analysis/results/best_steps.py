"""After how many updates a configuration was best: in its trial, and in the retrains of it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunectl.core.records import TrialOutcome


@dataclass(frozen=True, slots=True)
class BestSteps:
    """The best step of each completed trial with one configuration, by trial id; the trial of the search comes first.

    One trial's best step is that of its luckiest evaluation. `typical`, the median, is what to train for where no
    checkpoint can be selected: a retrain that peaked early or late moves it least.
    """

    by_trial: Mapping[int, int]

    @property
    def typical(self) -> int:
        """The median, rounded."""
        return round(statistics.median(self.by_trial.values()))


def best_steps(outcomes: Sequence[TrialOutcome], trial: TrialOutcome) -> BestSteps:
    """The best steps of a completed trial and of all others with its setting, point and stage."""
    found = {
        item.plan.trial: item.best_step
        for item in [trial, *outcomes]
        if item.plan.origin == trial.plan.origin and item.state == "completed" and item.best_step
    }
    return BestSteps(found)
