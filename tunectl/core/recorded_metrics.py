"""`tunectl.record`, by which the user's code reports its metrics."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunectl.core import jsontext, regular_files

RECORDED = "recorded.jsonl"
RECORD_VARIABLE = "TUNECTL_TRIAL_RECORD"
"""The environment variable with the path of the file to write to."""


Receiver = Callable[[int, Mapping[str, float]], None]
_receivers: list[Receiver] = []


@contextmanager
def received_by(receiver: Receiver) -> Iterator[None]:
    """While a function trains in this process, `record` calls `receiver` instead of writing to a file."""
    _receivers.append(receiver)
    try:
        yield
    finally:
        _receivers.remove(receiver)


def whole_step(step: Any) -> int:
    """The step as an int; raises TypeError or ValueError if it is not a whole number of at least 0."""
    plain = _plain(step)
    whole = int(plain)
    if whole != plain or whole < 0:
        raise ValueError(f"expected a step that is a whole number of at least 0, got {step!r}")
    return whole


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics as plain numbers; raises TypeError or ValueError, with the metric's name, for other values.

    A tensor or an array of one element counts as a number.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(f"expected a dict of numbers by split/name, got {_shown(metrics)}")
    return {str(name): _number(str(name), value) for name, value in metrics.items()}


def _number(name: str, value: Any) -> float:
    try:
        return float(_plain(value))
    except Exception as error:
        error_type = ValueError if isinstance(error, (ValueError, OverflowError)) else TypeError
        raise error_type(f"the metric {name}: expected one number, got {_shown(value)}") from error


def _plain(value: Any) -> Any:
    """The only element of a tensor or an array: `float` no longer takes a NumPy array that has an axis."""
    item = getattr(value, "item", None)
    return item() if callable(item) else value


def _shown(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{type(value).__name__} of shape {list(shape)}"
    return reprlib.repr(value)


def record(step: int, metrics: Mapping[str, Any]) -> None:
    """Record the metrics of a step, by `split/name`.

    Values are numbers, anything that `float` accepts, or a tensor or an array of one element. Inside a function this is
    `trial.record`. It does nothing in a program that tunectl did not start, and in a distributed program in every rank
    except 0. Raises TypeError or ValueError for a step that is not a whole number of at least 0, and for values that
    are not numbers.
    """
    whole = whole_step(step)
    values = numbers(metrics)
    if _receivers:
        _receivers[-1](whole, values)
        return
    path = os.environ.get(RECORD_VARIABLE)
    if not path or os.environ.get("RANK", "0") != "0":
        return
    line = (jsontext.encode({**values, "step": whole}) + "\n").encode()
    # A single write, so that lines of several processes do not mix.
    descriptor = regular_files.open_to_append(Path(path))
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
