"""What `tunectl run --detach` prints: its tables only where they have something in them. Tests cli/run.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tunectl.cli import run
from tunectl.core.folders import StudyFolder


@dataclass(frozen=True)
class Outcome:
    state: str
    reason: str = ""


def report(*states: str) -> Any:
    return SimpleNamespace(
        spec=SimpleNamespace(name="toy", objective=None, goal="", ranking=lambda _objective: "valid/loss"),
        folder=StudyFolder(Path("runs/toy")),
        outcomes=[Outcome(state) for state in states],
        to_come=0,
        unfinished=states.count("pending"),
        untouched=False,
        is_left=True,
        judged="",
        curvature=None,
        page=None,
        exit_code=0,
        tables=SimpleNamespace(header=["setting", "trials"], rows=[["0", "2"]], paths=[Path("runs/toy/tables/a.csv")]),
    )


def test_a_run_that_leaves_all_of_its_trials_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    run._print(cast("Any", report("pending", "pending")), ())
    printed = capsys.readouterr()
    assert printed.out == ""
    assert " ".join(printed.err.split()) == (
        "2 of 2 trials left to workers (`tunectl worker runs/toy`); the same command goes on with them"
    )


def test_one_whose_workers_have_ended_some_trials_prints_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    run._print(cast("Any", report("completed", "pending")), ())
    printed = capsys.readouterr()
    assert "toy: settings by valid/loss" in printed.out
    assert "1 of 2 trials left to workers" in printed.err
