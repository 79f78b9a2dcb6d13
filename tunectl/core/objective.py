"""The metric that a study optimises: how a trial becomes one number, and which of two numbers is better."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tunectl.core import typed_fields

Direction = Literal["minimize", "maximize"]
CheckpointRule = Literal["best", "final"]


@dataclass(frozen=True, slots=True)
class Objective:
    """The metric that a study optimises.

    `metric` is named `split/name`, and `direction` says which of its values are better. `checkpoint` says whether the
    best or the last evaluation of a trial counts. With `steps_to` the number of a trial is not a value of the metric
    but that of the steps until the metric first reaches this target: its `best_value`, where fewer steps are better
    whatever the direction, and which is missing where the target was never reached (`CheckpointRule` is "best" then).

    So there are two kinds of numbers: `metric_cost` and `metric_rank` compare evaluations, by the metric; `cost`,
    `value` and `rank` compare trials, by their `best_value`.
    """

    metric: str
    direction: Direction
    checkpoint: CheckpointRule = "best"
    steps_to: float | None = field(default=None, metadata={typed_fields.LEFT_OUT_IF_NONE: True})

    def metric_cost(self, value: float | None) -> float:
        """A value of the metric as a number to minimise: infinite where it is missing, NaN or infinite."""
        return _cost(value, self.direction)

    def metric_rank(self, value: float | None, step: int) -> tuple[float, int]:
        """Sort key of an evaluation by its metric, best first: a tie goes to the earlier step."""
        return (self.metric_cost(value), step)

    def best_first(self, evaluations: Iterable[tuple[int, float | None]]) -> list[int]:
        """The steps of these evaluations (step, value of the metric), whose checkpoints are the first to keep first.

        They are in the order of their metric, or of their steps from the last on where the last one counts. With a
        target the first one that reaches it comes before all others.
        """
        values = dict(evaluations)
        if self.checkpoint == "final":
            return sorted(values, reverse=True)
        reached = None
        if self.steps_to is not None:
            reached = first_step_reaching(values, values.values(), self.steps_to, self.direction)
        return sorted(values, key=lambda step: (step != reached, self.metric_rank(values[step], step)))

    @property
    def best_direction(self) -> Direction:
        """Which of two trials' `best_value` is better: the metric's direction, or with a target the smaller one."""
        return self.direction if self.steps_to is None else "minimize"

    def cost(self, best_value: float | None) -> float:
        """A trial's `best_value` as a number to minimise: infinite where it is missing, NaN or infinite."""
        return _cost(best_value, self.best_direction)

    def value(self, cost: float) -> float:
        """The `best_value` with this cost; of an infinite cost the infinite value that is the worst."""
        return cost if self.best_direction == "minimize" else -cost

    def rank(self, best_value: float | None, trial: int) -> tuple[float, int]:
        """Sort key of a trial by its `best_value`, best first: a tie goes to the smaller id."""
        return (self.cost(best_value), trial)

    @property
    def by_metric(self) -> Objective:
        """The same metric without a target: what trials reach, however many steps it takes."""
        return replace(self, steps_to=None)

    @property
    def target(self) -> str:
        """The target in words, `valid/accuracy ≥ 0.85`; "" where there is none."""
        sign = "≤" if self.direction == "minimize" else "≥"
        return "" if self.steps_to is None else f"{self.metric} {sign} {self.steps_to:.12g}"

    @property
    def title(self) -> str:
        """What a trial's `best_value` is: the metric, or `steps to valid/accuracy ≥ 0.85`."""
        return self.metric if self.steps_to is None else f"steps to {self.target}"

    @property
    def never_given(self) -> str:
        """What is wrong where no completed trial has a `best_value`, in words."""
        if self.steps_to is None:
            return f"no trial completed with a value of {self.metric}"
        return f"no completed trial reached {self.target}"

    def to_json(self) -> dict[str, Any]:
        """The fields by name, as in files; `steps_to` only where there is a target."""
        return dict(typed_fields.untyped(self))


def _cost(value: float | None, direction: Direction) -> float:
    if value is None or not math.isfinite(value):
        return math.inf
    return value if direction == "minimize" else -value


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
