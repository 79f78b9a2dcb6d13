"""The names by which measurements know the checkpoints of a trial."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tunectl.core.folders import TrialFolder


@dataclass(frozen=True, slots=True)
class ExistingCheckpoints:
    """The names of the checkpoints that a trial still has; each is looked for when it is asked about.

    A name is a file's in `checkpoints`, or the path from there to one of the program's own (`../files/...`).
    """

    folder: TrialFolder

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str) or not name or not _is_a_name(name, self.folder):
            return False
        # Some checkpoints are folders. Not Path.exists, which raises for a name that is too long; one with a NUL is no
        # file's.
        path = self.folder.checkpoints / name
        return os.path.exists(path) and not os.path.islink(self.folder.checkpoints)  # noqa: PTH110, PTH114


def _is_a_name(name: str, folder: TrialFolder) -> bool:
    if "/" not in name:
        return name[0] != "."
    return name.startswith(f"../{folder.files.name}/") and os.path.normpath(name) == name
