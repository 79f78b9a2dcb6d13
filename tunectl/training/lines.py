"""A file of JSON lines that a trial appends to and, when it goes on from an earlier state, cuts back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tunectl.core import jsontext


class LineFile:
    """An open file of JSON lines; what stands beyond `offset` bytes is cut off when it is opened."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115  (closed by close)
        self._file.truncate(offset)
        self._file.seek(offset)

    @property
    def offset(self) -> int:
        """The file's length in bytes."""
        return self._file.tell()

    def append(self, content: dict[str, Any]) -> None:
        """Append one line and hand it to the operating system: it outlives this process, though not a power cut."""
        self.extend([content])

    def extend(self, contents: Iterable[dict[str, Any]]) -> None:
        """Append several lines as `append` does one."""
        self._file.writelines(jsontext.encode(content).encode() + b"\n" for content in contents)
        self._file.flush()

    def beyond(self, offset: int) -> list[Any]:
        """The content of the lines that stand beyond `offset` bytes."""
        end = self._file.tell()
        self._file.seek(offset)
        content = self._file.read()
        self._file.seek(end)
        return [json.loads(line) for line in content.splitlines()]

    def cut(self, offset: int) -> None:
        """Cut off what stands beyond `offset` bytes."""
        self._file.truncate(offset)
        self._file.seek(offset)

    def sync(self) -> None:
        """Flush to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def holds(path: Path, offset: int) -> bool:
    """Whether the file's first `offset` bytes are there and end with a whole line."""
    try:
        with open(path, "rb") as file:
            if offset == 0:
                return True
            file.seek(offset - 1)
            return file.read(1) == b"\n"
    except OSError:
        return offset == 0
