"""The error for a file or a folder that the system does not let a study read or write, in the same words everywhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tunectl.core.errors import FolderError, TunectlError

PathUse = Literal["read", "written", "created", "replaced", "opened", "locked"]
"""What was to be done with a path, as the message has it: `plan.jsonl: cannot be read`."""


def system_reason(error: Exception) -> str:
    """Why the system refused, without the number and the path that Python puts beside it: `Permission denied`."""
    return getattr(error, "strerror", None) or str(error)


def path_message(path: Path | str, use: PathUse, error: Exception) -> str:
    """`runs/a/plan.jsonl: cannot be read: Permission denied`."""
    return f"{path}: cannot be {use}: {system_reason(error)}"


def path_error(
    path: Path | str, use: PathUse, error: Exception, error_type: type[TunectlError] = FolderError
) -> TunectlError:
    """The error for people, to be raised from the system's, for a handler that has others beside it."""
    return error_type(path_message(path, use, error))


@contextlib.contextmanager
def path_errors(path: Path | str, use: PathUse, error_type: type[TunectlError] = FolderError) -> Iterator[None]:
    """Raise the error for people instead of an OSError of the lines within."""
    try:
        yield
    except OSError as error:
        raise path_error(path, use, error, error_type) from error


def broken_link(path: Path) -> str | None:
    """The first part of the path that is a link to nothing, as `runs is a link to nothing (/data is not there)`; None
    where no part is one, or where that cannot be seen.
    """
    try:
        part = next((part for part in (*reversed(path.parents), path) if part.is_symlink() and not part.exists()), None)
        return None if part is None else f"{part} is a link to nothing ({os.readlink(part)} is not there)"  # noqa: PTH115
    except OSError:
        return None
