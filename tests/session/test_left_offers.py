"""What an earlier run has left to workers. Tests left_offers.py and stopped_workers.py.

By commands: tests/commands/test_studies_with_workers.py.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import TrialResult, WorkloadReference
from tunectl.execution.claim_watch import LATE_SECONDS
from tunectl.language.study_spec import ResourcesSection
from tunectl.session import left_offers
from tunectl.session.stopped_workers import stop_workers
from tunectl.store import claimed_trials, offered_trials, run_state
from tunectl.store.claimed_trials import Claimant, ClaimedTrial, Ending
from tunectl.store.offered_trials import Offer
from tunectl.store.run_state import RunState, WorkerNeeds
from tunectl.store.sealed_files import write_record
from tunectl.store.trial_files import read_trial, write_result

HEARTBEAT = 10.0


@dataclass
class Study:
    """A folder with three offered trials, and a clock that moves by the sleeps alone."""

    folder: StudyFolder
    now: float = 0.0
    said: list[str] = field(default_factory=list)
    beating: list[ClaimedTrial] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for claimed in self.beating:
            claimed_trials.write_trial_beat(claimed, int(self.now * 1000))

    def claim(self, trial: int) -> ClaimedTrial:
        claimed = claimed_trials.claim_trial(self.folder, trial)
        assert claimed is not None
        claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 1, 1))
        claimed_trials.write_trial_beat(claimed, 1)
        return claimed

    def take_back_from_dead(self) -> None:
        left_offers.take_back_from_dead(self.folder, self.said.append, HEARTBEAT, lambda: self.now, self.sleep)

    def stop(self, *, now: bool = False) -> tuple[str, ...]:
        return stop_workers(self.folder, self.said.append, now=now, clock=lambda: self.now, sleep=self.sleep)

    def attempts(self, trial: int) -> list[tuple[int, str, str]]:
        return [(item.attempt, item.reason, item.message) for item in read_trial(self.folder.trial(trial)).attempts]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    folder = StudyFolder(tmp_path)
    offered_trials.make_places(folder)
    for trial in range(3):
        home = folder.home(trial)
        home.path.mkdir(parents=True)
        home.request.write_text(json.dumps({"kind": "workload", "attempt": 1}))
        offered_trials.offer_trial(folder, Offer(trial, 1))
    needs = WorkerNeeds(WorkloadReference("toy:loads", "loads", module="toy"))
    run_state.write_run_state(folder, RunState("t", "left", needs, ResourcesSection(), heartbeat_seconds=HEARTBEAT))
    return Study(folder)


@pytest.mark.parametrize(
    ("ending", "recorded"),
    [
        (Ending(1, signal=11, device="cpu"), [(1, "crashed", "was killed by SIGSEGV (signal 11), see log.txt")]),
        (Ending(1, code=75, released=True, message="its time was over"), [(1, "released", "its time was over")]),
        (Ending(1, lost=True, message="its server died"), [(1, "lost", "its server died")]),
        (Ending(1, code=75), [(1, "cancelled", "its runner ended before it")]),
    ],
)
def test_how_a_trial_ended_while_no_run_was_at_work_is_recorded(
    study: Study, ending: Ending, recorded: list[tuple[int, str, str]]
) -> None:
    claimed_trials.give_back(study.claim(0), ending)
    left_offers.take_in_all(study.folder)
    assert [item[:2] for item in study.attempts(0)] == [item[:2] for item in recorded]
    assert not study.folder.home(0).offer.exists()
    assert offered_trials.offered_trials(study.folder) == [1, 2], "what is offered stays so"
    left_offers.take_in_all(study.folder)
    assert [item[:2] for item in study.attempts(0)] == [item[:2] for item in recorded]


def test_a_result_that_shows_late_is_waited_for_and_nothing_of_its_trial_is_removed(study: Study) -> None:
    claimed_trials.give_back(study.claim(0), Ending(1, code=0))
    home, result = study.folder.home(0), TrialResult(0, "completed", attempt=1)
    plain_sleep = study.sleep

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        if study.now >= 20.0 and not home.result.exists():
            assert sorted(path.name for path in home.path.iterdir()) == [
                *("beat", "claim.json", "ended.json", "offer.json", "request.json"),
            ]
            write_result(home, result)

    left_offers.take_in_all(study.folder, lambda: study.now, sleep)
    assert 20.0 <= study.now < 25.0
    assert sorted(path.name for path in home.path.iterdir()) == ["request.json", "result.json"]
    assert study.attempts(0) == []


def test_an_end_that_shows_late_is_waited_for_and_recorded(study: Study) -> None:
    claimed = study.claim(0)
    claimed_trials.return_home(claimed)
    home, plain_sleep = study.folder.home(0), study.sleep

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        if study.now >= 20.0 and not home.ending.exists():
            write_record(home.ending, Ending(1, signal=11), within=study.folder.path)

    left_offers.take_in_all(study.folder, lambda: study.now, sleep)
    assert [item[:2] for item in study.attempts(0)] == [(1, "crashed")]
    assert not home.offer.exists()


def test_a_trial_that_came_back_without_any_word_of_a_worker_was_never_begun_after_a_while(study: Study) -> None:
    claimed = claimed_trials.claim_trial(study.folder, 0)
    assert claimed is not None
    claimed_trials.return_home(claimed)
    left_offers.take_in_all(study.folder, lambda: study.now, study.sleep)
    assert study.now >= LATE_SECONDS
    assert not study.folder.home(0).path.exists()


def test_a_trial_that_could_not_be_taken_back_yet_is_work_that_is_left(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = study.claim(0)
    claimed.folder.resume.write_bytes(b"resume")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patching:
        patching.setattr(os, "fsync", full)
        with pytest.raises(FolderError, match="No space left"):
            left_offers.take_in_lost(claimed)
        with pytest.raises(FolderError, match="No space left"):
            left_offers.end_left_run(study.folder)
    left_offers.withdraw_offers(study.folder)
    with pytest.raises(FolderError, match="workers have trial 0"):
        left_offers.check_no_work_left(study.folder, "move it")
    with pytest.raises(UsageError, match="workers have trial 0"):
        left_offers.at_rest(study.folder, 0)
    left_offers.end_left_run(study.folder)
    assert study.folder.home(0).resume.read_bytes() == b"resume"
    assert not left_offers.had_workers(study.folder)


def test_an_offer_that_a_killed_run_left_half_made_is_forgotten(study: Study) -> None:
    (study.folder.offered / "00000").rename(offered_trials.desk_folder(study.folder, 0).path)
    left_offers.take_in_all(study.folder)
    assert not study.folder.home(0).path.exists()


def test_trials_of_dead_workers_are_taken_back_for_this_machine(study: Study) -> None:
    study.claim(1)
    study.take_back_from_dead()
    assert study.said == ["workers have trial 1 (on node-1); watching for 30 s whether they are at work"]
    assert study.now >= 3 * HEARTBEAT
    assert study.attempts(1) == [(1, "lost", "its worker on node-1 was silent")]
    assert not left_offers.had_workers(study.folder)


def test_a_trial_of_a_worker_that_beats_is_not_taken_and_nothing_is_changed(study: Study) -> None:
    study.beating = [study.claim(1)]
    with pytest.raises(FolderError, match=r"workers have trial 1 \(on node-1\); with --backend external"):
        study.take_back_from_dead()
    assert offered_trials.offered_trials(study.folder) == [0, 2]
    assert [claimed.trial for claimed in claimed_trials.claimed_trials(study.folder)] == [1]


def test_a_folder_without_workers_costs_no_wait(tmp_path: Path) -> None:
    study = Study(StudyFolder(tmp_path / "other"))
    study.take_back_from_dead()
    assert (study.now, study.said) == (0.0, [])


def test_a_trial_that_a_worker_has_is_not_changed_by_a_request(study: Study) -> None:
    study.claim(1)
    with pytest.raises(UsageError, match="workers have trial 1"):
        left_offers.at_rest(study.folder, 1)
    assert left_offers.at_rest(study.folder, 0) == study.folder.home(0)
    assert offered_trials.offered_trials(study.folder) == [2]


def test_where_work_is_left_the_folder_may_not_be_moved(study: Study) -> None:
    with pytest.raises(FolderError, match="a run has left trials to workers; move it when they have ended"):
        left_offers.check_no_work_left(study.folder, "move it")


def test_a_stop_takes_offers_back_asks_workers_and_takes_back_from_the_dead(study: Study) -> None:
    alive = study.claim(0)
    study.claim(1)  # its worker has died
    study.beating = [alive]
    asked: list[bool] = []
    plain_sleep = study.sleep

    def sleep(seconds: float) -> None:
        request = claimed_trials.read_stop_request(alive) if alive.folder.path.exists() else None
        if request is not None and not asked:
            asked.append(request.kill)
            study.beating = []
            claimed_trials.give_back(alive, Ending(1, code=75))
        plain_sleep(seconds)

    study.sleep = sleep  # type: ignore[method-assign]
    assert study.stop() == ("2 trials of workers stopped, and what was offered is taken back",)
    assert asked == [False]
    assert [reason for _, reason, _ in study.attempts(0)] == ["cancelled"]
    assert [reason for _, reason, _ in study.attempts(1)] == ["lost"]
    assert study.attempts(2) == []
    assert not left_offers.had_workers(study.folder)
