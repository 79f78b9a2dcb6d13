"""The files below a folder at one moment, without those that no trial writes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunectl.execution.own_outputs import own_devices_and_inodes
from tunectl.store.written_files import Mark, OutputFile

MOST_ENTRIES = 100_000
"""The number of files and folders that are read at most; 30,000 take a tenth of a second."""
MOST_IN_A_FOLDER = 5_000
"""A folder with more entries before the first trial holds data, and is not read."""

_LEFT_OUT = frozenset(
    {
        ".git", ".hg", ".svn", "__pycache__", ".cache", "cache", ".pytest_cache", ".mypy_cache", ".ruff_cache",
        ".ipynb_checkpoints", ".tox", ".nox", ".eggs", "node_modules", ".idea", ".vscode", "wandb", ".venv", "venv",
    }
)  # fmt: skip
_LEFT_OUT_SUFFIXES = (".pyc", ".lock", ".pid", ".swp", ".tmp", "~")
_ENVIRONMENT = ("pyvenv.cfg", "conda-meta")
_STUDY = ("study.yaml", "plan.jsonl")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Files and folders by their path below the folder. `skipped` are folders that were too large to read.

    `is_whole` is false where there were too many entries in spite of that.
    """

    files: dict[str, Mark] = field(default_factory=dict)
    folders: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    is_whole: bool = True

    def without(self, outputs: Collection[OutputFile]) -> Snapshot:
        """The snapshot without files that workers print to, which no trial writes."""
        known = {(output.name, output.inode) for output in outputs}
        files = self.files.items()
        return replace(self, files={path: mark for path, mark in files if (Path(path).name, mark.inode) not in known})


def take_snapshot(folder: Path, skipped: Collection[str] | None = None) -> Snapshot:
    """The files below a folder, without caches, environments, version control and study folders.

    The first snapshot (`skipped` None) decides which folders are skipped, because they are too large or the limit was
    reached; later ones get these as `skipped`.
    """
    files: dict[str, Mark] = {}
    own = own_devices_and_inodes()
    folders: set[str] = set()
    too_large: set[str] = set(skipped or ())
    waiting = deque([""])
    seen = 0
    while waiting:
        place = waiting.popleft()
        entries = _entries(folder / place)
        names = {entry.name for entry in entries}
        if place and (any(name in names for name in _ENVIRONMENT) or all(name in names for name in _STUDY)):
            continue
        if skipped is None and place and (len(entries) > MOST_IN_A_FOLDER or seen + len(entries) > MOST_ENTRIES):
            too_large.add(place)
            continue
        seen += len(entries)
        if seen > 2 * MOST_ENTRIES:
            return Snapshot(files, frozenset(folders), frozenset(too_large), is_whole=False)
        folders.add(place)
        for entry in entries:
            path = f"{place}/{entry.name}" if place else entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in _LEFT_OUT and path not in too_large:
                        waiting.append(path)
                elif entry.is_file(follow_symlinks=False) and not entry.name.endswith(_LEFT_OUT_SUFFIXES):
                    status = entry.stat(follow_symlinks=False)
                    if (status.st_dev, status.st_ino) not in own:
                        files[path] = Mark(status.st_ino, status.st_mtime_ns, status.st_size)
            except OSError:
                continue  # it was removed meanwhile
    return Snapshot(files, frozenset(folders), frozenset(too_large))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []
