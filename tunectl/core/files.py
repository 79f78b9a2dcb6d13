"""Writing files atomically: neither a reader nor a power cut ever finds half of one, and no other file is changed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

from tunectl.core import real_folders
from tunectl.core.regular_files import opened

_NO_FLUSH = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM})
# The error numbers of file systems that cannot flush a folder, or a file opened for reading: some network file systems.

UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})
"""The error numbers of a disk that is full, read-only, broken, or takes no file of this size: alike for all trials."""

_TEMPORARY = re.compile(r"\.(?P<name>.+?)(\.(?P<digits>[0-9a-f]{8}))?\.tmp", re.DOTALL)
_MOST_NAMES = 100
_LISTED = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OLD_SECONDS = 86_400.0
# Without locks, a temporary file counts as left over a day after it was last written.


def write_atomically(
    path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True, within: Path | None = None
) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk and rename it to `path`.

    The temporary file, `.<name>.<8 hex digits>.tmp`, is always a new one, so that writers of the same file do not
    disturb each other. It is removed if `write` raises; if its writer is killed, the next writer removes it. No part of
    the path below `within` may be a link, nor `path` itself. After a power cut the file may have its earlier content
    again, but never half of the new one. If even that content may be lost, `durable=False` saves the time of flushing.
    Raises OSError if the disk is full or the folder cannot be written.
    """
    with real_folders.opened(path.parent, within) as folder:
        _refuse_unless_file(path, folder)
        _remove_left(path.name, folder)
        temporary, descriptor = _new_temporary(path.name, folder)
        # Its lock says that it is being written. It is held until the file is renamed.
        lock = os.dup(descriptor)
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            try:
                os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                if not real_folders.is_at(path.name, folder, os.fstat(lock)):  # the answer was lost, as in `move`
                    raise
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        finally:
            os.close(lock)


@contextlib.contextmanager
def temporary_folder(beside: Path) -> Iterator[Path]:
    """A new folder beside a path, `.<name>.<8 hex digits>.tmp`, which is removed at the end unless it was renamed.

    It is locked until then; if the process is killed, the next one for the same path removes it. No existing folder,
    file or link is written to. Raises OSError if the folder cannot be created.
    """
    with real_folders.opened(beside.parent) as parent:
        _remove_left(beside.name, parent)
        name, lock = _new_temporary_folder(beside.name, parent)
        made = beside.with_name(name)
        try:
            yield made
        finally:
            with contextlib.suppress(OSError):
                real_folders.remove_all(made, made.parent)
            os.close(lock)


def try_to_write(folder: Path, name: str) -> None:
    """Create a file in a folder and remove it; raises OSError if that is not possible."""
    with real_folders.opened(folder) as opened_folder:
        _remove_left(name, opened_folder)
        temporary, descriptor = _new_temporary(name, opened_folder)
        os.close(descriptor)
        os.unlink(temporary, dir_fd=opened_folder)


def target_of(name: str) -> str | None:
    """The name of the file that a temporary file of this name becomes; None if it is not a temporary file."""
    match = _TEMPORARY.fullmatch(name)
    return None if match is None else match["name"]


def _refuse_unless_file(path: Path, folder: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise real_folders.not_regular(mode, path)


def _temporary_name(name: str) -> str:
    return f".{name}.{os.urandom(4).hex()}.tmp"


def _lock(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _new_temporary(name: str, folder: int) -> tuple[str, int]:
    """A new file that only this process writes to: its name, and its descriptor, which holds the lock."""
    for _ in range(_MOST_NAMES):
        temporary = _temporary_name(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(temporary, flags, 0o666, dir_fd=folder)
            _lock(descriptor)
            # Before it was locked, another writer may have removed it as a left-over one.
            if os.fstat(descriptor).st_nlink:
                return temporary, descriptor
            os.close(descriptor)
    raise FileExistsError(errno.EEXIST, "no name for a temporary file is free", name)


def _new_temporary_folder(name: str, folder: int) -> tuple[str, int]:
    """A new folder that only this process writes to: its name, and a descriptor, which holds the lock."""
    for _ in range(_MOST_NAMES):
        temporary = _temporary_name(name)
        # Before it is locked, another writer may remove it as a left-over one.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.mkdir(temporary, dir_fd=folder)
            descriptor = os.open(temporary, _LISTED | os.O_NOFOLLOW, dir_fd=folder)
            _lock(descriptor)
            if os.fstat(descriptor).st_nlink:
                return temporary, descriptor
            os.close(descriptor)
    raise FileExistsError(errno.EEXIST, "no name for a temporary file is free", name)


def _remove_left(name: str, folder: int) -> None:
    """Remove the temporary files of killed writers; one that cannot be listed or removed only takes space."""
    with contextlib.suppress(OSError):
        listed = os.open(".", _LISTED, dir_fd=folder)
        try:
            left = [entry for entry in os.listdir(listed) if target_of(entry) == name]  # noqa: PTH208  (a descriptor)
        finally:
            os.close(listed)
        for entry in left:
            with contextlib.suppress(OSError):
                _remove_unless_locked(entry, folder)


def _remove_unless_locked(entry: str, folder: int) -> None:
    mode = os.stat(entry, dir_fd=folder, follow_symlinks=False).st_mode
    is_folder = stat.S_ISDIR(mode)
    if not stat.S_ISREG(mode) and not is_folder:
        os.unlink(entry, dir_fd=folder)  # the link itself, not its target
        return
    match = _TEMPORARY.fullmatch(entry)
    if is_folder and (match is None or match["digits"] is None):
        return  # not a name of our folders
    flags = _LISTED if is_folder else os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(entry, flags | os.O_NOFOLLOW, dir_fd=folder)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # it is being written
        except OSError:
            if time.time() - os.fstat(descriptor).st_mtime < _OLD_SECONDS:
                return
        if is_folder:
            shutil.rmtree(entry, dir_fd=folder)
        else:
            os.unlink(entry, dir_fd=folder)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Make the names in a folder durable: else a power cut may lose a new file whose content was flushed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except OSError:
        return  # not allowed to list it, or no descriptor is free: the file itself is written
    _flush_and_close(descriptor)


def flush_file(path: Path) -> None:
    """Make durable what other processes wrote to a file, if there is one; raises OSError if that fails."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # does not wait for the writer of a pipe
    except FileNotFoundError:
        return
    _flush_and_close(descriptor)


def _flush_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(descriptor)


def unnamed_file() -> IO[bytes]:
    """An empty file without a name, to pass data from one process to another; removed when all have closed it.

    It is in memory if the system supports that, since the folder for temporary files may be full.
    """
    try:
        return os.fdopen(os.memfd_create("tunectl"), "w+b")
    except (AttributeError, OSError):
        return tempfile.TemporaryFile()


def write_bytes(path: Path, content: bytes, *, durable: bool = True, within: Path | None = None) -> None:
    """Write `content` to `path` atomically; see `write_atomically`."""
    write_atomically(path, lambda file: file.write(content), durable=durable, within=within)


def write_if_changed(path: Path, content: bytes, *, within: Path | None = None) -> bool:
    """Write `content` atomically unless the file already has it; gives whether it was written."""
    with contextlib.suppress(FileNotFoundError), opened(path, within=within) as file:
        if os.fstat(file.fileno()).st_size == len(content) and file.read() == content:
            return False
    write_bytes(path, content, within=within)
    return True


def write_new(path: Path, content: bytes) -> None:
    """Write `content` to a new file; raises FileExistsError if there is one already."""
    with open(path, "xb") as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise
    flush_folder(path.parent)
