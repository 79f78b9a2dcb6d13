"""Studies that began anew after a change: what was there is moved to `earlier/1`, `earlier/2`, … in the study folder.

Each of these is a study folder that every command can read, like any other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tunectl.core import real_folders, regular_files
from tunectl.core.files import flush_folder, write_bytes
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_error, path_errors
from tunectl.store.index_schema import database_files
from tunectl.store.writing_lock import writing_lock

_MOVING = ".moving"
_COPIED = ("provenance", "uncommitted")
# They stay in the study folder, too: which commands were called, and from which file.


def set_aside(folder: StudyFolder, say: Callable[[str], None] = lambda _line: None) -> Path:
    """Move a study's trials, its plan and all that was made from them to a new folder in `earlier`; return that folder.

    After a kill on the way `finish_setting_aside` moves the rest. Raises FolderError where it cannot be done.
    """
    numbers = [int(path.name) for path in _there(folder.earlier) if path.name.isdecimal()]
    place = folder.earlier / f"{max(numbers, default=0) + 1}{_MOVING}"
    with path_errors(place, "created"):
        real_folders.made(place, folder.path)
        flush_folder(folder.earlier)
    finished = finish_setting_aside(folder, say)
    assert finished is not None, "its place was made just now"
    return finished


def is_being_set_aside(path: Path) -> bool:
    """Whether the study in the folder at `path` was being moved when its runner was killed."""
    return _begun(StudyFolder(path)) is not None


def finish_setting_aside(folder: StudyFolder, say: Callable[[str], None] = lambda _line: None) -> Path | None:
    """Move the rest of a study whose move was interrupted; return its folder, None where there is no such study."""
    begun = _begun(folder)
    if begun is None:
        return None
    # Else a report that is being written would be finished in the folder of the new study.
    with writing_lock(folder, say):
        return _moved_to(begun, folder)


def _moved_to(begun: Path, folder: StudyFolder) -> Path:
    place = begun.with_name(begun.name.removesuffix(_MOVING))
    with path_errors(begun, "written"):
        for path in list(_moved(folder)):
            real_folders.move(path, begun / path.name, folder.path)
        for name in _COPIED:
            path = getattr(folder, name)
            with contextlib.suppress(FileNotFoundError):
                kept = regular_files.content(path, within=folder.path)
                write_bytes(begun / path.name, kept, within=folder.path)
        real_folders.move(begun, place, folder.path)
        flush_folder(folder.earlier)
    return place


def is_set_aside(folder: StudyFolder) -> bool:
    """Whether a study folder is in `earlier` of another one: no command trains in it again."""
    place = folder.path.absolute()
    return place.name.isdecimal() and place.parent == StudyFolder(place.parent.parent).earlier


def _begun(folder: StudyFolder) -> Path | None:
    return next((path for path in _there(folder.earlier) if path.name.endswith(_MOVING)), None)


def _there(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise path_error(path, "read", error) from error


def _moved(folder: StudyFolder) -> Iterator[Path]:
    """What is moved and is still there; study.yaml last, so that until then the folder is recognised as a study's.

    The index is moved, too: it is the backup of these trials, and says nothing about the new ones.
    """
    made = sorted([*folder.path.glob("findings*.json"), *folder.path.glob("report*.html")])
    of_trials = (folder.trials, folder.tables, folder.plots, folder.conclusion, folder.procedure, folder.points)
    of_run = (
        folder.earlier_trials,
        folder.added,
        folder.written,
        folder.rereading,
        *database_files(folder.index),
        folder.plan,
        folder.study,
    )
    for path in (*made, *of_trials, *of_run):
        if path.exists():
            yield path
