"""Heartbeats: numbers in files that are raised while a process is at work.

Whether one still beats is judged by the changes that its reader sees, on the reader's own monotonic clock: never by
times in files, since hosts have different clocks, and file servers theirs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from enum import Enum
from pathlib import Path

from tunectl.core import real_folders, regular_files

_LARGEST_BYTES = 4096


class Unreadable(Enum):
    """That a heartbeat cannot be read now, as the file server does not answer. That is no silence."""

    BEAT = "unreadable"


UNREADABLE = Unreadable.BEAT
Beat = bytes | Unreadable | None

LATE_SECONDS = 60.0
"""How long the content of a folder may be missing at the least, after the folder itself was moved: a client of a file
server keeps what it has read of a folder for up to 60 s (nfs(5): acdirmax).
"""

PERIODS_TO_DEATH = 3
"""How many periods without a change count as the end of the process that should have made one."""


def write_beat(path: Path, count: int, *, within: Path) -> None:
    """Write the number into its file, in place; raises OSError, FileNotFoundError where the folder is gone.

    Not by a new file and a rename: on NFS a reader that opens the same file again is shown its present content at once,
    and a new name possibly later. A number that is torn is a change, too.
    """
    flags = os.O_WRONLY | os.O_CREAT
    descriptor = regular_files.open_descriptor(path, flags, within=within)
    try:
        os.pwrite(descriptor, b"%020d\n" % count, 0)
    finally:
        os.close(descriptor)


def read_beat(path: Path, *, within: Path) -> Beat:
    """What is in the file of a heartbeat; None where there is none, and UNREADABLE where that cannot be found out."""
    try:
        # A client of a file server may remember that there was no such file; listing the folder asks the server.
        real_folders.names(path.parent, within)
        return regular_files.content(path, largest=_LARGEST_BYTES, within=within)
    except FileNotFoundError:
        return None
    except OSError:
        return UNREADABLE


class BeatWatch:
    """Judges heartbeats by the changes that it sees.

    `clock` gives seconds of a clock that never goes back. Of a time between two looks that is longer than
    `longest_gap_seconds` only so much counts: a reader that was suspended has not seen that nothing changed. A time in
    which a heartbeat cannot be read does not count either, and of one that is not there `late_seconds` do not: a file
    server may show a new file late.
    """

    def __init__(self, clock: Callable[[], float], longest_gap_seconds: float, late_seconds: float = 0.0) -> None:
        self._clock = clock
        self._longest_gap_seconds, self._late_seconds = longest_gap_seconds, late_seconds
        self._seen: dict[str, tuple[Beat, float, float]] = {}

    def silent_seconds(self, name: str, beat: Beat) -> float:
        """Take what the heartbeat of this name is now, and give the seconds for which it has been seen unchanged.

        0 at the first look, and after a change.
        """
        now = self._clock()
        before = self._seen.get(name)
        silent = 0.0
        if before is not None and beat is UNREADABLE:
            beat, silent = before[0], before[1]
        elif before is not None and before[0] == beat:
            silent = before[1] + min(now - before[2], self._longest_gap_seconds)
        self._seen[name] = (beat, silent, now)
        return max(0.0, silent - self._late_seconds) if beat is None else silent

    def keep(self, names: Collection[str]) -> None:
        """Forget all heartbeats but those with these names."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
