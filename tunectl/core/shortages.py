"""What a machine was short of, in words with a remedy, and waiting a little until it is not."""

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
# A program that ends gives back in a moment what another one asks for; the runner is not to be kept waiting longer.

_SHARED_MEMORY = "/dev/shm"
_OF_SHARED_MEMORY = re.compile(
    r"out of shared memory|unable to (?:mmap|allocate shared memory|resize file|write to file)\b.*</?torch_"
)
# How torch fails where /dev/shm is full: a loader process dies of a bus error, or has the error of a call.

_OF_FILES = re.compile(r"Too many open files|received \d+ items of ancdata")
_OF_PROCESSES = re.compile(r"can't start new thread|Resource temporarily unavailable")
_CALL = re.compile(r"^(?:OSError|BlockingIOError|InterruptedError): \[Errno (\d+)\]", re.MULTILINE)
# The same in a data-loader process, whose exception comes as text.
_LOCKS = re.compile(r"flock|lockf|LOCK_NB")
# Calls that say EAGAIN where a lock is another's.

_ROOM_BYTES = 65_536  # a result with a long traceback
_LITTLE_BYTES = 2**28
# A program that could not write a file may have deleted what it had written of it: less room than this is too little
# for the checkpoint of many networks, and so is less than the largest file that the trial has.

_SAID = re.compile(
    r"No space left on device|Disk quota exceeded|\[Errno (?:28|122)\]|\bos error (?:28|122)\b|\bENOSPC\b|\bEDQUOT\b"
    r"|PytorchStreamWriter failed writing|iostream error|file write failed",
    re.IGNORECASE,
)
# As C, Python, Rust and Node word it, and torch.save, which does not say why.

_T = TypeVar("_T")


def patiently(call: Callable[[], _T], sleep: Callable[[float], None] = time.sleep) -> _T:
    """What `call` gives; it is called again for up to a second where the machine is short of what it needs.

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
    """What the machine was short of when an exception was raised, with its remedy; "" where it was something else.

    That is: open files, processes, memory for a new one, shared memory. The code that met it is not to blame, and the
    same may work later. Memory that a computation asks for itself, a MemoryError, is no such thing.
    """
    number = _number(error)
    # Of torch, and of Python's threads.
    said = str(error) if isinstance(error, (RuntimeError, LoaderError)) else ""
    if number in (errno.EMFILE, errno.ENFILE) or _OF_FILES.search(said):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"at most {limit:,} files may be open in a process here: raise that limit (ulimit -n)"
    if number == errno.EAGAIN and _is_of_a_lock(error):
        return ""
    if number == errno.EAGAIN or _OF_PROCESSES.search(said):
        return (
            "no more processes or threads could be started: raise the limit (ulimit -u, or the container's), or run "
            "fewer trials at a time (--slots)"
        )
    if number == errno.ENOMEM:
        return "the system had no memory left for it: run fewer trials at a time (--slots), or give it more memory"
    if number == errno.EINTR:
        return "a signal interrupted a call of the system"
    return shared_memory_remedy(said)


def _is_of_a_lock(error: BaseException) -> bool:
    """Whether the line that met EAGAIN asks for a lock without waiting for it, which is no shortage."""
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return bool(frames) and bool(_LOCKS.search(frames[-1].line or ""))


def shortage_said(line: str) -> str:
    """The same of the exception by which a program, whose last words these are, was ended."""
    call = _CALL.match(line)
    if call:
        return shortage(OSError(int(call[1]), line))
    return shortage(RuntimeError(line)) if line.startswith("RuntimeError: ") else ""


def shared_memory_remedy(said: str) -> str:
    """What can be done where a program `said` that shared memory is full; "" where it said something else."""
    if not _OF_SHARED_MEMORY.search(said):
        return ""
    try:
        status = os.statvfs(_SHARED_MEMORY)
        size = f" holds {status.f_blocks * status.f_frsize / 1e6:,.0f} MB and"
    except OSError:
        size = ""
    return (
        f"{_SHARED_MEMORY}, through which data-loader processes hand over their batches,{size} is full: make it larger "
        "(docker run --shm-size=8g), or use fewer such processes (data_workers, num_workers; 0 needs no shared memory)"
    )


def file_size_remedy() -> str:
    """What can be done where a file may not grow any more."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit == resource.RLIM_INFINITY:
        return "the file system takes no file of this size"
    return f"no file may be larger than {limit:,} bytes in this session: raise that limit (ulimit -f unlimited)"


def with_advice(error: BaseException) -> str:
    """An error for people, with what to do about the limit of the machine, or of the session, that was its cause."""
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
    # SQLite says only that a write failed.
    is_limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
    return is_limited and getattr(error, "sqlite_errorname", "") in ("SQLITE_IOERR_WRITE", "SQLITE_FULL")


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = _CALL.search(str(error)) if isinstance(error, OSError) else None
    return int(match[1]) if match else None


def lack_of_room(folder: Path, said: str) -> OSError | None:
    """Why the disk that holds a trial's folder takes no more files; None where it does, or where that is not known.

    `said` is what the trial printed when it failed. Where that speaks of a full disk, and little room is left here, the
    one that was full was this one.
    """
    try:
        write_bytes(folder / "room", bytes(_ROOM_BYTES))
        real_folders.remove(folder / "room", folder)
        status = os.statvfs(folder)
    except OSError as error:
        return error if error.errno in UNWRITABLE else None
    if not _SAID.search(said) or status.f_bavail * status.f_frsize >= max(_LITTLE_BYTES, _largest(folder)):
        return None
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _largest(folder: Path) -> int:
    """The size in bytes of the largest file below a folder."""
    largest = 0
    for home, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                largest = max(largest, (Path(home) / name).lstat().st_size)
    return largest
