"""What a program tells: metrics and their steps, among its lines and in what files hold."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunectl.core.programs import OUTPUT, MetricSource

_LARGEST_STEP = 2**53
_BARE_NUMBER = re.compile(r"(: )(-?(?:nan|inf))(?=[,}])")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?|[+-]?\d{1,3}(?:_\d{3})+(?:\.\d*)?")


class Told(NamedTuple):
    """What was read at one place: metrics, and the step they belong to, None where the place does not say."""

    step: int | None
    metrics: Mapping[str, float]


class Steps:
    """What one source tells, with the steps to which it belongs.

    `heard` says whether it has told anything, `unread` what was the first that is no number where the study says that
    one stands, in words.
    """

    def __init__(self, source: MetricSource, step: int = 0) -> None:
        self._source, self.heard, self.unread = source, False, ""
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
            read = number(value)
            if read is not None:
                metrics[source.metric(name)] = read
            elif value not in (None, "") and (source.kind == "regex" or name in source.names):
                self.unread = self.unread or f"{value!r}, which stands for {source.metric(name)}, is no number"
        written = values.get(source.step)
        step = whole_number(written)
        if step is None and written not in (None, ""):
            # A step that cannot be read is not the one before it.
            self.unread = self.unread or f"{written!r}, which stands for the step, is no whole number"
            return None
        return self.of(Told(step, metrics)) if metrics else None

    def of(self, told: Told) -> Told:
        """The same, with the step that the study means."""
        self.heard = True
        if self._source.every is not None:
            self._times += 1
            return Told(self._times * self._source.every, told.metrics)
        return told if told.step is None else Told(max(0, told.step + self._source.offset), told.metrics)


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

    @property
    def unread(self) -> str:
        """See Steps."""
        every = (*(item[2] for item in self._patterns), *(item[1] for item in self._json))
        return next((steps.unread for steps in every if steps.unread), "")

    def told(self, line: str) -> Iterator[Told]:
        """What a line tells, once for every source that finds something in it."""
        for pattern, _, steps in self._patterns:
            for match in pattern.finditer(line):
                found = steps.told_by(match.groupdict())
                if found is not None:
                    yield found
        if self._json and line.lstrip().startswith("{"):
            content = json_object(line.strip())
            for _, steps in self._json:
                found = None if content is None else steps.told_by(flat(content))
                if found is not None:
                    yield found


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


def json_object(text: str) -> dict[str, Any] | None:
    """An object of JSON, or a dict as Python prints it (a Trainer of Hugging Face does); None of everything else."""
    try:
        value = json.loads(text)  # reads NaN too, which JSON does not know and Python writes
    except (ValueError, RecursionError):
        value = _printed_dict(text)
    return value if isinstance(value, dict) else None


def _printed_dict(text: str) -> Any:
    if not text.startswith("{'") or not text.endswith("}"):
        return None
    try:
        return ast.literal_eval(_BARE_NUMBER.sub(r"\1'\2'", text))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as one, their names joined by `/`."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}/")
        else:
            found[prefix + name] = value
    return found
