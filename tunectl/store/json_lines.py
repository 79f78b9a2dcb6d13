"""Files of JSON lines: torn and damaged lines are skipped, and only whole lines are appended.

Each line ends with its checksum; a line that does not match its checksum is damaged.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from tunectl.core import jsontext, record_checksums, regular_files
from tunectl.core.files import flush_folder
from tunectl.core.path_errors import path_errors

_BLOCK_BYTES = 65_536
_PART_BYTES = 4_000_000
# Where one damaged line has two objects, and an object is split over two lines, there are still as many objects as
# lines.
_SEVERAL = re.compile(rb"}\s*,\s*{")


def parse(content: bytes) -> list[dict[str, Any] | None]:
    """The objects of the complete lines without their checksums, None for a damaged line.

    Text after the last newline is a torn line, whose writer was killed, and is dropped.
    """
    lines = _complete_lines(content)
    if not lines:
        return []
    values = None if _SEVERAL.search(content) else _parse_at_once(lines)
    values = values if values is not None else [_parse_one(line) for line in lines]
    return [None if value is None else _intact(value, line) for value, line in zip(values, lines, strict=True)]


def _intact(value: dict[str, Any], line: bytes) -> dict[str, Any] | None:
    seal = value.pop(record_checksums.SEAL, None)
    is_ours = seal is None or record_checksums.is_intact(line, seal) or record_checksums.is_same_record(value, seal)
    return value if is_ours else None


def parse_quickly(content: bytes) -> list[dict[str, Any] | None]:
    """The same as `parse`, in a third of the time, but whole numbers of more than 64 bits are floats.

    orjson is stricter than json: a line that it refuses is parsed by json, so that the same lines count as damaged.
    """
    values: list[dict[str, Any] | None] = []
    loads = orjson.loads
    for line in _complete_lines(content):
        try:
            value = loads(line)
        except ValueError:
            value = _parse_one(line)
        values.append(_intact(value, line) if type(value) is dict else None)
    return values


def parts(content: bytes) -> Iterator[bytes]:
    """The complete lines in parts of some megabytes: parsed, the lines take far more memory than as text."""
    begin = 0
    while (end := content.find(b"\n", begin + _PART_BYTES) + 1) > 0:
        yield content[begin:end]
        begin = end
    yield content[begin:]


def _complete_lines(content: bytes) -> list[bytes]:
    lines = content.split(b"\n")
    lines.pop()
    return lines


def _parse_at_once(lines: list[bytes]) -> list[dict[str, Any] | None] | None:
    """All lines parsed as one array, in a third of the time; None unless every line is an object.

    No line may have two objects.
    """
    try:
        values = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        return None
    whole = len(values) == len(lines) and all(type(value) is dict for value in values)
    return values if whole else None


def _parse_one(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def append(path: Path, values: Iterable[Mapping[str, Any]], *, within: Path | None = None) -> None:
    """Append one line for each value and flush them to the disk; a torn last line is removed first.

    A write that fails, as on a full disk, is undone. Raises FolderError where the file cannot be written, also where
    part of its path below `within` is a link.
    """
    append_lines(
        path, b"".join(record_checksums.sealed(jsontext.encode(value)) + b"\n" for value in values), within=within
    )


def append_lines(path: Path, content: bytes, *, within: Path | None = None) -> None:
    """Append whole lines of any text, in the same way as `append`."""
    with path_errors(path, "written"):
        is_new = not path.exists()
        descriptor = regular_files.open_descriptor(path, os.O_RDWR | os.O_CREAT, within=within)
        try:
            _append(descriptor, content)
        finally:
            os.close(descriptor)
        if is_new:
            flush_folder(path.parent)


def _append(descriptor: int, content: bytes) -> None:
    end = end_of_last_line(descriptor)
    os.ftruncate(descriptor, end)
    write_at(descriptor, content, end, durable=True)


def write_at(descriptor: int, content: bytes, end: int, *, durable: bool) -> None:
    """Write all of it at the `end` of an open file, with `durable` through to the disk; a write that fails is undone.

    Raises OSError.
    """
    try:
        written = 0
        while written < len(content):
            written += os.pwrite(descriptor, content[written:], end + written)
        if durable:
            os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, end)
        raise


def end_of_last_line(descriptor: int) -> int:
    """The offset in bytes after the last newline of an open file; 0 where there is none."""
    start = os.fstat(descriptor).st_size
    while start > 0:
        length = min(_BLOCK_BYTES, start)
        start -= length
        found = os.pread(descriptor, length, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
    return 0
