"""What it means for a trial of own code that its objective came, and has no value that can count."""

from __future__ import annotations

import math
from typing import NamedTuple

from tunectl.core.objective import Objective
from tunectl.core.records import State
from tunectl.programs.collected_metrics import Collector

UPDATES_REMEDY = "record the number of updates that were made"
"""What a function whose objective came at step 0 alone is to do."""


class NoValue(NamedTuple):
    """The state of a trial that ended well but for its objective, with the reason, a message and the step."""

    state: State
    reason: str
    message: str
    step: int | None = None


def no_value(collector: Collector, objective: Objective, remedy: str) -> NoValue | None:
    """Why a trial whose objective came has no value of it; None where it has one.

    An objective that is infinite wherever it counts is the hyperparameters' fault. One at step 0 alone, before any
    training, is a fault of the study: `remedy` says what to do.
    """
    metric = objective.metric
    if objective.checkpoint == "final":
        return _at_the_end(collector, metric, remedy)
    if collector.has_finite(metric):
        return None
    steps = [step for step in sorted(collector.steps) if step > 0 and collector.value(step, metric) is not None]
    if not steps:
        return NoValue("failed", "no_metric", f"{metric} came at step 0 alone, which never counts: {remedy}")
    return NoValue("infeasible", "infinite_metric", f"{metric} is infinite at every step", steps[0])


def _at_the_end(collector: Collector, metric: str, remedy: str) -> NoValue | None:
    last = collector.last_step or 0
    value = collector.value(last, metric)
    if last == 0:
        return NoValue("failed", "no_metric", f"{metric} came at step 0 alone, which never counts: {remedy}")
    if value is None:
        at = collector.last_told(metric)
        why = f"the last {metric} is of step {at}, and the last step is {last}: with checkpoint: final that one counts"
        return NoValue("failed", "no_metric", why)
    if math.isinf(value):
        return NoValue("infeasible", "infinite_metric", f"{metric} is infinite at the last step", last)
    return None
