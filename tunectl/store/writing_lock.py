"""One process at a time reads a study and writes its tables, its page and its plots."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator

from tunectl.core import file_locks
from tunectl.core.folders import StudyFolder

WAIT_SECONDS = 60.0
"""A report of 10,000 trials takes some 20 s; one that was stopped (SIGSTOP) must not hold up a run."""

SILENT_SECONDS = 2.0
"""So long is waited without a word: most reports are written by then."""

_POLL_SECONDS = 0.05
_HELD = (errno.EWOULDBLOCK, errno.EACCES)


@contextlib.contextmanager
def writing_lock(
    folder: StudyFolder,
    say: Callable[[str], None] = lambda _line: None,
    *,
    wait_seconds: float = WAIT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Wait until no other process writes what is made of the study's results, and keep others waiting meanwhile.

    What is written must have been read within the block. Else a `report` that was begun before the last trial ended,
    and ends after the `run` that trained it, would put its older tables and page in place of the run's.

    The study folder is locked (flock), so that nothing is written for it; its runner, which may be this process, locks
    the folder of trials. Where the file system has no such locks, and after `wait_seconds`, the block is entered all
    the same: each file is still one writer's. After two seconds it is told to `say` on whom it waits.
    """
    began, is_said = clock(), False
    with contextlib.ExitStack() as stack:
        while not _is_ours(folder, stack) and (waited := clock() - began) < wait_seconds:
            if waited >= SILENT_SECONDS and not is_said:
                say(_waiting(folder, wait_seconds))
                is_said = True
            sleep(_POLL_SECONDS)
        yield


def _waiting(folder: StudyFolder, wait_seconds: float) -> str:
    holders = file_locks.holders(folder.path) or ["another process"]
    return (
        f"{folder.path}: waiting for {' and '.join(holders)} to write the study's tables and page; going on without it "
        f"after {wait_seconds:.0f} s"
    )


def _is_ours(folder: StudyFolder, stack: contextlib.ExitStack) -> bool:
    """Whether the lock is ours now, until `stack` ends, or cannot be had here at all."""
    try:
        descriptor = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return True  # what is wrong with the folder is said by who reads it
    with contextlib.ExitStack() as opened:
        opened.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A folder may be moved, and another one made in its place, while others wait.
            if not os.path.samestat(os.fstat(descriptor), folder.path.stat()):
                return False
        except OSError as error:
            return error.errno not in _HELD
        stack.push(opened.pop_all())
    return True
