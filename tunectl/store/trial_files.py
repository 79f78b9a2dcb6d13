"""The files of a trial folder, read and written; they may be torn or damaged, by a killed writer or a bad disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

from tunectl.core import jsontext, real_folders, record_checksums, regular_files, typed_fields
from tunectl.core.files import write_bytes
from tunectl.core.folders import TrialFolder
from tunectl.core.garbage_collection import no_garbage_collected
from tunectl.core.measurements import Measurement
from tunectl.core.own_code_request import Request
from tunectl.core.path_errors import path_error, path_errors
from tunectl.core.records import CANCELLED, RUNNER_ENDED, STOPPED_FOR_GOOD, AttemptEnd, State, TrialResult
from tunectl.store import json_lines
from tunectl.store.checked_records import LARGEST_STEP, checked_attempt, checked_result
from tunectl.store.claimed_trials import has_begun

_COUNTED_BYTES = 1_000_000
_FLOATS_OR_NONE = {float, type(None)}
_FIELDS_OF: Callable[[Any], tuple[Any, ...]] = itemgetter(
    *("step", "metrics", "kind", "learning_rate", "gradient_norm", "elapsed_seconds", "checkpoint")
)
"""What a line has, in the order of a Measurement's fields."""


@dataclass(frozen=True, slots=True)
class TrialFiles:
    """The content of a trial folder.

    `measurements` are sorted by (step, kind), each once; `damaged_lines` is the number of lines that could not be read.
    `result` is None until the trial has ended by itself, while its result is provisional, and where result.json is
    damaged. `attempts` are those without a result, including one that was not recorded (see `unrecorded_attempt`).
    `request` is the content of request.json, None where it is missing or damaged. `damage` has one line of text for
    everything that could not be read, and for what is missing. `is_late`: the lines of measurements are not as many as
    the result counts, as where a file server still shows those of an earlier attempt.
    """

    measurements: tuple[Measurement, ...] = ()
    result: TrialResult | None = None
    attempts: tuple[AttemptEnd, ...] = ()
    damage: tuple[str, ...] = ()
    damaged_lines: int = 0
    request: Mapping[str, Any] | None = None
    is_late: bool = False

    @property
    def attempt(self) -> int:
        """The number of the last attempt; 0 before the first launch."""
        return max(self.attempts[-1].attempt if self.attempts else 0, self.result.attempt if self.result else 0)


def read_trial(folder: TrialFolder) -> TrialFiles:
    """Read the files of a trial folder; an empty record where there is none.

    Torn last lines are dropped without a message: their writer was killed, or is writing now. Damaged lines and a
    damaged result.json are dropped and named in `damage`. Raises FolderError where a file cannot be read, or was
    written by a later version.
    """
    damage: list[str] = []
    request = _read_request(folder, damage)
    measurements, damaged_lines, lines = _read_measurements(folder.measurements, damage)
    result = _read_result(folder, damage)
    is_late = result is not None and result.measurements not in (None, lines)
    if result is not None:
        _note_lost_lines(folder.measurements, result, lines, damage)
    attempts = _read_attempts(folder.attempts, damage)
    if result is None or result.provisional:
        unrecorded = unrecorded_attempt(folder, result, attempts)
        attempts = attempts if unrecorded is None else (*attempts, unrecorded)
        result = None
    return TrialFiles(measurements, result, attempts, tuple(damage), damaged_lines, request, is_late)


def read_result(folder: TrialFolder) -> TrialResult | None:
    """Read result.json, also a provisional result; None where it is missing or damaged.

    Raises FolderError where the file cannot be read, or was written by a later version.
    """
    return _read_result(folder, [])


def recorded_attempts(folder: TrialFolder) -> tuple[AttemptEnd, ...]:
    """The attempts that gave no result, as far as attempts.jsonl can be read."""
    return _read_attempts(folder.attempts, [])


def write_result(folder: TrialFolder, result: TrialResult) -> None:
    """Write result.json atomically, with the number of measurements; raises OSError where that cannot be done."""
    content = record_checksums.sealed(jsontext.encode(counted(folder, result).to_json()), errors="backslashreplace")
    write_bytes(folder.result, content + b"\n", within=folder.study)


