"""The files that a program tells its metrics in: JSON lines, CSV, TensorBoard's event files."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tunectl.core import regular_files
from tunectl.core.errors import WorkloadError
from tunectl.core.installation import install_command
from tunectl.core.log_reader import Tail, log_bytes
from tunectl.core.own_code_request import MetricSource
from tunectl.programs.object_lines import ObjectLines
from tunectl.programs.output_reader import Steps, Told, flat

_DELIMITERS = (",", ";", "\t")
_END_BYTES = 256  # of a file, by which it is known again: two tables may be of one length


class Source(Protocol):
    """A file that a program writes metrics to."""

    @property
    def heard(self) -> bool:
        """Whether it has told anything."""
        ...

    @property
    def unread(self) -> Mapping[str, str]:
        """See Steps."""
        ...

    def read(self, *, to_the_end: bool) -> Iterable[Told]:
        """What has come since the last call."""
        ...

    def go_on_from(self, step: int) -> None:
        """Count what is counted from a step on."""
        ...

    def forget_incomplete(self) -> None:
        """Leave out what was read of a last line without an end: another attempt appends behind it."""
        ...


class _CountedTogether:
    """A source whose files, where steps are counted, are counted as one."""

    __slots__ = ()
    _steps: Steps

    @property
    def heard(self) -> bool:
        """See Source."""
        return self._steps.heard

    @property
    def unread(self) -> Mapping[str, str]:
        """See Source."""
        return self._steps.unread

    def go_on_from(self, step: int) -> None:
        """See Source."""
        self._steps.begin_anew(step)


@dataclass(slots=True)
class JsonLinesFile(_CountedTogether):
    """A file of JSON lines, found by a path that may hold `*`."""

    pattern: str
    source: MetricSource
    _tails: dict[str, tuple[Tail, ObjectLines]]
    _steps: Steps

    @classmethod
    def at(cls, pattern: str, source: MetricSource, wanted: str = "") -> JsonLinesFile:
        """The file at a path without placeholders."""
        return cls(pattern, source, {}, Steps(source, wanted=wanted))

    @property
    def has_more(self) -> bool:
        """Whether something was appended since the last call of `read`."""
        read = {path: tail.offset for path, (tail, _) in self._tails.items()}
        return any(log_bytes(Path(path)) > read.get(path, 0) for path in matching(self.pattern))

    def read(self, *, to_the_end: bool) -> Iterator[Told]:
        """See Source."""
        for path in matching(self.pattern):
            tail, objects = self._tails.setdefault(path, (Tail(Path(path), follows=True), ObjectLines()))
            while lines := tail.read(to_the_end=to_the_end):
                for line in lines:
                    yield from self._told(objects.read(line))
            if to_the_end:
                yield from self._told(objects.rest())

    def forget_incomplete(self) -> None:
        """See Source."""
        for path, (tail, _) in self._tails.items():
            tail.forget_incomplete()
            self._tails[path] = (tail, ObjectLines())

    def _told(self, objects: Iterator[tuple[dict[str, Any], bool]]) -> Iterator[Told]:
        for content, _ in objects:
            found = self._steps.told_by(flat(content))
            if found is not None:
                yield found


@dataclass(slots=True)
class CsvFile:
    """CSV files with a head line, found by a path that may hold `*`.

    A writer may append rows, or write the whole file anew when a column is added (Lightning's CSVLogger): then all rows
    are told again, which changes nothing.
    """

    pattern: str
    source: MetricSource
    wanted: str = ""
    _seen: dict[str, _Rows] = field(default_factory=dict)
    _resumed: int = 0

    @classmethod
    def at(cls, pattern: str, source: MetricSource, wanted: str = "") -> CsvFile:
        """The file at a path without placeholders."""
        return cls(pattern, source, wanted)

    @property
    def heard(self) -> bool:
        """See Source."""
        return any(rows.steps.heard for rows in self._seen.values())

    @property
    def unread(self) -> Mapping[str, str]:
        """See Source."""
        return {metric: why for rows in reversed(self._seen.values()) for metric, why in rows.steps.unread.items()}

    def go_on_from(self, step: int) -> None:
        """See Source."""
        self._resumed = step
        for rows in self._seen.values():
            rows.go_on_from(step)

    def forget_incomplete(self) -> None:
        """See Source."""
        for rows in self._seen.values():
            rows.tail.forget_incomplete()

    def read(self, *, to_the_end: bool) -> Iterator[Told]:
        """See Source."""
        for path in matching(self.pattern):
            rows = self._seen.get(path)
            if rows is None:
                steps = Steps(self.source, self._resumed, wanted=self.wanted, has_rows=True)
                rows = _Rows(Tail(Path(path), follows=True), steps, resumed=self._resumed)
                self._seen[path] = rows
            for row in rows.read(to_the_end=to_the_end):
                found = rows.steps.told_by(row)
                if found is not None:
                    yield found


@dataclass(slots=True)
class _Rows:
    tail: Tail
    steps: Steps
    head: list[str] | None = None
    first: str = ""
    size: int = 0
    end: bytes = b""
    inode: int | None = None
    delimiter: str = ","
    resumed: int = 0
    first_row: bytes = b""

    def go_on_from(self, step: int) -> None:
        """Count from a step on, also where a file of later rows alone takes the place of this one."""
        self.resumed, self.first_row = step, self._first_row()
        self.steps.begin_anew(step)

    def read(self, *, to_the_end: bool) -> Iterator[dict[str, str]]:
        if self._begins_anew():
            self.tail, self.head = Tail(self.tail.path, follows=True), None
            self.steps.begin_anew(0 if self._holds_the_past() else self.resumed)
        while lines := self.tail.read(to_the_end=to_the_end):
            for line in lines:
                fields = self._fields(line)
                if self.head is None:
                    self.head = [name.strip() for name in fields]
                elif _is_divided(fields, len(self.head)):
                    self.steps.note_unread("a row", line, "has more fields than the head line")
                else:
                    yield dict(zip(self.head, fields, strict=False))

    def _fields(self, line: str) -> list[str]:
        if self.head is None:
            counts = {mark: line.count(mark) for mark in _DELIMITERS}
            self.delimiter = max(counts, key=lambda mark: counts[mark])
        try:
            return next(csv.reader([line], delimiter=self.delimiter), [])
        except csv.Error:
            return []  # a row that is none: the others count

    def _holds_the_past(self) -> bool:
        """Whether a file that was written anew has the rows from before the program went on, too."""
        return self.resumed == 0 or self._first_row() == self.first_row

    def _first_row(self) -> bytes:
        try:
            with regular_files.opened(self.tail.path, follows=True) as file:
                file.readline(65_536)
                return file.readline(65_536)
        except OSError:
            return b""

    def _begins_anew(self) -> bool:
        """Whether the file is another one, has become shorter, or no longer holds the head line or the end it had."""
        try:
            with regular_files.opened(self.tail.path, follows=True) as file:
                first, size, inode = file.readline(65_536), file.seek(0, 2), os.fstat(file.fileno()).st_ino
                file.seek(self.size - len(self.end))
                same_end = file.read(len(self.end)) == self.end
                file.seek(max(0, size - _END_BYTES))
                end = file.read(size - file.tell())
        except OSError:
            return False
        text = first.decode("utf-8", "replace")
        anew = (bool(self.first) and text != self.first) or not same_end or self.inode not in (None, inode)
        self.first, self.size, self.inode, self.end = text if text.endswith("\n") else self.first, size, inode, end
        return anew


def _is_divided(fields: list[str], columns: int) -> bool:
    """Whether there are more fields than columns, and commas may be the decimal marks of what no full stop is in."""
    return any(fields[columns:]) and not any("." in text for text in fields)


class EventFiles(_CountedTogether):
    """TensorBoard's event files below a folder: every scalar, by its tag. Needs the package tensorboard."""

    def __init__(self, pattern: str, source: MetricSource) -> None:
        self._pattern, self._source, self._steps = pattern, source, Steps(source)
        self._loaders: dict[str, Any] = {}
        self._load = _event_loader()

    def read(self, *, to_the_end: bool) -> Iterator[Told]:  # noqa: ARG002  (an event is written whole)
        """See Source."""
        for folder in matching(self._pattern):
            for path in sorted(path for path in Path(folder).rglob("*tfevents*") if path.is_file()):
                loader = self._loaders.setdefault(str(path), self._load(str(path)))
                for event in loader.Load():
                    for value in event.summary.value:
                        scalar = _scalar(value)
                        if scalar is not None:
                            tag = _whole_tag(value.tag, Path(path).parent.name)
                            name = self._source.names.get(tag, tag)
                            yield self._steps.of(Told(int(event.step), {name: scalar}))

    def forget_incomplete(self) -> None:
        """See Source; an event that is not whole is not read."""


def _whole_tag(tag: str, folder: str) -> str:
    """The tag with what `add_scalars(tag, {"train": …})` keeps in the name of a folder (torch, TensorBoard's own)."""
    begins = tag.replace("/", "_") + "_"
    return f"{tag}/{folder[len(begins) :]}" if folder.startswith(begins) and len(folder) > len(begins) else tag


def _event_loader() -> Any:
    try:
        from tensorboard.backend.event_processing import event_file_loader
    except ImportError as error:
        raise WorkloadError(
            f"metrics from TensorBoard's files need the package tensorboard ({error}): {install_command('tensorboard')}"
        ) from error
    return event_file_loader.LegacyEventFileLoader


def _scalar(value: Any) -> float | None:
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return float(value.simple_value)
    if kind != "tensor" or value.tensor.tensor_shape.dim:
        return None
    for numbers in (value.tensor.float_val, value.tensor.double_val, value.tensor.int64_val, value.tensor.int_val):
        if len(numbers) == 1:
            return float(numbers[0])
    return None


def matching(pattern: str) -> list[str]:
    """The paths that a pattern with `*`, `?` and `**` names; a path without them names itself."""
    if not glob.has_magic(pattern):
        return [pattern]
    return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  (the pattern may be absolute)


def file_source(source: MetricSource, where: str, wanted: str = "") -> Source:
    """The reader of a source that is a file; `where` is its path, with its placeholders filled, `wanted` as for Steps.

    Raises WorkloadError where a package that it needs is missing.
    """
    match source.kind:
        case "json_lines":
            return JsonLinesFile.at(where, source, wanted)
        case "csv":
            return CsvFile.at(where, source, wanted)
        case "tensorboard":
            return EventFiles(where, source)
        case "regex":
            raise ValueError("a regular expression reads the output, not a file")
