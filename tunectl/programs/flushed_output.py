"""Flushing the output of a program to the disk, so that a power cut loses no evaluation without a message.

A program may flush its checkpoint to the disk, but its output stays in the system's memory for half a minute, and a
power cut loses it. A trial that resumed from such a checkpoint would lack the evaluations before it. So the output is
flushed in a thread whenever there is a new checkpoint, and then it is noted for which checkpoint. After a power cut a
trial resumes from a checkpoint with such a note, or from one whose step is not after the last known evaluation. If the
machine has not been restarted, the system still has everything that was written, whatever was killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from tunectl.core import regular_files
from tunectl.core.boot_id import boot_id
from tunectl.core.files import flush_file, flush_folder, write_bytes
from tunectl.core.folders import TrialFolder
from tunectl.core.log_reader import log_bytes
from tunectl.programs import checkpoint_files

_FILE = "flushed.json"

FLUSH_COST = 0.02
"""The part of a trial's time that flushing may take, as for `resume.pt`: after a long flush the next one comes later.

This includes the program's checkpoints. One of 500 MB took 0.3 s on a fast disk (ext4) and takes seconds on others, but
less than a millisecond if the program had flushed it; most of the others would be removed before they were on the disk.
After a power cut, training is repeated from the last flush on, which is at most 50 times as long as that flush took.
"""

LEAST_SECONDS = 0.5
"""The least time between two flushes."""


class SavedPoint(NamedTuple):
    """A checkpoint: its number, None if its name has none, and a hash of its files' names, sizes and times."""

    number: int | None
    mark: str
    path: Path

    @classmethod
    def of(cls, number: int | None, path: Path) -> SavedPoint:
        """The checkpoint at `path` as it is now."""
        # Without the inode, which changes if the folder is copied to another machine.
        found = sorted((name, size, changed) for name, (_, size, changed) in checkpoint_files.stamp(path).items())
        return cls(number, hashlib.sha256(repr(found).encode()).hexdigest() if found else "", path)

    @property
    def word(self) -> str:
        """The checkpoint as it is now, in one word; 0 is the number of one that has none."""
        return f"{self.number or 0}:{self.mark}"


@dataclass(frozen=True, slots=True)
class Flushed:
    """A note of what is on the disk: the log and the measurements up to these lengths.

    They include everything that was printed before the checkpoint with this number and mark. `is_all`: the program had
    ended. `boot` identifies the start of the machine, "" if it is not known.
    """

    log_bytes: int
    measured_bytes: int
    number: int | None = None
    mark: str = ""
    is_all: bool = False
    boot: str = ""

    def holds(self, folder: TrialFolder) -> bool:
        """Whether the files are still as long as noted, in spite of failing disks and edits."""
        return log_bytes(folder.log) >= self.log_bytes and log_bytes(folder.measurements) >= self.measured_bytes

    @property
    def is_of_this_boot(self) -> bool:
        """Whether the machine has not been restarted since: then nothing that was written is lost."""
        return bool(self.boot) and self.boot == boot_id()

    def covers(self, point: SavedPoint) -> bool:
        """Whether everything printed before a checkpoint is on the disk, if the files are as long as noted.

        Numbers grow while a program runs, so one with a smaller number was written earlier.
        """
        if self.is_all:
            return True
        if point.number is not None:
            return self.number is not None and point.number <= self.number
        return bool(self.mark) and point.mark == self.mark


def read_flushed(folder: TrialFolder) -> Flushed | None:
    """The last note, None if there is none, as from earlier versions. A damaged note covers nothing."""
    try:
        found = Flushed(**json.loads(regular_files.content(folder.path / _FILE, within=folder.study)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError):
        return Flushed(0, 0)
    sizes = [found.log_bytes, found.measured_bytes, 0 if found.number is None else found.number]
    texts = [found.mark, found.boot]
    is_sound = all(type(size) is int for size in sizes) and all(type(text) is str for text in texts)
    is_sound = is_sound and type(found.is_all) is bool
    return found if is_sound else Flushed(0, 0)


def note_flushed(folder: TrialFolder, point: SavedPoint | None, *, is_all: bool = False) -> None:
    """Flush log and measurements, and note what they cover; raises OSError if that fails."""
    logged, measured = log_bytes(folder.log), log_bytes(folder.measurements)
    for path in (folder.log, folder.measurements):
        flush_file(path)
    number, mark = (None, "") if point is None else (point.number, point.mark)
    noted = Flushed(logged, measured, number, mark, is_all, boot_id())
    write_bytes(folder.path / _FILE, (json.dumps(asdict(noted)) + "\n").encode(), within=folder.study)
    flush_folder(folder.path)


@dataclass(slots=True)
class Flusher:
    """Flushes the output of a trial's program whenever there is a new checkpoint.

    It uses a thread, since a busy disk may take seconds, during which the output must still be read.
    """

    folder: TrialFolder
    covered: SavedPoint | None
    clock: Callable[[], float] = time.monotonic
    _next: float = 0.0
    _thread: threading.Thread | None = field(default=None)

    def wants(self, point: SavedPoint | None) -> bool:
        """Whether it is time to flush what was printed before this checkpoint, if that was not done yet."""
        if point is None or not self.is_ready:
            return False
        if self.covered is None or point.number is None:
            return point != self.covered
        return point.number != self.covered.number

    @property
    def is_ready(self) -> bool:
        """Whether it is time for a flush, and none is running."""
        is_busy = self._thread is not None and self._thread.is_alive()
        return not is_busy and self.clock() >= self._next

    def begin(self, point: SavedPoint) -> None:
        """Flush the present log and measurements, which must have everything that was printed before the checkpoint.

        The checkpoint itself is flushed first, since earlier ones may be removed because of it.
        """
        self._thread = threading.Thread(target=self._flush, args=(point,), daemon=True)
        self._thread.start()

    def _flush(self, point: SavedPoint) -> None:
        began = self.clock()
        # Without a flush there is no note.
        with contextlib.suppress(OSError):
            checkpoint_files.flush(point.path)
            note_flushed(self.folder, point)
            self.covered = point
        # Also after a failure: a disk with errors must not be tried at every update.
        self._next = self.clock() + max(LEAST_SECONDS, (self.clock() - began) / FLUSH_COST)

    def end(self) -> None:
        """Note that everything is on the disk, once the program has ended."""
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError):
            note_flushed(self.folder, self.covered, is_all=True)
