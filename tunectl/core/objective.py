"""How a trial becomes one number, and which of two numbers is better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Direction = Literal["minimize", "maximize"]
CheckpointRule = Literal["best", "final"]


@dataclass(frozen=True, slots=True)
class Objective:
    """The metric that a study optimises.

    `metric` is named `split/name`; `checkpoint` says whether a trial counts by its best evaluation or by its last.
    """

    metric: str
    direction: Direction
    checkpoint: CheckpointRule = "best"

    def loss(self, value: float | None) -> float:
        """The value as something to minimise: infinite where it is missing, NaN or infinite."""
        if value is None or not math.isfinite(value):
            return math.inf
        return value if self.direction == "minimize" else -value

    def rank(self, value: float | None, step: int) -> tuple[float, int]:
        """Sort key of an evaluation, best first: a tie goes to the earlier step."""
        return (self.loss(value), step)
