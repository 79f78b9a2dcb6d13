"""Copies of folders whose files other processes may still have open: a copy shares nothing with them.

Links are copied as links, and none is followed. What is neither a file, a folder nor a link is left out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path

from tunectl.core import real_folders

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_FILE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_COPIED_BYTES = 2**20

_ROUNDS = 3
"""How often a folder is listed: another process may replace its files meanwhile, and a file server show them late."""

Choice = Callable[[Sequence[str]], bool]
"""Chooses by the names on the path below the folder: ("checkpoints", "step-00000010.pt")."""


def _nothing() -> None: ...


def copy_folder(
    source: Path,
    target: Path,
    within: Path,
    *,
    left_out: Choice,
    linked: Choice,
    first: Choice,
    between: Callable[[], None] = _nothing,
) -> None:
    """Make `target` with the content of `source`; both are below `within`. It is durable at the end, and whole.

    Of the names of a folder those that `first` chooses are copied before the others. A file that `linked` chooses is
    the same file in both folders, where the file system has links. What disappears meanwhile is left out. `between` is
    called between the parts of a file, and may raise. Raises OSError where a file cannot be copied to its end,
    FileExistsError where `target` is there already, and NotRegularError where a part of a path is a link.
    """
    real_folders.made(target, within, exist_ok=False)
    with real_folders.opened(source, within) as old, real_folders.opened(target, within) as new:
        _Copying(left_out, linked, first, between).fill(old, new, ())


class _Copying:
    def __init__(self, left_out: Choice, linked: Choice, first: Choice, between: Callable[[], None]) -> None:
        self._left_out, self._linked, self._first, self._between = left_out, linked, first, between
        # By their places: a folder of which a part is gone is gone on with at the next listing of the one around it.
        self._done, self._made = set[tuple[str, ...]](), set[tuple[str, ...]]()

    def fill(self, old: int, new: int, above: tuple[str, ...]) -> None:
        gone: FileNotFoundError | None = None
        for _ in range(_ROUNDS):
            listed = [name for name in real_folders.names_in(old) if not self._left_out((*above, name))]
            left, gone = [name for name in listed if (*above, name) not in self._done], None
            for name in sorted(left, key=lambda name: (not self._first((*above, name)), name)):
                try:
                    self._copy(name, old, new, (*above, name))
                    self._done.add((*above, name))
                except FileNotFoundError as error:
                    gone = error
            if not left:
                break
        if gone is not None:  # it is listed, and yet not there
            raise gone
        _flush(new)

    def _copy(self, name: str, old: int, new: int, place: tuple[str, ...]) -> None:
        self._between()
        status = os.stat(name, dir_fd=old, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            with _listed(name, old) as source:
                if place not in self._made:
                    os.mkdir(name, dir_fd=new)
                    self._made.add(place)
                with _listed(name, new) as target:
                    self.fill(source, target, place)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=old), name, dir_fd=new)
        elif stat.S_ISREG(status.st_mode) and not (self._linked(place) and _is_linked(name, old, new)):
            _copy_file(name, old, new, self._between)


@contextlib.contextmanager
def _listed(name: str, folder: int) -> Iterator[int]:
    descriptor = os.open(name, _LIST, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_linked(name: str, old: int, new: int) -> bool:
    try:
        os.link(name, name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        return False  # there are no links, or not to files of other people
    return True


def _copy_file(name: str, old: int, new: int, between: Callable[[], None]) -> None:
    with contextlib.ExitStack() as opened:
        source = opened.enter_context(open(os.open(name, os.O_RDONLY | _FILE, dir_fd=old), "rb", buffering=0))
        status = os.fstat(source.fileno())
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, stat.S_IMODE(status.st_mode), dir_fd=new)
        target = opened.enter_context(open(made, "wb", buffering=0))
        copied = 0
        while part := source.read(_COPIED_BYTES):
            between()
            copied += _write_all(target, part)
        if copied < status.st_size:
            raise OSError(errno.EIO, f"only {copied:,} of {status.st_size:,} bytes could be read", name)
        os.utime(target.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(target.fileno())


def _write_all(target: FileIO, part: bytes) -> int:
    rest = memoryview(part)
    while rest:
        rest = rest[target.write(rest) :]
    return len(part)


def _flush(folder: int) -> None:
    """Make the names in an open folder durable, where the file system can do that."""
    with contextlib.suppress(OSError), _listed(".", folder) as descriptor:
        os.fsync(descriptor)
