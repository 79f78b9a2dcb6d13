"""The metric that a study optimises: how a trial becomes one number, and which of two numbers is better."""

from __future__ import annotations

import math
from collections.abc import Iterable
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


def first_step_reaching(
    steps: Iterable[int], values: Iterable[float | None], target: float, direction: Direction
) -> int | None:
    """The first evaluated step after 0 whose value is at the target or beyond it; None where none is.

    `values` are those of one metric at these steps, in any order of the steps. A missing, NaN or infinite value never
    reaches a target, as it never counts as the best. What follows the first step does not matter: a value that leaves
    the target again has reached it. The resolution is that of the evaluations: the metric may have been there up to
    one interval of evaluations earlier. Source: Deep Learning Tuning Playbook, "Choosing the batch size", which
    compares batch sizes by the steps to a target.
    """
    sign = 1 if direction == "minimize" else -1
    pairs = zip(steps, values, strict=True)
    reached = [
        int(step)
        for step, value in pairs
        if step > 0 and value is not None and math.isfinite(value) and sign * value <= sign * target
    ]
    return min(reached, default=None)
