"""Tests user_schedule.py, and its place in schedules.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_builders import make_request, train_trial
from trial_records import lines_in
from user_optimizers import halving, used

from tunectl.core.folders import TrialFolder
from tunectl.core.user_code import CodeName
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.schedules import learning_rate


def configuration(**fields: Any) -> TrainingConfiguration:
    code = used("halving", "schedule", halvings=2)
    return TrainingConfiguration(
        optimizer="adam", learning_rate=0.5, schedule=CodeName(code.reference.text), schedule_code=code, **fields
    )


@pytest.mark.parametrize(
    ("fields", "first", "total"),
    [
        ({}, 0, 20),
        ({"warmup_steps": 5}, 5, 20),
        ({"warmup_steps": 5, "warmup": "within"}, 5, 15),
        ({"post_warmup_steps": 4}, 4, 16),
    ],
)
def test_the_base_rate_is_multiplied_by_what_the_function_gives_for_the_updates_after_the_warmup(
    fields: dict[str, Any], first: int, total: int
):
    asked = configuration(**fields)
    for update in range(first, first + total):
        expected = 0.5 * halving(update - first, total, halvings=2)
        assert learning_rate(asked, 20, update) == pytest.approx(expected, rel=1e-12)


def test_a_trial_is_trained_at_these_rates(folder: TrialFolder):
    code = used("halving", "schedule")
    train_trial(make_request(max_train_steps=8, schedule=code.reference.text, schedule_code=code), folder)
    rates = [rate for block in lines_in(folder.steps) for rate in block["learning_rate"]]
    assert rates == pytest.approx([0.05 * halving(step, 8) for step in range(8)], rel=1e-6)


def test_a_request_with_code_is_read_as_it_was_written(tmp_path: Path):
    asked = configuration()
    assert TrainingConfiguration(**asked.to_json()) == asked
    plain = TrainingConfiguration("adam", 0.1)
    assert not {"optimizer_code", "schedule_code"} & plain.to_json().keys()