def counted(folder: TrialFolder, result: TrialResult) -> TrialResult:
    """The result with the present number of lines of measurements.jsonl; raises OSError where it cannot be read."""
    try:
        with regular_files.opened(folder.measurements) as file:
            lines = sum(block.count(b"\n") for block in iter(lambda: file.read(_COUNTED_BYTES), b""))
    except FileNotFoundError:
        lines = 0
    return replace(result, measurements=lines)


def unrecorded_attempt(
    folder: TrialFolder, result: TrialResult | None, recorded: Sequence[AttemptEnd]
) -> AttemptEnd | None:
    """The attempt that is missing in attempts.jsonl, None where none is.

    It is the one whose runner was killed, possibly with a provisional result, or that of a failed result which another
    attempt replaces.
    """
    last = recorded[-1].attempt if recorded else 0
    if result is not None and result.provisional:
        if result.attempt <= last:
            return None
        return AttemptEnd(result.attempt, result.reason, result.message, final=False, device=result.device)
    if result is not None:
        if result.state != "failed" or result.attempt <= last:
            return None
        return AttemptEnd(result.attempt, result.reason, result.message, final=True, device=result.device)
    begun = (_read_request(folder, []) or {}).get("attempt")
    begun = begun if isinstance(begun, int) and typed_fields.is_count(begun, 1) else 0
    if begun <= last or (folder.offer.exists() and not has_begun(folder)):
        return None  # an attempt that is only offered, or claimed, has not begun
    return AttemptEnd(begun, "cancelled", RUNNER_ENDED)


def _read_request(folder: TrialFolder, damage: list[str]) -> dict[str, Any] | None:
    content = _content(folder.request, damage)
    if content is None:
        return None
    try:
        return typed_fields.sealed_object(content)
    except typed_fields.DamagedError as error:
        damage.append(f"{folder.request}: is damaged ({error})")
        return None


def record_missing_attempt(folder: TrialFolder) -> None:
    """Record the attempt that is missing in attempts.jsonl, before another one is launched.

    Raises FolderError where the file cannot be written.
    """
    damage: list[str] = []
    attempt = unrecorded_attempt(folder, _read_result(folder, damage), _read_attempts(folder.attempts, damage))
    if attempt is not None:
        append_attempt(folder, attempt)


def record_end(folder: TrialFolder, message: str, *, final: bool) -> None:
    """Record that a trial that is not running was stopped: for good if `final`, else to be run again by the next run.

    Raises FolderError where the file cannot be written.
    """
    record_missing_attempt(folder)
    files = read_trial(folder)
    device = files.attempts[-1].device if files.attempts else ""
    append_attempt(folder, AttemptEnd(files.attempt, CANCELLED, message, final, device))


def trial_state(files: TrialFiles) -> tuple[State, str, str]:
    """The state of a trial that is not running, its reason and its message.

    They are those of result.json; without it, the last attempt counts: cancelled if it was stopped, failed if it was
    final, else pending. The reason of one that a user stopped for good is STOPPED_FOR_GOOD.
    """
    if files.result is not None:
        return files.result.state, files.result.reason, files.result.message
    last = files.attempts[-1] if files.attempts else None
    if last is not None and last.reason == CANCELLED and (last.final or last.attempt):
        return CANCELLED, STOPPED_FOR_GOOD if last.final else CANCELLED, last.message
    if last is not None and last.final:
        return "failed", last.reason, last.message
    return "pending", "", ""


def _stamped_names(folder: TrialFolder) -> tuple[str, ...]:
    paths = (folder.measurements, folder.result, folder.attempts, folder.checkpoints, folder.request, folder.steps)
    return tuple(path.name for path in paths)


_STAMPED = _stamped_names(TrialFolder(Path()))
_ABSENT = "-"
_STAMPED_IF_THERE = TrialFolder(Path()).predictions.name
"""A file that most trials do not have: without it, a stamp is as it was before there was such a file."""


def folder_stamp(folder: TrialFolder) -> str:
    """A text of the sizes and times of the trial's files: where it is the same, its numbers have not changed."""
    home = os.fspath(folder.path)  # text: joining Paths takes longer than the calls of stat
    marks = [_mark(f"{home}/{name}") for name in _STAMPED]
    rare = _mark(f"{home}/{_STAMPED_IF_THERE}")
    return " ".join(marks if rare == _ABSENT else [*marks, rare])


