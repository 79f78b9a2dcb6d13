"""Formulas in `check`, `plan` and `run`: what is wrong in a planned trial is said before anything is created.

Tests language/planned_checks.py, session/checked_study.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from builders import study_text
from study_calls import Called

from tunectl.core.errors import StudyError
from tunectl.session.checked_study import CheckedStudy, check_study

Call = Callable[..., Called]
DROPOUT = "{role: nuisance, range: [0.1, 0.5]}"


def checked(tmp_path: Path, hyperparameters: dict[str, str], **sections: str) -> CheckedStudy:
    path = tmp_path / "study.yaml"
    path.write_text(study_text(hyperparameters, **{"search": "{trials: 4}", **sections}))
    return check_study(path, tmp_path)


def problems(tmp_path: Path, hyperparameters: dict[str, str], **sections: str) -> list[str]:
    with pytest.raises(StudyError) as caught:
        checked(tmp_path, hyperparameters, **sections)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def test_all_that_is_wrong_is_reported_at_once(tmp_path):
    wrong = {
        "dropout": DROPOUT,
        "learning_rate": "{formula: dropout - 1}",
        "momentum": "{formula: dropout + 1}",
        "optimizer": "nesterov",
    }
    first, second = problems(tmp_path, {**wrong, "weight_decay": "{formula: learning_rate / 10}"})
    assert "learning_rate.formula: no valid value in 4 planned trials: expected a number above 0, got -0." in first
    assert "momentum.formula: no valid value in 4 planned trials: expected a number of at least 0 and below 1" in second


def test_a_warmup_and_micro_batches_that_are_computed_fit_in_every_planned_trial(tmp_path):
    parts = {
        "dropout": DROPOUT,
        "warmup": "within",
        "warmup_steps": "{formula: 10000 * dropout, type: int}",
        "accumulate_steps": "{formula: 200 * dropout, type: int}",
    }
    found = problems(tmp_path, parts)
    assert [message.split(":")[0] for message in found] == [
        "hyperparameters.warmup_steps",
        "hyperparameters.accumulate_steps",
    ]
    assert "expected at most max_train_steps (2000) for a warmup within them, got " in found[0]
    assert "expected at most 64, the examples of a batch, got " in found[1]
    fits = {name: text.replace("10000", "1000").replace("200 ", "20 ") for name, text in parts.items()}
    assert checked(tmp_path, fits).budget.trials == 4


def test_the_cost_counts_the_batches_that_are_computed(tmp_path):
    sizes = {"dropout": DROPOUT, "batch_size": "{formula: 2 ** 5, type: int}"}
    budget = checked(tmp_path, sizes).budget
    assert budget.examples == 4 * 2000 * 32


def test_check_plan_and_run_say_it_and_create_nothing(tmp_path: Path, tunectl: Call) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        study_text({"dropout": DROPOUT, "learning_rate": "{formula: 1 / (1 - 1) + dropout}"}, search="{trials: 2}")
    )
    for command in ("check", "plan", "run"):
        called = tunectl(command, path)
        assert called.code == 2
        said = "learning_rate.formula: no valid value in 2 planned trials: division by 0 where dropout is"
        assert f"study.yaml:6:28: hyperparameters.{said}" in called.messages
    assert [item.name for item in tmp_path.iterdir()] == ["study.yaml"]
