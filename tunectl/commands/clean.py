"""`clean`: removes files of a study folder that nothing needs any more, and says before what they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunectl.core import real_folders
from tunectl.core.path_errors import path_errors
from tunectl.session.removable_files import Cleaning, CleaningRequest, removable_files
from tunectl.session.run_requests import resting
from tunectl.session.snapshot import study_snapshot
from tunectl.store.study_folder import open_folder


@dataclass(frozen=True, slots=True)
class CleaningResult:
    """What may go from a folder, or, where `is_done`, has gone."""

    folder: Path
    cleaning: Cleaning
    is_done: bool = False

    @property
    def table(self) -> list[tuple[str, int, int]]:
        """What may go, the number of files or folders, and their bytes."""
        kinds = dict.fromkeys(item.what for item in self.cleaning.items)
        found = []
        for kind in kinds:
            own = [item for item in self.cleaning.items if item.what == kind]
            found.append((kind, len(own), sum(item.size for item in own)))
        return found

    def to_json(self) -> dict[str, Any]:
        """The cleaning as one JSON object."""
        return {
            "folder": str(self.folder),
            "removed": self.is_done,
            "bytes": self.cleaning.size,
            "files": [
                {"path": str(item.path.relative_to(self.folder)), "what": item.what, "bytes": item.size}
                for item in self.cleaning.items
            ],
            "notes": list(self.cleaning.notes),
        }


def plan_cleaning(
    place: Path, request: CleaningRequest, say: Callable[[str], None], *, holds_lock: bool = False
) -> CleaningResult:
    """What may go from a study folder; writes nothing. Raises FolderError where there is no study."""
    with study_snapshot(place, say, holds_lock=holds_lock) as study:
        found = removable_files(study, request)
        return CleaningResult(study.folder.path, found)


def clean_folder(place: Path, request: CleaningRequest, say: Callable[[str], None]) -> CleaningResult:
    """Remove what may go from a study folder, as it is found under the folder's lock.

    A kill at any moment leaves the other files to be removed. Raises FolderError where a run is at work, or a file
    cannot be removed.
    """
    folder = open_folder(place)
    with resting(folder, "clean it"):
        found = plan_cleaning(place, request, say, holds_lock=True)
        for item in found.cleaning.items:
            with path_errors(item.path, "removed"):
                real_folders.remove_all(item.path, folder.path)
    return CleaningResult(folder.path, found.cleaning, is_done=True)
