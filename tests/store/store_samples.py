"""Small plans, measurements and folders for the tests of the store."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tunectl.core import jsontext
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial, TrialOutcome, TrialResult
from tunectl.store.index import Index

OBJECTIVE = Objective("valid/error_rate", "minimize")


def planned(trial: int, **changes) -> PlannedTrial:
    values = {"optimizer": "adam", "learning_rate": 1e-3 / (trial + 1), "width": 64, "nesterov": True}
    content = {
        "trial": trial,
        "setting": 0,
        "point": trial,
        "repeat": 0,
        "coordinates": (0.1, 1 / 3),
        "hyperparameters": values,
        "seed": 12345678901 + trial,
    }
    return PlannedTrial(**{**content, **changes})


def measured(step: int, value: float = 0.5, **changes) -> Measurement:
    metrics = {"train/loss": 1 / (step + 3), "valid/error_rate": value}
    content = {"learning_rate": 0.1, "gradient_norm": 2.5, "elapsed_seconds": step / 7}
    return Measurement(**{"step": step, "metrics": metrics, **content, **changes})


def line(content) -> bytes:
    return (jsontext.encode(content) + "\n").encode()


def make_trial(folder: TrialFolder, measurements=(), result: TrialResult | None = None) -> TrialFolder:
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    folder.measurements.write_bytes(b"".join(line(item.to_json()) for item in measurements))
    if result is not None:
        folder.result.write_bytes(line(result.to_json()))
    return folder


def completed(trial: int, **changes) -> TrialResult:
    return TrialResult(**{"trial": trial, "state": "completed", "final_step": 20, "train_seconds": 1.25, **changes})


def outcome_of(trial: int, **changes) -> TrialOutcome:
    content = {"state": "completed", "best_step": 10, "best_value": 0.25, "final_step": 20, "final_value": 0.5}
    return TrialOutcome(plan=planned(trial), **{**content, **changes})


def opened_to_read(path: Path) -> Index:
    index = Index.open_read_only(path)
    assert index is not None, f"{path} cannot be read"
    return index


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def study_folder(path: Path) -> StudyFolder:
    return StudyFolder(path)
