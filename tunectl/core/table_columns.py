"""The columns of the tables of trials, settings and measurements, with their types; every table and export reads them.

The hyperparameters of the study and its metrics are columns by their own names: in the trials table between
TRIAL_HEAD and TRIAL_MIDDLE, and between TRIAL_MIDDLE and TRIAL_TAIL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Literal

from tunectl.core.records import TrialOutcome

Cell = bool | int | float | str | None
"""None is missing; NaN and the infinities are values."""

ColumnType = Literal["whole", "real", "text", "scalar"]
"""`scalar` columns hold hyperparameters: their type is found from the values."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name and type."""

    name: str
    type: ColumnType


@dataclass(frozen=True, slots=True)
class TrialColumn:
    """A column of the trials table, and how its cell is read from a trial."""

    name: str
    type: ColumnType
    value: Callable[[TrialOutcome], Cell]

    @property
    def column(self) -> Column:
        """Its name and type."""
        return Column(self.name, self.type)


TRIAL_HEAD = (
    TrialColumn("trial", "whole", lambda item: item.plan.trial),
    TrialColumn("setting", "whole", lambda item: item.plan.setting),
    TrialColumn("state", "text", lambda item: item.state),
    TrialColumn("reason", "text", lambda item: item.reason or None),
)
TRIAL_MIDDLE = (
    TrialColumn("seed", "whole", lambda item: item.plan.seed),
    TrialColumn("kind", "text", lambda item: item.plan.trial_kind),
    TrialColumn("point", "whole", lambda item: item.plan.point),
    TrialColumn("repeat", "whole", lambda item: item.plan.repeat),
    TrialColumn("stage", "whole", lambda item: item.plan.stage),
    TrialColumn("best_step", "whole", lambda item: item.best_step),
    TrialColumn("best_value", "real", lambda item: item.best_value),
    TrialColumn("final_step", "whole", lambda item: item.final_step),
    TrialColumn("final_value", "real", lambda item: item.final_value),
    TrialColumn("best_checkpoint", "text", lambda item: item.best_checkpoint),
)
TRIAL_TAIL = (
    TrialColumn("infeasible_step", "whole", lambda item: item.infeasible_step),
    TrialColumn("train_seconds", "real", lambda item: item.train_seconds),
    TrialColumn("eval_seconds", "real", lambda item: item.eval_seconds),
    TrialColumn("startup_seconds", "real", lambda item: item.startup_seconds),
    TrialColumn("device", "text", lambda item: item.device or None),
    TrialColumn("attempts", "whole", lambda item: item.attempts),
    TrialColumn("message", "text", lambda item: item.message or None),
)
TRIAL_COLUMNS = (*TRIAL_HEAD, *TRIAL_MIDDLE, *TRIAL_TAIL)

SETTING = Column("setting", "whole")
SETTING_TAIL = (
    Column("trials", "whole"),
    Column("completed", "whole"),
    Column("infeasible", "whole"),
    Column("failed", "whole"),
    Column("stopped", "whole"),
    Column("best_trial", "whole"),
    Column("best_value", "real"),
    Column("best_step", "whole"),
    Column("seconds_per_step", "real"),
    Column("seconds_to_best", "real"),
    Column("examples_to_best", "whole"),
    Column("device", "text"),
)
"""The columns behind the scientific hyperparameters, named like the fields of a SettingSummary; `stopped` is one where
trials may be stopped early.
"""

MEASUREMENT_HEAD = (Column("trial", "whole"), Column("step", "whole"), Column("kind", "text"))
MEASUREMENT_TAIL = (
    Column("learning_rate", "real"),
    Column("gradient_norm", "real"),
    Column("elapsed_seconds", "real"),
    Column("checkpoint", "text"),
)
"""The columns before and behind the metrics, named like the keys of a line of measurements.jsonl."""

TABLE_COLUMNS = frozenset(column.name for column in (*TRIAL_COLUMNS, SETTING, *SETTING_TAIL))
"""The columns of the trials and settings tables."""

_LATER_COLUMNS = frozenset({"stage", "stopped", "seconds_per_step", "seconds_to_best", "examples_to_best"})

RESERVED_NAMES = TABLE_COLUMNS - _LATER_COLUMNS
"""The columns whose names no hyperparameter has.

Earlier versions did not have the other columns, and studies of these versions may have hyperparameters with their
names: there the column has another name, see `column_beside`.
"""


def column_beside(hyperparameters: Collection[str], column: Column) -> Column:
    """The column under its name in a table with these hyperparameters: `tunectl.<name>` where one of them has it."""
    return replace(column, name=f"tunectl.{column.name}") if column.name in hyperparameters else column