def _mark(path: str) -> str:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return _ABSENT
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"


def write_request(folder: TrialFolder, request: Request) -> None:
    """Write request.json, and make the trial folder first where it is missing; raises FolderError if that fails."""
    with path_errors(folder.request, "written"):
        real_folders.made(folder.path, folder.study)
        # Not flushed to the disk yet: a request that is lost in a power cut is written again, and it is flushed before
        # the trial's result is written.
        content = record_checksums.sealed(jsontext.encode(request.to_json())) + b"\n"
        write_bytes(folder.request, content, durable=False, within=folder.study)


def write_measurements(folder: TrialFolder, measurements: Iterable[Measurement]) -> None:
    """Replace measurements.jsonl, atomically; raises FolderError where that cannot be done."""
    content = b"".join(record_checksums.sealed(jsontext.encode(item.to_json())) + b"\n" for item in measurements)
    with path_errors(folder.measurements, "written"):
        write_bytes(folder.measurements, content, within=folder.study)


def append_attempt(folder: TrialFolder, attempt: AttemptEnd, *, again: bool = False) -> None:
    """Record an attempt without a result; raises FolderError where the file cannot be written.

    A call that raised may have written the line, as where only the flush failed. `again` says that this is another one,
    which leaves that line alone, unless the attempt is now to be the last one.
    """
    if again and any(
        known.attempt == attempt.attempt and known.final >= attempt.final
        for known in _read_attempts(folder.attempts, [])
    ):
        return
    with path_errors(folder.path, "created"):
        real_folders.made(folder.path, folder.study)  # the trial may have deleted it
    json_lines.append(folder.attempts, [attempt.to_json()], within=folder.study)


class MeasurementTail:
    """Follows the measurements of a running trial: each call of `read` returns those written since the last call.

    A resumed trial cuts its file back. Then the last line that was read is no longer in its place, and reading starts
    again at the first line.
    """

    def __init__(self, folder: TrialFolder) -> None:
        self._path = folder.measurements
        self._offset = 0
        self._last_line = b""

    def read(self) -> tuple[list[Measurement], bool]:
        """The new measurements in the order of the file, and whether they start again at the first line."""
        try:
            with regular_files.opened(self._path) as file:
                kept = self._offset - len(self._last_line)
                file.seek(kept)
                content = file.read()
                restarted = not content.startswith(self._last_line)
                if restarted:
                    file.seek(0)
                    content, kept, self._last_line = file.read(), 0, b""
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            restarted, content, kept, self._last_line = self._offset > 0, b"", 0, b""
        except OSError as error:
            raise path_error(self._path, "read", error) from error
        fresh = content[len(self._last_line) : content.rfind(b"\n") + 1]
        self._offset = kept + len(self._last_line) + len(fresh)
        if fresh:
            self._last_line = fresh[fresh.rfind(b"\n", 0, -1) + 1 :]
        with no_garbage_collected():
            read = _measurements(json_lines.parse_quickly(fresh))
        return [item for item in read if item is not None], restarted


