"""The claim of a worker at a file server that fails for a while. Tests held_trials.py, as test_trial_worker.py does."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from offered_studies import offered_study

from tunectl.core import real_folders
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.execution import held_trials
from tunectl.execution.backends.backend import ProcessEnded
from tunectl.execution.devices import CPU
from tunectl.execution.held_trials import HeldTrial, WorkerName
from tunectl.execution.protocol import EXIT_UNWRITTEN
from tunectl.execution.slots import make_slots
from tunectl.store import claimed_trials, heartbeats, lost_claims, offered_trials
from tunectl.store.claimed_trials import Ending
from tunectl.store.heartbeats import LATE_SECONDS
from tunectl.store.offered_trials import Offer
from tunectl.store.sealed_files import write_record


@pytest.fixture
def held(tmp_path: Path) -> HeldTrial:
    claimed = claimed_trials.claim_trial(offered_study(tmp_path / "study", 1), 0)
    assert claimed is not None
    held = HeldTrial(claimed, make_slots([CPU])[0], 0.0)
    held.beat(0.0, 10.0)
    assert held.beats == 1
    return held


def failing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fails(*_arguments: Any, **_more: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(heartbeats, "write_beat", fails)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO, errno.ESTALE])
def test_a_beat_that_cannot_be_written_now_is_written_at_the_next_look(
    held: HeldTrial, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patching:
        failing(patching, number)
        held.beat(10.0, 10.0)
    assert (held.is_lost, held.beats) == (False, 1)
    held.beat(10.1, 10.0)
    assert (held.is_lost, held.beats) == (False, 2)


def test_a_claim_that_was_taken_back_is_lost_also_where_code_of_the_trial_makes_its_folder_again(
    held: HeldTrial,
) -> None:
    assert lost_claims.take_back(held.claimed)
    held.beat(10.0, 10.0)
    assert held.is_lost
    held.claimed.folder.files.mkdir(parents=True)
    home = held.claimed.study.home(0)
    home.path.rename(held.claimed.study.path / "elsewhere")
    assert not claimed_trials.give_back(held.claimed, Ending(1, code=0))
    assert not home.path.exists(), "what was made again is no trial"


def test_a_study_folder_that_is_not_there_for_a_while_loses_no_claim(held: HeldTrial) -> None:
    study = held.claimed.study.path
    study.rename(study.with_name("unmounted"))
    held.beat(10.0, 10.0)
    assert not held.is_lost
    with pytest.raises(FileNotFoundError):
        claimed_trials.give_back(held.claimed, Ending(1, code=0))
    study.with_name("unmounted").rename(study)
    held.beat(10.1, 10.0)
    assert (held.is_lost, held.beats) == (False, 2)
    assert claimed_trials.give_back(held.claimed, Ending(1, code=0))


def test_a_trial_that_could_not_write_its_files_goes_on_elsewhere(held: HeldTrial) -> None:
    ended = ProcessEnded(0, EXIT_UNWRITTEN, None, 2.0, message="[Errno 28] No space left on device")
    ending = held.ending(ended, "", has_company=False)
    assert (ending.released, ending.code) == (True, EXIT_UNWRITTEN)
    assert ending.message == "its worker could not write its files: [Errno 28] No space left on device"
    users = held.ending(replace(ended, is_users=True), "", has_company=False)
    assert not users.released, "an exit code of the user's program says something else"


def test_a_trial_waits_while_its_offer_and_its_request_are_of_different_attempts(held: HeldTrial) -> None:
    folder = held.claimed.folder
    folder.request.write_text('{"kind": "workload", "attempt": 2}')  # the offer that shows is an earlier one
    assert not held.can_be_read()
    assert held.offer is None
    write_record(folder.offer, Offer(0, 2), within=folder.study)
    assert held.can_be_read()
    assert held.offer == Offer(0, 2)


def test_an_end_that_an_earlier_worker_has_written_is_not_that_of_the_next_one(
    held: HeldTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = held.claimed.study

    def fails(*_paths: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patching:
        patching.setattr(real_folders, "move", fails)
        with pytest.raises(OSError, match="Input/output"):
            claimed_trials.give_back(held.claimed, held.given_back())
    assert claimed_trials.read_ending(held.claimed.folder) is not None
    assert claimed_trials.unclaim(held.claimed)

    claimed = claimed_trials.claim_trial(study, 0)
    assert claimed is not None
    assert claimed_trials.read_ending(claimed.folder) is None
    write_record(claimed.folder.ending, Ending(1, never_began=True), within=study.path)  # of a worker that was killed
    again = HeldTrial(claimed, make_slots([CPU])[0], 0.0)
    again.note(WorkerName("w"), waits=True)
    assert not claimed_trials.has_begun(claimed.folder)
    again.note(WorkerName("w"), waits=False)
    assert claimed_trials.read_ending(claimed.folder) is None
    assert claimed_trials.has_begun(claimed.folder)


def test_a_result_that_cannot_be_read_now_keeps_no_trial_from_being_given_back(
    held: HeldTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_folder: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(held_trials, "read_result", fails)
    assert held.how_it_ended(Ending(1, code=3, is_users=True)).startswith("ended with exit code 3")


RESUME, EARLIER = b"state of step 40, crc32:1" * 40, b"state of step 20, crc32:2" * 40


@pytest.fixture
def begun(tmp_path: Path) -> StudyFolder:
    """A study whose trial has begun on another host, and is offered again."""
    study = offered_study(tmp_path / "study", 1)
    offered_trials.withdraw_trial(study, 0)
    home = offered_trials.home_folder(study, 0)
    home.path.mkdir(exist_ok=True)
    home.request.write_text('{"kind": "workload", "attempt": 2}')
    home.resume.write_bytes(RESUME)
    home.log.write_text("step 40\n")
    home.measurements.write_text('{"step": 40}\n')
    home.checkpoints.mkdir()
    home.checkpoint(40).write_bytes(b"weights")
    (home.files / "last" / "part").mkdir(parents=True)
    (home.files / "last" / "part" / "optimizer.pt").write_bytes(b"moments")
    (home.path / ".earlier-100").mkdir()
    (home.path / ".earlier-100" / "measurements.jsonl").write_text('{"step": 30}\n')
    offered_trials.offer_trial(study, Offer(0, 2))
    return study


def claimed_again(study: StudyFolder) -> HeldTrial:
    claimed = claimed_trials.claim_trial(study, 0)
    assert claimed is not None
    held = HeldTrial(claimed, make_slots([CPU])[0], 0.0)
    assert held.can_be_read()
    return held


@pytest.mark.parametrize(
    ("late", "hide"),
    [
        ("resume.pt", lambda folder: folder.resume.unlink()),
        ("resume.pt", lambda folder: folder.resume.write_bytes(EARLIER)),
        ("checkpoints/step-00000040.pt", lambda folder: folder.checkpoint(40).unlink()),
        ("measurements.jsonl", lambda folder: folder.measurements.write_text("")),
        ("log.txt", lambda folder: folder.log.unlink()),
        ("files/last/part/optimizer.pt", lambda folder: (folder.files / "last/part/optimizer.pt").write_bytes(b"m")),
        ("files/last/part/optimizer.pt", lambda folder: (folder.files / "last").rename(folder.files / "later")),
        (".earlier-100/measurements.jsonl", lambda folder: (folder.path / ".earlier-100").rename(folder.path / "x")),
    ],
)
def test_a_claimed_trial_waits_until_all_shows_from_which_it_goes_on(
    begun: StudyFolder, late: str, hide: Callable[[TrialFolder], object]
) -> None:
    held = claimed_again(begun)
    path, said = held.claimed.folder.path / late, list[str]()
    content = path.read_bytes()
    hide(held.claimed.folder)
    assert held.waits_for_files(0.0, said.append)
    assert held.waits_for_files(LATE_SECONDS - 1.0, said.append)
    (line,) = said
    assert line.startswith("trial 0: waiting up to 60 s for the files from which it goes on to show; ")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    assert held.waits_for_files(LATE_SECONDS - 0.5, said.append), "they are looked for once a second"
    assert not held.waits_for_files(LATE_SECONDS + 0.1, said.append)
    assert len(said) == 1


def test_what_does_not_show_for_a_minute_was_removed_and_the_trial_goes_on_without_it(begun: StudyFolder) -> None:
    held, said = claimed_again(begun), list[str]()
    held.claimed.folder.resume.unlink()
    assert held.waits_for_files(0.0, said.append)
    assert not held.waits_for_files(LATE_SECONDS, said.append)
    assert said[1:] == ["warning: trial 0 goes on without what does not show here: resume.pt"]
    assert not held.waits_for_files(LATE_SECONDS + 5.0, said.append)
    assert len(said) == 2


def test_what_a_process_of_the_trial_still_appends_is_not_waited_for(begun: StudyFolder) -> None:
    held = claimed_again(begun)
    with held.claimed.folder.log.open("a") as file:
        file.write("a process that the trial has left\n")
    assert not held.waits_for_files(0.0, pytest.fail)


def test_an_offer_of_an_earlier_version_names_no_files_and_is_taken_as_it_is(begun: StudyFolder) -> None:
    claimed = claimed_trials.claim_trial(begun, 0)
    assert claimed is not None
    claimed.folder.offer.write_text('{"trial": 0, "attempt": 2, "alone": false, "timeout_seconds": null, "format": 1}')
    claimed.folder.resume.unlink()
    held = HeldTrial(claimed, make_slots([CPU])[0], 0.0)
    assert held.can_be_read()
    assert not held.waits_for_files(0.0, pytest.fail)
