"""Copies of folders whose files other processes may still have open: a copy shares nothing with them.

Links are copied as links, and none is followed. What is neither a file, a folder nor a link is left out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tunectl.core import real_folders

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_FILE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_COPIED_BYTES = 2**20

Choice = Callable[[Sequence[str]], bool]
"""Chooses by the names on the path below the folder: ("checkpoints", "step-00000010.pt")."""


def copy_folder(source: Path, target: Path, within: Path, *, left_out: Choice, linked: Choice, first: Choice) -> None:
    """Make `target` with the content of `source`; both are below `within`. It is durable at the end.

    Of the names of a folder those that `first` chooses are copied before the others. A file that `linked` chooses is
    the same file in both folders, where the file system has links. What disappears meanwhile is left out. Raises
    OSError, FileExistsError where `target` is there already, and NotRegularError where a part of a path is a link.
    """
    real_folders.made(target, within, exist_ok=False)
    with real_folders.opened(source, within) as old, real_folders.opened(target, within) as new:
        _Copying(left_out, linked, first).fill(old, new, ())


class _Copying:
    def __init__(self, left_out: Choice, linked: Choice, first: Choice) -> None:
        self._left_out, self._linked, self._first = left_out, linked, first

    def fill(self, old: int, new: int, above: tuple[str, ...]) -> None:
        names = [name for name in real_folders.names_in(old) if not self._left_out((*above, name))]
        for name in sorted(names, key=lambda name: (not self._first((*above, name)), name)):
            with contextlib.suppress(FileNotFoundError):
                self._copy(name, old, new, (*above, name))
        _flush(new)

    def _copy(self, name: str, old: int, new: int, place: tuple[str, ...]) -> None:
        status = os.stat(name, dir_fd=old, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, dir_fd=new)
            with _listed(name, old) as source, _listed(name, new) as target:
                self.fill(source, target, place)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=old), name, dir_fd=new)
        elif stat.S_ISREG(status.st_mode) and not (self._linked(place) and _is_linked(name, old, new)):
            _copy_file(name, old, new, status)


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


def _copy_file(name: str, old: int, new: int, status: os.stat_result) -> None:
    with contextlib.ExitStack() as opened:
        source = opened.enter_context(open(os.open(name, os.O_RDONLY | _FILE, dir_fd=old), "rb"))
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, stat.S_IMODE(status.st_mode), dir_fd=new)
        target = opened.enter_context(open(made, "wb"))
        shutil.copyfileobj(source, target, _COPIED_BYTES)
        target.flush()
        os.utime(target.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(target.fileno())


def _flush(folder: int) -> None:
    """Make the names in an open folder durable, where the file system can do that."""
    with contextlib.suppress(OSError), _listed(".", folder) as descriptor:
        os.fsync(descriptor)
