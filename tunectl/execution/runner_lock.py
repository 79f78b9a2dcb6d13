"""One runner per study folder: a lock that dies with its last holder, on a file and on the folder of its trials.

The folder's lock holds when the file is deleted under a runner. Where the file system has no locks, a file beside it is
the claim.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunectl.core import file_locks, jsontext, regular_files, typed_fields
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_error, path_errors
from tunectl.execution import claim_file as claim
from tunectl.execution import processes
from tunectl.execution.claim_file import Claim

WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.1
_TAKEN = (errno.EWOULDBLOCK, errno.EACCES)
_CLAIMED = ("here", "unknown")


@dataclass(frozen=True, slots=True)
class LockedFile:
    """A lock that is held.

    `fds` may be handed to other processes: the lock is free when their last copies are closed. `fd` is the file's;
    `trials_fd` that of the trials' folder, where there is one that can be locked; `claim` is there where the file
    system has no locks.
    """

    path: Path
    fd: int
    trials_fd: int | None = None
    claim: Claim | None = None

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that hold the lock."""
        return (self.fd,) if self.trials_fd is None else (self.fd, self.trials_fd)

    def with_trials(self) -> LockedFile:
        """The lock, held by the folder of the trials as it is now, too: there may have been none, or another one.

        Raises FolderError where another process has that.
        """
        folder = _trials(self.path)
        if self.claim is not None or (self.trials_fd is not None and _still_named(folder, self.trials_fd)):
            return self
        try:
            trials_fd = _locked_folder(folder)
        except BlockingIOError:
            raise FolderError(_in_use(self.path, {})) from None
        if self.trials_fd is not None:
            os.close(self.trials_fd)
        return replace(self, trials_fd=trials_fd)

    def release(self) -> None:
        """Free the lock at once, whoever else holds copies of `fds`."""
        if self.claim is not None:
            # Without a lock, the holder that is named in the file counts.
            os.ftruncate(self.fd, 0)
        for fd in self.fds:
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)
        if self.claim is not None:
            self.claim.release()


def acquire(
    path: Path,
    wait_seconds: float = WAIT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> LockedFile:
    """Lock `path` (flock), creating it where it is missing, and write this process's pid and host into it.

    The folder of the trials beside it is locked, too.

    Waits `wait_seconds` for the server and the workers of a runner that was killed, which hold the lock until the last
    of them is gone; halfway it kills what is left of them (a server that was stopped, SIGSTOP, does not see that its
    runner is gone). Gives up at once while the runner itself lives on this machine. Raises FolderError (exit code 3)
    where the lock is not to be had.
    """
    began = clock()
    while True:
        locked = _try(path)
        if locked is not None:
            return locked
        holder = _read_holder(path)
        waited = clock() - began
        if _holder_lives_here(holder) or waited >= wait_seconds:
            raise FolderError(_in_use(path, holder))
        if waited >= wait_seconds / 2:
            _kill_left_by(holder)
        sleep(_POLL_SECONDS)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock, as far as this machine can know; takes nothing and writes nothing."""
    is_locked = _is_locked(regular_files.open_descriptor, path) or _is_locked(_open_folder, _trials(path))
    return is_locked or claim.standing(_claim_path(path)) in _CLAIMED


def _open_folder(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _is_locked(opened: Callable[[Path], int], path: Path) -> bool:
    try:
        fd = opened(path)
    except OSError:
        return False
    try:
        # A shared lock, for an instant: two that look at once do not see each other.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _TAKEN
    finally:
        os.close(fd)
    return False


def _trials(path: Path) -> Path:
    return StudyFolder(path.parent).trials


def _claim_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.claim")


def _try(path: Path) -> LockedFile | None:
    """The lock, None where another process has it. Raises FolderError where it cannot be asked for."""
    with path_errors(path, "opened"):
        fd = regular_files.open_descriptor(path, os.O_RDWR | os.O_CREAT)
    try:
        held = _locked(path, fd)
        if held is None:
            os.close(fd)
            return None
        _write_holder(fd)
    except OSError as error:
        os.close(fd)
        if error.errno in _TAKEN:
            return None
        raise path_error(path, "locked", error) from error
    return held


def _locked(path: Path, fd: int) -> LockedFile | None:
    """The lock by its open file, None where it is another process's; so is it where EWOULDBLOCK is raised."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in file_locks.MISSING:
            raise
        # A runner that had a lock may still be at work here: the same file system, mounted otherwise.
        made = None if _holder_lives_here(_read_holder(path)) else claim.make(_claim_path(path))
        return None if made is None else LockedFile(path, fd, claim=made)
    # A folder that was deleted and made anew in the meantime has another lock file under this name.
    if not _still_named(path, fd) or claim.standing(_claim_path(path)) in _CLAIMED:
        return None
    return LockedFile(path, fd, _locked_folder(_trials(path)))


def _locked_folder(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder; None where there is none, or it cannot be locked.

    Raises BlockingIOError where another process has the lock.
    """
    try:
        fd = _open_folder(folder)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in _TAKEN:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK)) from None
        return None  # NFS locks no folders
    return fd


def _still_named(path: Path, fd: int) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    own = os.fstat(fd)
    return (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)


def _write_holder(fd: int) -> None:
    pid = os.getpid()
    holder = {"pid": pid, "host": socket.gethostname(), "started": processes.start_time(pid)}
    os.ftruncate(fd, 0)
    os.pwrite(fd, (jsontext.encode(holder) + "\n").encode(), 0)


def _read_holder(path: Path) -> dict[str, Any]:
    try:
        return typed_fields.sealed_object(regular_files.content(path))
    except (OSError, typed_fields.DamagedError):
        return {}


def _holder_lives_here(holder: dict[str, Any]) -> bool:
    pid, started = holder.get("pid"), holder.get("started")
    if not isinstance(pid, int) or holder.get("host") != socket.gethostname():
        return False
    return processes.is_alive(pid, started if isinstance(started, int) else None)


def _kill_left_by(holder: dict[str, Any]) -> None:
    pid, started = holder.get("pid"), holder.get("started")
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int) or not isinstance(started, int):
        return
    # This runner may stand below a trial of that one (a shell that a workload opened) and bear its mark.
    for left in processes.with_mark(processes.mark_of(pid, started)) - processes.lineage():
        processes.kill(left)


def _in_use(path: Path, holder: dict[str, Any]) -> str:
    who = f"process {holder['pid']} on {holder.get('host')}" if "pid" in holder else "another process"
    was_here = holder.get("host") == socket.gethostname() and "pid" in holder and not _holder_lives_here(holder)
    if was_here and claim.standing(_claim_path(path)) == "unknown":
        who = "another process"  # the lock is that of an earlier runner, which is gone: the claim is what keeps us out
    elif was_here:
        return f"{path.parent}: still held by trials of a runner that was killed ({who}); wait for them to end"
    if claim.standing(_claim_path(path)) == "unknown":
        return (
            f"{path.parent}: in use by {who}, or it was killed there, which cannot be known from this machine; if no "
            f"runner is at work in this folder any more, delete {_claim_path(path)}"
        )
    return f"{path.parent}: in use by {who}; wait for it to end, or choose another folder with --dir"
