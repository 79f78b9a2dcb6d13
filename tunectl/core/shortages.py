"""What a machine was short of (open files, processes, memory, disk space), with what to do about it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tunectl.core import real_folders
from tunectl.core.errors import LoaderError
from tunectl.core.files import UNWRITABLE, write_bytes

_SHORT = frozenset({errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_PAUSES = (0.05, 0.1, 0.2, 0.4)
# A process that ends soon frees what is missing; the runner must not wait longer than that.

_SHARED_MEMORY = "/dev/shm"
_OF_SHARED_MEMORY = re.compile(
    r"out of shared memory|unable to (?:mmap|allocate shared memory|resize file|write to file)\b.*</?torch_"
)
# How torch fails if /dev/shm is full: a loader process dies of a bus error, or a system call fails.

_OF_FILES = re.compile(r"Too many open files|received \d+ items of ancdata")
_OF_PROCESSES = re.compile(r"can't start new thread|Resource temporarily unavailable")
_CALL = re.compile(r"^(?:OSError|BlockingIOError|InterruptedError): \[Errno (\d+)\]", re.MULTILINE)
# The same in a data-loader process, whose exception arrives as text.
_LOCKS = re.compile(r"flock|lockf|LOCK_NB")
# Calls that fail with EAGAIN if another process has the lock.

_NEEDED_BYTES = 65_536  # for a result with a long traceback
_LITTLE_BYTES = 2**28
# A program that could not write a file may have deleted the part that was written. Less space than this is too little
# for the checkpoint of many networks; so is less than the largest file of the trial.

_DISK_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|\[Errno (?:28|122)\]|\bos error (?:28|122)\b|\bENOSPC\b|\bEDQUOT\b"
    r"|PytorchStreamWriter failed writing|iostream error|file write failed",
    re.IGNORECASE,
)
# The messages of C, Python, Rust and Node, and those of torch.save, which does not say why it failed.

_T = TypeVar("_T")


def patiently(call: Callable[[], _T], sleep: Callable[[float], None] = time.sleep) -> _T:
    """The result of `call`, which is repeated for up to a second while the machine is short of something.

    Raises what the last call raises.
    """
    for pause in _PAUSES:
        try:
            return call()
        except OSError as error:
            if error.errno not in _SHORT:
                raise
        sleep(pause)
    return call()


def shortage(error: BaseException) -> str:
    """What the machine was short of when an exception was raised, and what to do; "" if the cause was something else.

    That is: open files, processes, memory for a new process, shared memory. The code that failed is not at fault, and
    may work later. It does not include memory that a computation itself asks for, a MemoryError.
    """
    number = _number(error)
    # The messages of torch, and of Python's threads.
    message = str(error) if isinstance(error, (RuntimeError, LoaderError)) else ""
    if number in (errno.EMFILE, errno.ENFILE) or _OF_FILES.search(message):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"a process may have at most {limit:,} open files here: raise that limit (ulimit -n)"
    if number == errno.EAGAIN and _is_of_a_lock(error):
        return ""
    if number == errno.EAGAIN or _OF_PROCESSES.search(message):
        return (
            "no more processes or threads could be started: raise the limit (ulimit -u, or the container's), or run "
            "fewer trials at a time (--slots)"
        )
    if number == errno.ENOMEM:
        return "the system had no memory left for it: run fewer trials at a time (--slots), or give it more memory"
    if number == errno.EINTR:
        return "a signal interrupted a call of the system"
    return shared_memory_remedy(message)


def _is_of_a_lock(error: BaseException) -> bool:
    """Whether the line that failed with EAGAIN asks for a lock without waiting for it, which is not a shortage."""
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return bool(frames) and bool(_LOCKS.search(frames[-1].line or ""))


def shortage_said(line: str) -> str:
    """The same for the last line that a program printed, which may be an exception."""
    call = _CALL.match(line)
    if call:
        return shortage(OSError(int(call[1]), line))
    return shortage(RuntimeError(line)) if line.startswith("RuntimeError: ") else ""


def shared_memory_remedy(message: str) -> str:
    """What to do if a message says that shared memory is full; "" for other messages."""
    if not _OF_SHARED_MEMORY.search(message):
        return ""
    try:
        status = os.statvfs(_SHARED_MEMORY)
        size = f" holds {status.f_blocks * status.f_frsize / 1e6:,.0f} MB and"
    except OSError:
        size = ""
    return (
        f"{_SHARED_MEMORY}, which data-loader processes use to pass on their batches,{size} is full: make it larger "
        "(docker run --shm-size=8g), or use fewer such processes (data_workers, num_workers; 0 needs no shared memory)"
    )


def file_size_remedy() -> str:
    """What to do if a file may not become larger."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit == resource.RLIM_INFINITY:
        return "the file system takes no file of this size"
    return f"files may have at most {limit:,} bytes in this session: raise that limit (ulimit -f unlimited)"


def with_advice(error: BaseException) -> str:
    """The message of an error, with what to do if a limit of the machine or of the session was its cause."""
    cause: BaseException | None = error
    while cause is not None:
        advice = file_size_remedy() if _number(cause) == errno.EFBIG else shortage(cause)
        if not advice and _may_not_grow(cause):
            advice = file_size_remedy()
        if advice:
            return f"{str(error).rstrip('.')}; {advice}"
        cause = cause.__cause__
    return str(error)


def _may_not_grow(error: BaseException) -> bool:
    # SQLite only says that a write failed.
    is_limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
    return is_limited and getattr(error, "sqlite_errorname", "") in ("SQLITE_IOERR_WRITE", "SQLITE_FULL")


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = _CALL.search(str(error)) if isinstance(error, OSError) else None
    return int(match[1]) if match else None


def disk_shortage(folder: Path, printed: str) -> OSError | None:
    """Why no more files can be written to the disk of a trial's folder; None if they can, or if that is not known.

    `printed` is what the trial printed when it failed. If that is about a full disk, and little space is left on this
    disk, then it was this disk that was full.
    """
    try:
        write_bytes(folder / "room", bytes(_NEEDED_BYTES))
        real_folders.remove(folder / "room", folder)
        status = os.statvfs(folder)
    except OSError as error:
        return error if error.errno in UNWRITABLE else None
    if not _DISK_FULL.search(printed) or status.f_bavail * status.f_frsize >= max(_LITTLE_BYTES, _largest(folder)):
        return None
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _largest(folder: Path) -> int:
    """The size of the largest file below a folder, in bytes."""
    largest = 0
    for home, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                largest = max(largest, (Path(home) / name).lstat().st_size)
    return largest
