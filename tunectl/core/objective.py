"""The metric that a study optimises: how a trial becomes one number, and which of two numbers is better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Direction = Literal["minimize", "maximize"]
CheckpointRule = Literal["best", "final"]


@dataclass(frozen=True, slots=True)
class Objective:
    """The metric that a study optimises.

    `metric` is named `split/name`; `checkpoint` says whether the best or the last evaluation of a trial counts.
    """

    metric: str
    direction: Direction
    checkpoint: CheckpointRule = "best"

    def cost(self, value: float | None) -> float:
        """A value of the metric as a number to minimise: infinite where it is missing, NaN or infinite."""
        if value is None or not math.isfinite(value):
            return math.inf
        return value if self.direction == "minimize" else -value

    def value(self, cost: float) -> float:
        """The metric's value with this cost; of an infinite cost the infinite value that is the worst."""
        return cost if self.direction == "minimize" else -cost

    def rank(self, value: float | None, step: int) -> tuple[float, int]:
        """Sort key of an evaluation, best first: a tie goes to the earlier step."""
        return (self.cost(value), step)
