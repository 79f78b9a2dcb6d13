from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from builders import NUISANCE_RATE, study_text
from made_up_folders import made_up_folder

from tunectl.core.folders import StudyFolder
from tunectl.core.records import TrialOutcome, TrialResult
from tunectl.session.snapshot import study_snapshot
from tunectl.session.unread_metrics import unread_metrics
from tunectl.store.trial_files import write_result

NOTE = "valid/loss was not printed"


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """Three completed trials; the results of the first two have a note."""
    text = study_text({"learning_rate": NUISANCE_RATE}, search="{trials: 3}")
    made = made_up_folder(tmp_path / "study", text, lambda _trial: 0.5)
    for trial in (0, 1):
        result = TrialResult(trial, "completed", message="no loss", notes={NOTE: f"line {trial + 7}"})
        write_result(made.trial(trial), result)
    return made


def outcomes_of(folder: StudyFolder) -> list[TrialOutcome]:
    with study_snapshot(folder.path) as study:
        return list(study.outcomes)


def test_a_note_of_several_trials_is_one_sentence_with_their_number_and_the_first_as_example(
    folder: StudyFolder,
) -> None:
    assert unread_metrics(folder, outcomes_of(folder)) == [f"in 2 of 3 trials {NOTE} (trial 0: line 7)"]


def test_a_note_of_the_only_ended_trial_is_in_the_singular(folder: StudyFolder) -> None:
    first, *others = outcomes_of(folder)
    outcomes = [first, *(replace(item, state="pending") for item in others)]
    assert unread_metrics(folder, outcomes) == [f"in 1 of 1 trial {NOTE} (trial 0: line 7)"]


def test_trials_without_a_message_or_without_a_result_have_no_sentence(folder: StudyFolder) -> None:
    outcomes = [replace(item, message="") for item in outcomes_of(folder)]
    assert unread_metrics(folder, outcomes) == []
