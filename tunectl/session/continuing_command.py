"""The command by which a study goes on in its folder, as messages print it."""

from __future__ import annotations

import os

from tunectl.core.folders import StudyFolder
from tunectl.core.proposed_commands import tunectl_command
from tunectl.store.provenance import backend_option, original_study_file


def continuing_command(folder: StudyFolder) -> str:
    """The `tunectl run` that goes on with a study where it was run last, also on the same backend."""
    file = original_study_file(folder) or folder.study
    return tunectl_command("run", os.path.relpath(file), "--dir", folder.path, *backend_option(folder))
