"""The result of a trial of own code whose objective was printed but has no value that counts."""

from __future__ import annotations

import math
from typing import NamedTuple

from tunectl.core.objective import Objective
from tunectl.core.records import NO_METRIC, State
from tunectl.programs.collected_metrics import Collector

UPDATES_REMEDY = "record the number of updates that were made"
"""What to do if a function recorded its objective only at step 0."""


class NoValue(NamedTuple):
    """The state, reason, message and step of a trial that ended normally without a value of its objective."""

    state: State
    reason: str
    message: str
    step: int | None = None


def no_value(collector: Collector, objective: Objective, remedy: str) -> NoValue | None:
    """Why a trial that printed its objective has no value of it; None if it has one.

    An objective that is infinite at every step that counts is the hyperparameters' fault. One that is known only at
    step 0, before any training, is a fault of the study: `remedy` says what to do.
    """
    metric = objective.metric
    if objective.checkpoint == "final":
        return _at_the_end(collector, metric, remedy)
    if collector.has_finite(metric):
        return None
    steps = [step for step in sorted(collector.steps) if step > 0 and collector.value(step, metric) is not None]
    if not steps:
        return NoValue("failed", NO_METRIC, f"{metric} has a value only at step 0, which never counts: {remedy}")
    return NoValue("infeasible", "infinite_metric", f"{metric} is infinite at every step", steps[0])


def _at_the_end(collector: Collector, metric: str, remedy: str) -> NoValue | None:
    last = collector.last_step or 0
    value = collector.value(last, metric)
    if last == 0:
        return NoValue("failed", NO_METRIC, f"{metric} has a value only at step 0, which never counts: {remedy}")
    if value is None:
        at = collector.last_step_of(metric)
        why = f"the last {metric} is of step {at}, but the last step is {last}, which counts with checkpoint: final"
        return NoValue("failed", NO_METRIC, why)
    if math.isinf(value):
        return NoValue("infeasible", "infinite_metric", f"{metric} is infinite at the last step", last)
    return None
