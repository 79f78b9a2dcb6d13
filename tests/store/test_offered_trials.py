"""Trials that are offered, claimed and given back. Tests offered_trials.py, claimed_trials.py and run_state.py."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from offered_studies import offered_study

from tunectl.core import real_folders
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import WorkloadReference
from tunectl.language.study_spec import ResourcesSection
from tunectl.store import claimed_trials, offered_trials, run_state
from tunectl.store.claimed_trials import Claimant, Ending, StopRequest
from tunectl.store.offered_trials import Offer
from tunectl.store.run_state import RunState, WorkerNeeds


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return offered_study(tmp_path, 3)


def test_a_claimed_trial_is_offered_no_more_and_its_folder_has_its_files(study: StudyFolder) -> None:
    claimed = claimed_trials.claim_trial(study, 1)
    assert claimed is not None
    assert offered_trials.offered_trials(study) == [0, 2]
    assert claimed_trials.claimed_trials(study) == [claimed]
    assert claimed.folder.request.exists()
    assert claimed.folder.study == study.path
    assert offered_trials.read_offer(claimed.folder) == Offer(1, 1)


def test_of_two_workers_that_want_a_trial_one_gets_it(study: StudyFolder) -> None:
    assert claimed_trials.claim_trial(study, 0) is not None
    assert claimed_trials.claim_trial(study, 0) is None


def test_of_many_claims_at_the_same_time_each_trial_has_one(tmp_path: Path) -> None:
    study = offered_study(tmp_path / "many", 200)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda trial: claimed_trials.claim_trial(study, trial), [*range(200)] * 8))
    claims = [claimed for claimed in found if claimed is not None]
    assert sorted(claimed.trial for claimed in claims) == list(range(200))
    assert sorted(claims, key=lambda claimed: claimed.trial) == claimed_trials.claimed_trials(study)


def test_an_answer_of_the_file_server_that_is_lost_is_no_lost_claim(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = real_folders.move

    def twice(path: Path, to: Path, within: Path) -> None:
        real(path, to, within)
        real(path, to, within)  # the client sends it again, as it got no answer

    monkeypatch.setattr(real_folders, "move", twice)
    claimed = claimed_trials.claim_trial(study, 0)
    assert claimed is not None
    assert claimed.folder.request.exists()


def test_the_name_of_a_claim_is_never_used_again(study: StudyFolder) -> None:
    first = claimed_trials.claim_trial(study, 0, host="node-1.example.org")
    assert first is not None
    assert claimed_trials.unclaim(first)
    second = claimed_trials.claim_trial(study, 0, host="node-1.example.org")
    assert second is not None
    assert first.name != second.name
    assert first.name.startswith("00000.node-1-example-org-")


def test_a_trial_is_given_back_with_how_it_ended(study: StudyFolder) -> None:
    claimed = claimed_trials.claim_trial(study, 2)
    assert claimed is not None
    claimant = Claimant("w", "node-1", 4711, 1, engine="slurm", job="12_3")
    claimed_trials.write_claimant(claimed, claimant)
    ending = Ending(1, code=0, seconds=2.5, device="cpu")
    assert claimed_trials.give_back(claimed, ending)
    home = offered_trials.home_folder(study, 2)
    assert claimed_trials.read_ending(home) == ending
    assert claimed_trials.read_claimant(home) == claimant
    offered_trials.remove_marks(home)
    assert os.listdir(home.path) == ["request.json"]  # noqa: PTH208
    assert not claimed_trials.give_back(claimed, ending)


def test_an_offer_is_withdrawn_unless_it_was_claimed(study: StudyFolder) -> None:
    assert offered_trials.withdraw_trial(study, 0)
    assert not offered_trials.withdraw_trial(study, 0)
    assert not (study.trials / "00000").exists(), "as before it was offered"
    claimed_trials.claim_trial(study, 1)
    assert not offered_trials.withdraw_trial(study, 1)


def test_a_worker_is_asked_to_stop_a_trial_as_long_as_it_has_it(study: StudyFolder) -> None:
    claimed = claimed_trials.claim_trial(study, 0)
    assert claimed is not None
    assert claimed_trials.read_stop_request(claimed) is None
    assert claimed_trials.request_stop(claimed, StopRequest())
    assert claimed_trials.read_stop_request(claimed) == StopRequest(kill=False)
    assert claimed_trials.request_stop(claimed, StopRequest(kill=True))
    assert claimed_trials.read_stop_request(claimed) == StopRequest(kill=True)
    claimed.folder.stop_request.write_bytes(b'{"ki')
    assert claimed_trials.read_stop_request(claimed) == StopRequest()
    claimed_trials.give_back(claimed, Ending(1, code=0))
    assert not claimed_trials.request_stop(claimed, StopRequest())


@pytest.mark.parametrize("content", [b"", b"{", b'{"worker": "w", "ho', b"\0" * 4096, b"[]", b'{"worker": 3}'])
def test_torn_records_of_a_claim_are_none(study: StudyFolder, content: bytes) -> None:
    claimed = claimed_trials.claim_trial(study, 0)
    assert claimed is not None
    claimed.folder.claimant.write_bytes(content)
    claimed.folder.ending.write_bytes(content)
    claimed.folder.offer.write_bytes(content)
    assert claimed_trials.read_claimant(claimed.folder) is None
    assert claimed_trials.read_ending(claimed.folder) is None
    assert offered_trials.read_offer(claimed.folder) is None
    assert claimed_trials.claimed_trials(study) == [claimed]


def test_the_heartbeat_of_a_claim_changes_with_each_beat(study: StudyFolder) -> None:
    claimed = claimed_trials.claim_trial(study, 0)
    assert claimed is not None
    assert claimed_trials.read_trial_beat(claimed) is None
    seen = set()
    for count in range(3):
        claimed_trials.write_trial_beat(claimed, count)
        seen.add(claimed_trials.read_trial_beat(claimed))
    assert len(seen) == 3
    claimed_trials.give_back(claimed, Ending(1, code=0))
    with pytest.raises(FileNotFoundError):
        claimed_trials.write_trial_beat(claimed, 3)


def test_the_state_of_a_run_is_read_as_it_was_written_and_removed_with_the_places(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path)
    offered_trials.make_places(study)
    needs = WorkerNeeds(
        WorkloadReference("./a.py:f", "f", file="/home/ada/a.py", search_path=("/home/ada",)),
        {"width": 3, "name": "x"},
        (WorkloadReference("./b.py:Lion", "Lion", file="/home/ada/b.py", workload_kind="optimizer"),),
        current_folder="/home/ada",
    )
    state = RunState("t", "at_work", needs, ResourcesSection(devices=(0, "GPU-1"), trials_per_device=2), reverse=True)
    assert run_state.read_run_state(study) is None
    run_state.write_run_state(study, state)
    assert run_state.read_run_state(study) == state
    run_state.write_run_beat(study, 1)
    first = run_state.read_run_beat(study)
    run_state.write_run_beat(study, 2)
    assert first != run_state.read_run_beat(study)
    run_state.remove_run_state(study)
    assert list(tmp_path.iterdir()) == []


def test_a_state_of_a_later_version_is_refused(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path)
    study.run_state.write_text('{"token": "t", "phase": "dancing"}')
    with pytest.raises(FolderError, match="another version of tunectl"):
        run_state.read_run_state(study)
