"""JSON or Python objects in the lines that a program prints: beside a progress bar, or over several lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tunectl.core.printed_objects import object_at
from tunectl.core.progress_bars import is_bar

_MOST_CHARACTERS, _MOST_LINES = 16_384, 200  # of an object on several lines
_HEAD = re.compile(
    r"\W*(?:\d{4}[-/]\d\d|\d\d:\d\d:\d\d|[DIWEF]\d{4} "
    r"|(?:DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|SUCCESS|TRACE)\b)"
    r"[^{}]*[-:|\]>]\s*"
)
"""The head of a logger's message: a time or a level, up to a mark."""

_BEGINS = re.compile(r"\{\s*(?:[\"']|$)")

Found = tuple[dict[str, Any], bool]
"""An object, and whether it has a line of its own. After a logger's head it counts only if it has the step itself."""


class ObjectLines:
    """Finds the objects in successive lines."""

    def __init__(self) -> None:
        self._open = ""

    def read(self, line: str) -> Iterator[Found]:
        """The objects that end in this line. One that does not end goes on in the next lines."""
        if self._open:
            if not _begins_an_object(line):
                if not is_bar(line):
                    yield from self._continued(line)
                return
            yield from self.rest()
        if "{" in line:
            yield from self._in_line(line)

    def rest(self) -> Iterator[Found]:
        """The part that was read of an object that did not end."""
        text, self._open = self._open, ""
        if text and (content := object_at(text, 0)[0]):
            yield content, True

    def _continued(self, line: str) -> Iterator[Found]:
        self._open += "\n" + line
        # An object can only end with a bracket.
        content, end = object_at(self._open, 0) if "}" in line else ({}, None)
        if end is not None:
            self._open = ""
            yield content, True
        elif len(self._open) > _MOST_CHARACTERS or self._open.count("\n") > _MOST_LINES:
            yield from self.rest()

    def _in_line(self, line: str) -> Iterator[Found]:
        begin, at = 0, line.find("{")
        found: list[Found] = []
        while at >= 0:
            before = line[begin:at]
            is_plain = not before.strip(" \t[,") or (is_bar(before) and before.count("[") <= before.count("]"))
            if not is_plain and not _HEAD.fullmatch(before) and not is_bar(before):
                return
            content, end = object_at(line, at)
            if end is None:
                # The objects before it on the line count in any case.
                yield from found
                self._open = line[at:] if is_plain and _BEGINS.match(line, at) else ""
                return
            if is_plain or _HEAD.fullmatch(before):
                found.append((content, is_plain))
                begin = end
            at = line.find("{", end)
        rest = line[begin:]
        if not rest.strip(" \t,;]") or is_bar(rest):
            yield from found


def _begins_an_object(line: str) -> bool:
    """Whether a line begins a new object: only a progress bar or a logger's head may be before it."""
    at = line.find("{")
    if at < 0 or not _BEGINS.match(line, at):
        return False
    before = line[:at]
    return at == 0 or is_bar(before) or _HEAD.fullmatch(before) is not None
