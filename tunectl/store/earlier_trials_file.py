"""earlier_trials.json: the trials of an earlier study, copied so that a study depends on no other folder."""

from __future__ import annotations

from tunectl.core import jsontext, record_checksums, regular_files
from tunectl.core.earlier_trials import EarlierTrials
from tunectl.core.files import write_if_changed
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_error, path_errors
from tunectl.core.typed_fields import DamagedError, sealed_object, typed, untyped


def kept_trials(folder: StudyFolder) -> EarlierTrials | None:
    """The earlier trials that a study folder has kept; None where it has none, or the file is damaged.

    Raises FolderError where it cannot be read.
    """
    try:
        return typed(EarlierTrials, sealed_object(regular_files.content(folder.earlier_trials)))
    except (FileNotFoundError, NotADirectoryError, DamagedError):
        return None
    except OSError as error:
        raise path_error(folder.earlier_trials, "read", error) from error


def keep_trials(folder: StudyFolder, trials: EarlierTrials) -> None:
    """Write the earlier trials; raises FolderError where that cannot be done."""
    with path_errors(folder.earlier_trials, "written"):
        content = record_checksums.sealed(jsontext.encode(untyped(trials))) + b"\n"
        write_if_changed(folder.earlier_trials, content, within=folder.path)
