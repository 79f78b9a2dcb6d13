"""Tests commands/plan.py and session/checked_study.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import study_text

from tunectl.commands.plan import ColumnSummary, plan_json, plan_summary, plan_table
from tunectl.session.checked_study import CheckedStudy, check_study
from tunectl.space.trial_plan import plan_trials

OPTIMIZERS = {
    "optimizer": "{role: scientific, values: [momentum, sgd]}",
    "learning_rate": "0.1",
    "momentum": "{role: nuisance, when: {optimizer: momentum}, values: [0.5, 0.9]}",
}


@pytest.fixture
def checked(tmp_path: Path) -> CheckedStudy:
    file = tmp_path / "study.yaml"
    file.write_text(study_text(OPTIMIZERS, search="{sampler: grid}"))
    return check_study(file, tmp_path)


def test_the_table_and_the_json_have_no_value_where_a_hyperparameter_is_not_active(checked: CheckedStudy) -> None:
    trials = plan_trials(checked.spec)
    table, found = plan_table(checked, trials), plan_json(checked, trials)
    assert [column.name for column in table.columns] == ["trial", "setting", *OPTIMIZERS]
    sgd = [row for row in table.rows if row[2] == "sgd"]
    assert sgd
    assert all(row[4] is None for row in sgd)
    assert [item["trial"] for item in found["trials"]] == list(range(len(trials)))
    assert all(
        ("momentum" in item["hyperparameters"]) == (item["hyperparameters"]["optimizer"] == "momentum")
        for item in found["trials"]
    )


def test_the_summary_counts_the_trials_in_which_a_hyperparameter_is_active(checked: CheckedStudy) -> None:
    trials = plan_trials(checked.spec)
    momentum = sum("momentum" in trial.hyperparameters for trial in trials)
    assert plan_summary(checked, trials) == [
        ColumnSummary("optimizer", "scientific", len(trials), "momentum, sgd"),
        ColumnSummary("learning_rate", "fixed", len(trials), "0.1"),
        ColumnSummary("momentum", "nuisance", momentum, "0.5, 0.9"),
    ]


def test_many_numbers_are_shown_by_their_ends_and_many_texts_by_the_first(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    hyperparameters = {"learning_rate": "{role: nuisance, range: [0.125, 8], scale: log}"}
    file.write_text(study_text(hyperparameters, search="{trials: 20}"))
    checked = check_study(file, tmp_path)
    trials = plan_trials(checked.spec)
    rates = [float(trial.hyperparameters["learning_rate"]) for trial in trials]
    summary = {item.name: item.values for item in plan_summary(checked, trials)}
    assert summary["learning_rate"] == f"{min(rates):.4g} to {max(rates):.4g}"
