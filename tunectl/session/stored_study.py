"""The copy of a study file in its study folder, read as if it were where the user's file was.

Relative paths in it (a workload's file, a command's folder, the study of `search.after`) start at that place.
"""

from __future__ import annotations

from pathlib import Path

from tunectl.core.folders import StudyFolder
from tunectl.core.typed_fields import text_at
from tunectl.language.study_reader import Draft, read_draft
from tunectl.store.study_folder import is_study_folder


def stored_in(path: Path) -> StudyFolder | None:
    """The study folder of which this file is the copy of its study, None where it is a file of the user."""
    folder = StudyFolder(path.parent)
    return folder if path.name == folder.study.name and is_study_folder(path.parent) else None


def stored_draft(path: Path) -> Draft | None:
    """The study in a copy as far as it can be read; None where the file is one of the user."""
    folder = stored_in(path)
    if folder is None:
        return None
    return read_draft(path, home_of(folder), folder.points if folder.points.is_file() else None)


def home_of(folder: StudyFolder) -> Path:
    """The path of the user's file, which may be gone.

    Where its folder is gone, too, or no run was recorded, it is taken to be in the folder that has `runs`: a project
    may have been moved with its studies.
    """
    # Only here, since `check` of a user's file need not import it.
    from tunectl.store.provenance import read_provenance

    paths = [text_at(run, "study_file", "path") for run in reversed(read_provenance(folder))]
    known = [Path(path) for path in paths if path]
    found = next((path for path in known if path.is_file()), None)
    found = found or next((path for path in known if path.parent.is_dir()), None)
    if found is not None:
        return found.parent.resolve() / found.name
    place = folder.path.absolute()
    return place.parent.parent / (known[0].name if known else f"{place.name}.yaml")