def _content(path: Path, damage: list[str]) -> bytes | None:
    try:
        return regular_files.content(path, largest=regular_files.LARGEST_LINES_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        damage.append(f"{path}: is a folder, not a file")
        return None
    except OSError as error:
        raise path_error(path, "read", error) from error


def _note_damaged_lines(path: Path, numbers: list[int], damage: list[str]) -> None:
    if numbers:
        damage.append(f"{path}: {left_out_in_words(numbers)}")


def left_out_in_words(numbers: Sequence[int]) -> str:
    """The number of damaged lines of a file, and the first of them, in words."""
    shown = ", ".join(str(number) for number in numbers[:5]) + (", ..." if len(numbers) > 5 else "")
    return f"{len(numbers)} damaged line{'s' if len(numbers) > 1 else ''} left out (line {shown})"


def _measurements(lines: Sequence[Mapping[str, Any] | None]) -> Sequence[Measurement | None]:
    """The measurement of each line, None for a damaged line."""
    return _as_written(lines) or [None if line is None else _measurement(line) for line in lines]


def _as_written(lines: Sequence[Mapping[str, Any] | None]) -> list[Measurement | None]:
    """The measurements of lines that all have finite numbers and ASCII names, as nearly all do, checked by columns.

    One by one they take five times as long. [] where some line has to be checked by itself.
    """
    try:
        rows = list(map(_FIELDS_OF, lines))
        steps, metrics, kinds, rates, norms, elapsed, checkpoints = zip(*rows, strict=True)
        reals = chain(elapsed, *[item.values() for item in metrics])
        plain = (
            {*map(type, steps)} == {int}
            and 0 <= min(steps) <= max(steps) <= LARGEST_STEP
            and {*map(type, reals)} == {float}
            and {*map(type, chain(rates, norms))} <= _FLOATS_OR_NONE
            and {*map(type, metrics)} == {dict}
            and all(type(kind) is str and kind.isascii() for kind in {*kinds})
            and all(name is None or (type(name) is str and name.isascii()) for name in {*checkpoints})
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return []
    if not plain:
        return []
    if len({*kinds}) == 1:
        kinds = (kinds[0],) * len(kinds)  # one text for all of them
    return list(map(Measurement, steps, metrics, kinds, rates, norms, elapsed, checkpoints))


def _measurement(line: Mapping[str, Any]) -> Measurement | None:
    measurement = Measurement.from_json(line)
    if measurement is None or measurement.step > LARGEST_STEP:
        return None
    if measurement.measurement_kind.isascii() and (measurement.checkpoint is None or measurement.checkpoint.isascii()):
        return measurement
    checkpoint = None if measurement.checkpoint is None else jsontext.encodable(measurement.checkpoint)
    return measurement._replace(
        measurement_kind=jsontext.encodable(measurement.measurement_kind), checkpoint=checkpoint
    )


def _read_measurements(path: Path, damage: list[str]) -> tuple[tuple[Measurement, ...], int, int]:
    """The measurements, the number of damaged lines, and the number of all lines."""
    content = _content(path, damage)
    if content is None:
        return (), 0, 0
    found: list[Measurement] = []
    damaged: list[int] = []
    lines = 0
    with no_garbage_collected():
        # Some at a time: a million lines as JSON objects take a gigabyte.
        for part in json_lines.parts(content):
            read = _measurements(json_lines.parse_quickly(part))
            damaged += [number for number, item in enumerate(read, start=lines + 1) if item is None]
            found += [item for item in read if item is not None]
            lines += len(read)
        _note_damaged_lines(path, damaged, damage)
        return sorted_once(found), len(damaged), lines


def sorted_once(measurements: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """Measurements sorted by (step, kind), each once; the one written last counts, since a resumed trial wrote it."""
    items = tuple(measurements)
    if all(one.step < other.step for one, other in pairwise(items)):
        return items  # as in nearly all files
    last = {(item.step, item.measurement_kind): item for item in items}
    return tuple(last[key] for key in sorted(last))


def _read_result(folder: TrialFolder, damage: list[str]) -> TrialResult | None:
    content = _content(folder.result, damage)
    if content is None:
        return None
    try:
        return checked_result(folder, typed_fields.sealed_object(content))
    except (typed_fields.DamagedError, RecursionError) as error:
        damage.append(f"{folder.result}: is damaged and counts as missing ({error})")
        return None


def _note_lost_lines(path: Path, result: TrialResult, lines: int, damage: list[str]) -> None:
    """Note fewer lines of measurements than the result counts."""
    if result.measurements is not None and lines < result.measurements:
        damage.append(f"{path}: has {lines} of the {result.measurements} lines that the trial wrote")
    elif result.measurements is None and lines == 0 and result.state == "completed" and result.final_step:
        damage.append(f"{path}: is missing or empty, but the trial completed {result.final_step} steps")


def _read_attempts(path: Path, damage: list[str]) -> tuple[AttemptEnd, ...]:
    content = _content(path, damage)
    if content is None:
        return ()
    read = [checked_attempt(line) for line in json_lines.parse(content)]
    _note_damaged_lines(path, [number for number, item in enumerate(read, start=1) if item is None], damage)
    return tuple(item for item in read if item is not None)
