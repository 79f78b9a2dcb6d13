"""events.jsonl: what happened in the runs of a study, one JSON object a line, numbered; for programs that follow it."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from tunectl.core import jsontext, record_checksums, regular_files
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_error
from tunectl.store.json_lines import end_of_last_line, parse, write_at

FORMAT = 1
"""The version of the lines. Another number means that a line has another meaning; new keys do not change it."""


_BLOCK_BYTES = 65_536


class EventFile:
    """The file, open to append to; only the runner of the folder has it open. A torn last line is removed first.

    `last` is the number of the last event and `last_event` its name, 0 and "" where there is none. The lines are passed
    to the system and not flushed to the disk: they are a report of what is in other files.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._descriptor = regular_files.open_descriptor(folder.events, os.O_RDWR | os.O_CREAT, within=folder.path)
        self._end = end_of_last_line(self._descriptor)
        os.ftruncate(self._descriptor, self._end)
        last = self._last_line()
        self.last, self.last_event = last.get("number", 0), last.get("event", "")

    def _last_line(self) -> dict[str, Any]:
        """The last event in the file, {} where there is none."""
        start = max(0, self._end - _BLOCK_BYTES)
        while True:
            lines = parse(os.pread(self._descriptor, self._end - start, start))
            # The first line is cut where the block does not begin with the file.
            events = [line for line in lines[1 if start else 0 :] if line is not None and _is_event(line)]
            if events or start == 0:
                return max(events, key=operator.itemgetter("number"), default={})
            start = max(0, start - _BLOCK_BYTES)

    def append(self, time: str, event: str, content: dict[str, Any]) -> dict[str, Any]:
        """Append an event with the next number, and return it; raises OSError where it cannot be written."""
        line = {"format": FORMAT, "number": self.last + 1, "time": time, "event": event, **content}
        text = record_checksums.sealed(jsontext.encode(line)) + b"\n"
        write_at(self._descriptor, text, self._end, durable=False)
        self._end += len(text)
        self.last, self.last_event = self.last + 1, event
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def events_since(folder: StudyFolder, number: int) -> Iterator[dict[str, Any]]:
    """The events after this number in their order; damaged lines and a torn last one are passed over.

    Raises FolderError where the file cannot be read.
    """
    try:
        content = regular_files.content(folder.events)
    except FileNotFoundError:
        return
    except OSError as error:
        raise path_error(folder.events, "read", error) from error
    for line in parse(content):
        if line is not None and _is_event(line) and line["number"] > number:
            yield line


def _is_event(line: dict[str, Any]) -> bool:
    return type(line.get("number")) is int
