"""Attempts that were prepared and never began: a trial is then as it was before."""

from __future__ import annotations

import contextlib

from tunectl.core import jsontext, real_folders, record_checksums, regular_files, typed_fields
from tunectl.core.files import write_bytes
from tunectl.core.folders import TrialFolder
from tunectl.core.path_errors import path_errors


def forget_attempt(folder: TrialFolder, attempt: int) -> None:
    """Take back that this attempt was asked for, by its request.json; a later one, or none, stays as it is.

    The request of a first attempt is removed; that of another one asks for the attempt before it, which has ended.
    Raises FolderError where the file cannot be written.
    """
    with path_errors(folder.request, "written"):
        try:
            asked = typed_fields.sealed_object(regular_files.content(folder.request, within=folder.study))
        except (FileNotFoundError, typed_fields.DamagedError):
            return
        if asked.get("attempt", 1) != attempt:
            return
        if attempt == 1:
            real_folders.remove(folder.request, folder.study)
            return
        content = record_checksums.sealed(jsontext.encode({**asked, "attempt": attempt - 1})) + b"\n"
        write_bytes(folder.request, content, durable=False, within=folder.study)


def remove_if_empty(folder: TrialFolder) -> None:
    """Remove the folder of a trial that has no file, as before its first attempt."""
    with contextlib.suppress(OSError):
        real_folders.remove_empty(folder.path, folder.study)
