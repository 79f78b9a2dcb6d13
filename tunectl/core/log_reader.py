"""What is appended to a file, as lines of text, whatever a program may print."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

from tunectl.core import regular_files
from tunectl.core.real_folders import NotRegularError

_CHUNK_BYTES = 2**18
_LONGEST_LINE = 65_536  # bytes; what is beyond is no metric, and a program may print for ever without an end of line
_ENDS = re.compile(r"[\r\n]+")
# ECMA-48: control sequences (colours, cursor), and strings that end with BEL or ESC \ (titles, links).
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")


def plain(text: str) -> str:
    """The text without the escape sequences of a terminal."""
    return _ESCAPES.sub("", text) if "\x1b" in text else text


class Tail:
    """The lines that are appended to a file from `offset` on; a progress bar's carriage return ends a line too.

    Bytes that are no UTF-8 are replaced. A file that is cut short, or written anew, is read from its beginning again.
    What is beyond `end` bytes is not read. A link is read where it `follows`: a program may make one for its own files.
    """

    def __init__(self, path: Path, offset: int = 0, end: int | None = None, *, follows: bool = False) -> None:
        self.path = path
        self._follows = follows
        self._offset = offset
        self._end = end
        self._torn = b""
        self._inode: int | None = None

    @property
    def offset(self) -> int:
        """How many bytes have been read."""
        return self._offset

    def read(self, *, to_the_end: bool = False) -> list[str]:
        """The lines that have been completed since the last call, some thousands at a time and [] when there are no
        more; with `to_the_end` the last one too, although its end is missing.
        """
        while True:
            content = self._content()
            if not content and not (to_the_end and self._torn):
                return []
            is_last = to_the_end and not content
            content = self._torn + content
            end = len(content) if is_last else max(content.rfind(b"\n"), content.rfind(b"\r")) + 1
            if end == 0 and len(content) > _LONGEST_LINE:
                end = len(content)
            self._torn = content[end:]
            text = content[:end].decode("utf-8", "replace").removeprefix("\ufeff")
            lines = [line for line in _ENDS.split(plain(text)) if line]
            if lines:
                return lines

    def forget_torn(self) -> None:
        """Leave out what was read of a line without an end: what is appended from now on begins a line."""
        self._torn = b""

    def _content(self) -> bytes:
        try:
            with regular_files.opened(self.path, follows=self._follows) as file:
                status = file_status(file.fileno())
                if status[0] < self._offset or (self._inode is not None and status[1] != self._inode):
                    self._offset, self._torn = 0, b""
                self._inode = status[1]
                file.seek(self._offset)
                left = _CHUNK_BYTES if self._end is None else max(0, self._end - self._offset)
                content = file.read(min(_CHUNK_BYTES, left))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, NotRegularError):
            return b""
        self._offset += len(content)
        return content


def file_status(descriptor: int) -> tuple[int, int]:
    """Size in bytes and inode of an open file."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_ino


def log_bytes(path: Path) -> int:
    """How long a log is, 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def lines_in(text: str) -> list[str]:
    """The lines of a text that are not blank, without what is for a terminal."""
    return [line for line in _ENDS.split(plain(text)) if line.strip()]


def last_lines(path: Path, offset: int, count: int) -> list[str]:
    """The last lines that a file holds behind `offset` bytes, at most `count`, as text."""
    try:
        with regular_files.opened(path) as file:
            size = file.seek(0, 2)
            file.seek(max(offset, size - _LONGEST_LINE))
            content = file.read()
    except OSError:
        return []
    return lines_in(content.decode("utf-8", "replace"))[-count:]


def seek_last_lines(log: BinaryIO, lines: int) -> None:
    """Move to the beginning of the last `lines` lines, reading back from the end no further than needed."""
    position = end = log.seek(0, os.SEEK_END)
    if lines == 0:
        return
    while position > 0:
        start = max(position - _LONGEST_LINE, 0)
        log.seek(start)
        block = log.read(position - start)
        found = len(block)
        while (found := block.rfind(b"\n", 0, found)) >= 0:
            if start + found == end - 1:
                continue  # the last line's own
            lines -= 1
            if lines == 0:
                log.seek(start + found + 1)
                return
        position = start
    log.seek(0)
