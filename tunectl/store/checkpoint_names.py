"""The names of a trial's checkpoints, as its measurements have them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tunectl.core.folders import TrialFolder


@dataclass(frozen=True, slots=True)
class ExistingCheckpoints:
    """The checkpoints that a trial still has: `name in checkpoints` looks for the file.

    A name is that of a file in `checkpoints`, or the path from there to a file that the program saved
    (`../files/...`).
    """

    folder: TrialFolder

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str) or not name or not _is_a_name(name, self.folder):
            return False
        # Some checkpoints are folders. Path.exists would raise for a name that is too long; os.path.exists does not.
        path = self.folder.checkpoints / name
        return os.path.exists(path) and not os.path.islink(self.folder.checkpoints)  # noqa: PTH110, PTH114


def _is_a_name(name: str, folder: TrialFolder) -> bool:
    if "/" not in name:
        return name[0] != "."
    return name.startswith(f"../{folder.files.name}/") and os.path.normpath(name) == name
