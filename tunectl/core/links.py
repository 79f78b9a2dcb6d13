"""Symbolic links that lead to nothing, in words: the system's own (`File exists`) mislead where one is in the way."""

from __future__ import annotations

import os
from pathlib import Path


def broken_link(path: Path) -> str | None:
    """The first part of the path that is a link to nothing, as `runs is a link to nothing (/data is not there)`; None
    where no part is one, or where that cannot be seen.
    """
    try:
        part = next((part for part in (*reversed(path.parents), path) if part.is_symlink() and not part.exists()), None)
        return None if part is None else f"{part} is a link to nothing ({os.readlink(part)} is not there)"  # noqa: PTH115
    except OSError:
        return None
