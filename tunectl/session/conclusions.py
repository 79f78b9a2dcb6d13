"""The conclusions of procedures, read from their folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunectl.core import regular_files
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_error
from tunectl.core.records import Scalar
from tunectl.core.typed_fields import DamagedError, sealed_object, text_at
from tunectl.language.identity import Differences, differences
from tunectl.language.study_spec import StudySpec
from tunectl.session.open_study import study_in
from tunectl.store.study_folder import open_folder

MOST_FOLDERS = 1000
"""How many folders are searched at most: a folder with more is not one where studies are kept."""


def conclusions_beside(spec: StudySpec, place: Path, values: Mapping[str, Scalar]) -> dict[str, dict[str, Any]]:
    """The conclusions of other procedures about the same configuration of the same study, by the procedure's name.

    They are searched in the folders beside `place`. Of several of one procedure the one with the default name counts,
    else the first by name. Folders that cannot be read, or have another study or configuration, are skipped.
    """
    found: dict[str, dict[str, Any]] = {}
    here = place.resolve()
    try:
        folders = [path for path in here.parent.iterdir() if path.is_dir() and path.resolve() != here]
    except OSError:
        return {}
    for path in sorted(folders, key=lambda path: (not path.name.startswith(f"{spec.name}."), path.name))[:MOST_FOLDERS]:
        folder = StudyFolder(path)
        asked, concluded = _content(folder.procedure), _content(folder.conclusion)
        name = asked.get("procedure")
        if not isinstance(name, str) or name in found or not concluded or asked.get("values") != dict(values):
            continue
        if _is_of(spec, folder):
            found[name] = concluded
    return found


def verdict_in(folder: StudyFolder) -> str:
    """The verdict of a procedure, "" where it has none yet, or it cannot be read."""
    return text_at(_content(folder.conclusion), "verdict")


def conclusion_in(folder: StudyFolder) -> dict[str, Any] | None:
    """What the procedure of a folder concluded; None before its end, and in the folder of a study.

    Raises FolderError where that cannot be read.
    """
    if not folder.conclusion.exists():
        return None
    try:
        return sealed_object(regular_files.content(folder.conclusion))
    except (OSError, DamagedError) as error:
        raise path_error(folder.conclusion, "read", error) from error


def _content(path: Path) -> dict[str, Any]:
    try:
        return sealed_object(regular_files.content(path))
    except (OSError, DamagedError):
        return {}


def _is_of(spec: StudySpec, folder: StudyFolder) -> bool:
    try:
        kept = study_in(open_folder(folder.path))
    except (FolderError, OSError):
        return False
    return differences(kept, spec) == Differences()
