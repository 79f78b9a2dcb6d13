"""Reading the lines of a trial's log, or of another file that a program appends to, also while it is written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

from tunectl.core import regular_files
from tunectl.core.real_folders import NotRegularError

_CHUNK_BYTES = 2**18
_LONGEST_LINE = 65_536  # bytes; a longer one has no metric, and a program may never print a line break
_ENDS = re.compile(r"[\r\n]+")
# ECMA-48: control sequences (colours, cursor), and strings that end with BEL or ESC \ (titles, links).
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")


def plain(text: str) -> str:
    """The text without a terminal's escape sequences."""
    return _ESCAPES.sub("", text) if "\x1b" in text else text


class Tail:
    """The lines that are appended to a file after the first `offset` bytes; a carriage return also ends a line.

    Bytes that are not UTF-8 are replaced. A file that becomes shorter, or is replaced by another, is read again from
    the beginning. Nothing after the first `end` bytes is read. With `follows` the path may be a link, as a program may
    create for its own files.
    """

    def __init__(self, path: Path, offset: int = 0, end: int | None = None, *, follows: bool = False) -> None:
        self.path = path
        self._follows = follows
        self._offset = offset
        self._end = end
        self._incomplete = b""
        self._inode: int | None = None

    @property
    def offset(self) -> int:
        """How many bytes have been read."""
        return self._offset

    def read(self, *, to_the_end: bool = False) -> list[str]:
        """The lines that were completed since the last call, a few thousand at a time, [] if there are no more.

        With `to_the_end` the last line is included, even if it is not complete.
        """
        while True:
            content = self._content()
            if not content and not (to_the_end and self._incomplete):
                return []
            is_last = to_the_end and not content
            content = self._incomplete + content
            end = len(content) if is_last else max(content.rfind(b"\n"), content.rfind(b"\r")) + 1
            if end == 0 and len(content) > _LONGEST_LINE:
                end = len(content)
            self._incomplete = content[end:]
            text = content[:end].decode("utf-8", "replace").removeprefix("\ufeff")
            lines = [line for line in _ENDS.split(plain(text)) if line]
            if lines:
                return lines

    def forget_incomplete(self) -> None:
        """Leave out the last line if it is not complete: what is appended from now on begins a new line."""
        self._incomplete = b""

    def _content(self) -> bytes:
        try:
            with regular_files.opened(self.path, follows=self._follows) as file:
                status = file_status(file.fileno())
                if status[0] < self._offset or (self._inode is not None and status[1] != self._inode):
                    self._offset, self._incomplete = 0, b""
                self._inode = status[1]
                file.seek(self._offset)
                left = _CHUNK_BYTES if self._end is None else max(0, self._end - self._offset)
                content = file.read(min(_CHUNK_BYTES, left))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, NotRegularError):
            return b""
        self._offset += len(content)
        return content


def file_status(descriptor: int) -> tuple[int, int]:
    """The size in bytes and the inode of an open file."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_ino


def log_bytes(path: Path) -> int:
    """The length of a log in bytes, 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def lines_in(text: str) -> list[str]:
    """The lines of a text that are not blank, without a terminal's escape sequences."""
    return [line for line in _ENDS.split(plain(text)) if line.strip()]


def last_lines(path: Path, offset: int, count: int) -> list[str]:
    """The last lines of a file after its first `offset` bytes, at most `count`."""
    try:
        with regular_files.opened(path) as file:
            size = file.seek(0, 2)
            file.seek(max(offset, size - _LONGEST_LINE))
            content = file.read()
    except OSError:
        return []
    return lines_in(content.decode("utf-8", "replace"))[-count:]


def seek_last_lines(log: BinaryIO, lines: int) -> None:
    """Move to the beginning of the last `lines` lines, reading no more of the file than necessary."""
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
                continue  # this ends the last line
            lines -= 1
            if lines == 0:
                log.seek(start + found + 1)
                return
        position = start
    log.seek(0)
