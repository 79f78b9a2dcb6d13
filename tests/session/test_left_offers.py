"""What an earlier run has left to workers. Tests left_offers.py and stopped_workers.py.

By commands: tests/commands/test_studies_with_workers.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import WorkloadReference
from tunectl.language.study_spec import ResourcesSection
from tunectl.session import left_offers
from tunectl.session.stopped_workers import stop_workers
from tunectl.store import claimed_trials, offered_trials, run_state
from tunectl.store.claimed_trials import Claimant, ClaimedTrial, Ending
from tunectl.store.offered_trials import Offer
from tunectl.store.run_state import RunState, WorkerNeeds
from tunectl.store.trial_files import read_trial, trial_state

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
        offered_trials.offer_trial(folder, Offer(trial, 1, timeout_seconds=60.0))
    needs = WorkerNeeds(WorkloadReference("toy:loads", "loads", module="toy"))
    run_state.write_run_state(folder, RunState("t", "left", needs, ResourcesSection(), heartbeat_seconds=HEARTBEAT))
    return Study(folder)


@pytest.mark.parametrize(
    ("ending", "recorded"),
    [
        (Ending(1, signal=11, device="cpu"), [(1, "crashed", "was killed by SIGSEGV, see log.txt")]),
        (Ending(1, code=75, released=True, message="its time was over"), [(1, "released", "its time was over")]),
        (Ending(1, lost=True, message="its server died"), [(1, "lost", "its server died")]),
        (Ending(1, code=75), [(1, "cancelled", "its runner ended before it")]),
        (Ending(1, code=74), [(1, "cancelled", "its runner ended before it")]),
        (Ending(1, code=75, timed_out=True), [(1, "timeout", "it took longer than trial_timeout_seconds: 60")]),
        (Ending(1, signal=9, timed_out=True), [(1, "timeout", "it took longer than trial_timeout_seconds: 60")]),
        (Ending(1, signal=11, timed_out=True), [(1, "crashed", "was killed by SIGSEGV, see log.txt")]),
    ],
)
def test_how_a_trial_ended_while_no_run_was_at_work_is_recorded(
    study: Study, ending: Ending, recorded: list[tuple[int, str, str]]
) -> None:
    claimed_trials.give_back(study.claim(0), ending)
    left_offers.take_in_all(study.folder)
    assert study.attempts(0) == recorded
    state = trial_state(read_trial(study.folder.home(0)))[0]
    assert state == {"timeout": "failed", "cancelled": "cancelled"}.get(recorded[0][1], "pending")
    assert not study.folder.home(0).offer.exists()
    assert offered_trials.offered_trials(study.folder) == [1, 2], "what is offered stays so"
    left_offers.take_in_all(study.folder)
    assert study.attempts(0) == recorded


def test_a_trial_that_never_began_at_its_worker_is_as_before_its_offer(study: Study) -> None:
    claimed_trials.give_back(study.claim(0), Ending(1, never_began=True))
    left_offers.take_in_all(study.folder)
    assert study.attempts(0) == []
    assert not study.folder.home(0).path.exists()


@pytest.mark.parametrize("claimant", [None, Claimant("w", "node-1", 1, 1, waits=True)])
def test_a_claim_of_a_dead_worker_that_never_began_is_no_lost_attempt(study: Study, claimant: Claimant | None) -> None:
    claimed = claimed_trials.claim_trial(study.folder, 0)
    assert claimed is not None
    if claimant is not None:
        claimed_trials.write_claimant(claimed, claimant)
    left_offers.take_in_lost(claimed)
    assert study.attempts(0) == []
    assert not study.folder.home(0).path.exists()


def test_an_offer_that_a_killed_run_left_half_made_is_forgotten(study: Study) -> None:
    (study.folder.offered / "00000").rename(study.folder.home(0).path)
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
