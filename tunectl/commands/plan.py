"""`plan`: the trials of a study, as a table, as JSON and in short; nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunectl.core.records import PlannedTrial, Scalar
from tunectl.core.table_columns import Column
from tunectl.core.wording import short_number, short_text
from tunectl.report.table import Table
from tunectl.session.checked_study import CheckedStudy
from tunectl.space.domains import sameness


def plan_table(checked: CheckedStudy, trials: Sequence[PlannedTrial]) -> Table:
    """The given trials of a study as a table, with a column for each hyperparameter, empty where it is not active."""
    names = checked.spec.names
    columns = (Column("trial", "whole"), Column("setting", "whole"), *(Column(name, "scalar") for name in names))
    rows = [(trial.trial, trial.setting, *(trial.hyperparameters.get(name) for name in names)) for trial in trials]
    return Table(columns, rows)


def plan_json(checked: CheckedStudy, trials: Sequence[PlannedTrial]) -> dict[str, Any]:
    """The plan as one JSON object, without the hyperparameters that are not active."""
    listed = [
        {"trial": trial.trial, "setting": trial.setting, "hyperparameters": dict(trial.hyperparameters)}
        for trial in trials
    ]
    return {"study": checked.spec.name, "trials": listed}


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """One hyperparameter over a whole plan: the number of trials in which it is `active`, and its values in short."""

    name: str
    role: str
    active: int
    values: str


def plan_summary(checked: CheckedStudy, trials: Sequence[PlannedTrial]) -> list[ColumnSummary]:
    """One summary for each hyperparameter, for plans that are too long to print."""
    summary = []
    for name in checked.spec.names:
        values = [trial.hyperparameters[name] for trial in trials if name in trial.hyperparameters]
        roles = "/".join(dict.fromkeys(item.role for item in checked.spec.alternatives(name)))
        summary.append(ColumnSummary(name, roles, len(values), _in_words(values)))
    return summary


def _in_words(values: Sequence[Scalar]) -> str:
    distinct = list({sameness(value): value for value in values}.values())
    if len(distinct) <= 6 or not all(isinstance(value, (int, float)) for value in distinct):
        return ", ".join([*map(short_text, distinct[:6]), *(["…"] if len(distinct) > 6 else [])])
    numbers = [float(value) for value in distinct]
    return f"{short_number(min(numbers))} to {short_number(max(numbers))}"
