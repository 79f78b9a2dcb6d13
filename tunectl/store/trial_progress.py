"""How far a trial that is not running has come, by its files: for the judgement of attempts that were cut short."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunectl.core import regular_files
from tunectl.core.folders import TrialFolder
from tunectl.core.measurement_kinds import counts_updates
from tunectl.core.typed_fields import is_count
from tunectl.store import json_lines

_TAIL_BYTES = 2**20
"""More than the last block of updates has."""


def progress_made(folder: TrialFolder) -> int:
    """The updates that the trial is known to have made, and the iterations of a procedure before them.

    It is read from the last lines that are sound; 0 where there are none, or they cannot be read.
    """
    updates = iterations = 0
    for line in _last_lines(folder.measurements, folder.study):
        step, kind = line.get("step"), line.get("kind")
        if isinstance(step, int) and is_count(step) and isinstance(kind, str):
            if counts_updates(kind):
                updates = max(updates, step)
            else:
                iterations = max(iterations, step)
    for line in _last_lines(folder.steps, folder.study):
        first, losses = line.get("first"), line.get("loss")
        if isinstance(first, int) and is_count(first) and isinstance(losses, list):
            updates = max(updates, first + len(losses))
    return updates + iterations


def _last_lines(path: Path, within: Path) -> list[Mapping[str, Any]]:
    """The last lines of a file that are whole and not damaged."""
    try:
        with regular_files.opened(path, within=within) as file:
            begin = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(begin)
            content = file.read(_TAIL_BYTES)
    except OSError:
        return []
    whole = content[content.find(b"\n") + 1 if begin else 0 : content.rfind(b"\n") + 1]
    return [line for line in json_lines.parse_quickly(whole) if line is not None]
