"""Asking a run that is at work, or acting under the folder's lock. Tests run_requests.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.execution.runner_lock import LockedFile, acquire, own_mark
from tunectl.session.added_trials import ChangedMeanwhileError
from tunectl.session.run_requests import Asker, resting
from tunectl.store import request_files
from tunectl.store.request_files import RequestAnswer, RunRequest

REQUEST = RunRequest("pause", "")


class Time:
    """A clock that only waiting moves; `then` is called with the number of each wait."""

    def __init__(self, then: Callable[[int], object] = lambda _number: None) -> None:
        self.now, self.waits, self.then = 0.0, 0, then

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits += 1
        self.then(self.waits)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    StudyFolder(tmp_path).trials.mkdir()
    return StudyFolder(tmp_path)


def asker(time: Time, said: list[str] | None = None) -> Asker:
    return Asker(([] if said is None else said).append, time.clock, time.sleep, patience_seconds=20.0)


def never() -> str:
    raise AssertionError("a run is at work: nothing is done beside it")


def answers(folder: StudyFolder, found: RequestAnswer, at: int = 3) -> Callable[[int], None]:
    """A run that reads a request at this wait and answers it two later."""
    taken: list[str] = []

    def then(number: int) -> None:
        if number == at:
            taken.extend(request_files.waiting(folder))
            request = request_files.take(folder, taken[0])
            assert request is not None
            assert (request.action, request.to) == ("pause", own_mark())
        elif number == at + 2:
            request_files.answer(folder, taken[0], found)

    return then


def test_without_a_run_the_request_is_done_under_the_lock(folder: StudyFolder) -> None:
    def act() -> str:
        with pytest.raises(FolderError, match="in use"):
            acquire(folder.lock, wait_seconds=0)
        return "done here"

    assert asker(Time()).ask(folder, REQUEST, act) == "done here"
    acquire(folder.lock).release()


def test_the_run_at_work_is_asked_and_its_answer_is_given(folder: StudyFolder) -> None:
    locked = acquire(folder.lock)
    said: list[str] = []
    try:
        time = Time(answers(folder, RequestAnswer(True, "paused"), at=50))
        assert asker(time, said).ask(folder, REQUEST, never) == "paused"
    finally:
        locked.release()
    assert said == ["waiting for the run to answer"], "after three seconds, once"
    assert not folder.requests.exists()


@pytest.mark.parametrize(("again", "kind"), [(False, UsageError), (True, ChangedMeanwhileError)])
def test_a_refusal_is_an_error_with_the_folder(folder: StudyFolder, again: bool, kind: type[UsageError]) -> None:
    locked = acquire(folder.lock)
    try:
        with pytest.raises(kind, match=r"no$") as refused:
            asker(Time(answers(folder, RequestAnswer(False, "no", again)))).ask(folder, REQUEST, never)
    finally:
        locked.release()
    assert str(refused.value) == f"{folder.path}: no"
    assert type(refused.value) is kind


def test_a_run_that_reads_nothing_gets_no_request_in_the_end(folder: StudyFolder) -> None:
    locked = acquire(folder.lock)
    try:
        with pytest.raises(FolderError, match="has not read the request within 20 s, so nothing was done"):
            asker(Time()).ask(folder, REQUEST, never)
    finally:
        locked.release()
    assert not folder.requests.exists()


def test_a_run_that_ends_before_it_answers_is_as_if_there_had_been_none(folder: StudyFolder) -> None:
    held: list[LockedFile] = [acquire(folder.lock)]

    def then(number: int) -> None:
        if number == 2:
            request_files.take(folder, request_files.waiting(folder)[0])
        if number == 4:
            held.pop().release()

    assert asker(Time(then)).ask(folder, REQUEST, lambda: "done here") == "done here"
    assert not folder.requests.exists()


@pytest.mark.parametrize("is_taken", [False, True])
def test_ctrl_c_withdraws_the_request_or_says_that_the_run_has_it(folder: StudyFolder, is_taken: bool) -> None:
    locked, said = acquire(folder.lock), list[str]()

    def then(number: int) -> None:
        if number == 2 and is_taken:
            request_files.take(folder, request_files.waiting(folder)[0])
        if number == 3:
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            asker(Time(then), said).ask(folder, REQUEST, never)
    finally:
        locked.release()
    assert said == ["the run has the request, and goes on with it" if is_taken else "the request was withdrawn"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_in_a_folder_that_cannot_be_written_nothing_is_done(folder: StudyFolder) -> None:
    folder.path.chmod(0o555)
    try:
        with pytest.raises(FolderError, match="Permission denied"):
            asker(Time()).ask(folder, REQUEST, never)
    finally:
        folder.path.chmod(0o755)


def test_a_folder_in_which_a_run_is_at_work_does_not_rest(folder: StudyFolder) -> None:
    locked = acquire(folder.lock)
    try:
        said = rf"process {os.getpid()} on .* works in it; clean it when it has ended"
        with pytest.raises(FolderError, match=said), resting(folder, "clean it"):
            pass
    finally:
        locked.release()
    with resting(folder, "clean it"), pytest.raises(FolderError, match="works in it"), resting(folder, "move it"):
        pass
