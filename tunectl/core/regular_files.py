"""Opening files that may have come from somebody else: regular files alone, so that nothing hangs or never ends."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from tunectl.core import real_folders

LARGEST_BYTES = 2**28
"""What is read at once of a document; one of ours is a thousandth of it."""

LARGEST_LINES_BYTES = 2**33
"""What is read at once of a file of lines, which may be long: 100 million updates."""


def open_descriptor(path: Path, flags: int = os.O_RDONLY, *, within: Path | None = None, follows: bool = False) -> int:
    """Open a regular file and give its descriptor. It never waits, and no device is read.

    No part of the path below `within` may be a link, nor the file itself unless `follows`: a file that the user names,
    or that a program wrote, may be one. Raises OSError, NotRegularError where there is something else than a file.
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
    """The error in words where what is there is no file: a pipe without a reader, a socket, a link."""
    error.filename = os.fspath(path)
    if error.errno not in (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP):
        return error
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=follows).st_mode
    except OSError:
        return error
    return error if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else real_folders.not_regular(mode, path)


def opened(path: Path, *, within: Path | None = None, follows: bool = False) -> BufferedReader:
    """A regular file, open to be read in binary; as `open_descriptor`."""
    return os.fdopen(open_descriptor(path, within=within, follows=follows), "rb")


def content(path: Path, *, largest: int = LARGEST_BYTES, within: Path | None = None, follows: bool = False) -> bytes:
    """All that a regular file holds; raises OSError as `open_descriptor` does, and where it is larger than that."""
    descriptor = open_descriptor(path, within=within, follows=follows)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        if size > largest:
            reason = f"it holds {size:,} bytes, and more than {largest:,} are not read"
            raise OSError(errno.EOVERFLOW, reason, os.fspath(path))
        return file.readall()


def text(path: Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """The text of a file that the user named or wrote, its lines ended alike; raises OSError, UnicodeDecodeError."""
    decoded = content(path, follows=True).decode(encoding, errors)
    return decoded.replace("\r\n", "\n").replace("\r", "\n")


def open_to_append(path: Path, *, within: Path | None = None) -> int:
    """The descriptor of a regular file to append to, made where it is missing; for programs that write to it, too."""
    descriptor = open_descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, within=within)
    os.set_blocking(descriptor, True)
    return descriptor
