"""Claims of dead workers that are taken back. Tests lost_claims.py."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from offered_studies import offered_study

from tunectl.core import folder_copies, real_folders
from tunectl.core.boot_id import boot_id, seen_from
from tunectl.core.errors import FolderError
from tunectl.core.files import write_bytes
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.records import TrialResult
from tunectl.store import claimed_trials, lost_claims, offered_trials
from tunectl.store.claimed_trials import Claimant, ClaimedTrial, Ending
from tunectl.store.sealed_files import write_record
from tunectl.store.trial_files import write_result


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
    assert list(left_of(claimed).iterdir()) == []


def left_of(claimed: ClaimedTrial) -> Path:
    """The only folder that is left among the claims: it says that this one is none any more."""
    (left,) = claimed.study.claimed.iterdir()
    assert left.name == f"{claimed.name}.gone"
    return left


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


CHANGES = ("rename", "mkdir", "unlink", "rmdir", "link", "symlink", "utime", "fsync")


@contextmanager
def failing_at(monkeypatch: pytest.MonkeyPatch, call: int, error: BaseException) -> Iterator[list[int]]:
    """Raise instead of the n-th change of a folder. Gives the number of calls."""
    counted = [0]

    def patched(name: str) -> None:
        real = getattr(os, name)

        def counting(*arguments: object, **keywords: object) -> object:
            counted[0] += 1
            if counted[0] == call:
                raise error
            return real(*arguments, **keywords)

        patching.setattr(os, name, counting)

    with monkeypatch.context() as patching:
        for name in CHANGES:
            patched(name)
        yield counted


def trained(path: Path) -> tuple[ClaimedTrial, dict[str, bytes]]:
    """A claim of a trial that has saved, and what its folder has."""
    claimed = claimed_trials.claim_trial(offered_study(path, 1), 0)
    assert claimed is not None
    claimed.folder.resume.write_bytes(b"resume")
    claimed.folder.log.write_bytes(b"log")
    claimed.folder.checkpoints.mkdir()
    claimed.folder.checkpoint(5).write_bytes(b"checkpoint")
    return claimed, content(claimed.folder.path)


def test_a_runner_that_is_killed_at_any_change_is_followed_by_one_that_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = 0
    while True:
        call += 1
        claimed, expected = trained(tmp_path / str(call))
        study = claimed.study
        try:
            with failing_at(monkeypatch, call, Killed()) as counted:
                assert lost_claims.take_back(claimed)
        except Killed:
            lost_claims.finish_taking_back(study)
            if call == 1:  # nothing was done yet: the claim is as it was
                assert claimed_trials.claimed_trials(study) == [claimed]
                assert lost_claims.take_back(claimed)
        assert content(study.trials / "00000") == expected, f"killed at call {call}"
        assert {path.name for path in study.claimed.iterdir()} <= {f"{claimed.name}.gone"}, f"killed at call {call}"
        assert claimed_trials.claimed_trials(study) == lost_claims.unfinished(study) == []
        lost_claims.forget_shut_out(study)
        assert list(study.claimed.iterdir()) == [], f"killed at call {call}"
        if counted[0] < call:
            assert call > 10
            return


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOENT])
def test_a_trial_that_cannot_be_taken_back_now_is_taken_back_whole_by_a_later_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    call = failures = 0
    while True:
        call += 1
        claimed, expected = trained(tmp_path / str(call))
        is_back = False
        with failing_at(monkeypatch, call, OSError(number, os.strerror(number))) as counted:
            with contextlib.suppress(FolderError):
                is_back = lost_claims.take_back(claimed)
            failures += not is_back
        if not is_back:
            assert not claimed.study.home(0).path.exists(), "half of a trial is none"
            assert content(claimed.study.trial(0).path) == expected, "it is all in one place"
            assert lost_claims.take_back(claimed)
        assert content(claimed.study.home(0).path) == expected, f"failed at call {call}"
        assert {path.name for path in claimed.study.claimed.iterdir()} <= {f"{claimed.name}.gone"}
        if counted[0] < call:
            assert failures > 5
            return


def test_a_file_of_which_less_can_be_read_than_it_has_is_no_copy(
    claimed: ClaimedTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = claimed.folder
    expected = content(folder.path)
    del expected[".resume.pt.0123abcd.tmp"], expected["beat"]
    with monkeypatch.context() as patching:
        patching.setattr(folder_copies, "_write_all", lambda _target, part: len(part) - 1)
        with pytest.raises(FolderError, match="bytes could be read"):
            lost_claims.take_back(claimed)
    assert lost_claims.unfinished(claimed.study) == [claimed]
    lost_claims.finish_taking_back(claimed.study)
    assert content(claimed.study.home(claimed.trial).path) == expected


def test_a_trial_is_never_put_over_another_folder_of_its_number_and_nothing_of_it_is_removed(
    claimed: ClaimedTrial,
) -> None:
    expected = content(claimed.folder.path)
    home = claimed.study.home(claimed.trial)
    home.path.mkdir()
    home.request.write_text("another one")
    with pytest.raises(FolderError, match="cannot be replaced"):
        lost_claims.take_back(claimed)
    assert content(home.path) == {"request.json": b"another one"}
    kept = [content(path) for path in claimed.study.claimed.iterdir()]
    assert all(any(found.get(name) == text for found in kept) for name, text in expected.items())
    home.request.unlink()
    home.path.rmdir()
    lost_claims.finish_taking_back(claimed.study)
    assert home.resume.read_bytes() == b"resume"


def test_copying_can_be_interrupted_and_is_done_again(claimed: ClaimedTrial) -> None:
    def interrupt() -> None:
        raise Killed

    with pytest.raises(Killed):
        lost_claims.take_back(claimed, interrupt)
    assert lost_claims.unfinished(claimed.study) == [claimed]
    assert claimed_trials.claimed_trials(claimed.study) == []
    assert lost_claims.take_back(claimed)
    assert claimed.study.home(claimed.trial).resume.read_bytes() == b"resume"


def test_a_folder_that_an_old_worker_makes_again_is_no_claim_and_is_removed(claimed: ClaimedTrial) -> None:
    assert lost_claims.take_back(claimed)
    home = offered_trials.home_folder(claimed.study, claimed.trial)
    before = content(home.path)
    claimed.folder.files.mkdir(parents=True)
    (claimed.folder.files / "late.txt").write_bytes(b"late")
    assert claimed_trials.claimed_trials(claimed.study) == []
    assert claimed.study.trial(claimed.trial) == home
    lost_claims.finish_taking_back(claimed.study)
    assert list(left_of(claimed).iterdir()) == []
    assert content(home.path) == before


def test_a_folder_that_an_old_worker_makes_when_nothing_remembers_its_claim_is_not_taken_for_the_trial(
    claimed: ClaimedTrial,
) -> None:
    assert lost_claims.take_back(claimed)
    lost_claims.forget_shut_out(claimed.study)
    before = content(claimed.study.home(claimed.trial).path)
    claimed.folder.files.mkdir(parents=True)
    (claimed.folder.files / "late.txt").write_bytes(b"late")
    assert not lost_claims.take_back(claimed)
    assert content(claimed.study.home(claimed.trial).path) == before
    assert list(left_of(claimed).iterdir()) == []


def test_other_claims_and_other_files_stay_as_they_are(claimed: ClaimedTrial) -> None:
    other = claimed_trials.claim_trial(claimed.study, 0)
    assert other is not None
    (claimed.study.claimed / "notes.txt").write_text("mine")
    lost_claims.finish_taking_back(StudyFolder(claimed.study.path))
    assert claimed_trials.claimed_trials(claimed.study) == [other, claimed]
    assert (claimed.study.claimed / "notes.txt").exists()


@pytest.mark.parametrize(
    ("boot", "is_late"),
    [("here", not boot_id()), (boot_id(), True), (f"{boot_id()} 0", True), ("another", True), ("", True), (None, True)],
)
def test_what_a_worker_wrote_shows_at_once_only_where_it_is_known_to_have_this_machine_and_mount(
    claimed: ClaimedTrial, boot: str | None, is_late: bool
) -> None:
    if boot is not None:
        boot = seen_from(claimed.study.path) if boot == "here" else boot
        claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 4711, 1, boot=boot))
    assert lost_claims.may_show_late(claimed) == is_late
    assert lost_claims.shut_out(claimed)
    assert lost_claims.may_show_late(claimed) == is_late
    claimed.folder.path.with_name(f"{claimed.name}.whole").mkdir()
    assert not lost_claims.may_show_late(claimed), "it is copied"


FAILED, DONE = TrialResult(1, "failed", "error"), TrialResult(1, "completed")
ENDINGS = {
    "failed": Ending(1, 1),
    "killed": Ending(1, signal=9),
    "done": Ending(1, 0),
    "released": Ending(1, 75, released=True),
}


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(
    ("result", "ending", "result_stays", "ending_stays"),
    [
        (FAILED, "failed", False, False),
        (FAILED, None, False, False),
        (dataclasses.replace(FAILED, state="infeasible", exit_code=3), "failed", False, False),
        (dataclasses.replace(FAILED, state="infeasible", reason="nan_loss"), "done", False, False),
        (None, "killed", False, False),
        (None, "done", False, False),
        (DONE, "done", True, True),
        (DONE, None, True, False),
        (dataclasses.replace(FAILED, state="stopped"), "done", True, True),
        (None, "released", False, True),
    ],
)
def test_a_failure_that_a_late_worker_may_have_written_after_it_was_shut_out_does_not_count(
    claimed: ClaimedTrial,
    result: TrialResult | None,
    ending: str | None,
    result_stays: bool,
    ending_stays: bool,
    is_late: bool,
) -> None:
    boot = "another" if is_late else seen_from(claimed.study.path)
    claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 4711, 1, boot=boot))
    assert lost_claims.shut_out(claimed)
    # Its host still sees the folder as it was.
    lost = TrialFolder(claimed.folder.path.with_name(f"{claimed.name}.lost"))
    if result is not None:
        write_result(lost, result)
    if ending is not None:
        write_record(lost.ending, ENDINGS[ending], within=claimed.study.path)
    written = (lost.result.exists(), lost.ending.exists())
    assert lost_claims.take_back(claimed)
    home = claimed.study.home(claimed.trial)
    expected = (result_stays, ending_stays) if is_late else written
    assert (home.result.exists(), home.ending.exists()) == expected
    assert home.resume.read_bytes() == b"resume", "it goes on from there"


def test_a_failure_that_showed_when_the_worker_was_shut_out_counts(claimed: ClaimedTrial) -> None:
    claimed_trials.write_claimant(claimed, Claimant("w", "node-1", 4711, 1, boot="another"))
    write_result(claimed.folder, FAILED)
    write_record(claimed.folder.ending, ENDINGS["failed"], within=claimed.study.path)
    expected = content(claimed.folder.path)
    del expected[".resume.pt.0123abcd.tmp"], expected["beat"]
    assert lost_claims.shut_out(claimed)
    assert lost_claims.take_back(claimed)
    assert content(claimed.study.home(claimed.trial).path) == expected


def test_a_worker_that_is_shut_out_finds_no_trial_and_nothing_is_copied_yet(claimed: ClaimedTrial) -> None:
    assert lost_claims.shut_out(claimed)
    assert lost_claims.shut_out(claimed), "it stays so"
    assert not claimed_trials.give_back(claimed, Ending(1, code=0))
    assert lost_claims.unfinished(claimed.study) == [claimed]
    assert not claimed.study.home(claimed.trial).path.exists()
    assert lost_claims.take_back(claimed)
    assert not lost_claims.shut_out(claimed), "it is no claim any more"


def test_a_copy_of_a_runner_that_was_killed_on_another_host_is_begun_again_though_it_shows_late(
    claimed: ClaimedTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, real, hidden = claimed.folder.path.with_name(f"{claimed.name}.new"), real_folders.remove_all, [True]
    (new / "checkpoints").mkdir(parents=True)
    (new / "checkpoints" / "half").write_bytes(b"half")

    def remove_all(path: Path, within: Path) -> None:
        if path == new and hidden:
            hidden.pop()  # it does not show until mkdir says that it exists
        else:
            real(path, within)

    monkeypatch.setattr(real_folders, "remove_all", remove_all)
    assert lost_claims.take_back(claimed)
    home = claimed.study.home(claimed.trial)
    assert home.resume.read_bytes() == b"resume"
    assert [path.name for path in home.checkpoints.iterdir()] == ["step-00000005.pt"]
