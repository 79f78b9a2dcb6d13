"""A study whose batch normalisation is evaluated with gathered statistics, by the commands. Tests cli/check.py."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from study_calls import Called

Call = Callable[..., Called]

TEXT = """
workload: tunectl.workloads.digits:cnn
objective: {metric: valid/error_rate, direction: minimize}
training: {max_train_steps: 100, eval_every: 10, batch_norm_statistics: {batches: 50}}
hyperparameters: {optimizer: sgd, learning_rate: 0.1}
"""


def test_check_says_what_gathering_is_expected_to_cost(tunectl: Call, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(TEXT)
    printed = re.sub(r"\s+", " ", tunectl("check", file).out)
    expected = "50 training batches before each of 11 evaluations in a trial, expected to take 183% of the time of"
    assert f"batch normalisation: {expected} its training" in printed
    share = pytest.approx(50 / 3 * 11 / 100)
    found = tunectl("check", file, "--json").json()["batch_norm_statistics"]
    assert found == {"batches": 50, "evaluations": 11, "share": share}
