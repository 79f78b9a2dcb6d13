"""The rounds of a campaign in their order: what each found, what was launched, and what it cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from tunectl.analysis.comparison.campaign_gains import CampaignProgress, RoundResult, best_so_far, campaign_progress
from tunectl.analysis.results.training_cost import StudyCost
from tunectl.core.objective import Objective


@dataclass(frozen=True, slots=True)
class HistoryRound:
    """A round of a campaign. `problem` says why it has no result; "" where it has one.

    `named` is the round as campaign.yaml has it, `folder` its study folder. `best_trial` and `best_value` are those of
    its search; the round is judged by the retrains of `retrained_trial`, and `retrains` are their costs, numbers
    to minimise, infinite where one ended without a value. `searches` counts the searches of the study with other seeds,
    too, whose cost is in `cost`. `launched` are the trials of it that were launched.
    """

    named: str
    folder: str = ""
    study: str = ""
    problem: str = ""
    best_trial: int | None = None
    best_value: float | None = None
    retrained_trial: int | None = None
    retrains: tuple[float, ...] = ()
    identical: bool = False
    searches: int = 1
    launched: tuple[int, ...] = ()
    cost: StudyCost = field(default_factory=StudyCost)

    @property
    def name(self) -> str:
        """The name of its study, else what campaign.yaml calls it."""
        return self.study or self.named


@dataclass(frozen=True, slots=True)
class CampaignHistory:
    """The rounds of a campaign in their order, by its objective; None where no round could be read.

    `baseline` is the value of the baseline, None where there is none or it is not known, and `baseline_name` says what
    it is.
    """

    objective: Objective | None
    rounds: tuple[HistoryRound, ...]
    baseline: float | None = None
    baseline_name: str = ""

    def result(self, item: HistoryRound) -> RoundResult:
        """What a round found, as a number to minimise."""
        assert self.objective is not None, "a round with a result has an objective"
        searched = None if item.best_value is None else self.objective.cost(item.best_value)
        return RoundResult(item.named, searched, item.retrains, item.identical)

    @property
    def judged(self) -> list[HistoryRound]:
        """The rounds with a result."""
        return [item for item in self.rounds if not item.problem and item.best_value is not None]

    @property
    def progress(self) -> CampaignProgress:
        """Whether the last rounds gained anything."""
        return campaign_progress([self.result(item) for item in self.judged])

    def mean(self, item: HistoryRound) -> float | None:
        """The mean of a round's retrains as a value of the objective; None where it is not known."""
        cost = None if self.objective is None else self.result(item).mean
        return None if cost is None or self.objective is None else self.objective.value(cost)

    def deviation(self, item: HistoryRound) -> float | None:
        """The standard deviation of a round's retrains; None where it is not known."""
        known = self.mean(item) is not None and len(item.retrains) > 1
        return statistics.stdev(item.retrains) if known else None

    def best_values(self) -> list[float | None]:
        """The best value of the searches up to each round."""
        return self._path([self.result(item).searched if item in self.judged else None for item in self.rounds])

    def best_means(self) -> list[float | None]:
        """The best mean of retrains up to each round."""
        return self._path([self.result(item).mean if item in self.judged else None for item in self.rounds])

    def _path(self, costs: Sequence[float | None]) -> list[float | None]:
        known = [None if cost is None or not math.isfinite(cost) else cost for cost in costs]
        return [
            None if cost is None or self.objective is None else self.objective.value(cost)
            for cost in best_so_far(known)
        ]

    def costs(self) -> list[StudyCost]:
        """The cost of the campaign up to each round."""
        return list(accumulate(item.cost for item in self.rounds))
