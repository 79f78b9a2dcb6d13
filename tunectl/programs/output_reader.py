"""Reading metrics and their steps in the lines that a program prints, and from the named values of its files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunectl.core.own_code_request import OUTPUT, MetricSource
from tunectl.core.printed_numbers import number, number_around, whole_number, why_unread
from tunectl.core.printed_objects import Bare
from tunectl.core.progress_bars import behind_bars
from tunectl.programs.object_lines import ObjectLines


class StepMetrics(NamedTuple):
    """Metrics that were read together, and their step, None if it is not given there.

    `row` is the number of the row in a file that may be written again from the start; 0 elsewhere.
    """

    step: int | None
    metrics: Mapping[str, float]
    row: int = 0


class ValueReader:
    """Makes metrics with their steps of the named values of one source.

    `has_found` says whether there were any metrics. `unread` has, for each metric that the study names or that is
    `wanted` (the objective), a text about the first value that could not be read.
    """

    def __init__(self, source: MetricSource, step: int = 0, *, wanted: str = "", has_rows: bool = False) -> None:
        self._source, self._wanted, self._has_rows = source, wanted, has_rows
        self.has_found = False
        self.unread: dict[str, str] = {}
        self.restart(step)

    def restart(self, step: int = 0) -> None:
        """Count from the first again, or from the one after a step."""
        self._times = self.count_of(step)

    def count_of(self, step: int) -> int:
        """How many metrics the source had at a step, if its steps are counted."""
        return step // (self._source.every or 1)

    def read_values(self, values: Mapping[str, Any]) -> StepMetrics | None:
        """The metrics among named values: all that are numbers, except the step; None if there are none."""
        source, metrics = self._source, {}
        for name, value in values.items():
            if name in (source.step, ""):  # pandas writes its index without a name
                continue
            read, metric = number(value), source.metric(name)
            if read is not None:
                metrics[metric] = read
            elif value not in (None, "") and (
                source.source_kind == "regex" or name in source.names or metric == self._wanted
            ):
                self.note_unread(metric, value, why_unread(value))
        written = values.get(source.step)
        step = whole_number(written)
        if step is None and written not in (None, ""):
            # The metrics must not be counted at the step before.
            self.note_unread("the step", written, "is not a whole number of at least 0")
            return None
        return self.with_step(StepMetrics(step, metrics)) if metrics else None

    def note_unread(self, metric: str, value: Any, why: str) -> None:
        """Keep the first value of a metric that could not be read, with the reason."""
        written = value if isinstance(value, Bare) else repr(value)
        self.unread.setdefault(metric, f"{written} {why}")

    def with_step(self, found: StepMetrics) -> StepMetrics:
        """The metrics with the step that the study asks for: counted, or with an offset."""
        self.has_found = True
        if self._source.every is not None or self._has_rows:
            self._times += 1
        if self._source.every is not None:
            return StepMetrics(self._times * self._source.every, found.metrics)
        if found.step is None:
            return StepMetrics(None, found.metrics, self._times if self._has_rows else 0)
        return StepMetrics(max(0, found.step + self._source.offset), found.metrics)


class OutputReader:
    """Reads the metrics in a program's lines, by regular expressions and from JSON or Python objects.

    `wanted` is the metric whose unread values are reported even if the study does not name it.
    """

    def __init__(self, sources: Sequence[MetricSource], wanted: str = "") -> None:
        self._patterns = [
            (re.compile(item.where), item, ValueReader(item, wanted=wanted))
            for item in sources
            if item.source_kind == "regex"
        ]
        is_json = (item for item in sources if item.source_kind == "json_lines" and item.where == OUTPUT)
        self._json = [(item, ValueReader(item, wanted=wanted)) for item in is_json]
        self._objects = ObjectLines()

    @property
    def reads(self) -> bool:
        """Whether the output may have metrics."""
        return bool(self._patterns or self._json)

    @property
    def _all_steps(self) -> list[ValueReader]:
        return [*(item[2] for item in self._patterns), *(item[1] for item in self._json)]

    def go_on_from(self, step: int) -> None:
        """Count from a step on, if steps are counted, since earlier output is not read again."""
        for steps in self._all_steps:
            steps.restart(step)
            steps.has_found = True

    def silent(self) -> list[MetricSource]:
        """The sources of JSON lines that had no metrics."""
        return [source for source, steps in self._json if not steps.has_found]

    @property
    def unread(self) -> dict[str, str]:
        """See ValueReader."""
        return {metric: why for steps in reversed(self._all_steps) for metric, why in steps.unread.items()}

    def read(self, line: str) -> Iterator[StepMetrics]:
        """The metrics in a line, once for each source that finds any."""
        for pattern, source, steps in self._patterns:
            yield from _matched(pattern, source, steps, line)
        if self._json:
            yield from self._read_objects(self._objects.read(line))

    def read_rest(self) -> Iterator[StepMetrics]:
        """The metrics of an object that does not end by the last line."""
        yield from self._read_objects(self._objects.rest())

    def _read_objects(self, objects: Iterator[tuple[dict[str, Any], bool]]) -> Iterator[StepMetrics]:
        for content, is_plain in objects:
            values = flat(content)
            for source, steps in self._json:
                found = steps.read_values(values) if is_plain or source.step in values else None
                if found is not None:
                    yield found


def _matched(pattern: re.Pattern[str], source: MetricSource, steps: ValueReader, line: str) -> Iterator[StepMetrics]:
    """The metrics that an expression finds in a line, or else in the text after a progress bar."""
    matches = list(pattern.finditer(line))
    if not matches and (rest := behind_bars(line)):
        matches = list(pattern.finditer(rest))
    for match in matches:
        values = match.groupdict()
        begins = sorted(match.start(name) for name in values)
        for name, taken in list(values.items()):
            end = match.end(name)
            whole = (
                ""
                if taken is None
                else number_around(match.string, match.start(name), end, is_step=name == source.step)
            )
            # If another group begins after the comma, the comma separates two numbers.
            if whole and not any(end < begin < match.start(name) + len(whole) for begin in begins):
                metric = "the step" if name == source.step else source.metric(name)
                steps.note_unread(metric, whole, f"is cut by the expression, which matches only {taken!r}")
                values = {} if name == source.step else {**values, name: None}
                if not values:
                    break
        found = steps.read_values(values)
        if found is not None:
            yield found


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as one object, with names joined by `/`."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}/")
        else:
            found[prefix + name] = value
    return found
