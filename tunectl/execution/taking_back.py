"""Taking trials back from dead workers in a thread: a checkpoint may have gigabytes, and the run watches on."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue

from tunectl.core.errors import FolderError, StoppedError
from tunectl.core.folders import StudyFolder
from tunectl.execution.server_patience import may_pass
from tunectl.store.claimed_trials import ClaimedTrial
from tunectl.store.heartbeats import LATE_SECONDS
from tunectl.store.lost_claims import finish_taking_back, take_back

_AGAIN_SECONDS = 1.0
_OF_LATE_NAMES = frozenset({errno.EEXIST, errno.ENOTEMPTY})
"""What a file server says where a client does not show yet what others have made."""


def shows_late(error: FolderError) -> bool:
    """Whether a step of taking a trial back most likely failed for what shows late, or for a server that fails now."""
    cause = error.__cause__
    return may_pass(error) or (isinstance(cause, OSError) and cause.errno in _OF_LATE_NAMES)


def hearing(sleep: Callable[[float], None], stop_requested: Callable[[], int]) -> Callable[[float], None]:
    """The same `sleep`, which raises StoppedError where a stop was requested."""

    def heard(seconds: float) -> None:
        if stop_requested():
            raise StoppedError(
                "stopped before a trial was begun, while waiting for what workers left; the next run waits again"
            )
        sleep(seconds)

    return heard


def finish_patiently(
    study: StudyFolder,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[int]:
    """`finish_taking_back`, where what shows late is tried again for up to LATE_SECONDS; raises FolderError as it."""
    until, said = clock() + LATE_SECONDS, set[str]()

    def again(error: FolderError) -> bool:
        if not shows_late(error) or clock() >= until:
            return False
        if str(error) not in said:
            said.add(str(error))
            say(f"warning: {error}; trying again for up to {LATE_SECONDS:g} s")
        sleep(_AGAIN_SECONDS)
        return True

    return finish_taking_back(study, again)


class _ClosedError(Exception):
    """That nothing is to be copied any more."""


class TakingBack:
    """Takes trials back, one after the other. Without `in_thread` a call of `begin` returns when that is done.

    What `close` interrupts is finished by the next run.
    """

    def __init__(self, *, in_thread: bool = True) -> None:
        self._in_thread = in_thread
        self._asked: SimpleQueue[ClaimedTrial | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[ClaimedTrial, bool | Exception]] = SimpleQueue()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, claim: ClaimedTrial) -> None:
        """Begin to take a trial back, or go on with it."""
        if not self._in_thread:
            self._take(claim)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="taking back", daemon=True)
            self._thread.start()
        self._asked.put(claim)

    def ended(self) -> Iterator[tuple[ClaimedTrial, bool | Exception]]:
        """What has ended since the last call: what `take_back` gave, or the error that it raised."""
        while True:
            try:
                yield self._done.get_nowait()
            except Empty:
                return

    def close(self) -> None:
        """Stop copying, and wait until nothing is written any more."""
        self._closed.set()
        self._asked.put(None)
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (claim := self._asked.get()) is not None:
            self._take(claim)

    def _take(self, claim: ClaimedTrial) -> None:
        try:
            self._raise_if_closed()
            self._done.put((claim, take_back(claim, self._raise_if_closed)))
        except _ClosedError:
            return
        except Exception as error:
            self._done.put((claim, error))

    def _raise_if_closed(self) -> None:
        if self._closed.is_set():
            raise _ClosedError
