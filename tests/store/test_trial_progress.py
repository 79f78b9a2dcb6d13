"""How far a trial has come, by the last lines of its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunectl.core.folders import TrialFolder
from tunectl.store.trial_progress import progress_made


def measured(step: int, kind: str = "evaluation") -> str:
    return json.dumps({"step": step, "kind": kind, "metrics": {}, "elapsed_seconds": 1.0}) + "\n"


def block(first: int, updates: int) -> str:
    return json.dumps({"first": first, "loss": [1.0] * updates}) + "\n"


@pytest.mark.parametrize(
    ("measurements", "steps", "progress"),
    [
        ("", "", 0),
        (measured(10) + measured(20), "", 20),
        (measured(10), block(0, 10) + block(10, 7), 17),
        (measured(10) + measured(20)[:-9], block(0, 10) + block(10, 7)[:-3], 10),
        (measured(3, "initialisation"), "", 3),
        (measured(3, "initialisation") + measured(10), block(0, 12), 15),
        (measured(10) + "no JSON\n", '{"first": "many"}\n', 10),
    ],
)
def test_the_last_whole_lines_say_how_many_updates_were_made(
    tmp_path: Path, measurements: str, steps: str, progress: int
) -> None:
    folder = TrialFolder(tmp_path / "trials" / "00000")
    folder.path.mkdir(parents=True)
    folder.measurements.write_text(measurements)
    folder.steps.write_text(steps)
    assert progress_made(folder) == progress


def test_of_a_long_file_only_the_end_is_read(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trials" / "00000")
    folder.path.mkdir(parents=True)
    folder.steps.write_text("".join(block(first, 500) for first in range(0, 300_000, 500)))
    assert folder.steps.stat().st_size > 2**20
    assert progress_made(folder) == 300_000


def test_a_trial_without_files_has_made_no_progress(tmp_path: Path) -> None:
    assert progress_made(TrialFolder(tmp_path / "trials" / "00000")) == 0
