"""A study folder with all that an export may meet."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from exported_studies import CLASHING, FAILED, INFEASIBLE, NAN, PENDING, RECORDED, TEXT
from made_up_folders import made_up_folder

from tunectl.core import jsontext
from tunectl.core.folders import StudyFolder
from tunectl.core.measurements import Measurement
from tunectl.core.records import AttemptEnd, TrialResult
from tunectl.store.trial_files import append_attempt


@pytest.fixture
def study_folder(tmp_path: Path) -> Path:
    """Eight trials: one is infeasible, one failed, one measured values that are not finite, one was never launched.

    Two recorded their last updates, one of them with a metric of the same name.
    """
    folder = made_up_folder(
        tmp_path / "example", TEXT, lambda trial: None if trial.trial == INFEASIBLE else 0.1 + trial.trial / 30
    )
    failed = TrialResult(FAILED, "failed", "error", "ValueError: no", final_step=50)
    folder.trial(FAILED).result.write_text(jsontext.encode(failed.to_json()))
    odd = Measurement(75, {"valid/error_rate": math.nan, "train/loss": math.inf}, elapsed_seconds=1.5)
    with open(folder.trial(NAN).measurements, "a") as file:
        file.write(jsontext.encode(odd.to_json()) + "\n")
    for trial in (RECORDED, CLASHING):
        path = folder.trial(trial).measurements
        lines = [recorded(line, clashing=trial == CLASHING) for line in path.read_text().splitlines()]
        path.write_text("".join(f"{line}\n" for line in lines))
    never = folder.trial(PENDING).path
    for path in sorted(never.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    never.rmdir()
    return folder.path


def recorded(line: str, *, clashing: bool) -> str:
    """A measurement with what its last update was like, where there was one."""
    content = json.loads(line)
    step = content["step"]
    if step:
        content |= {"learning_rate": 1 / (3 + step), "gradient_norm": step / 7, "elapsed_seconds": step / 10}
    if clashing:
        content["metrics"] |= {"learning_rate": step / 11, "elapsed_seconds": step * 2.0}
    return jsontext.encode(content)


@pytest.fixture
def stopped(study_folder: Path) -> Path:
    """The same, its first trial stopped before its end."""
    home = StudyFolder(study_folder).trial(0)
    home.result.unlink()
    append_attempt(home, AttemptEnd(1, "cancelled"))
    return study_folder
