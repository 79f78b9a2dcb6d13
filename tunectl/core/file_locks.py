"""Which locks a file system has: some network file systems (Lustre, NFS without its lock service) have none."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

MISSING = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
"""What is said where there are none."""


def has_record_locks(file: Path) -> bool:
    """Whether files like this one can be locked by fcntl, as SQLite does it; true where that cannot be asked.

    Takes a shared lock for an instant. This process must have no such lock on the file: it would lose it.
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
