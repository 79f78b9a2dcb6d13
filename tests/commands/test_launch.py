"""`launch` records a configuration with its evidence, if compare says adopt; nothing is lost or written twice."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest
from campaigns import OTHER_SEEDS, round_of
from forked_programs import forked_program
from warm_server import WarmServers

from tunectl.commands.launch import LaunchRequest, LaunchResult, launch
from tunectl.core import jsontext
from tunectl.core.errors import FolderError, StudyError, UsageError
from tunectl.core.records import TrialResult
from tunectl.language.campaign import Campaign, read_campaign
from tunectl.store.plan_file import read_plan

NOW = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
GOOD, BETTER, NEAR = (0.5, 0.51, 0.52), (0.3, 0.31, 0.32), (0.49, 0.515, 0.53)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three studies: a good one, a better one, and one that is near the first."""
    folder = tmp_path_factory.mktemp("campaign")
    for name, best, again in (("first", 0.45, GOOD), ("second", 0.25, BETTER), ("near", 0.44, NEAR)):
        round_of(folder, name, best, again)
    return folder


@pytest.fixture
def home(studies: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """These studies with a campaign in which nothing was launched."""
    (studies / "campaign.yaml").write_text("goal: x\nrounds: [first.yaml, second.yaml]  # ours\n")
    monkeypatch.chdir(studies)
    return studies


def launched(place: str, because: str = "it is better", *, anyway: bool = False) -> LaunchResult:
    return launch(LaunchRequest(place, because, None, anyway, NOW))


def campaign() -> Campaign:
    return read_campaign(Path())


def test_the_first_launch_says_that_it_was_compared_with_nothing(home):
    found = launched("runs/first")
    (entry,) = campaign().launched
    assert entry == found.launch
    assert (entry.place, entry.because, entry.compared_with) == ("runs/first/2", "it is better", "nothing")
    assert (entry.verdict, entry.anyway, entry.date) == ("", False, "2026-03-01T12:00:00+00:00")
    assert (entry.search_value, entry.retrains.values) == (0.45, GOOD)
    assert entry.values["learning_rate"] == pytest.approx(_rate(home, "first"))
    assert entry.command.endswith("tunectl run first.yaml")
    assert "compared with nothing" in found.notes[0]


def test_a_retrain_that_is_infeasible_is_recorded_without_a_value_and_one_that_failed_is_not(tmp_path, monkeypatch):
    folder = round_of(tmp_path, "study", 0.45, (0.5, None, 0.51, 0.52))
    failed = TrialResult(6, "failed", "error", message="ValueError: no")
    folder.trial(6).result.write_text(jsontext.encode(failed.to_json()))
    (tmp_path / "campaign.yaml").write_text("goal: x\nrounds: [study.yaml]\n")
    monkeypatch.chdir(tmp_path)
    launched("runs/study")
    (entry,) = campaign().launched
    assert entry.retrains.values == (0.5, None, 0.52)


def _rate(home: Path, name: str) -> float:
    return float(read_plan(home / "runs" / name / "plan.jsonl")[2].hyperparameters["learning_rate"])


def test_what_is_better_is_launched_with_the_verdict_and_comments_are_kept(home):
    launched("runs/first/2")
    launched("runs/second/2", "clearly: fewer errors")
    first, second = campaign().launched
    assert (second.compared_with, second.verdict, second.anyway) == (first.place, "adopt", False)
    assert second.improvement == pytest.approx(0.2)
    assert second.p_better == pytest.approx(0.05)
    assert "rounds: [first.yaml, second.yaml]  # ours\n" in (home / "campaign.yaml").read_text()


def test_what_is_not_better_is_refused_and_nothing_is_written(home):
    launched("runs/first")
    before = (home / "campaign.yaml").read_bytes()
    with pytest.raises(
        UsageError, match=r"not launched: not enough evidence: (.|\n)*in use: runs/first/2;(.|\n)*--anyway"
    ):
        launched("runs/near")
    assert (home / "campaign.yaml").read_bytes() == before


def test_anyway_launches_it_and_says_so_and_a_new_study_becomes_a_round(home):
    launched("runs/first")
    found = launched("runs/near", anyway=True)
    assert (found.launch.verdict, found.launch.anyway) == ("not enough evidence", True)
    assert campaign().rounds == ("first.yaml", "second.yaml", "runs/near")
    assert "runs/near was added to the rounds of the campaign" in found.notes


def test_anyway_is_not_recorded_where_the_verdict_is_adopt(home):
    launched("runs/first", anyway=True)
    assert not launched("runs/second", anyway=True).launch.anyway
    assert not any(item.anyway for item in campaign().launched)


def test_the_same_launch_again_adds_nothing(home):
    launched("runs/first")
    before = (home / "campaign.yaml").read_bytes()
    again = launched("runs/first/2", "another reason")
    assert (again.added, again.launch.because) == (False, "it is better")
    assert (home / "campaign.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("runs/first/9", "no trial 9 in this study; it has 7 trials"),
        ("runs/first/4", "is a retrain of trial 2; name that one"),
        ("runs/gone", "gone"),
    ],
)
def test_a_trial_that_cannot_be_launched_is_named_also_anyway(home, place, message):
    with pytest.raises((UsageError, FolderError), match=message):
        launched(place, anyway=True)
    assert campaign().launched == ()


