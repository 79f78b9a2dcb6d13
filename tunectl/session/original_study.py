"""The study file of a study folder that is run again: the user's file, or the copy where that is gone."""

from __future__ import annotations

from pathlib import Path

from tunectl.core.errors import FolderError
from tunectl.core.proposed_commands import tunectl_command
from tunectl.store.provenance import original_study_file, read_provenance
from tunectl.store.study_folder import open_folder


def original_study(place: Path) -> Path:
    """The study file of the last run in a folder, or the folder's copy of it; raises FolderError where the study was
    imported.
    """
    folder = open_folder(place)
    original = original_study_file(folder)
    if original is not None:
        return original
    runs = read_provenance(folder)
    if runs and not any(run.get("study_file") for run in runs):
        raise FolderError(
            f"{place}: was imported, and has no program that could train its trials again; "
            f"`{tunectl_command('next', place)}` writes the study of a next round, in which you can name one"
        )
    return folder.study
