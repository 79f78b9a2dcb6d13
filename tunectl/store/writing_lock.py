"""The lock under which one process at a time reads a folder's files and writes what depends on them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from tunectl.core import file_locks
from tunectl.core.folders import StudyFolder

WAIT_SECONDS = 60.0
"""A report of 10,000 trials takes some 20 s; a report that was stopped (SIGSTOP) must not block a run for longer."""

SILENT_SECONDS = 2.0
"""How long it waits without a message: most reports have been written by then."""

_POLL_SECONDS = 0.05
_HELD = (errno.EWOULDBLOCK, errno.EACCES)


def writing_lock(
    folder: StudyFolder,
    say: Callable[[str], None] = lambda _line: None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> AbstractContextManager[None]:
    """Wait until no other process writes tables, page or plots of the study, and make others wait during the block.

    What is written must be read within the block. Else a `report` that begins before the last trial has ended, and ends
    after the `run` that trained it, would replace the tables and the page of that run by older ones. The lock of the
    runner, which may be this process, is another one. See `folder_lock`.
    """
    return folder_lock(folder.path, "the study's tables and page", say, clock=clock, sleep=sleep)


@contextlib.contextmanager
def folder_lock(
    folder: Path,
    what: str,
    say: Callable[[str], None] = lambda _line: None,
    *,
    wait_seconds: float = WAIT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Wait until no other process has this lock on the folder to write `what`, and make others wait during the block.

    The lock is on the folder itself (flock), so that no file is written for it. On a file system without locks, and
    after `wait_seconds`, the block is entered without the lock: each file is still written by one process alone. After
    SILENT_SECONDS `say` is called with the process that has the lock.
    """
    began, is_said = clock(), False
    with contextlib.ExitStack() as stack:
        while not _is_ours(folder, stack) and (waited := clock() - began) < wait_seconds:
            if waited >= SILENT_SECONDS and not is_said:
                say(_waiting(folder, what, wait_seconds))
                is_said = True
            sleep(_POLL_SECONDS)
        yield


def _waiting(folder: Path, what: str, wait_seconds: float) -> str:
    holders = file_locks.holders(folder) or ["another process"]
    return (
        f"{folder}: waiting for {' and '.join(holders)} to write {what}; going on without it after {wait_seconds:.0f} s"
    )


def _is_ours(folder: Path, stack: contextlib.ExitStack) -> bool:
    """Whether this process now has the lock, until `stack` ends, or the folder cannot be locked at all."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return True  # reading the folder later raises the error
    with contextlib.ExitStack() as opened:
        opened.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The folder may have been moved, and another one made in its place, while this process waited.
            if not os.path.samestat(os.fstat(descriptor), folder.stat()):
                return False
        except OSError as error:
            return error.errno not in _HELD
        stack.push(opened.pop_all())
    return True
