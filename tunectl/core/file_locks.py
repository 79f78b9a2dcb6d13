"""File locks: whether a file system has them (Lustre, and NFS without its lock service, do not), and who holds one."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
from pathlib import Path

from tunectl.core import regular_files

_LOCKS = Path("/proc/locks")
_FILE = 5  # the field of the file, after that of the process
_MOST_SHOWN = 100

MISSING = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
"""The error numbers of a file system without locks."""


def holders(path: Path) -> list[str]:
    """The other processes with a lock (flock) on a file or a folder, as `process 123 (tunectl report x)`.

    A process that is stopped has `, which is stopped,` after it. [] if the system does not show the locks.
    """
    try:
        status, lines = path.stat(), regular_files.content(_LOCKS).decode("ascii", "replace").splitlines()
    except OSError:
        return []
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    # As "1: FLOCK  ADVISORY  WRITE 123 fd:01:456 0 EOF"; a waiting process has an arrow after the number.
    found = (fields for line in lines if len(fields := line.split()) > _FILE and fields[1] == "FLOCK")
    pids = {int(fields[_FILE - 1]) for fields in found if fields[_FILE] == file and fields[_FILE - 1].isdecimal()}
    return [process_in_words(pid) for pid in sorted(pids - {os.getpid()}) if pid > 0]


def process_in_words(pid: int) -> str:
    """`process 123 (tunectl report x)`, as far as the system shows it."""
    try:
        command_line, status = (regular_files.content(_LOCKS.parent / str(pid) / name) for name in ("cmdline", "stat"))
        words = command_line.decode(errors="replace").split("\0")[:-1]
        state = status.decode(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return f"process {pid}"
    if words and Path(words[0]).name.startswith("python"):
        words = list(itertools.dropwhile(lambda word: word.startswith("-"), words[1:]))
    command = " ".join([Path(word).name for word in words[:1]] + words[1:])
    return f"process {pid} ({command[:_MOST_SHOWN]}){', which is stopped,' if state in 'Tt' else ''}"


def has_record_locks(file: Path) -> bool:
    """Whether this file can be locked by fcntl, as SQLite locks it; true if the file cannot be opened.

    Takes a shared lock for a moment. This process must not have such a lock on the file already: it would lose it.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in MISSING
    finally:
        os.close(descriptor)
    return True
