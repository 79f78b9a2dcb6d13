"""Errors of writing the folder of a trial: whether other trials can go on, and what to do."""

from __future__ import annotations

import errno
import shutil

from tunectl.core import jsontext
from tunectl.core.errors import FolderError
from tunectl.core.folders import TrialFolder

_ERRORS_OF_ONE_FOLDER = frozenset(
    {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.EACCES}
)


def is_of_one_trial(error: OSError | FolderError) -> bool:
    """Whether the error concerns the folder of one trial, so that the other trials can go on."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _ERRORS_OF_ONE_FOLDER


def unwritten_message(folder: TrialFolder, why: str) -> str:
    """The message where a trial could not write its files, by what it said last."""
    try:
        space = f"{shutil.disk_usage(folder.path).free / 1e6:,.0f} MB are free"
    except OSError as error:
        space = str(error)
    cause = "; ".join(filter(None, [jsontext.one_line(why), f"{space}, see {folder.log.name}"]))
    return (
        f"{folder.path}: the trial could not write its files ({cause}); make room and run the same command again: it "
        "goes on from there"
    )
