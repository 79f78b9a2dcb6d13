"""What a campaign says about the trials of a study."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaigns import round_of

from tunectl.core.folders import StudyFolder
from tunectl.session.launched_trial import LaunchedTrial, launched_trial


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    monkeypatch.chdir(tmp_path)
    return round_of(tmp_path, "first", 0.5)


def campaign(text: str) -> None:
    Path("campaign.yaml").write_text(text)


def test_without_a_campaign_or_a_launch_nothing_is_said(study):
    assert launched_trial(study) == LaunchedTrial()
    campaign("goal: x\n")
    assert launched_trial(study) == LaunchedTrial()
    assert launched_trial(study).in_words(0) == ""


def test_the_last_launch_counts_and_a_launch_of_another_study_is_named(study):
    place = study.path.relative_to(Path.cwd()).as_posix()
    launches = f"launched:\n  - {{study: {place}, trial: 0, because: first}}\n"
    campaign(launches + f"  - {{study: {place}, trial: 3, because: fewer errors}}\n")
    found = launched_trial(study)
    assert found.trial == 3
    assert found.in_words(3) == "trial 3 is what the campaign launched last: fewer errors"
    assert found.in_words(0) == f"trial 0 is not what the campaign launched last, which is {place}/3"
    campaign(launches + "  - {study: runs/other, trial: 3, because: better}\n")
    assert launched_trial(study).trial is None
    assert launched_trial(study).in_words(3).endswith("which is runs/other/3")


def test_a_campaign_that_cannot_be_read_is_said_to_be_so(study):
    campaign("goals: x\n")
    assert "campaign.yaml:1:1: goals: no such key; did you mean goal?" in launched_trial(study).problem