def test_an_infeasible_trial_is_not_launched(home):
    folder = round_of(home, "infeasible", 0.5)
    (folder.trial(1).path / "result.json").write_text('{"trial": 1, "state": "infeasible", "reason": "nan_loss"}')
    with pytest.raises(UsageError, match="expected a completed trial, got one that is infeasible"):
        launched("runs/infeasible/1", anyway=True)


def test_a_reason_is_needed(home):
    with pytest.raises(UsageError, match="--because"):
        launched("runs/first", "  ")


def test_the_first_launch_is_compared_with_the_baseline(home):
    (home / "campaign.yaml").write_text("goal: x\nbaseline: runs/first/2\n")
    entry = launched("runs/second").launch
    assert (entry.compared_with, entry.verdict) == ("runs/first/2 (baseline)", "adopt")


def test_a_configuration_as_baseline_is_compared_through_a_trial_with_its_values(home):
    rate = _rate(home, "first")
    (home / "campaign.yaml").write_text(
        f"goal: x\nbaseline: {{optimizer: sgd, learning_rate: {rate!r}}}\nrounds: [first.yaml]\n"
    )
    entry = launched("runs/second").launch
    assert entry.compared_with.startswith("runs/first/2 (baseline optimizer=sgd, learning_rate=")
    assert entry.verdict == "adopt"


def test_a_baseline_that_was_not_trained_is_said_and_can_only_be_passed_over(home):
    (home / "campaign.yaml").write_text("goal: x\nbaseline: {learning_rate: 7}\nrounds: [first.yaml]\n")
    with pytest.raises(UsageError, match="was not trained in any round"):
        launched("runs/second")
    entry = launched("runs/second", anyway=True).launch
    assert (entry.verdict, entry.anyway, entry.compared_with) == ("not compared", True, "baseline learning_rate=7")


def test_what_was_launched_may_be_gone(home):
    launched("runs/first")
    (home / "campaign.yaml").write_text((home / "campaign.yaml").read_text().replace("runs/first", "runs/gone"))
    with pytest.raises(UsageError, match="not launched: cannot be compared"):
        launched("runs/second")
    assert launched("runs/second", anyway=True).launch.verdict == "not compared"


def test_another_search_of_a_round_is_no_new_round(home):
    round_of(home, "second.search-1", 0.2, BETTER, OTHER_SEEDS)
    launched("runs/second.search-1")
    assert campaign().rounds == ("first.yaml", "second.yaml")


def test_a_damaged_campaign_is_reported_and_not_written(home):
    (home / "campaign.yaml").write_text("goal: x\nlaunched: [{trial: 3}]\n")
    with pytest.raises(StudyError, match=r"campaign.yaml:2:12: launched\[0\]: study and because are missing"):
        launched("runs/first", anyway=True)
    assert (home / "campaign.yaml").read_text() == "goal: x\nlaunched: [{trial: 3}]\n"


@pytest.mark.usefixtures("home")
def test_launches_at_once_lose_nothing(fast_machine: WarmServers, environment: Mapping[str, str]) -> None:
    places = ["runs/first", "runs/near"]
    command = ["launch", "--anyway", "--because", "at once"]
    with ExitStack() as stack:
        running = [
            stack.enter_context(forked_program(fast_machine, [*command, place], environment)) for place in places
        ]
        for process in running:
            _, err = process.communicate()
            assert process.returncode == 0, err
    assert sorted(item.study for item in campaign().launched) == sorted(places)


def test_the_command_says_which_campaign_it_took(home, tunectl):
    here = ("--campaign", home, "--because", "fewer errors")
    called = tunectl("launch", home / "runs" / "first", *here)
    assert called.code == 0, called.err
    assert f"campaign: {home / 'campaign.yaml'} (as given)" in called.err
    assert called.out.startswith("launched runs/first/2: fewer errors\n")
    refused = tunectl("launch", home / "runs" / "near", *here)
    assert (refused.code, refused.out) == (2, "")
    again = tunectl("launch", home / "runs" / "second", *here, "--json").json()
    assert again["launch"]["verdict"] == again["comparison"]["verdict"] == "adopt"
