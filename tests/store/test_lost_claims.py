"""Claims of dead workers that are taken back. Tests lost_claims.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from offered_studies import offered_study

from tunectl.core.files import write_bytes
from tunectl.core.folders import StudyFolder
from tunectl.store import claimed_trials, lost_claims, offered_trials
from tunectl.store.claimed_trials import ClaimedTrial, Ending


@pytest.fixture
def claimed(tmp_path: Path) -> ClaimedTrial:
    """A claim with the files of a trial that was being trained."""
    study = offered_study(tmp_path, 2)
    claimed = claimed_trials.claim_trial(study, 1)
    assert claimed is not None
    folder = claimed.folder
    folder.checkpoints.mkdir()
    folder.checkpoint(5).write_bytes(b"checkpoint")
    folder.resume.write_bytes(b"resume")
    folder.measurements.write_bytes(b'{"step": 0}\n{"st')
    folder.files.mkdir()
    (folder.files / "own.txt").write_bytes(b"own")
    (folder.files / "link").symlink_to("own.txt")
    (folder.path / ".resume.pt.0123abcd.tmp").write_bytes(b"half")
    claimed_trials.write_trial_beat(claimed, 1)
    return claimed


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_trial_that_is_taken_back_has_all_its_files_but_unfinished_ones(claimed: ClaimedTrial) -> None:
    expected = content(claimed.folder.path)
    del expected[".resume.pt.0123abcd.tmp"], expected["beat"]
    assert lost_claims.take_back(claimed)
    home = offered_trials.home_folder(claimed.study, claimed.trial)
    assert content(home.path) == expected
    assert os.readlink(home.files / "link") == "own.txt"  # noqa: PTH115
    assert list(claimed.study.claimed.iterdir()) == []


def test_a_claim_that_was_given_back_meanwhile_is_not_taken_back(claimed: ClaimedTrial) -> None:
    claimed_trials.give_back(claimed, Ending(1, code=0))
    assert not lost_claims.take_back(claimed)


def test_what_an_old_worker_has_open_leads_to_no_file_of_the_trial(claimed: ClaimedTrial) -> None:
    folder = claimed.folder
    home = offered_trials.home_folder(claimed.study, claimed.trial)
    appended = os.open(folder.measurements, os.O_WRONLY | os.O_APPEND)
    own = os.open(folder.files / "own.txt", os.O_RDWR)
    opened = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY)
    inner = os.open(folder.checkpoints, os.O_RDONLY | os.O_DIRECTORY)
    assert lost_claims.take_back(claimed)
    before = content(home.path)
    os.write(appended, b"more")
    os.write(own, b"more")
    for place in (opened, inner):
        with pytest.raises(FileNotFoundError):
            os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=place)
    for descriptor in (appended, own, opened, inner):
        os.close(descriptor)
    with pytest.raises(FileNotFoundError):
        write_bytes(folder.result, b"{}", within=folder.study)
    with pytest.raises(FileNotFoundError):
        claimed_trials.write_trial_beat(claimed, 2)
    assert not claimed_trials.give_back(claimed, Ending(1, code=0))
    assert not claimed_trials.unclaim(claimed)
    assert content(home.path) == before


class Killed(BaseException):
    pass


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, call: int) -> Iterator[list[int]]:
    """Raise before the n-th change of a folder. Gives the number of calls."""
    counted = [0]

    def patched(name: str) -> None:
        real = getattr(os, name)

        def counting(*arguments: object, **keywords: object) -> object:
            counted[0] += 1
            if counted[0] == call:
                raise Killed
            return real(*arguments, **keywords)

        patching.setattr(os, name, counting)

    with monkeypatch.context() as patching:
        for name in ("rename", "mkdir", "unlink", "rmdir", "link", "symlink", "utime"):
            patched(name)
        yield counted


def test_a_runner_that_is_killed_at_any_change_is_followed_by_one_that_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = 0
    while True:
        call += 1
        study = offered_study(tmp_path / str(call), 1)
        claimed = claimed_trials.claim_trial(study, 0)
        assert claimed is not None
        claimed.folder.resume.write_bytes(b"resume")
        claimed.folder.log.write_bytes(b"log")
        claimed.folder.checkpoints.mkdir()
        claimed.folder.checkpoint(5).write_bytes(b"checkpoint")
        expected = content(claimed.folder.path)
        try:
            with killed_at(monkeypatch, call) as counted:
                assert lost_claims.take_back(claimed)
        except Killed:
            lost_claims.finish_taking_back(study)
            if call == 1:  # nothing was done yet: the claim is as it was
                assert claimed_trials.claimed_trials(study) == [claimed]
                assert lost_claims.take_back(claimed)
        assert content(study.trials / "00000") == expected, f"killed at call {call}"
        assert list(study.claimed.iterdir()) == [], f"killed at call {call}"
        if counted[0] < call:
            assert call > 10
            return


def test_a_folder_that_an_old_worker_makes_again_is_no_claim_and_is_removed(claimed: ClaimedTrial) -> None:
    assert lost_claims.take_back(claimed)
    home = offered_trials.home_folder(claimed.study, claimed.trial)
    before = content(home.path)
    claimed.folder.files.mkdir(parents=True)
    (claimed.folder.files / "late.txt").write_bytes(b"late")
    assert claimed_trials.claimed_trials(claimed.study) == []
    lost_claims.finish_taking_back(claimed.study)
    assert list(claimed.study.claimed.iterdir()) == []
    assert content(home.path) == before


def test_other_claims_and_other_files_stay_as_they_are(claimed: ClaimedTrial) -> None:
    other = claimed_trials.claim_trial(claimed.study, 0)
    assert other is not None
    (claimed.study.claimed / "notes.txt").write_text("mine")
    lost_claims.finish_taking_back(StudyFolder(claimed.study.path))
    assert claimed_trials.claimed_trials(claimed.study) == [other, claimed]
    assert (claimed.study.claimed / "notes.txt").exists()
