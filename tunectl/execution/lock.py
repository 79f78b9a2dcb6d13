"""One runner per study folder: a lock on a file that dies with its last holder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunectl.core import jsontext, regular_files
from tunectl.core.errors import FolderError
from tunectl.execution import processes

WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class LockedFile:
    """A lock that is held. `fd` may be handed to other processes: the lock is free when its last copy is closed."""

    path: Path
    fd: int

    def release(self) -> None:
        """Free the lock at once, whoever else holds a copy of `fd`."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        os.close(self.fd)


def acquire(
    path: Path,
    wait_seconds: float = WAIT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> LockedFile:
    """Lock `path` (flock), creating it where it is missing, and write this process's pid and host into it.

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
    """Whether some process holds the lock; takes nothing and writes nothing."""
    try:
        fd = regular_files.open_descriptor(path)
    except OSError:
        return False
    try:
        # A shared lock, for an instant: two that look at once do not see each other.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(fd)
    return False


def _try(path: Path) -> LockedFile | None:
    try:
        fd = regular_files.open_descriptor(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise FolderError(f"{path}: cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A folder that was deleted and made anew in the meantime has another lock file under this name.
        if not _still_named(path, fd):
            os.close(fd)
            return None
        _write_holder(fd)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise FolderError(
            f"{path}: cannot be locked: {error.strerror}; put the study on a file system with locks"
        ) from error
    return LockedFile(path, fd)


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
        holder = json.loads(regular_files.content(path))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


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
    if holder.get("host") == socket.gethostname() and "pid" in holder and not _holder_lives_here(holder):
        return f"{path.parent}: still held by trials of a runner that was killed ({who}); wait for them to end"
    return f"{path.parent}: in use by {who}; wait for it to end, or choose another folder with --dir"
