"""Tests cli/failed_trials.py: each message once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunectl.cli.failed_trials import by_message, listed, note_failures
from tunectl.core.folders import StudyFolder
from tunectl.core.records import PlannedTrial, TrialOutcome

FOLDER = StudyFolder(Path("runs/s"))


def failed(trial: int, message: str) -> TrialOutcome:
    plan = PlannedTrial(trial=trial, setting=0, point=trial, repeat=0, coordinates=(), hyperparameters={}, seed=1)
    return TrialOutcome(plan=plan, state="failed", reason="exit_code_1", message=message)


FAILED = [failed(0, "a"), failed(1, "b"), failed(2, "a")]


def test_trials_that_failed_alike_are_one() -> None:
    assert by_message(FAILED) == [([0, 2], "exit_code_1", "a"), ([1], "exit_code_1", "b")]
    assert listed(range(50)) == "0, 1, 2, 3, 4, 5, 6, 7 and 42 more"


@pytest.mark.parametrize(("said", "left"), [((), ["a", "b"]), ((0,), ["b"]), ((0, 1, 2), [])])
def test_what_was_said_when_a_trial_ended_is_not_said_again(
    capsys: pytest.CaptureFixture[str], said: tuple[int, ...], left: list[str]
) -> None:
    note_failures(FAILED, FOLDER, said)
    lines = capsys.readouterr().err.splitlines()
    assert [line[-1] for line in lines[:-1]] == left
    assert lines[-1] == f"3 failed; the log of trial 0: {FOLDER.trial(0).log}"
