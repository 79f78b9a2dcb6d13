"""Measurements as the index stores them: packed, one row for all that a trial wrote between two looks at its file."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from tunectl.core.measurements import Measurement

COLUMNS = "trial, kind, metric_set, numbers, notes, checksum"
_OWN_NUMBERS = 4  # of a measurement, beside its metrics: step, learning_rate, gradient_norm, elapsed_seconds


@dataclass(frozen=True, slots=True)
class Stretch:
    """Measurements of one trial that have the same kind and the same metrics, by step; columns of equal length.

    `metrics` are the values of `names`, measurement after measurement.
    """

    trial: int
    measurement_kind: str
    names: tuple[str, ...]
    steps: Sequence[int]
    learning_rates: Sequence[float | None]
    gradient_norms: Sequence[float | None]
    elapsed_seconds: Sequence[float]
    checkpoints: Sequence[str | None]
    metrics: Sequence[float]

    def column(self, name: str) -> Sequence[float | None]:
        """The values of one metric, None where it is not measured."""
        if name not in self.names:
            return [None] * len(self.steps)
        return self.metrics[self.names.index(name) :: len(self.names)]

    def measurements(self) -> Iterator[Measurement]:
        """The measurements one by one."""
        width = len(self.names)
        own = zip(
            self.steps, self.learning_rates, self.gradient_norms, self.elapsed_seconds, self.checkpoints, strict=True
        )
        for place, (step, rate, norm, elapsed, checkpoint) in enumerate(own):
            metrics = dict(zip(self.names, self.metrics[place * width : (place + 1) * width], strict=True))
            yield Measurement(step, metrics, self.measurement_kind, rate, norm, elapsed, checkpoint)


def stretches(measurements: Sequence[Measurement]) -> Mapping[tuple[str, tuple[str, ...]], list[Measurement]]:
    """Measurements by their kind and the names of their metrics, each list in the order given."""
    found: dict[tuple[str, tuple[str, ...]], list[Measurement]] = {}
    for item in measurements:
        found.setdefault((item.measurement_kind, tuple(item.metrics)), []).append(item)
    return found


def packed(trial: int, measurement_kind: str, metric_set: int, measurements: Sequence[Measurement]) -> tuple[Any, ...]:
    """A stretch as a row of COLUMNS; NaN is stored as a number, and `notes` has the places of missing numbers."""
    steps, metrics, _, rates, norms, elapsed, checkpoints = zip(*measurements, strict=True)
    missing = [[place for place, value in enumerate(column) if value is None] for column in (rates, norms)]
    filled = [0.0 if value is None else value for value in (*rates, *norms)]
    values = chain.from_iterable([item.values() for item in metrics])
    reals = (*filled, *elapsed, *values)
    numbers = struct.pack(f"<{len(steps)}q{len(reals)}d", *steps, *reals)
    notes = json.dumps([checkpoints, *missing])
    return (
        trial,
        measurement_kind,
        metric_set,
        numbers,
        notes,
        _checksum(trial, measurement_kind, tuple(metrics[0]), numbers, notes),
    )


def unpacked(row: tuple[Any, ...], names: tuple[str, ...]) -> Stretch:
    """The stretch of a row whose metric set has these names; raises ValueError and its like for a damaged row."""
    trial, measurement_kind, _, numbers, notes, checksum = row
    if checksum != _checksum(trial, measurement_kind, names, numbers, notes):
        raise ValueError(f"the measurements of trial {trial} do not match their checksum")
    checkpoints, *missing = json.loads(notes)
    count = len(checkpoints)
    values = struct.unpack(f"<{count}q{count * (_OWN_NUMBERS - 1 + len(names))}d", numbers)
    steps, rates, norms, elapsed = (list(values[count * part : count * (part + 1)]) for part in range(_OWN_NUMBERS))
    for column, places in zip((rates, norms), missing, strict=True):
        for place in places:
            column[place] = None
    return Stretch(
        trial, measurement_kind, names, steps, rates, norms, elapsed, checkpoints, values[count * _OWN_NUMBERS :]
    )


def _checksum(trial: int, measurement_kind: str, names: tuple[str, ...], numbers: bytes, notes: str) -> int:
    return zlib.crc32(numbers, zlib.crc32(f"{trial} {measurement_kind} {names} {notes}".encode()))


def columns(parts: Sequence[Stretch], metrics: Sequence[str]) -> list[list[Any]]:
    """The measurements of stretches, given in the order in which they were stored, as columns by (trial, step, kind).

    The columns are trial, step, kind, the metrics asked for, learning_rate, gradient_norm, elapsed_seconds, checkpoint.
    Of several measurements of the same trial, step and kind the one stored last counts.
    """
    found: list[list[Any]] = [
        [trial for part in parts for trial in [part.trial] * len(part.steps)],
        [step for part in parts for step in part.steps],
        [name for part in parts for name in [part.measurement_kind] * len(part.steps)],
        *([value for part in parts for value in part.column(name)] for name in metrics),
        [rate for part in parts for rate in part.learning_rates],
        [norm for part in parts for norm in part.gradient_norms],
        [elapsed for part in parts for elapsed in part.elapsed_seconds],
        [checkpoint for part in parts for checkpoint in part.checkpoints],
    ]
    if len({part.trial for part in parts}) == len(parts):
        return found
    last = {key: place for place, key in enumerate(zip(*found[:3], strict=True))}
    order = [last[key] for key in sorted(last)]
    return [[column[place] for place in order] for column in found]
