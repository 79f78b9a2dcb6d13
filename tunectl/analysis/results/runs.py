"""A trial as procedures and findings need it: its plan, how it ended, and its series as arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunectl.core.measurement_kinds import EVALUATION, MEASUREMENT_KINDS
from tunectl.core.measurements import Measurement, UpdateBlock
from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial, State

Floats = NDArray[np.float64]

MeasuredCurve = tuple[Floats, Floats]
"""The steps of a metric's evaluations, increasing, and its values there, each of shape [evaluations]."""


LARGEST = 1e150
"""A larger value overflows when it is squared, and counts as infinite."""


def usable(values: Floats) -> NDArray[np.bool_]:
    """Which values can be computed with: those that are finite and smaller than LARGEST, shape of `values`."""
    return np.asarray(np.abs(values) < LARGEST)


def _no_floats() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class UpdateSeries:
    """The measurements of every update, each array of shape [updates], in the order of the updates from 0 on.

    `loss` is the minibatch loss, `gradient_norm` the unclipped global norm; if a value that is not finite ended the
    trial, it is the last one. `clipped` says whether the gradient was scaled down, `skipped` whether the update was
    skipped because a float16 gradient overflowed (its norm is not finite). `update_ratio`, at the updates
    `update_ratio_steps`, is the size of an update of the weights with two or more axes, relative to their norm.
    """

    loss: Floats = field(default_factory=_no_floats)
    gradient_norm: Floats = field(default_factory=_no_floats)
    learning_rate: Floats = field(default_factory=_no_floats)
    clipped: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    skipped: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    update_ratio_steps: Floats = field(default_factory=_no_floats)
    update_ratio: Floats = field(default_factory=_no_floats)

    def __len__(self) -> int:
        return len(self.loss)


def joined(blocks: Sequence[UpdateBlock]) -> UpdateSeries:
    """The series of consecutive blocks, up to the first block that does not begin where the one before it ended."""
    whole: list[UpdateBlock] = []
    updates = 0
    for block in blocks:
        if block.first != updates:
            break
        whole.append(block)
        updates += len(block.loss)
    if not whole:
        return UpdateSeries()
    return UpdateSeries(
        loss=np.concatenate([np.asarray(block.loss, dtype=float) for block in whole]),
        gradient_norm=np.concatenate([np.asarray(block.gradient_norm, dtype=float) for block in whole]),
        learning_rate=np.concatenate([np.asarray(block.learning_rate, dtype=float) for block in whole]),
        clipped=np.concatenate([np.asarray(block.clipped, dtype=bool) for block in whole]),
        skipped=np.isin(np.arange(updates), [update for block in whole for update in block.skipped]),
        update_ratio_steps=np.concatenate([np.asarray(block.update_ratio_steps, dtype=float) for block in whole]),
        update_ratio=np.concatenate([np.asarray(block.update_ratio, dtype=float) for block in whole]),
    )


def printed_updates(measurements: Iterable[Measurement]) -> UpdateSeries:
    """The training loss and the gradient norm that own code printed, at each step with at least one of them.

    Unlike those of the built-in loop they are not of every update. A series is NaN where it was not printed.
    """
    rows = [
        (item.metrics.get("train/loss"), item.gradient_norm)
        for item in sorted(measurements, key=lambda item: item.step)
        if item.measurement_kind == EVALUATION.name and item.step > 0
    ]
    printed = [(loss, norm) for loss, norm in rows if loss is not None or norm is not None]
    loss, norm = (np.array([math.nan if row[place] is None else row[place] for row in printed]) for place in (0, 1))
    if not printed or np.isnan(loss).all():
        loss = np.zeros(0)
    return UpdateSeries(loss=loss, gradient_norm=norm, learning_rate=np.full(len(norm), math.nan))


