"""Where a program tells its metrics: its output, JSON lines, CSV files, TensorBoard's event files."""

from __future__ import annotations

import csv
import glob
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tunectl.core.errors import WorkloadError
from tunectl.core.programs import OUTPUT, MetricSource
from tunectl.training.own_code.lines import Tail

_LARGEST_STEP = 2**53
_DELIMITERS = (",", ";", "\t")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?|[+-]?\d{1,3}(?:_\d{3})+(?:\.\d*)?")


class Told(NamedTuple):
    """What was read at one place: metrics, and the step they belong to, None where the place does not say."""

    step: int | None
    metrics: Mapping[str, float]


class Steps:
    """The steps to which what one source tells belongs; `heard` says whether it has told anything."""

    def __init__(self, source: MetricSource) -> None:
        self._source, self._times, self.heard = source, 0, False

    def begin_anew(self, step: int = 0) -> None:
        """Count from the first again, or from what follows a step."""
        self._times = step // (self._source.every or 1)

    def of(self, told: Told) -> Told:
        """The same, with the step that the study means."""
        self.heard = True
        if self._source.every is not None:
            self._times += 1
            return Told(self._times * self._source.every, told.metrics)
        return told if told.step is None else Told(max(0, told.step + self._source.offset), told.metrics)


class Source(Protocol):
    """A file that a program writes metrics to."""

    @property
    def heard(self) -> bool:
        """Whether it has told anything."""
        ...

    def read(self, *, to_the_end: bool) -> Iterable[Told]:
        """What has come since the last call."""
        ...

    def go_on_from(self, step: int) -> None:
        """Count what is counted from a step on."""
        ...


class OutputReader:
    """Reads the metrics among a program's lines: by regular expressions, and JSON objects."""

    def __init__(self, sources: Sequence[MetricSource]) -> None:
        self._patterns = [(re.compile(item.where), item, Steps(item)) for item in sources if item.kind == "regex"]
        self._json = [(item, Steps(item)) for item in sources if item.kind == "json_lines" and item.where == OUTPUT]

    @property
    def reads(self) -> bool:
        """Whether anything is looked for in the output."""
        return bool(self._patterns or self._json)

    def go_on_from(self, step: int) -> None:
        """Count what is counted from a step on; what an earlier attempt printed is not read again."""
        for steps in (*(item[2] for item in self._patterns), *(item[1] for item in self._json)):
            steps.begin_anew(step)
            steps.heard = True

    def unheard(self) -> list[MetricSource]:
        """The sources among the lines that are JSON which have told nothing."""
        return [source for source, steps in self._json if not steps.heard]

    def told(self, line: str) -> Iterator[Told]:
        """What a line tells, once for every source that finds something in it."""
        for pattern, source, steps in self._patterns:
            for match in pattern.finditer(line):
                found = told_by(match.groupdict(), source)
                if found is not None:
                    yield steps.of(found)
        if self._json and line.lstrip().startswith("{"):
            content = _object(line.strip())
            for source, steps in self._json:
                found = None if content is None else told_by(_flat(content), source)
                if found is not None:
                    yield steps.of(found)


def told_by(values: Mapping[str, Any], source: MetricSource) -> Told | None:
    """What named values tell: those that are numbers are metrics, but the step; None where none is."""
    metrics = {}
    for name, value in values.items():
        if name == source.step:
            continue
        read = number(value)
        if read is not None:
            metrics[source.metric(name)] = read
    written = values.get(source.step)
    step = whole_number(written)
    if step is None and written not in (None, ""):
        return None  # a step that cannot be read is not the one before it
    return Told(step, metrics) if metrics else None


