"""The mark by which an engine finds the workers of a study again: the same for all runs on one study folder.

It is made of random letters in a file of the folder, as two hosts with one cluster may have folders of the same name,
and of the folder's path, as a folder may be copied.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path

from tunectl.core import real_folders, regular_files
from tunectl.core.files import write_bytes
from tunectl.core.path_errors import path_errors

_FILE = "mark"
_MARK = re.compile(r"[0-9a-f]{12}")
_PREFIX = "tunectl-"


def study_mark(folder: Path, study: Path) -> str:
    """The beginning of the names of this study's jobs. `folder` is the engine's, in the study folder; it is made.

    Raises FolderError where the file cannot be read or written.
    """
    file = folder / _FILE
    with path_errors(file, "read"):
        try:
            found = regular_files.content(file, within=study).decode("ascii", "replace").strip()
        except FileNotFoundError:
            found = ""
    if not _MARK.fullmatch(found):
        found = secrets.token_hex(6)
        with path_errors(file, "written"):
            real_folders.made(folder, study)
            write_bytes(file, f"{found}\n".encode("ascii"), within=study)
    path = hashlib.sha256(os.fsencode(study.resolve())).hexdigest()[:8]
    return f"{_PREFIX}{found}-{path}-"


def new_job(mark: str) -> str:
    """A name for a new job of the study, which no other has."""
    return mark + secrets.token_hex(4)
