"""Opening files that may come from other people: only regular files, so that reading neither waits nor never ends."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from tunectl.core import real_folders

LARGEST_BYTES = 2**28
"""The largest document that is read; ours are a thousandth of it."""

LARGEST_LINES_BYTES = 2**33
"""The largest file of lines that is read: 100 million updates."""


def open_descriptor(path: Path, flags: int = os.O_RDONLY, *, within: Path | None = None, follows: bool = False) -> int:
    """Open a regular file and give its descriptor. This never waits, and never opens a device.

    No part of the path below `within` may be a link. The file itself may be one only with `follows`, which is for files
    that the user names or that a program wrote. Raises OSError, NotRegularError if it is not a regular file.
    """
    flags |= os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follows else os.O_NOFOLLOW)
    with contextlib.ExitStack() as stack:
        parent = stack.enter_context(real_folders.opened(path.parent, within)) if within is not None else None
        name = path if parent is None else Path(path.name)
        try:
            descriptor = os.open(name, flags, 0o666, dir_fd=parent)
        except OSError as error:
            raise _explained(error, path, name, parent, follows=follows) from None
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
            if not stat.S_ISREG(mode):
                raise real_folders.not_regular(mode, path)
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def _explained(error: OSError, path: Path, name: Path, parent: int | None, *, follows: bool) -> OSError:
    """The error, with a message that says so if there is a pipe without a reader, a socket or a link."""
    error.filename = os.fspath(path)
    if error.errno not in (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP):
        return error
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=follows).st_mode
    except OSError:
        return error
    return error if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else real_folders.not_regular(mode, path)


def opened(path: Path, *, within: Path | None = None, follows: bool = False) -> BufferedReader:
    """A regular file, open for reading bytes; see `open_descriptor`."""
    return os.fdopen(open_descriptor(path, within=within, follows=follows), "rb")


def content(path: Path, *, largest: int = LARGEST_BYTES, within: Path | None = None, follows: bool = False) -> bytes:
    """The content of a regular file; raises OSError like `open_descriptor`, and if it is larger than `largest`."""
    descriptor = open_descriptor(path, within=within, follows=follows)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        if size > largest:
            reason = f"it has {size:,} bytes, and at most {largest:,} are read"
            raise OSError(errno.EOVERFLOW, reason, os.fspath(path))
        return file.readall()


def text(path: Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """The text of a file of the user, with the line ends of Unix; raises OSError, UnicodeDecodeError."""
    decoded = content(path, follows=True).decode(encoding, errors)
    return decoded.replace("\r\n", "\n").replace("\r", "\n")


def open_to_append(path: Path, *, within: Path | None = None) -> int:
    """The descriptor of a regular file to append to, also for programs; the file is created if it is missing."""
    descriptor = open_descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, within=within)
    os.set_blocking(descriptor, True)
    return descriptor
