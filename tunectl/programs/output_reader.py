"""What a program tells: metrics and their steps, among its lines and in what files hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunectl.core.own_code_request import OUTPUT, MetricSource
from tunectl.core.printed_numbers import number, number_around, whole_number, why_unread
from tunectl.core.printed_objects import Bare
from tunectl.core.progress_bars import behind_bars
from tunectl.programs.object_lines import ObjectLines


class Told(NamedTuple):
    """What was read at one place: metrics, and the step they belong to, None where the place does not say.

    `row` is the number of the row in a file that may be written anew; 0 elsewhere.
    """

    step: int | None
    metrics: Mapping[str, float]
    row: int = 0


class Steps:
    """What one source tells, with the steps to which it belongs.

    `heard` says whether it has told anything, `unread` in words what was the first value that could not be read, of
    each metric that the study names or (`wanted`) selects by.
    """

    def __init__(self, source: MetricSource, step: int = 0, *, wanted: str = "", has_rows: bool = False) -> None:
        self._source, self._wanted, self._has_rows = source, wanted, has_rows
        self.heard = False
        self.unread: dict[str, str] = {}
        self.begin_anew(step)

    def begin_anew(self, step: int = 0) -> None:
        """Count from the first again, or from what follows a step."""
        self._times = self.count_of(step)

    def count_of(self, step: int) -> int:
        """How often the source has told something at a step, where that is counted."""
        return step // (self._source.every or 1)

    def told_by(self, values: Mapping[str, Any]) -> Told | None:
        """What named values tell: those that are numbers are metrics, but the step; None where none is."""
        source, metrics = self._source, {}
        for name, value in values.items():
            if name in (source.step, ""):  # the second is the index that pandas writes
                continue
            read, metric = number(value), source.metric(name)
            if read is not None:
                metrics[metric] = read
            elif value not in (None, "") and (source.kind == "regex" or name in source.names or metric == self._wanted):
                self.note_unread(metric, value, why_unread(value))
        written = values.get(source.step)
        step = whole_number(written)
        if step is None and written not in (None, ""):
            # A step that cannot be read is not the one before it.
            self.note_unread("the step", written, "is not a whole number from 0 on")
            return None
        return self.of(Told(step, metrics)) if metrics else None

    def note_unread(self, metric: str, value: Any, why: str) -> None:
        """Keep the first value of a metric that could not be read, and why."""
        written = value if isinstance(value, Bare) else repr(value)
        self.unread.setdefault(metric, f"{written} {why}")

    def of(self, told: Told) -> Told:
        """The same, with the step that the study means."""
        self.heard = True
        if self._source.every is not None or self._has_rows:
            self._times += 1
        if self._source.every is not None:
            return Told(self._times * self._source.every, told.metrics)
        if told.step is None:
            return Told(None, told.metrics, self._times if self._has_rows else 0)
        return Told(max(0, told.step + self._source.offset), told.metrics)


class OutputReader:
    """Reads the metrics among a program's lines: by regular expressions, and objects of JSON or Python.

    `wanted` is the metric of which must be said where it could not be read.
    """

    def __init__(self, sources: Sequence[MetricSource], wanted: str = "") -> None:
        self._patterns = [
            (re.compile(item.where), item, Steps(item, wanted=wanted)) for item in sources if item.kind == "regex"
        ]
        is_json = (item for item in sources if item.kind == "json_lines" and item.where == OUTPUT)
        self._json = [(item, Steps(item, wanted=wanted)) for item in is_json]
        self._objects = ObjectLines()

    @property
    def reads(self) -> bool:
        """Whether anything is looked for in the output."""
        return bool(self._patterns or self._json)

    @property
    def _all_steps(self) -> list[Steps]:
        return [*(item[2] for item in self._patterns), *(item[1] for item in self._json)]

    def go_on_from(self, step: int) -> None:
        """Count what is counted from a step on; what an earlier attempt printed is not read again."""
        for steps in self._all_steps:
            steps.begin_anew(step)
            steps.heard = True

    def unheard(self) -> list[MetricSource]:
        """The sources among the lines that are JSON which have told nothing."""
        return [source for source, steps in self._json if not steps.heard]

    @property
    def unread(self) -> dict[str, str]:
        """See Steps."""
        return {metric: why for steps in reversed(self._all_steps) for metric, why in steps.unread.items()}

    def told(self, line: str) -> Iterator[Told]:
        """What a line tells, once for every source that finds something in it."""
        for pattern, source, steps in self._patterns:
            yield from _matched(pattern, source, steps, line)
        if self._json:
            yield from self._told_by_objects(self._objects.read(line))

    def told_at_the_end(self) -> Iterator[Told]:
        """What an object tells that the last line did not end."""
        yield from self._told_by_objects(self._objects.rest())

    def _told_by_objects(self, objects: Iterator[tuple[dict[str, Any], bool]]) -> Iterator[Told]:
        for content, is_plain in objects:
            values = flat(content)
            for source, steps in self._json:
                found = steps.told_by(values) if is_plain or source.step in values else None
                if found is not None:
                    yield found


def _matched(pattern: re.Pattern[str], source: MetricSource, steps: Steps, line: str) -> Iterator[Told]:
    """What an expression finds in a line, else in what was printed behind a progress bar."""
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
            # Where another group begins behind the comma, it divides two numbers.
            if whole and not any(end < begin < match.start(name) + len(whole) for begin in begins):
                metric = "the step" if name == source.step else source.metric(name)
                steps.note_unread(metric, whole, f"is cut by the expression, which takes {taken!r}")
                values = {} if name == source.step else {**values, name: None}
                if not values:
                    break
        found = steps.told_by(values)
        if found is not None:
            yield found


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as one, their names joined by `/`."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}/")
        else:
            found[prefix + name] = value
    return found
