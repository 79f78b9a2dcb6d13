"""The table of trials on the page: the best first, with the value and what varies before all else."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.objective import Objective
from tunectl.core.records import TrialOutcome
from tunectl.report.page_model import PageTable
from tunectl.report.table import Table, short, without_empty_columns
from tunectl.report.trial_tables import trials_table

_VALUE = "best_value"
_FEWEST_FOLDED = 2
_LATER = ("seed", "point", "repeat", "final_step", "final_value", "best_checkpoint", "eval_seconds")
_HIDDEN = frozenset((*_LATER, "startup_seconds", "device", "attempts", "message"))
"""Columns that are shown when they are chosen."""


def trials_on_page(
    outcomes: Sequence[TrialOutcome], objective: Objective, names: Sequence[str], varying: Collection[str]
) -> list[PageTable]:
    """The table of these trials, the best first; [] without any.

    `names` are their hyperparameters, `varying` those of them that differ between trials.
    """
    if not outcomes:
        return []
    table = without_empty_columns(trials_table(outcomes, names))
    costs = {
        item.plan.trial: objective.cost(item.best_value) if item.state == "completed" else math.inf for item in outcomes
    }
    # Trials without a value, and infeasible ones, come last.
    rows = sorted(table.rows, key=lambda row: (costs[int(row[0] or 0)], row[0]))
    folded = _same_in_all(Table(table.columns, rows), keep={"trial", _VALUE, "state", *varying})
    kept = [name for name in table.header if name not in folded]
    shown = [name for name in names if name in varying]
    before = dict.fromkeys(("trial", _VALUE, *shown, "state", "reason", "kind", "stage", "best_step"))
    first = [name for name in before if name in kept]
    order = [*first, *(name for name in kept if name not in first)]
    places = [table.header.index(name) for name in order]
    ordered = Table(
        tuple(table.columns[place] for place in places), [tuple(row[place] for place in places) for row in rows]
    )
    upwards = objective.best_direction == "minimize"
    hyperparameters = set(names)
    return [
        PageTable(
            "Trials",
            ordered,
            of_trials=True,
            constants=sorted(folded.items(), key=lambda pair: pair[0] not in hyperparameters),
            hidden=[name for name in order if _is_hidden(name) and name not in hyperparameters],
            sorted_by=(_VALUE, upwards) if _VALUE in order else None,
        )
    ]


def _same_in_all(table: Table, keep: set[str]) -> dict[str, str]:
    """The columns with one value in all rows, by name; none where there are too few rows to say so."""
    if len(table.rows) < _FEWEST_FOLDED:
        return {}
    found: dict[str, str] = {}
    for place, column in enumerate(table.columns):
        cells = {row[place] for row in table.rows}
        if column.name not in keep and len(cells) == 1:
            found[column.name] = short(cells.pop())
    return found


def _is_hidden(name: str) -> bool:
    return name in _HIDDEN or name.startswith(CURVATURE.column(""))
