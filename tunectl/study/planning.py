"""`plan`: the trials of a study without training them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunectl.core.records import PlannedTrial, Scalar
from tunectl.study.checking import CheckedStudy


@dataclass(frozen=True, slots=True)
class PlanTable:
    """The plan as a table: a column for each name, None where a condition does not hold."""

    header: tuple[str, ...]
    rows: tuple[tuple[Scalar | None, ...], ...]


def plan_table(checked: CheckedStudy, trials: Sequence[PlannedTrial]) -> PlanTable:
    """The given trials of a study as a table."""
    names = checked.spec.names
    rows = tuple((trial.trial, trial.setting, *(trial.hyperparameters.get(name) for name in names)) for trial in trials)
    return PlanTable(("trial", "setting", *names), rows)


def plan_json(checked: CheckedStudy, trials: Sequence[PlannedTrial]) -> dict[str, Any]:
    """The plan as one JSON object; a hyperparameter whose condition does not hold is absent."""
    listed = [
        {"trial": trial.trial, "setting": trial.setting, "hyperparameters": dict(trial.hyperparameters)}
        for trial in trials
    ]
    return {"study": checked.spec.name, "trials": listed}


def plan_csv(checked: CheckedStudy, trials: Sequence[PlannedTrial]) -> str:
    """The plan as CSV text; numbers round-trip exactly."""
    table = plan_table(checked, trials)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows([["" if value is None else _text(value) for value in row] for row in table.rows])
    return text.getvalue()


def _text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """What one hyperparameter takes over a whole plan: `active` of the trials have it; its values in a few words."""

    name: str
    role: str
    active: int
    values: str


def plan_summary(checked: CheckedStudy, trials: Sequence[PlannedTrial]) -> list[ColumnSummary]:
    """A line for each name, for plans too long to be shown whole."""
    summary = []
    for name in checked.spec.names:
        values = [trial.hyperparameters[name] for trial in trials if name in trial.hyperparameters]
        roles = "/".join(dict.fromkeys(item.role for item in checked.spec.alternatives(name)))
        summary.append(ColumnSummary(name, roles, len(values), _in_words(values)))
    return summary


def _in_words(values: Sequence[Scalar]) -> str:
    distinct = list(dict.fromkeys(values))
    if len(distinct) <= 6 or not all(isinstance(value, (int, float)) for value in distinct):
        return ", ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in distinct[:6]) + (
            ", …" if len(distinct) > 6 else ""
        )
    numbers = [float(value) for value in distinct]
    return f"{min(numbers):.4g} to {max(numbers):.4g}"
