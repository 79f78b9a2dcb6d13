"""Attempts that were prepared and never began. Tests unbegun_attempts.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.records import AttemptEnd
from tunectl.store import offered_trials
from tunectl.store.offered_trials import Offer
from tunectl.store.trial_files import append_attempt, read_trial, trial_state
from tunectl.store.unbegun_attempts import forget_attempt


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    study = StudyFolder(tmp_path)
    study.trials.mkdir()
    offered_trials.make_places(study)
    return study


def prepared(study: StudyFolder, attempt: int) -> TrialFolder:
    home = study.home(0)
    home.path.mkdir(exist_ok=True)
    home.request.write_text(json.dumps({"kind": "workload", "attempt": attempt}))
    return home


def test_an_offered_trial_is_pending_and_one_that_a_worker_has_is_not(study: StudyFolder) -> None:
    prepared(study, 1)
    offered_trials.offer_trial(study, Offer(0, 1))
    assert trial_state(read_trial(study.trial(0)))[0] == "pending"
    study.trial(0).claimant.write_text("{}")
    assert trial_state(read_trial(study.trial(0)))[0] == "cancelled"


def test_a_first_attempt_that_never_began_leaves_nothing(study: StudyFolder) -> None:
    prepared(study, 1)
    offered_trials.offer_trial(study, Offer(0, 1))
    assert offered_trials.withdraw_trial(study, 0)
    assert not study.home(0).path.exists()


def test_a_further_attempt_that_never_began_leaves_the_request_of_the_last_one(study: StudyFolder) -> None:
    home = prepared(study, 3)
    append_attempt(home, AttemptEnd(2, "crashed", "boom"))
    offered_trials.offer_trial(study, Offer(0, 3))
    assert offered_trials.withdraw_trial(study, 0)
    files = read_trial(home)
    assert files.request is not None
    assert files.request["attempt"] == 2
    assert [attempt.attempt for attempt in files.attempts] == [2]
    assert sorted(path.name for path in home.path.iterdir()) == ["attempts.jsonl", "request.json"]


def test_the_request_of_another_attempt_stays(study: StudyFolder) -> None:
    home = prepared(study, 2)
    before = home.request.read_bytes()
    forget_attempt(home, 1)
    assert home.request.read_bytes() == before


def test_a_trial_is_found_wherever_it_is(study: StudyFolder) -> None:
    assert study.trial(0) == study.home(0)
    prepared(study, 1)
    assert study.trial(0) == study.home(0)
    offered_trials.offer_trial(study, Offer(0, 1))
    assert study.trial(0).path == study.offered / "00000"
    (study.offered / "00000").rename(study.claimed / "00000.host-1-ab")
    assert study.trial(0).path == study.claimed / "00000.host-1-ab"
    assert study.trial(0).trial == 0
    (study.claimed / "00000.host-1-ab").rename(study.claimed / "00000.host-1-ab.lost")
    assert study.trial(0).path.name == "00000.host-1-ab.lost"
    (study.claimed / "00000.host-1-ab.new").mkdir()
    assert study.trial(0).path.name == "00000.host-1-ab.lost"
