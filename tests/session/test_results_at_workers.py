"""Trials that have ended at workers which have not given them back. Tests take_in_all of left_offers.py."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from offered_studies import offered_study

from tunectl.core.boot_id import seen_from
from tunectl.core.folders import StudyFolder
from tunectl.core.records import TrialResult
from tunectl.session.left_offers import take_in_all
from tunectl.store.claimed_trials import Claimant, ClaimedTrial, claim_trial, claimed_trials, write_claimant
from tunectl.store.offered_trials import home_folder, offered_trials
from tunectl.store.trial_files import read_result, write_result


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return offered_study(tmp_path, 3)


def claimed(study: StudyFolder, trial: int) -> ClaimedTrial:
    found = claim_trial(study, trial)
    assert found is not None
    write_claimant(found, Claimant("w", "node-1", 4711, 1, engine="slurm", job="12_3", boot=seen_from(study.path)))
    return found


def taken_in(study: StudyFolder) -> None:
    """Take in what is left, by a clock that each look moves."""
    looks = itertools.count()
    take_in_all(study, lambda: float(next(looks)), lambda _seconds: None)


def test_a_trial_with_a_result_is_taken_from_its_worker_which_may_be_dead(study: StudyFolder) -> None:
    result = TrialResult(1, "completed")
    write_result(claimed(study, 1).folder, result)
    taken_in(study)
    assert claimed_trials(study) == []
    home = home_folder(study, 1)
    assert read_result(home) == result
    assert sorted(path.name for path in home.path.iterdir()) == ["request.json", "result.json"]
    assert offered_trials(study) == [0, 2]


def test_a_trial_without_a_result_stays_with_its_worker(study: StudyFolder) -> None:
    claim = claimed(study, 1)
    taken_in(study)
    assert claimed_trials(study) == [claim]


def test_a_result_of_an_earlier_attempt_takes_no_trial_from_its_worker(study: StudyFolder) -> None:
    claim = claimed(study, 1)
    write_result(claim.folder, TrialResult(1, "completed", attempt=7))
    taken_in(study)
    assert claimed_trials(study) == [claim]
