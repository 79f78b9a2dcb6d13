"""A file of JSON lines that a trial appends to and cuts back when it resumes from an earlier state."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tunectl.core import jsontext, record_checksums, regular_files
from tunectl.core.folders import TrialFolder


class LineFile:
    """An open file of JSON lines in a trial's folder; opening it cuts off what is after the first `offset` bytes."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        within = TrialFolder(path.parent).study
        self._file = os.fdopen(regular_files.open_descriptor(path, os.O_RDWR | os.O_CREAT, within=within), "r+b")
        self._file.truncate(offset)
        self._file.seek(offset)

    @property
    def offset(self) -> int:
        """The file's length in bytes."""
        return self._file.tell()

    def append(self, content: dict[str, Any]) -> None:
        """Append one line and pass it to the system: it survives the end of this process, but not a power cut."""
        self.extend([content])

    def extend(self, contents: Iterable[dict[str, Any]]) -> None:
        """Append several lines; see `append`."""
        self._file.writelines(
            record_checksums.sealed(jsontext.encode(content), errors="strict") + b"\n" for content in contents
        )
        self._file.flush()

    def beyond(self, offset: int) -> list[Any]:
        """The content of the lines after the first `offset` bytes, without their checksums."""
        end = self._file.tell()
        self._file.seek(offset)
        content = self._file.read()
        self._file.seek(end)
        lines = [json.loads(line) for line in content.splitlines()]
        for line in lines:
            if isinstance(line, dict):
                line.pop(record_checksums.SEAL, None)
        return lines

    def cut(self, offset: int) -> None:
        """Cut off what is after the first `offset` bytes."""
        self._file.truncate(offset)
        self._file.seek(offset)

    def sync(self) -> None:
        """Flush to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class UnwrittenLines(LineFile):
    """In place of a `LineFile` where another process writes the same lines: nothing is written, and it stays empty."""

    def __init__(self) -> None:
        pass

    @property
    def offset(self) -> int:
        """0."""
        return 0

    def extend(self, contents: Iterable[dict[str, Any]]) -> None:
        """Does nothing."""

    def beyond(self, offset: int) -> list[Any]:  # noqa: ARG002
        """No lines."""
        return []

    def cut(self, offset: int) -> None:
        """Does nothing."""

    def sync(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def opened_lines(path: Path, offset: int = 0, *, writes: bool = True) -> LineFile:
    """The file of lines at this path, cut to its first `offset` bytes; without `writes` one that is not written."""
    return LineFile(path, offset) if writes else UnwrittenLines()


def holds(path: Path, offset: int) -> bool:
    """Whether the file has at least `offset` bytes, and these end with a complete line."""
    try:
        with regular_files.opened(path) as file:
            if offset == 0:
                return True
            file.seek(offset - 1)
            return file.read(1) == b"\n"
    except OSError:
        return offset == 0
