"""The files of a trial as they were left for others on another host, which see by that when all of them show.

A file server may show names and contents late. To a run a checkpoint that does not show yet would count as one that was
not kept, and a table of updates as one with lines missing; a worker would begin a trial anew without its `resume.pt`.
Tested with the watch of claims, and with offers.
"""

from __future__ import annotations

import contextlib
import os
import stat
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Protocol

from tunectl.core import real_folders, regular_files
from tunectl.core.folders import SET_ASIDE, TrialFolder

_BLOCK_BYTES = 2**20
_LAST_BYTES = 512
"""Enough for the checksum at the end of a checkpoint, and for a small file."""

_MOST_OWN = 1000
"""How many files and folders of the user's code are waited for at the most: each one is asked of the file server."""


def given_files(folder: TrialFolder, *, goes_on: bool = False) -> dict[str, int]:
    """The size in bytes of each file that tunectl reads of a trial that has ended, by its path in the trial's folder.

    They are those in the folder itself and the checkpoints, without the marks of the claim, what the run writes, and
    the log, which a process that the trial has left may write to. Of a trial that `goes_on` elsewhere, the log and what
    the user's code has written, and what is set aside, outer folders first, belong to them. What cannot be listed is
    left out.
    """
    found = {}
    left_out = _left_out(folder) - ({folder.log.name} if goes_on else set())
    for name, status in _entries(folder, folder.path):
        if stat.S_ISREG(status.st_mode) and name not in left_out:
            found[name] = status.st_size
    places = (folder.files, *folder.path.glob(f"{SET_ASIDE}*"))
    own = islice(chain.from_iterable(_below(folder, place) for place in places), _MOST_OWN if goes_on else 0)
    for path, status in (*_below(folder, folder.checkpoints, depth=1), *own):
        found[path] = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return found


def _below(folder: TrialFolder, place: Path, depth: int | None = None) -> Iterator[tuple[str, os.stat_result]]:
    """What is in a place of a trial, by its path in the trial's folder, outer folders first."""
    places = deque([(place, 1)])
    while places:
        place, level = places.popleft()
        for name, status in _entries(folder, place):
            yield f"{place.relative_to(folder.path)}/{name}", status
            if stat.S_ISDIR(status.st_mode) and level != depth:
                places.append((place / name, level + 1))


def _entries(folder: TrialFolder, place: Path) -> Iterator[tuple[str, os.stat_result]]:
    with contextlib.suppress(OSError), real_folders.opened(place, folder.study) as descriptor:
        for name in sorted(real_folders.names_in(descriptor), reverse=True):  # the last checkpoints first
            if name.startswith("."):  # one that was being written, or that a file server keeps while it is open
                continue
            with contextlib.suppress(OSError):
                yield name, os.stat(name, dir_fd=descriptor, follow_symlinks=False)


def last_bytes(folder: TrialFolder, files: Mapping[str, int]) -> dict[str, int]:
    """The CRC-32 of the last bytes, up to these sizes, of those of `files` that are in the trial's folder itself.

    A file server may still show what was there before: of a `resume.pt` an earlier one of the same size.
    """
    found = {name: _last_bytes(folder, name, size) for name, size in files.items() if "/" not in name}
    return {name: checksum for name, checksum in found.items() if checksum is not None}


def _last_bytes(folder: TrialFolder, name: str, size: int) -> int | None:
    try:
        with regular_files.opened(folder.path / name, within=folder.study) as file:
            file.seek(max(0, size - _LAST_BYTES))
            return zlib.crc32(file.read(min(size, _LAST_BYTES)))
    except OSError:
        return None


class FilesLeft(Protocol):
    """A record that says which files there were: their sizes, and how some of them end."""

    @property
    def files(self) -> Mapping[str, int]:
        """See `given_files`."""

    @property
    def last_bytes(self) -> Mapping[str, int]:
        """See `last_bytes`."""


def not_shown(folder: TrialFolder, left: FilesLeft) -> list[str]:
    """The files that were left, by their paths in a trial's folder, that are not there, or not as they were.

    Those of the user may have grown. What tunectl writes has the same size: a file server may still show the longer one
    of an earlier attempt. Of a file that grows the size may show before the content: it is read, where all else is
    there.
    """
    files = left.files
    places: dict[Path, set[str]] = {}
    for path in map(PurePosixPath, files):
        places.setdefault(folder.path / path.parent, set()).add(path.name)
    shown = {place / name: size for place, names in places.items() for name, size in _sizes(folder, place, names)}
    ours = _ours(folder)
    missing = [path for path, size in files.items() if not _fits(shown.get(folder.path / path, -1), size, path in ours)]
    ends = {} if missing else left.last_bytes
    missing += [path for path, end in ends.items() if _last_bytes(folder, path, files.get(path, 0)) != end]
    growing = [] if missing else [path for path in files if path.endswith(".jsonl") and "/" not in path]
    found = {path: _content_size(folder, folder.path / path) for path in growing}
    return missing + [path for path, size in found.items() if not _fits(size, files[path], path in ours)]


def _fits(shown: int, size: int, is_ours: bool) -> bool:
    return shown == size if is_ours else shown >= size


def _sizes(folder: TrialFolder, place: Path, wanted: AbstractSet[str]) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(OSError), real_folders.opened(place, folder.study) as descriptor:
        for name in wanted & set(real_folders.names_in(descriptor)):  # what reads the checkpoints lists them
            with contextlib.suppress(OSError):
                yield name, os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_size


def _content_size(folder: TrialFolder, path: Path) -> int:
    try:
        with regular_files.opened(path, within=folder.study) as file:
            return sum(len(block) for block in iter(lambda: file.read(_BLOCK_BYTES), b""))
    except OSError:
        return -1


def _ours(folder: TrialFolder) -> set[str]:
    """The files in a trial's folder that only tunectl writes, and not once the trial is left to others."""
    lines = (folder.measurements, folder.steps, folder.predictions, folder.recoveries)
    return {path.name for path in (*lines, folder.resume, folder.previous_resume, folder.result)}


def _left_out(folder: TrialFolder) -> set[str]:
    marks = (folder.offer, folder.claimant, folder.beat, folder.stop_request, folder.ending)
    return {path.name for path in (*marks, folder.request, folder.attempts, folder.log)}
