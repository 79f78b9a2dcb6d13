"""The files of a trial as its worker left them, so that a run sees when all of them show.

A file server may show names and contents late. A checkpoint that does not show yet would count as one that was not
kept, and a table of updates as one with lines missing. Tested with the watch of claims.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from tunectl.core import real_folders, regular_files
from tunectl.core.folders import TrialFolder

_BLOCK_BYTES = 2**20


def given_files(folder: TrialFolder) -> dict[str, int]:
    """The size in bytes of each file that tunectl reads of a trial that has ended, by its path in the trial's folder.

    They are those in the folder itself and the checkpoints, without the marks of the claim, what the run writes, and
    the log, which a process that the trial has left may write to. What cannot be listed is left out.
    """
    found = {}
    for place in (folder.path, folder.checkpoints):
        with contextlib.suppress(OSError), real_folders.opened(place, folder.study) as descriptor:
            for name in real_folders.names_in(descriptor):
                if name.startswith("."):  # one that was being written, or that a file server keeps while it is open
                    continue
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if place != folder.path:
                    found[f"{place.name}/{name}"] = status.st_size if stat.S_ISREG(status.st_mode) else 0
                elif stat.S_ISREG(status.st_mode) and name not in _left_out(folder):
                    found[name] = status.st_size
    return found


def not_shown(folder: TrialFolder, files: Mapping[str, int]) -> list[str]:
    """Those of `files`, as `given_files` gave them to the worker, that are not in a trial's folder, or are shorter.

    Of a file that grows the size may show before the content: it is read, where all else is there.
    """
    missing = [name for name, size in files.items() if not _has_size(folder, folder.path / name, size)]
    growing = [] if missing else [name for name in files if name.endswith(".jsonl")]
    return missing + [name for name in growing if not _has_content(folder, folder.path / name, files[name])]


def _has_size(folder: TrialFolder, path: Path, size: int) -> bool:
    try:
        with real_folders.opened(path.parent, folder.study) as descriptor:
            names = real_folders.names_in(descriptor)  # what reads the checkpoints lists them
            return path.name in names and os.stat(path.name, dir_fd=descriptor, follow_symlinks=False).st_size >= size
    except OSError:
        return False


def _has_content(folder: TrialFolder, path: Path, size: int) -> bool:
    try:
        with regular_files.opened(path, within=folder.study) as file:
            return sum(len(block) for block in iter(lambda: file.read(_BLOCK_BYTES), b"")) >= size
    except OSError:
        return False


def _left_out(folder: TrialFolder) -> set[str]:
    marks = (folder.offer, folder.claimant, folder.beat, folder.stop_request, folder.ending)
    return {path.name for path in (*marks, folder.request, folder.attempts, folder.log)}
