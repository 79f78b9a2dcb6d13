"""Links of a trial's code to its own files by their absolute paths, such as `last.pt`: the trial's folder moves, and
they are to lead to the files wherever it is.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tunectl.core import real_folders
from tunectl.core.folders import TrialFolder

_MOST_LOOKED_AT = 10_000


def lead_home(folder: TrialFolder) -> None:
    """Let links below the trial's files that name it in its present place, or in an earlier one, name it relatively.

    To be called while nothing of the trial runs. What cannot be read or replaced stays as it is.
    """
    if folder.trial is None:
        return
    place = re.compile(
        rf"(?P<study>/.*)/(?:trials/0*{folder.trial}|claimed/0*{folder.trial}\.[A-Za-z0-9_-]+)/(?P<file>.+)"
    )
    for link in islice(_links(str(folder.files)), _MOST_LOOKED_AT):
        with contextlib.suppress(OSError):
            found = place.fullmatch(os.readlink(link))  # noqa: PTH115  (very many)
            if found is None or not Path(found["study"]).samefile(folder.study):
                continue
            file = folder.path / found["file"]
            if file.exists():
                real_folders.replace_link(Path(link), os.path.relpath(file, Path(link).parent), folder.study)


def _links(place: str) -> Iterator[str]:
    """The links below a folder; none is followed."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield entry.path
            elif entry.is_dir(follow_symlinks=False):
                yield from _links(entry.path)
