"""Which exceptions are for the user to solve, with their text and their exit code; all others are bugs of tunectl."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from tunectl.core.errors import EXIT_BAD_STUDY, EXIT_FOLDER, FolderError, TunectlError
from tunectl.core.path_errors import system_reason
from tunectl.core.shortages import with_advice

_SYSTEM_ERRORS = frozenset(
    {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EAGAIN, errno.EINTR}
    | {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM}
)
"""Errors of the disk, the machine or missing rights: they are not bugs of tunectl, wherever they occur."""


class UserError(NamedTuple):
    """What a user is shown of an exception, and the exit code of the command."""

    text: str
    exit_code: int


def user_error(error: BaseException) -> UserError | None:
    """What a user is shown of an exception; None for a bug of tunectl."""
    if isinstance(error, TunectlError):
        return UserError(with_advice(error), error.exit_code)
    if isinstance(error, FileNotFoundError) and not _current_folder_exists():
        return UserError("the current folder no longer exists; change to another one (cd)", EXIT_BAD_STUDY)
    if isinstance(error, OSError) and error.errno in _SYSTEM_ERRORS:
        found = FolderError(f"{error.filename or 'a file'}: {system_reason(error)}")
        found.__cause__ = error
        return UserError(with_advice(found), EXIT_FOLDER)
    return None


def _current_folder_exists() -> bool:
    """Whether the current folder exists: it may have been deleted or unmounted."""
    try:
        os.getcwd()  # noqa: PTH109  (Path.cwd would do the same)
    except OSError:
        return False
    return True
