"""Retrospective selection: which evaluation of a trial counts."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tunectl.core.measurement_kinds import EVALUATION, MEASUREMENT_KINDS
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective, first_step_reaching


@dataclass(frozen=True, slots=True)
class Selection:
    """The result of one trial under an objective.

    `best_*` are those of the evaluation that counts, None if there is none. `best_value` is its value of the metric, or
    with a target its step. `final_*` are those of the last evaluation, whatever its value: it may be NaN or infinite,
    and is None if the metric was not measured then. `final_value` is always the metric's. `best_checkpoint` is the name
    of a file. `metrics_at_best` are also those that were measured at the end alone.
    """

    best_step: int | None = None
    best_value: float | None = None
    final_step: int | None = None
    final_value: float | None = None
    best_checkpoint: str | None = None
    metrics_at_best: Mapping[str, float] = field(default_factory=dict)


def select(
    measurements: Iterable[Measurement], objective: Objective, existing_checkpoints: Container[str] = ()
) -> Selection:
    """Choose the evaluation by which a trial counts.

    It is the one with the best finite value after step 0, of equal ones the first; if the objective's checkpoint is
    "final", it is the last one after step 0, if its value is finite. With a target it is the first one after step 0
    that reaches it, and there is none where none does. Its checkpoint is named only if it is among the
    `existing_checkpoints`. Measurements may come in any order, each (step, kind) once. Only evaluations are chosen;
    what other kinds measured for that step (`MeasurementKind.counting_at`) is among the metrics, and so are metrics
    that were measured at the end alone.
    """
    evaluations: list[Measurement] = []
    others: list[Measurement] = []
    for item in sorted(measurements, key=lambda item: item.step):
        (evaluations if item.measurement_kind == EVALUATION.name else others).append(item)
    if not evaluations:
        return Selection()
    last = evaluations[-1]
    final_value = last.metrics.get(objective.metric)
    after_start = [item for item in evaluations if item.step > 0]
    chosen, at_end = _chosen(after_start, objective), _measured_at_end(after_start, objective.metric)
    if chosen is None:
        return Selection(final_step=last.step, final_value=final_value, metrics_at_best=at_end)
    return Selection(
        best_step=chosen.step,
        best_value=chosen.metrics[objective.metric] if objective.steps_to is None else float(chosen.step),
        final_step=last.step,
        final_value=final_value,
        best_checkpoint=chosen.checkpoint if chosen.checkpoint in existing_checkpoints else None,
        metrics_at_best={**at_end, **_at_step(chosen, others)},
    )


def _measured_at_end(evaluations: Sequence[Measurement], metric: str) -> Mapping[str, float]:
    """The metrics that were measured at the end alone, as those of a test after training: at no step before the last
    one with a value of the objective. They are about the trial, whichever step is chosen.
    """
    last = max((place for place, item in enumerate(evaluations) if metric in item.metrics), default=0)
    if last == 0:
        return {}
    before = {name for item in evaluations[:last] for name in item.metrics}
    return {name: value for item in evaluations[last:] for name, value in item.metrics.items() if name not in before}


def _at_step(chosen: Measurement, others: Sequence[Measurement]) -> Mapping[str, float]:
    """The metrics of an evaluation, and those of other kinds that count for its step."""
    found: dict[str, float] = {}
    for kind in MEASUREMENT_KINDS.values():
        found |= kind.counting_at(chosen.step, others)
    return {**found, **chosen.metrics}


def _chosen(evaluations: list[Measurement], objective: Objective) -> Measurement | None:
    values = [item.metrics.get(objective.metric) for item in evaluations]
    if objective.steps_to is not None:
        steps = [item.step for item in evaluations]
        reached = first_step_reaching(steps, values, objective.steps_to, objective.direction)
        return None if reached is None else evaluations[steps.index(reached)]
    if objective.checkpoint == "final":
        evaluations, values = evaluations[-1:], values[-1:]
    costs = [objective.metric_cost(value) for value in values]
    least = min(costs, default=math.inf)
    # Of equal ones the first, because they are in the order of their steps.
    return evaluations[costs.index(least)] if least < math.inf else None
