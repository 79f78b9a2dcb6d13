"""The trials of a study and what they measured, as the scripts of answered studies read them from its tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import parquet

from tunectl.core.measurement_kinds import CURVATURE, EVALUATION, INITIALISATION, MeasurementKind

Value = float | int | str | bool | None


@dataclass(frozen=True)
class MeasuredTrial:
    """A trial, its hyperparameters, and its measurements by step.

    `diverged` is whether training broke down; `last_step` is the last update that it made. `measured` has a dict for
    each measurement: `step`, and the metrics of kind curvature by their names without the kind; one that could not be
    measured is NaN. `initialising` has the same of kind initialisation, whose steps are iterations before the first
    update, and `evaluated` that of the evaluations, whose metrics have their full names.
    """

    trial: int
    hyperparameters: dict[str, Value]
    diverged: bool
    last_step: int
    measured: Sequence[dict[str, float]]
    initialising: Sequence[dict[str, float]] = ()
    evaluated: Sequence[dict[str, float]] = ()

    def values(self, name: str, start: float = 0.0, end: float = 1.0) -> list[float]:
        """The finite values of a metric between these parts of the steps that were measured."""
        last = self.measured[-1]["step"] if self.measured else 0.0
        found = [item[name] for item in self.measured if start * last <= item["step"] <= end * last]
        return [value for value in found if math.isfinite(value)]

    def first(self, name: str) -> float:
        """The value at the first measurement, NaN where there is none."""
        return self.measured[0][name] if self.measured else math.nan


def read_trials(folder: Path) -> list[MeasuredTrial]:
    """The trials of a study's folder, by id; those that failed are left out.

    Raises FileNotFoundError where the folder has no tables.
    """
    measurements = parquet.read_table(folder / "tables" / "measurements.parquet").to_pylist()
    curvature, initialising = (_own_lines(measurements, kind) for kind in (CURVATURE, INITIALISATION))
    evaluated = _evaluations(measurements)
    rows = parquet.read_table(folder / "tables" / "trials.parquet").to_pylist()
    return [
        _trial(row, *(_by_step(lines, row["trial"]) for lines in (curvature, initialising, evaluated)))
        for row in rows
        if row["state"] in ("completed", "infeasible")
    ]


Lines = dict[int, list[dict[str, float]]]
"""The measurements of each trial."""


def _own_lines(rows: Sequence[dict[str, Any]], kind: MeasurementKind) -> Lines:
    """The measurements of a kind, by trial."""
    names = {metric.name: kind.column(metric.name) for metric in kind.metrics}
    return _lines(rows, kind, lambda row: {name: row.get(column) for name, column in names.items()})


def _evaluations(rows: Sequence[dict[str, Any]]) -> Lines:
    """The evaluations by trial: those metrics that any of them has."""
    own = [row for row in rows if row["kind"] == EVALUATION.name]
    names = {name for row in own for name, value in row.items() if "/" in name and value is not None}
    return _lines(own, EVALUATION, lambda row: {name: row[name] for name in sorted(names)})


def _lines(
    rows: Sequence[dict[str, Any]], kind: MeasurementKind, metrics: Callable[[dict[str, Any]], dict[str, Any]]
) -> Lines:
    lines: Lines = {}
    for row in rows:
        if row["kind"] == kind.name:
            known = {name: math.nan if value is None else float(value) for name, value in metrics(row).items()}
            lines.setdefault(row["trial"], []).append({"step": float(row["step"])} | known)
    return lines


def _by_step(lines: Lines, trial: int) -> list[dict[str, float]]:
    return sorted(lines.get(trial, []), key=lambda item: item["step"])


def _trial(row: dict[str, Any], *lines: list[dict[str, float]]) -> MeasuredTrial:
    diverged = row["state"] == "infeasible"
    last = row["infeasible_step"] if diverged else row["final_step"]
    return MeasuredTrial(row["trial"], row, diverged, last or 0, *lines)


def grouped(trials: Iterable[MeasuredTrial], *names: str) -> dict[tuple[Any, ...], list[MeasuredTrial]]:
    """The trials by their values of these hyperparameters, in the order of the values; an inactive one is None."""
    groups: dict[tuple[Any, ...], list[MeasuredTrial]] = {}
    for trial in trials:
        groups.setdefault(tuple(trial.hyperparameters.get(name) for name in names), []).append(trial)
    return dict(sorted(groups.items(), key=lambda pair: [(value is not None, value) for value in pair[0]]))


def median(values: Iterable[float]) -> float:
    """The median of those that are finite, NaN without one."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan


def median_of(trials: Iterable[MeasuredTrial], of: Callable[[MeasuredTrial], float]) -> float:
    """The median over trials."""
    return median(of(trial) for trial in trials)


def span(values: Iterable[float], digits: int = 3) -> str:
    """The median and the range of values, as text: `9.7 (8.8 to 11)`."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "–"
    low, high = min(finite), max(finite)
    if low == high:
        return f"{low:.{digits}g}"
    return f"{statistics.median(finite):.{digits}g} ({low:.{digits}g} to {high:.{digits}g})"


def unconverged(trials: Iterable[MeasuredTrial]) -> tuple[int, int]:
    """How many eigenvalues had not converged, and how many were measured."""
    flags = [
        item[name]
        for trial in trials
        for item in trial.measured
        for name in ("converged", "preconditioned_lambda_1_converged")
        if math.isfinite(item[name])
    ]
    return sum(flag == 0 for flag in flags), len(flags)
