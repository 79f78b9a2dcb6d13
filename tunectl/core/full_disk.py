"""Whether a disk is full: asked when something failed on it that may have failed for that."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path

from tunectl.core import real_folders
from tunectl.core.files import UNWRITABLE, write_bytes

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
