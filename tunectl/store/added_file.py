"""added.json: the number of trials that `tunectl add` has raised `search.trials` to, beside the user's study file."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tunectl.core import jsontext, record_checksums, regular_files
from tunectl.core.errors import FolderError
from tunectl.core.files import write_bytes
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_error, path_errors
from tunectl.core.typed_fields import DamagedError, sealed_object, typed


@dataclass(frozen=True, slots=True)
class AddedTrials:
    """The number of trials for each setting, and the `token` of the command that raised it last."""

    trials: int
    token: str = ""


def read_added(folder: StudyFolder) -> AddedTrials | None:
    """What `tunectl add` has raised the number of trials to; None where it has not.

    Raises FolderError where the file cannot be read, or is damaged.
    """
    try:
        return typed(AddedTrials, sealed_object(regular_files.content(folder.added)))
    except FileNotFoundError:
        return None
    except DamagedError as error:
        raise FolderError(
            f"{folder.added}: is damaged ({error}); remove it, and write search.trials of {folder.study} in your study "
            "file"
        ) from error
    except OSError as error:
        raise path_error(folder.added, "read", error) from error


def write_added(folder: StudyFolder, added: AddedTrials) -> None:
    """Write the number; raises FolderError where that cannot be done."""
    with path_errors(folder.added, "written"):
        write_bytes(folder.added, record_checksums.sealed(jsontext.encode(asdict(added))) + b"\n", within=folder.path)
