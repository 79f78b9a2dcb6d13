"""The files of a checkpoint, which may be a folder: whether they changed, are being written, are the same as others."""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from tunectl.core import real_folders, regular_files
from tunectl.core.files import flush_file, flush_folder
from tunectl.core.folders import TrialFolder

_PROC = Path("/proc")
_COPIED_BYTES = 2**20
_ACCESS_MODES = 0o3  # of the flags of an open file: 0 is reading alone

Stamp = Mapping[str, tuple[int, int, int]]
"""Inode, size and modification time of each file in a folder, by its relative path; of a single file by ""."""


def stamp(path: Path) -> Stamp:
    """The stamp of a file or a folder, {} if there is none; links are followed."""
    found: dict[str, tuple[int, int, int]] = {}
    for file in _files(path):
        with contextlib.suppress(OSError):
            status = file.stat()
            name = "" if file == path else str(file.relative_to(path))
            found[name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def changed(before: Stamp, after: Stamp) -> set[str]:
    """The files that differ, or are missing in one of two stamps."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def is_being_written(path: Path) -> bool | None:
    """Whether this process or a descendant has a file there open for writing; None if the system does not show it."""
    if not _PROC.is_dir():
        return None
    wanted = set()
    for file in _files(path):
        with contextlib.suppress(OSError):
            status = file.stat()
            wanted.add((status.st_dev, status.st_ino))
    return any(True for opened in _open_for_writing() if opened in wanted)


def copy(path: Path, to: Path, folder: TrialFolder) -> bool:
    """Copy a file or a folder to a place in the trial's `folder`.

    False, and without a copy, if it changed meanwhile or could not be copied.
    """
    if not remove(to, folder):
        return False
    before = stamp(path)
    try:
        if not to.parent.is_dir():
            real_folders.made(to.parent, folder.study, inside=folder.path)
        if path.is_dir():
            shutil.copytree(path, to, copy_function=_copied)
        else:
            _copied(path, to)
    except (OSError, shutil.Error):
        remove(to, folder)
        return False
    if not before or stamp(path) != before or is_being_written(path):
        remove(to, folder)
        return False
    return True


def _copied(path: str | Path, to: str | Path) -> None:
    """Copy a regular file, or the target of a link to one; a copy of a device would never end."""
    with regular_files.opened(Path(path), follows=True) as source, open(to, "xb") as target:
        shutil.copyfileobj(source, target, _COPIED_BYTES)


def is_same(one: Path, other: Path) -> bool:
    """Whether two files, or two folders, have the same content."""
    names = [{file.relative_to(path): file for file in _files(path)} for path in (one, other)]
    if not names[0] or names[0].keys() != names[1].keys():
        return False
    try:
        return all(filecmp.cmp(file, names[1][name], shallow=False) for name, file in names[0].items())
    except OSError:
        return False


def flush(path: Path) -> None:
    """Flush a file, or all files of a folder, to the disk; raises OSError if that fails."""
    for file in _files(path):
        flush_file(file)
    for folder in {path, *(file.parent for file in _files(path))} if path.is_dir() else {path.parent}:
        flush_folder(folder)


def own_path(path: Path, folder: TrialFolder) -> Path | None:
    """The path with all links on the way resolved, if it is in the trial's `folder`; else None."""
    home = Path(os.path.realpath(folder.study)) / folder.path.relative_to(folder.study)
    real = Path(os.path.realpath(path.parent)) / path.name
    return real if real.is_relative_to(home) else None


def remove(path: Path, folder: TrialFolder) -> bool:
    """Remove a file, a link or a folder in the trial's `folder`; one that cannot be removed only takes space.

    False, and nothing is removed, if links on the way lead out of the folder.
    """
    real = own_path(path, folder)
    if real is None:
        return False
    with contextlib.suppress(OSError):
        real_folders.remove_all(real, Path(os.path.realpath(folder.study)))
    return True


def remove_empty(path: Path, folder: TrialFolder) -> None:
    """Remove an empty folder in the trial's `folder`."""
    real = own_path(path, folder)
    if real is not None:
        with contextlib.suppress(OSError):
            real_folders.remove_empty(real, Path(os.path.realpath(folder.study)))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [Path(home) / name for home, _, names in os.walk(path, followlinks=False) for name in sorted(names)]
    return [path] if path.exists() else []


def _open_for_writing() -> Iterator[tuple[int, int]]:
    """Device and inode of each file that this process or a descendant has open for writing."""
    for process in _processes():
        try:
            descriptors = os.listdir(f"{_PROC}/{process}/fd")  # noqa: PTH208
        except OSError:
            continue  # it ended, or belongs to another user
        for number in descriptors:
            try:
                flags = Path(f"{_PROC}/{process}/fdinfo/{number}").read_text()
                if int(flags.split("flags:", 1)[1].split()[0], 8) & _ACCESS_MODES:
                    status = os.stat(f"{_PROC}/{process}/fd/{number}")  # noqa: PTH116
                    yield status.st_dev, status.st_ino
            except (OSError, ValueError, IndexError):
                continue


def _processes() -> list[str]:
    """The ids of this process and its descendants; of all processes if the kernel does not list children."""
    found = [str(os.getpid())]
    for process in found:
        try:
            tasks = os.listdir(f"{_PROC}/{process}/task")  # noqa: PTH208
            for task in tasks:
                found += Path(f"{_PROC}/{process}/task/{task}/children").read_text().split()
        except FileNotFoundError:
            if process == found[0]:
                return [name for name in os.listdir(_PROC) if name.isdigit()]  # noqa: PTH208
        except OSError:
            continue
    return found
