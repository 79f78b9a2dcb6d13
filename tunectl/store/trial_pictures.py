"""The files that trials wrote at evaluations: `trials/N/files/step-00000100/`, of which pictures are shown."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunectl.core import jsontext, real_folders, regular_files
from tunectl.core.folders import TrialFolder, step_of_files

MOST_FILES = 200
"""The number of files of a step that are known at most."""

MOST_DEPTH = 4
"""Folders in the folder of a step are looked into so deep."""

LARGEST_PICTURE_BYTES = 2_000_000

MOST_PIXELS = 2**26
"""A larger picture is not shown: a file may say more than it has, and a browser makes room for what it says."""

PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")
"""How the names of pictures end."""

_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


@dataclass(frozen=True, slots=True)
class StepFile:
    """A file by its path in the folder of its step, in which parts are separated by `/`, and its size."""

    name: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class StepFiles:
    """The files of an evaluation, by name; `left_out` says how many there are beside them."""

    step: int
    files: tuple[StepFile, ...]
    left_out: int = 0


def read_evaluation_files(folder: TrialFolder) -> tuple[StepFiles, ...]:
    """The files of a trial by step, without links and what else is no file; none where they cannot be listed."""
    found: dict[int, StepFiles] = {}
    for name in _names(folder.files, folder.study):
        step = step_of_files(name)
        if step is None or step in found:
            continue
        files = sorted(_files(folder.files / name, folder.study), key=lambda file: file.name)
        if files:
            found[step] = StepFiles(step, tuple(files[:MOST_FILES]), max(0, len(files) - MOST_FILES))
    return tuple(found[step] for step in sorted(found))


def _names(folder: Path, within: Path) -> list[str]:
    try:
        with real_folders.opened(folder, within):  # no part of the path is a link
            return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def _files(folder: Path, within: Path, before: str = "", depth: int = 0) -> Iterator[StepFile]:
    for name in _names(folder, within):
        path, shown = folder / name, f"{before}{jsontext.encodable(name)}"
        try:
            status = path.lstat()
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            yield StepFile(shown, path, status.st_size)
        elif stat.S_ISDIR(status.st_mode) and depth < MOST_DEPTH:
            yield from _files(path, within, f"{shown}/", depth + 1)


def picture(file: StepFile, within: Path) -> tuple[str, bytes] | None:
    """The type and the content of a picture; None for another file, and for one that is too large to be shown."""
    if file.size > LARGEST_PICTURE_BYTES:
        return None
    try:
        content = regular_files.content(file.path, largest=LARGEST_PICTURE_BYTES, within=within)
    except OSError:
        return None
    kind = _kind(file.name, content)
    return None if kind is None else (kind, content)


def _kind(name: str, content: bytes) -> str | None:
    """The media type of a picture by its first bytes; of an SVG by its name, too."""
    if content.startswith(_PNG) and len(content) >= len(_PNG) + 8:
        width, height = struct.unpack(">II", content[len(_PNG) : len(_PNG) + 8])
        return "image/png" if 0 < width * height <= MOST_PIXELS else None
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    return "image/svg+xml" if name.lower().endswith(".svg") and b"<svg" in content[:10_000] else None