def number(value: Any) -> float | None:
    """A number as programs print it: with a comma, a full stop or a percent sign behind it; None where it is none."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if not isinstance(value, str):
        return None
    text = value.strip().rstrip(".,;:%)]}")
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "").replace("_", "")
    try:
        # Not other underscores, which Python takes and no program means.
        return None if "_" in text else float(text)
    except ValueError:
        return None


def whole_number(value: Any) -> int | None:
    """A step; None where it is no whole number from 0 on."""
    read = number(value)
    if read is None or not read.is_integer() or not 0 <= read <= _LARGEST_STEP:
        return None
    return int(read)


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)  # reads NaN too, which JSON does not know and Python writes
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as one, their names joined by `/`."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}/")
        else:
            found[prefix + name] = value
    return found


@dataclass(slots=True)
class JsonLinesFile:
    """A file of JSON lines, found by a path that may hold `*`."""

    pattern: str
    source: MetricSource
    _tails: dict[str, Tail]
    _steps: Steps

    @classmethod
    def at(cls, pattern: str, source: MetricSource) -> JsonLinesFile:
        """The file at a path without placeholders."""
        return cls(pattern, source, {}, Steps(source))

    @property
    def heard(self) -> bool:
        """See Source."""
        return self._steps.heard

    def go_on_from(self, step: int) -> None:
        """See Source."""
        self._steps.begin_anew(step)

    def read(self, *, to_the_end: bool) -> Iterator[Told]:
        """See Source."""
        for path in matching(self.pattern):
            tail = self._tails.setdefault(path, Tail(Path(path)))
            while lines := tail.read(to_the_end=to_the_end):
                for line in lines:
                    content = _object(line)
                    found = None if content is None else told_by(_flat(content), self.source)
                    if found is not None:
                        yield self._steps.of(found)


@dataclass(slots=True)
class CsvFile:
    """CSV files with a head line, found by a path that may hold `*`.

    A writer may append rows, or write the whole file anew when a column is added (Lightning's CSVLogger): then all rows
    are told again, which changes nothing.
    """

    pattern: str
    source: MetricSource
    _seen: dict[str, _Rows]

    @classmethod
    def at(cls, pattern: str, source: MetricSource) -> CsvFile:
        """The file at a path without placeholders."""
        return cls(pattern, source, {})

    @property
    def heard(self) -> bool:
        """See Source."""
        return any(rows.steps.heard for rows in self._seen.values())

    def go_on_from(self, step: int) -> None:
        """See Source."""
        for rows in self._seen.values():
            rows.steps.begin_anew(step)

    def read(self, *, to_the_end: bool) -> Iterator[Told]:
        """See Source."""
        for path in matching(self.pattern):
            rows = self._seen.setdefault(path, _Rows(Tail(Path(path)), Steps(self.source)))
            for row in rows.read(to_the_end=to_the_end):
                found = told_by(row, self.source)
                if found is not None:
                    yield rows.steps.of(found)


@dataclass(slots=True)
class _Rows:
    tail: Tail
    steps: Steps
    head: list[str] | None = None
    first: str = ""
    size: int = 0
    inode: int | None = None
    delimiter: str = ","

    def read(self, *, to_the_end: bool) -> Iterator[dict[str, str]]:
        if self._begins_anew():
            self.tail, self.head = Tail(self.tail.path), None
            self.steps.begin_anew()
        while lines := self.tail.read(to_the_end=to_the_end):
            for line in lines:
                fields = self._fields(line)
                if self.head is None:
                    self.head = [name.strip() for name in fields]
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

    def _begins_anew(self) -> bool:
        """Whether the file is another one, has another head line than it had, or has become shorter."""
        try:
            with open(self.tail.path, "rb") as file:
                first, size, inode = file.readline(65_536), file.seek(0, 2), os.fstat(file.fileno()).st_ino
        except OSError:
            return False
        text = first.decode("utf-8", "replace")
        anew = (bool(self.first) and text != self.first) or size < self.size or self.inode not in (None, inode)
        self.first, self.size, self.inode = text if text.endswith("\n") else self.first, size, inode
        return anew


class EventFiles:
    """TensorBoard's event files below a folder: every scalar, by its tag. Needs the package tensorboard."""

    def __init__(self, pattern: str, source: MetricSource) -> None:
        self._pattern, self._source, self._steps = pattern, source, Steps(source)
        self._loaders: dict[str, Any] = {}
        self._load = _event_loader()

    @property
    def heard(self) -> bool:
        """See Source."""
        return self._steps.heard

    def go_on_from(self, step: int) -> None:
        """See Source."""
        self._steps.begin_anew(step)

    def read(self, *, to_the_end: bool) -> Iterator[Told]:  # noqa: ARG002  (an event is written whole)
        """See Source."""
        for folder in matching(self._pattern):
            for path in sorted(Path(folder).rglob("*tfevents*")):
                loader = self._loaders.setdefault(str(path), self._load(str(path)))
                for event in loader.Load():
                    for value in event.summary.value:
                        scalar = _scalar(value)
                        if scalar is not None:
                            tag = _whole_tag(value.tag, Path(path).parent.name)
                            name = self._source.names.get(tag, tag)
                            yield self._steps.of(Told(int(event.step), {name: scalar}))


def _whole_tag(tag: str, folder: str) -> str:
    """The tag with what `add_scalars(tag, {"train": …})` keeps in the name of a folder (torch, TensorBoard's own)."""
    begins = tag.replace("/", "_") + "_"
    return f"{tag}/{folder[len(begins) :]}" if folder.startswith(begins) and len(folder) > len(begins) else tag


def _event_loader() -> Any:
    try:
        from tensorboard.backend.event_processing import event_file_loader
    except ImportError as error:
        raise WorkloadError(
            f"metrics from TensorBoard's files need the package tensorboard ({error}): pip install "
            "'tunectl[tensorboard]'"
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


def file_source(source: MetricSource, where: str) -> Source:
    """The reader of a source that is a file; `where` is its path, with its placeholders filled.

    Raises WorkloadError where a package that it needs is missing.
    """
    match source.kind:
        case "json_lines":
            return JsonLinesFile.at(where, source)
        case "csv":
            return CsvFile.at(where, source)
        case "tensorboard":
            return EventFiles(where, source)
        case "regex":
            raise ValueError("a regular expression reads the output, not a file")
