"""Writing files so that a reader, or a power cut, never sees half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO

_NO_FLUSH = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM})
# What file systems say that cannot flush a folder, or a file that is open for reading: some network file systems.

UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})
"""What is said where a disk is full, cannot be written, or takes no file of this size: the same for every trial."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk and rename it to `path`.

    The temporary name is fixed (`.<name>.tmp`), so a killed writer leaves one file that the next one replaces. It is
    removed when `write` raises. After a power cut the file that was there before may be there again, never half of one;
    where that does not matter either, `durable` false saves the time that flushing takes. Raises OSError where the disk
    is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def flush_folder(folder: Path) -> None:
    """Make a file's new name durable: without it a power cut may lose a file whose content was flushed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # one that cannot be listed, or no descriptor left: the file itself is written
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(descriptor)


def flush_file(path: Path) -> None:
    """Make what other processes wrote to a file durable; nothing where there is none. Raises OSError where it fails."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # not to wait for whom a pipe has
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(descriptor)


def unnamed_file() -> IO[bytes]:
    """An empty file without a name, for what one process hands to another; gone when the last one closes it.

    In memory where the system can, since the folder for temporary files may be full.
    """
    try:
        return os.fdopen(os.memfd_create("tunectl"), "w+b")
    except (AttributeError, OSError):
        return tempfile.TemporaryFile()


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `content` to `path` atomically; see `write_atomically`."""
    write_atomically(path, lambda file: file.write(content), durable=durable)


def write_if_changed(path: Path, content: bytes) -> bool:
    """Write `content` atomically unless the file holds it already; says whether it wrote."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return False
    write_bytes(path, content)
    return True


def write_new(path: Path, content: bytes) -> None:
    """Write `content` to a file that is not there yet; raises FileExistsError where one is, whoever made it."""
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
