"""The error for a file or a folder that cannot be read or written, with the same words everywhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tunectl.core.errors import FolderError, TunectlError

PathUse = Literal["read", "written", "created", "removed", "replaced", "opened", "locked"]
"""What failed, as the message says it: `plan.jsonl: cannot be read`."""


def system_reason(error: Exception) -> str:
    """The reason of a system error without its number and path: `Permission denied`."""
    return getattr(error, "strerror", None) or str(error)


def path_message(path: Path | str, use: PathUse, error: Exception) -> str:
    """`runs/a/plan.jsonl: cannot be read: Permission denied`."""
    return f"{path}: cannot be {use}: {system_reason(error)}"


def path_error(
    path: Path | str, use: PathUse, error: Exception, error_type: type[TunectlError] = FolderError
) -> TunectlError:
    """The error for the user, to raise from the system's error in an `except` block; see `path_errors`."""
    return error_type(path_message(path, use, error))


@contextlib.contextmanager
def path_errors(path: Path | str, use: PathUse, error_type: type[TunectlError] = FolderError) -> Iterator[None]:
    """Raise the error for the user if the block raises an OSError, which stays its cause."""
    try:
        yield
    except OSError as error:
        raise path_error(path, use, error, error_type) from error


def broken_link(path: Path) -> str | None:
    """The first part of a path that is a broken link, as `runs is a link to nothing (/data is not there)`; None if
    there is none.

    The system's own messages (`File exists`) are misleading for such paths.
    """
    try:
        part = next((part for part in (*reversed(path.parents), path) if part.is_symlink() and not part.exists()), None)
        return None if part is None else f"{part} is a link to nothing ({os.readlink(part)} is not there)"  # noqa: PTH115
    except OSError:
        return None
