"""Whether a file system has file locks: some network file systems (Lustre, NFS without its lock service) have none."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

MISSING = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
"""The error numbers of a file system without locks."""


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
