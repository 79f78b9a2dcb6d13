"""The columns that the tables declare, against the records that fill them."""

from __future__ import annotations

from dataclasses import fields

from tunectl.analysis.results.outcomes import SettingSummary
from tunectl.core.measurements import Measurement
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.core.table_columns import MEASUREMENT_TAIL, SETTING_TAIL, TRIAL_COLUMNS

_FIELDS = {"kind": "trial_kind"}
"""The fields of columns with another name."""


def test_the_trials_table_has_every_field_of_a_trial_once_or_a_reason_why_not() -> None:
    elsewhere = {
        "plan",  # its fields are columns themselves
        "metrics_at_best",  # a column for each metric
        "damage",  # a part of the message
        "coordinates",  # in plan.jsonl
        "hyperparameters",  # a column for each
        "training",  # in plan.jsonl
        "suggestion",  # in plan.jsonl
    }
    wanted = {field.name for record in (TrialOutcome, PlannedTrial) for field in fields(record)} - elsewhere
    assert sorted(_FIELDS.get(column.name, column.name) for column in TRIAL_COLUMNS) == sorted(wanted)


def test_a_cell_is_the_field_of_the_column() -> None:
    plan = PlannedTrial(3, 1, 2, 0, (0.5,), {"width": 8}, 77, "retrain")
    item = TrialOutcome(plan, "failed", "error", "no", 50, 0.25, 100, 0.5, "a.pt", device="cuda:0", attempts=2)
    for column in TRIAL_COLUMNS:
        name = _FIELDS.get(column.name, column.name)
        assert column.value(item) == getattr(item, name, getattr(plan, name, None)), name
    empty = TrialOutcome(plan, "pending")
    assert [column.name for column in TRIAL_COLUMNS if column.value(empty) == ""] == []


def test_columns_of_settings_and_measurements_are_fields() -> None:
    assert {column.name for column in SETTING_TAIL} <= {field.name for field in fields(SettingSummary)}
    assert [column.name for column in MEASUREMENT_TAIL] == [
        name for name in Measurement._fields if name not in ("step", "metrics", "measurement_kind")
    ]
