"""The files in which a program writes its metrics: JSON lines, CSV, TensorBoard's event files."""

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
from tunectl.programs.output_reader import StepMetrics, ValueReader, flat

_DELIMITERS = (",", ";", "\t")
_END_BYTES = 256  # by which a file is recognised, since two tables may have the same length


class Source(Protocol):
    """A file that a program writes metrics to."""

    @property
    def has_found(self) -> bool:
        """Whether it had any metrics."""
        ...

    @property
    def unread(self) -> Mapping[str, str]:
        """See ValueReader."""
        ...

    def read(self, *, to_the_end: bool) -> Iterable[StepMetrics]:
        """The metrics that were written since the last call."""
        ...

    def go_on_from(self, step: int) -> None:
        """Count from a step on, if steps are counted."""
        ...

    def forget_incomplete(self) -> None:
        """Leave out the last line if it is not complete: another attempt appends to it."""
        ...


class _CountedTogether:
    """A source that counts the steps of all its files together."""

    __slots__ = ()
    _steps: ValueReader

    @property
    def has_found(self) -> bool:
        """See Source."""
        return self._steps.has_found

    @property
    def unread(self) -> Mapping[str, str]:
        """See Source."""
        return self._steps.unread

    def go_on_from(self, step: int) -> None:
        """See Source."""
        self._steps.restart(step)


@dataclass(slots=True)
class JsonLinesFile(_CountedTogether):
    """Files of JSON lines, found by a path that may have `*`."""

    pattern: str
    source: MetricSource
    _tails: dict[str, tuple[Tail, ObjectLines]]
    _steps: ValueReader

    @classmethod
    def at(cls, pattern: str, source: MetricSource, wanted: str = "") -> JsonLinesFile:
        """The file at a path without placeholders."""
        return cls(pattern, source, {}, ValueReader(source, wanted=wanted))

    @property
    def has_more(self) -> bool:
        """Whether something was appended since the last call of `read`."""
        read = {path: tail.offset for path, (tail, _) in self._tails.items()}
        return any(log_bytes(Path(path)) > read.get(path, 0) for path in matching(self.pattern))

    def read(self, *, to_the_end: bool) -> Iterator[StepMetrics]:
        """See Source."""
        for path in matching(self.pattern):
            tail, objects = self._tails.setdefault(path, (Tail(Path(path), follows=True), ObjectLines()))
            while lines := tail.read(to_the_end=to_the_end):
                for line in lines:
                    yield from self._read(objects.read(line))
            if to_the_end:
                yield from self._read(objects.rest())

    def forget_incomplete(self) -> None:
        """See Source."""
        for path, (tail, _) in self._tails.items():
            tail.forget_incomplete()
            self._tails[path] = (tail, ObjectLines())

    def _read(self, objects: Iterator[tuple[dict[str, Any], bool]]) -> Iterator[StepMetrics]:
        for content, _ in objects:
            found = self._steps.read_values(flat(content))
            if found is not None:
                yield found


@dataclass(slots=True)
class CsvFile:
    """CSV files with a header, found by a path that may have `*`.

    A writer may append rows, or write the whole file again when a column is added (Lightning's CSVLogger). Then all
    rows are read again, which changes nothing.
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
    def has_found(self) -> bool:
        """See Source."""
        return any(rows.steps.has_found for rows in self._seen.values())

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

    def read(self, *, to_the_end: bool) -> Iterator[StepMetrics]:
        """See Source."""
        for path in matching(self.pattern):
            rows = self._seen.get(path)
            if rows is None:
                steps = ValueReader(self.source, self._resumed, wanted=self.wanted, has_rows=True)
                rows = _Rows(Tail(Path(path), follows=True), steps, resumed=self._resumed)
                self._seen[path] = rows
            for row in rows.read(to_the_end=to_the_end):
                found = rows.steps.read_values(row)
                if found is not None:
                    yield found


@dataclass(slots=True)
class _Rows:
    tail: Tail
    steps: ValueReader
    head: list[str] | None = None
    first: str = ""
    size: int = 0
    end: bytes = b""
    inode: int | None = None
    delimiter: str = ","
    resumed: int = 0
    first_row: bytes = b""

    def go_on_from(self, step: int) -> None:
        """Count from a step on, also if this file is replaced by one with only the later rows."""
        self.resumed, self.first_row = step, self._first_row()
        self.steps.restart(step)

    def read(self, *, to_the_end: bool) -> Iterator[dict[str, str]]:
        if self._is_replaced():
            self.tail, self.head = Tail(self.tail.path, follows=True), None
            # A file that was written again may also have the rows from before the program resumed.
            has_all_rows = self.resumed == 0 or self._first_row() == self.first_row
            self.steps.restart(0 if has_all_rows else self.resumed)
        while lines := self.tail.read(to_the_end=to_the_end):
            for line in lines:
                fields = self._fields(line)
                if self.head is None:
                    self.head = [name.strip() for name in fields]
                elif _may_be_decimal_commas(fields, len(self.head)):
                    self.steps.note_unread("a row", line, "has more fields than the header")
                else:
                    yield dict(zip(self.head, fields, strict=False))

    def _fields(self, line: str) -> list[str]:
        if self.head is None:
            counts = {mark: line.count(mark) for mark in _DELIMITERS}
            self.delimiter = max(counts, key=lambda mark: counts[mark])
        try:
            return next(csv.reader([line], delimiter=self.delimiter), [])
        except csv.Error:
            return []  # not a row: the others count

    def _first_row(self) -> bytes:
        try:
            with regular_files.opened(self.tail.path, follows=True) as file:
                file.readline(65_536)
                return file.readline(65_536)
        except OSError:
            return b""

    def _is_replaced(self) -> bool:
        """Whether the file was replaced: it is another one, or shorter, or its header or its former end has changed."""
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


def _may_be_decimal_commas(fields: list[str], columns: int) -> bool:
    """Whether there are more fields than columns, so that commas may be decimal points (none is a full stop)."""
    return any(fields[columns:]) and not any("." in text for text in fields)


class EventFiles(_CountedTogether):
    """The scalars in TensorBoard's event files below a folder, by their tags. Needs the package tensorboard."""

    def __init__(self, pattern: str, source: MetricSource) -> None:
        self._pattern, self._source, self._steps = pattern, source, ValueReader(source)
        self._loaders: dict[str, Any] = {}
        self._load = _event_loader()

    def read(self, *, to_the_end: bool) -> Iterator[StepMetrics]:  # noqa: ARG002  (events are never incomplete)
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
                            yield self._steps.with_step(StepMetrics(int(event.step), {name: scalar}))

    def forget_incomplete(self) -> None:
        """See Source; incomplete events are not read at all."""


def _whole_tag(tag: str, folder: str) -> str:
    """The tag with the part that `add_scalars(tag, {"train": …})` puts into the name of the folder."""
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
    """The paths that match a pattern with `*`, `?` and `**`; a path without them matches itself."""
    if not glob.has_magic(pattern):
        return [pattern]
    return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  (the pattern may be absolute)


def file_source(source: MetricSource, where: str, wanted: str = "") -> Source:
    """The reader of a source that is a file; `where` is its path with filled placeholders, `wanted` as in ValueReader.

    Raises WorkloadError if a package that it needs is missing.
    """
    match source.source_kind:
        case "json_lines":
            return JsonLinesFile.at(where, source, wanted)
        case "csv":
            return CsvFile.at(where, source, wanted)
        case "tensorboard":
            return EventFiles(where, source)
        case "regex":
            raise ValueError("a regular expression reads the output, not a file")
