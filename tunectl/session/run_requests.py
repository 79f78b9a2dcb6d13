"""A request to a study: asked of the run that is at work there, or, where none is, done at once under its lock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.execution.runner_lock import Holder, LockedFile, acquire, holder, is_held, try_acquire
from tunectl.session.added_trials import ChangedMeanwhileError
from tunectl.session.left_offers import check_no_work_left
from tunectl.store import request_files
from tunectl.store.request_files import RequestAnswer, RunRequest

PATIENCE_SECONDS = 60.0
"""How long a run may take to read a request: it reads none while it loads the workload or writes the page."""

_SILENT_SECONDS = 3.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Asker:
    """How a command asks and waits: `say` is called with each line about the wait."""

    say: Callable[[str], None] = lambda _line: None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    patience_seconds: float = PATIENCE_SECONDS

    def ask(self, folder: StudyFolder, request: RunRequest, act: Callable[[], str]) -> str:
        """Ask the run that is at work in the folder, or `act` under the folder's lock where none is; give the answer.

        A run that ends before it has answered is as if there had been none. Raises UsageError where the request is
        refused, ChangedMeanwhileError where it may be asked again, and FolderError where the folder cannot be written,
        or the run does not answer.
        """
        while True:
            locked = self._locked(folder)
            if locked is not None:
                try:
                    found = RequestAnswer(True, act())
                except UsageError as error:
                    found = RequestAnswer(False, str(error), again=isinstance(error, ChangedMeanwhileError))
                finally:
                    locked.release()
            else:
                runner = holder(folder.lock)
                if runner is None:
                    self.sleep(_POLL_SECONDS)
                    continue
                answered = self._asked(folder, replace(request, to=runner.mark), runner)
                if answered is None:
                    continue
                found = answered
            if not found.done:
                raise (ChangedMeanwhileError if found.again else UsageError)(f"{folder.path}: {found.message}")
            return found.message

    def _locked(self, folder: StudyFolder) -> LockedFile | None:
        """The folder's lock; None where a run has it that can be asked."""
        locked = try_acquire(folder.lock)
        if locked is None and (found := holder(folder.lock)) is not None and found.is_gone:
            return acquire(folder.lock, clock=self.clock, sleep=self.sleep)  # its last processes are still ending
        return locked

    def _asked(self, folder: StudyFolder, request: RunRequest, runner: Holder) -> RequestAnswer | None:
        """The answer of a run; None where it ended before it gave one."""
        name = request_files.send(folder, request)
        try:
            return self._answer(folder, name, runner)
        except KeyboardInterrupt:
            is_back = request_files.withdraw(folder, name)
            self.say("the request was withdrawn" if is_back else "the run has the request, and goes on with it")
            raise
        finally:
            request_files.forget(folder, name)

    def _answer(self, folder: StudyFolder, name: str, runner: Holder) -> RequestAnswer | None:
        for waited in self._waits():
            found = request_files.read_answer(folder, name)
            if found is not None:
                return found
            if not _is_at_work(folder, runner):
                # It may have answered and ended since.
                return request_files.read_answer(folder, name)
            if waited > self.patience_seconds and request_files.withdraw(folder, name):
                raise FolderError(
                    f"{folder.path}: {runner} works in it and has not read the request within "
                    f"{self.patience_seconds:g} s, so nothing was done. It reads none while it loads the workload or "
                    "writes its page; a command of an earlier version reads none at all"
                )
        return None

    def wait_for_end(self, folder: StudyFolder, runner: Holder | None) -> None:
        """Wait until the run of this process has ended."""
        if runner is None:
            return
        for _ in self._waits(f"waiting for {runner} to end, which it does also without this command"):
            if not _is_at_work(folder, runner):
                return

    def _waits(self, line: str = "waiting for the run to answer") -> Iterator[float]:
        """Again and again the seconds since the first time; says the line once that takes a while."""
        began, is_said = self.clock(), False
        while True:
            waited = self.clock() - began
            if waited > _SILENT_SECONDS and not is_said:
                is_said = True
                self.say(line)
            yield waited
            self.sleep(_POLL_SECONDS)


def _is_at_work(folder: StudyFolder, runner: Holder) -> bool:
    now = holder(folder.lock)
    if now is not None and now.mark != runner.mark:
        return False
    return not runner.is_gone and is_held(folder.lock)


@contextlib.contextmanager
def locked_at_rest(folder: StudyFolder, what: str) -> Iterator[LockedFile]:
    """Lock a folder in which no run is at work; raises FolderError, which names `what` needs that, where one is."""
    locked = (
        acquire(folder.lock) if (found := holder(folder.lock)) is None or found.is_gone else try_acquire(folder.lock)
    )
    if locked is None:
        raise FolderError(f"{folder.path}: {found or 'another process'} works in it; {what} when it has ended")
    try:
        yield locked
    finally:
        locked.release()


@contextlib.contextmanager
def resting(folder: StudyFolder, what: str) -> Iterator[LockedFile]:
    """`locked_at_rest` for a folder of which no worker has a trial, either; raises FolderError where one has."""
    with locked_at_rest(folder, what) as locked:
        check_no_work_left(folder, what)
        yield locked