def curves_of(measurements: Iterable[Measurement]) -> dict[str, MeasuredCurve]:
    """The curve of every metric over the steps at which it was measured, by any of the MEASUREMENT_KINDS.

    They may come in any order, each step once.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for item in sorted(
        (item for item in measurements if item.measurement_kind in MEASUREMENT_KINDS), key=lambda item: item.step
    ):
        for name, value in item.metrics.items():
            found.setdefault(name, []).append((item.step, value))
    return {
        name: (np.array([step for step, _ in points], dtype=float), np.array([value for _, value in points]))
        for name, points in found.items()
    }


def curves_of_columns(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> dict[int, dict[str, MeasuredCurve]]:
    """The curves of several trials by trial and metric, from columns of measurements by (trial, step, kind).

    The columns are trial, step, kind and those of the metrics in `names`, None where one was not measured; others may
    follow.
    """
    trials, steps = np.array(columns[0]), np.array(columns[1], dtype=float)
    drawn = np.array([kind in MEASUREMENT_KINDS for kind in columns[2]], dtype=bool)
    metrics = [
        (name, np.array(values, dtype=float), drawn & np.array([value is not None for value in values], dtype=bool))
        for name, values in zip(names, columns[3:], strict=False)
    ]
    edges = [0, *(np.flatnonzero(np.diff(trials)) + 1).tolist(), len(trials)]
    found: dict[int, dict[str, MeasuredCurve]] = {}
    for first, end in pairwise(edges):
        part, whole = slice(first, end), slice(None)
        curves = found[int(trials[first])] = {}
        for name, values, measured in metrics:
            # Most trials measure every metric at every evaluation: their curves share one array of steps.
            here = whole if measured[part].all() else measured[part]
            if measured[part].any():
                curves[name] = (steps[part][here], values[part][here])
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One trial with its results; compared by identity, so that it can be a key for what was computed from it.

    `best_value` is that of retrospective selection under the objective in question, None if nothing finite was
    measured, or if the objective's target was never reached. `baseline_loss` is the workload's, None if it has none.
    `train_seconds` is the time of its `final_step` updates, without evaluations, and `train_examples` the size of its
    training set, each None if not known. `evaluated_examples` are the numbers of examples on which a metric of a split
    is measured, by split; empty where they are not known. `curves` are the evaluations by metric; `updates` are empty
    if they were not read.
    """

    plan: PlannedTrial
    state: State
    reason: str = ""
    infeasible_step: int | None = None
    best_value: float | None = None
    best_step: int | None = None
    baseline_loss: float | None = None
    train_seconds: float | None = None
    final_step: int | None = None
    train_examples: int | None = None
    curves: Mapping[str, MeasuredCurve] = field(default_factory=dict)
    updates: UpdateSeries = field(default_factory=UpdateSeries)
    evaluated_examples: Mapping[str, int] = field(default_factory=dict)

    @property
    def feasible(self) -> bool:
        """Whether the trial completed."""
        return self.state == "completed"

    def curve(self, metric: str) -> MeasuredCurve:
        """The steps and values of a metric over the evaluations, each of shape [evaluations], by step."""
        return self.curves.get(metric, (_no_floats(), _no_floats()))

    def cost(self, objective: Objective) -> float:
        """The best value as a number to minimise; infinite for an infeasible trial, and if there is none."""
        return objective.cost(self.best_value) if self.feasible else math.inf

    def never_reached(self, objective: Objective) -> bool:
        """Whether the trial completed without reaching the objective's target: it takes more steps than it trained."""
        return objective.steps_to is not None and self.feasible and self.best_value is None

    def last_step(self, objective: Objective) -> float:
        """The step of the last evaluation of the objective's metric; 0 without any."""
        steps, _ = self.curve(objective.metric)
        return float(steps[-1]) if len(steps) else 0.0

    def closest(self, objective: Objective) -> tuple[float, float] | None:
        """The step and value of the metric's best evaluation after step 0, of equal ones the first; None without any.

        It is what a trial that never reached a target came closest with.
        """
        steps, values = self.curve(objective.metric)
        keep = (steps > 0) & np.isfinite(values)
        if not keep.any():
            return None
        costs = values[keep] if objective.direction == "minimize" else -values[keep]
        at = int(np.argmin(costs))
        return float(steps[keep][at]), float(values[keep][at])
