"""One runner per study folder: a lock on a file and on the folder of the trials, freed with its last holder.

The folder's lock still works when the file is deleted while a runner works. Where the file system has no locks, a claim
file beside it takes their place (claim_file).
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

    `fds` may be passed to other processes: the lock is free when their last copies are closed. `fd` is the file,
    `trials_fd` the folder of the trials (None where it cannot be locked); `claim` is set where the file system has no
    locks.
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
        """The lock, also on the folder of the trials as it is now, which may have been made since.

        Raises FolderError where another process has locked it.
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

    def note_pause(self, *, is_paused: bool) -> None:
        """Write to the lock file whether the runner pauses, for those who ask by `holder`."""
        _write_holder(self.fd, is_paused=is_paused)

    def release(self) -> None:
        """Free the lock at once, even where other processes have copies of `fds`."""
        if self.claim is not None:
            # Without a lock, the holder whose name is in the file counts.
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
    """Lock `path` (flock), which is created where it is missing, and the folder of the trials beside it.

    The pid and the host of this process are written to the file. Waits `wait_seconds` for the server and the workers of
    a runner that was killed, which hold the lock until the last of them has ended. After half of that time it kills
    those that are left (a server that was stopped by SIGSTOP does not see that its runner has ended). Does not wait
    while the runner itself runs on this machine. Raises FolderError (exit code 3) where the folder stays locked.
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


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that locked a folder last, by the lock file; `started` is the time of its start, where known."""

    pid: int
    host: str
    started: int | None = None
    is_paused: bool = False

    @property
    def mark(self) -> str:
        """A text that no other holder has."""
        return f"{self.host}:{self.pid}:{self.started}"

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended: it ran on this machine, and does not any more."""
        return self.host == socket.gethostname() and not processes.is_alive(self.pid, self.started)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def holder(path: Path) -> Holder | None:
    """The process by the lock file, which may have ended; None where the file does not say it."""
    content = _read_holder(path)
    pid, host, started = content.get("pid"), content.get("host"), content.get("started")
    if not isinstance(pid, int) or not typed_fields.is_count(pid, 1) or not isinstance(host, str):
        return None
    return Holder(pid, host, started if isinstance(started, int) else None, content.get("paused") is True)


def own_mark() -> str:
    """The mark of this process as a holder."""
    return Holder(os.getpid(), socket.gethostname(), processes.start_time(os.getpid())).mark


def try_acquire(path: Path) -> LockedFile | None:
    """The lock as `acquire` takes it, but None at once where another process has it."""
    return _try(path)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock, as far as this machine can know; locks nothing and writes nothing."""
    is_locked = _is_locked(regular_files.open_descriptor, path) or _is_locked(_open_folder, _trials(path))
    return is_locked or claim.holder_state(_claim_path(path)) in _CLAIMED


def runner_at_work(path: Path) -> Holder | None:
    """The process that is seen to hold the lock; None where none is, and where this machine cannot see one that is on
    another machine. Locks nothing but for a moment, and only where such a process may be there.
    """
    found = holder(path)
    if found is None or found.is_gone:
        return None
    is_seen = _is_locked(regular_files.open_descriptor, path) or _is_locked(_open_folder, _trials(path))
    return found if is_seen or claim.holder_state(_claim_path(path)) == "here" else None


def _open_folder(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _is_locked(opened: Callable[[Path], int], path: Path) -> bool:
    try:
        fd = opened(path)
    except OSError:
        return False
    try:
        # A shared lock, for a moment: two readers at the same time do not block each other.
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
    """The lock, None where another process has it. Raises FolderError where the file cannot be opened or locked."""
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
    """The lock on an open file; None, or OSError with EWOULDBLOCK, where another process has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in file_locks.MISSING:
            raise
        # A runner that has a lock may still run here, with the same file system mounted in another way.
        made = None if _holder_lives_here(_read_holder(path)) else claim.make(_claim_path(path))
        return None if made is None else LockedFile(path, fd, claim=made)
    # The folder may have been deleted and made again meanwhile: then this name is another lock file.
    if not _still_named(path, fd) or claim.holder_state(_claim_path(path)) in _CLAIMED:
        return None
    return LockedFile(path, fd, _locked_folder(_trials(path)))


def _locked_folder(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder; None where there is no folder, or it cannot be locked.

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
        return None  # NFS does not lock folders
    return fd


def _still_named(path: Path, fd: int) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    own = os.fstat(fd)
    return (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)


def _write_holder(fd: int, *, is_paused: bool = False) -> None:
    pid = os.getpid()
    content = {"pid": pid, "host": socket.gethostname(), "started": processes.start_time(pid)}
    text = jsontext.encode(content | ({"paused": True} if is_paused else {})) + "\n"
    # With spaces up to its old length, so that no reader finds half of it.
    os.pwrite(fd, text.encode().ljust(os.fstat(fd).st_size), 0)
    os.ftruncate(fd, len(text.encode()))


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
    # This runner may be a descendant of a trial of that one (a shell that a workload opened) and have its mark.
    for left in processes.with_mark(processes.mark_of(pid, started)) - processes.lineage():
        processes.kill(left)


def _in_use(path: Path, holder: dict[str, Any]) -> str:
    who = f"process {holder['pid']} on {holder.get('host')}" if "pid" in holder else "another process"
    was_here = holder.get("host") == socket.gethostname() and "pid" in holder and not _holder_lives_here(holder)
    if was_here and claim.holder_state(_claim_path(path)) == "unknown":
        who = "another process"  # the pid in the lock file is that of an earlier runner; the claim is another one's
    elif was_here:
        return f"{path.parent}: trials of a runner that was killed ({who}) still use it; wait for them to end"
    if claim.holder_state(_claim_path(path)) == "unknown":
        return (
            f"{path.parent}: in use by {who}, or by a runner that was killed, which cannot be known on this machine; "
            f"if no runner uses this folder any more, delete {_claim_path(path)}"
        )
    return f"{path.parent}: in use by {who}; wait for it to end, or choose another folder with --dir"
