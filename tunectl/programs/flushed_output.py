"""What of a program's trial is known to be on the disk, so that a power cut takes no evaluation in silence.

A program may flush its checkpoint to the disk; what it prints is in the system's memory for half a minute, and a power
cut takes it. A trial that went on from such a checkpoint would lack the evaluations before it. So what was printed is
flushed, beside the look-out for it, whenever a new checkpoint is there; which one that was is noted behind it. After a
power cut a trial goes on from a checkpoint that was noted so, or at whose step, or later, an evaluation is known. Where
the machine has not been started since, the system still has all that was written, whatever was killed.
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
from tunectl.core.files import flush_file, flush_folder, write_bytes
from tunectl.core.folders import TrialFolder
from tunectl.core.text_lines import log_bytes
from tunectl.programs import file_contents

_FILE = "flushed.json"
_BOOT = Path("/proc/sys/kernel/random/boot_id")

FLUSH_COST = 0.02
"""The part of a trial's time that flushing may take, as for `resume.pt`: where one takes long, the next comes later.

It holds for the program's checkpoints, too. One of 500 MB took 0.3 s on a fast disk (ext4) and takes seconds on others,
but less than a millisecond where the program had flushed it; most of those that it had not would be removed before they
were on the disk. After a power cut what was trained since the last flush, at most 50 times as long as that took, comes
again.
"""

LEAST_SECONDS = 0.5
"""The time between two flushes, at least."""


class SavedPoint(NamedTuple):
    """A checkpoint as it was seen: its number, None where its name has none, and what it is known by."""

    number: int | None
    mark: str
    path: Path

    @classmethod
    def of(cls, number: int | None, path: Path) -> SavedPoint:
        """The checkpoint that lies there now."""
        # Without the inode, which a folder that was copied to another machine does not keep.
        found = sorted((name, size, changed) for name, (_, size, changed) in file_contents.stamp(path).items())
        return cls(number, hashlib.sha256(repr(found).encode()).hexdigest() if found else "", path)


@dataclass(frozen=True, slots=True)
class Flushed:
    """What was known to be on the disk when it was noted: so much of the log and of the measurements, and with them all
    that was told before the checkpoint of this number and mark was there. `is_all`: the program had ended. `boot` says
    at which start of the machine it was noted, "" where that is not known.
    """

    log_bytes: int
    measured_bytes: int
    number: int | None = None
    mark: str = ""
    is_all: bool = False
    boot: str = ""

    def holds(self, folder: TrialFolder) -> bool:
        """Whether the files still hold what was noted: a failing disk, or whoever edits them, may take it."""
        return log_bytes(folder.log) >= self.log_bytes and log_bytes(folder.measurements) >= self.measured_bytes

    @property
    def is_of_this_boot(self) -> bool:
        """Whether the machine has not been started since: then nothing that was written is lost."""
        return bool(self.boot) and self.boot == boot_id()

    def covers(self, point: SavedPoint) -> bool:
        """Whether all that was told before a checkpoint was there is on the disk, where the files hold what was noted.

        Numbers grow while a program runs: one with a smaller number was there before.
        """
        if self.is_all:
            return True
        if point.number is not None:
            return self.number is not None and point.number <= self.number
        return bool(self.mark) and point.mark == self.mark


def read_flushed(folder: TrialFolder) -> Flushed | None:
    """What was noted last; None where nothing was, as by earlier versions. What is damaged covers nothing."""
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
    """Flush log and measurements, and note what they cover; raises OSError where that cannot be done."""
    logged, measured = log_bytes(folder.log), log_bytes(folder.measurements)
    for path in (folder.log, folder.measurements):
        flush_file(path)
    number, mark = (None, "") if point is None else (point.number, point.mark)
    noted = Flushed(logged, measured, number, mark, is_all, boot_id())
    write_bytes(folder.path / _FILE, (json.dumps(asdict(noted)) + "\n").encode(), within=folder.study)
    flush_folder(folder.path)


def boot_id() -> str:
    """What is another text after each start of this machine; "" where the system does not say."""
    with contextlib.suppress(OSError):
        return _BOOT.read_text("ascii").strip()
    return ""


@dataclass(slots=True)
class Flusher:
    """Flushes what a trial's program has told, whenever a new checkpoint is there, in a thread: a busy disk may take
    seconds, in which the program is looked after all the same.
    """

    folder: TrialFolder
    covered: SavedPoint | None
    clock: Callable[[], float] = time.monotonic
    _next: float = 0.0
    _thread: threading.Thread | None = field(default=None)

    def wants(self, point: SavedPoint | None) -> bool:
        """Whether it is time to flush what was told before this checkpoint was there, and that was not done yet."""
        if point is None or not self.is_ready:
            return False
        if self.covered is None or point.number is None:
            return point != self.covered
        return point.number != self.covered.number

    @property
    def is_ready(self) -> bool:
        """Whether it is time for a flush, and none is under way."""
        is_busy = self._thread is not None and self._thread.is_alive()
        return not is_busy and self.clock() >= self._next

    def begin(self, point: SavedPoint) -> None:
        """Flush what is in the log and in the measurements now, which must be all that was told before the checkpoint.

        The checkpoint itself is flushed first, since earlier ones may be removed for it.
        """
        self._thread = threading.Thread(target=self._flush, args=(point,), daemon=True)
        self._thread.start()

    def _flush(self, point: SavedPoint) -> None:
        began = self.clock()
        # What cannot be flushed is not noted.
        with contextlib.suppress(OSError):
            file_contents.flush(point.path)
            note_flushed(self.folder, point)
            self.covered = point
        # Also where it failed: a disk that has errors is not asked at every look.
        self._next = self.clock() + max(LEAST_SECONDS, (self.clock() - began) / FLUSH_COST)

    def end(self) -> None:
        """Note that all is on the disk, once the program has ended."""
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError):
            note_flushed(self.folder, self.covered, is_all=True)
