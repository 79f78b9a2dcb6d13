"""Locks on places by their names, and the queue of the runs that wait for one; the kernel frees both at a run's end.

A place is a core or a GPU. Its lock is a file in the runtime folder with a lock (flock) on it. A run that waits has a
file in the folder `queue`, locked too, which names the places it waits for; of two runs the one that has waited longer
goes first.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import time
from collections.abc import Callable, Collection
from pathlib import Path

from tunectl.core import file_locks, jsontext, real_folders, regular_files, typed_fields

LOST_AFTER_SECONDS = 10.0
"""A run that waits writes the time of its file in the queue every time it looks. One that has not for so long is
stopped (SIGSTOP) and loses its turn until it goes on.
"""

_TAKEN = (BlockingIOError, PermissionError)
_UNLOCKED = "."


def file_name(place: str) -> str:
    """The name of the lock file of a place."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", place) + ".lock"


class PlaceLocks:
    """The locks that this run holds on places in a runtime folder, and its turn in the queue.

    `on_open` is called with the descriptor of each lock file that is opened. A process with a copy of it keeps the lock
    of a run that died until it has ended itself. Methods raise OSError where the folder cannot be written or its file
    system has no locks.
    """

    def __init__(
        self, folder: Path, on_open: Callable[[int], None] = lambda _fd: None, now: Callable[[], float] = time.time
    ) -> None:
        self.folder = folder
        self._on_open, self._now = on_open, now
        self._files: dict[str, int] = {}
        self._held: set[str] = set()
        self._turn: _Turn | None = None

    @property
    def held(self) -> frozenset[str]:
        """The places that this run has locked."""
        return frozenset(self._held)

    def lock(self, place: str, *, shared: bool = False) -> bool:
        """Lock a place; false where another run has it. Several can have it `shared`, and then none has it alone."""
        if place in self._held:
            return True
        fd = self._opened(place)
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except _TAKEN:
            return False
        self._held.add(place)
        return True

    def unlock(self, place: str) -> None:
        """Free a place, also where other processes have copies of its descriptor."""
        if place in self._held:
            self._held.discard(place)
            with contextlib.suppress(OSError):
                fcntl.flock(self._files[place], fcntl.LOCK_UN)

    def is_taken(self, place: str) -> bool:
        """Whether another run has locked a place."""
        if place in self._held:
            return False
        try:
            fcntl.flock(fd := self._opened(place), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except _TAKEN:
            return True
        fcntl.flock(fd, fcntl.LOCK_UN)
        return False

    def _opened(self, place: str) -> int:
        path = self.folder / file_name(place)
        known = self._files.get(place)
        if known is not None and _is_named(path, known):
            return known
        fd = regular_files.open_descriptor(path, os.O_RDWR | os.O_CREAT, within=self.folder)
        # A cleaner of /tmp may have removed the file, which it does not while it is locked. Others have a copy of the
        # old descriptor, so it stays open.
        self._files[place] = fd
        self._on_open(fd)
        return fd

    def holders(self, place: str) -> list[str]:
        """The other processes that have locked a place, in words; [] where the system does not show them."""
        return file_locks.holders(self.folder / file_name(place))

    def wait_for(self, places: Collection[str]) -> None:
        """Take, or keep, a turn in the queue for these places; for none, leave the queue."""
        if not places:
            self.leave_queue()
            return
        if self._turn is None or not _is_named(self._turn.path, self._turn.fd):
            self.leave_queue()
            self._turn = _Turn(self._queue(), self._now())
        self._turn.name_places(sorted(places), self._now())

    def leave_queue(self) -> None:
        """Give up the turn in the queue."""
        if self._turn is not None:
            self._turn.close()
            self._turn = None

    def wanted_before(self) -> frozenset[str]:
        """The places for which another run has waited longer than this one."""
        own = None if self._turn is None else self._turn.path.name
        wanted: set[str] = set()
        try:
            names = sorted(os.listdir(self._queue()))  # noqa: PTH208
        except FileNotFoundError:
            return frozenset()
        for name in names:
            if name == own:
                break
            if name.startswith(_UNLOCKED):
                continue
            wanted.update(self._wanted_by(self._queue() / name))
        return frozenset(wanted)

    def _wanted_by(self, path: Path) -> Collection[str]:
        """The places in a file of the queue; none where its run has ended or is stopped."""
        try:
            fd = regular_files.open_descriptor(path, os.O_RDWR, within=self.folder)
        except OSError:
            return ()  # it has just left the queue
        try:
            is_lost = self._now() - os.fstat(fd).st_mtime > LOST_AFTER_SECONDS
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except _TAKEN:
                return () if is_lost else _places_in(os.pread(fd, os.fstat(fd).st_size, 0))
            real_folders.remove(path, self.folder)
            return ()
        finally:
            os.close(fd)

    def _queue(self) -> Path:
        return self.folder / "queue"

    def close(self) -> None:
        """Leave the queue and close the files: a place is free when the last process with a copy has ended."""
        self.leave_queue()
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()
        self._held.clear()


class _Turn:
    """A run's file in the queue; the names of the files sort by when their runs began to wait."""

    _numbers = itertools.count()

    def __init__(self, queue: Path, now: float) -> None:
        real_folders.made(queue, queue.parent)
        name = f"{int(now * 1e6):020d}-{os.getpid()}-{next(self._numbers)}"
        self.path = queue / name
        self._places: list[str] = []
        # It gets its name when it is locked: an unlocked file is one whose run has ended.
        unlocked = queue / f"{_UNLOCKED}{name}"
        self.fd = regular_files.open_descriptor(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL, within=queue.parent)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            real_folders.move(unlocked, self.path, queue.parent)
        except OSError:
            os.close(self.fd)
            raise

    def name_places(self, places: list[str], now: float) -> None:
        """Write the places that the run waits for, and that it still waits."""
        if places != self._places:
            content = jsontext.encode(places).encode()
            os.pwrite(self.fd, content, 0)
            os.ftruncate(self.fd, len(content))
            self._places = places
        os.utime(self.fd, (now, now))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            real_folders.remove(self.path, self.path.parent.parent)
        os.close(self.fd)


def _places_in(content: bytes) -> Collection[str]:
    try:
        read = typed_fields.document(content)
    except typed_fields.DamagedError:
        return ()  # it is being written
    return [item for item in read if isinstance(item, str)] if isinstance(read, list) else ()


def _is_named(path: Path, fd: int) -> bool:
    """Whether the open file still has this path."""
    try:
        named = path.stat(follow_symlinks=False)
    except OSError:
        return False
    own = os.fstat(fd)
    return (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)
