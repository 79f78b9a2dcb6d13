"""Settings for all tests: random examples are few and always the same; `make fuzz` tries many new ones.

For users, a finding or plot that fails is only a warning; in the tests it raises.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from study_calls import HERE, STUDY, Called

os.environ["TUNECTL_RAISE_FAULTS"] = "1"

settings.register_profile("suite", max_examples=40, derandomize=True)
settings.load_profile("suite")


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Path]:
    """Write a study, and its workload beside it."""

    def write(file: str = "small.yaml", **changes: Any) -> Path:
        values = {
            "name": "small",
            "factory": "regression",
            "metric": "valid/distance",
            "steps": 40,
            "trials": 2,
            "retries": 1,
            "learning_rate": "learning_rate: {role: nuisance, range: [1e-3, 1e-1], scale: log}",
            "more": "",
        } | changes
        shutil.copy(HERE / "misbehaving.py", tmp_path / "misbehaving.py")
        path = tmp_path / file
        path.write_text(STUDY.format(**values))
        return path

    return write


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "80"}


@pytest.fixture
def tunectl(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Called]:
    """Call the command in a process of its own, in the test's folder."""

    def call(*words: object) -> Called:
        command = [sys.executable, "-m", "tunectl", *[str(word) for word in words]]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return Called(ended.returncode, ended.stdout, ended.stderr)

    return call
