"""Trials that are offered, claimed and given back. Tests offered_trials.py, claimed_trials.py and run_state.py."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from full_disks import fill_disk_under
from offered_studies import offered_study

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import WorkloadReference
from tunectl.language.study_spec import ResourcesSection
from tunectl.session.left_offers import take_in_all
from tunectl.store import claimed_trials, lost_claims, offered_trials, run_state
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
    study = offered_study(tmp_path / "many", 60)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda trial: claimed_trials.claim_trial(study, trial), [*range(60)] * 8))
    claims = [claimed for claimed in found if claimed is not None]
    assert sorted(claimed.trial for claimed in claims) == list(range(60))
    assert sorted(claims, key=lambda claimed: claimed.trial) == claimed_trials.claimed_trials(study)


@pytest.fixture
def answers_lost(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets each rename be done and its answer be lost: the client asks again, and gets this error."""
    real = os.rename

    def lose(number: int) -> None:
        def renamed(*arguments: Any, **keywords: Any) -> None:
            real(*arguments, **keywords)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "rename", renamed)

    return lose


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO])
def test_an_answer_of_the_file_server_that_is_lost_changes_nothing(
    study: StudyFolder, answers_lost: Callable[[int], None], number: int
) -> None:
    answers_lost(number)
    first = claimed_trials.claim_trial(study, 0)
    assert first is not None
    assert first.folder.request.exists()
    assert claimed_trials.unclaim(first)
    assert offered_trials.offered_trials(study) == [0, 1, 2]
    again = claimed_trials.claim_trial(study, 0)
    assert again is not None
    assert claimed_trials.return_home(again)
    offered_trials.offer_trial(study, Offer(0, 2))
    assert offered_trials.read_offer(offered_trials.offered_folder(study, 0)) == Offer(0, 2)
    assert offered_trials.withdraw_trial(study, 0)
    assert study.home(0).request.exists()
    lost = claimed_trials.claim_trial(study, 1)
    assert lost is not None
    assert lost_claims.take_back(lost)
    assert study.home(1).request.exists()
    assert offered_trials.offered_trials(study) == [2]


def test_a_trial_that_another_one_moved_away_meanwhile_is_not_taken_for_ones_own(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def other_first(*arguments: Any, **keywords: Any) -> None:
        monkeypatch.setattr(os, "rename", real)
        claimed = claimed_trials.claim_trial(study, 0)
        assert claimed is not None
        claimed_trials.give_back(claimed, Ending(1, code=0))
        real(*arguments, **keywords)

    monkeypatch.setattr(os, "rename", other_first)
    assert not offered_trials.withdraw_trial(study, 0), "a worker has claimed it, and given it back"
    assert claimed_trials.read_ending(study.home(0)) == Ending(1, code=0)


def test_an_offer_that_cannot_be_written_leaves_the_trial_where_it_was(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offered_trials.withdraw_trial(study, 0)
    home = study.home(0)
    home.path.mkdir()
    home.request.write_text('{"kind": "workload"}')
    with monkeypatch.context() as patching:
        fill_disk_under(patching, "offer.json")
        with pytest.raises(FolderError, match="No space left"):
            offered_trials.offer_trial(study, Offer(0, 1))
    assert os.listdir(home.path) == ["request.json"]  # noqa: PTH208
    assert sorted(path.name for path in study.offered.iterdir()) == ["00001", "00002"]


def test_what_a_killed_runner_was_about_to_offer_is_at_home_and_was_never_begun(study: StudyFolder) -> None:
    desk = offered_trials.desk_folder(study, 1)
    offered_trials.offered_folder(study, 1).path.rename(desk.path)
    desk.resume.write_bytes(b"resume")
    assert study.trial(1) == desk
    assert offered_trials.offered_trials(study) == [0, 2]
    offered_trials.finish_offers(study)
    assert [path.name for path in study.home(1).path.iterdir()] == ["resume.pt"]


def test_marks_that_are_half_removed_do_not_look_like_a_trial_that_never_began(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = claimed_trials.claim_trial(study, 0)
    assert claimed is not None
    claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 4711, 1))
    claimed_trials.write_trial_beat(claimed, 1)
    claimed_trials.give_back(claimed, Ending(1, code=75))
    home, real = study.home(0), os.unlink
    marks = {path.name for path in home.path.iterdir()} - {"request.json"}
    assert marks == {"offer.json", "claim.json", "beat", "ended.json"}
    removed = []

    def unlink(path: str, **keywords: Any) -> None:
        removed.append(path)
        if len(removed) > 1:
            raise KeyboardInterrupt
        real(path, **keywords)

    with monkeypatch.context() as patching:
        patching.setattr(os, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            offered_trials.remove_marks(home)
    assert not home.offer.exists()
    assert offered_trials.trials_with_marks(study) == [0]
    take_in_all(study)
    assert [path.name for path in home.path.iterdir()] == ["request.json"]


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
