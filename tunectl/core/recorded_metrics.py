"""`tunectl.record`: what a program of the user's own tells tunectl from inside."""

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
"""The variable that names the file to write to."""


Receiver = Callable[[int, Mapping[str, float]], None]
_receivers: list[Receiver] = []


@contextmanager
def received_by(receiver: Receiver) -> Iterator[None]:
    """While a function trains in this process, `record` tells its trial instead of a file."""
    _receivers.append(receiver)
    try:
        yield
    finally:
        _receivers.remove(receiver)


def whole_step(step: Any) -> int:
    """The step as an int; raises TypeError or ValueError for one that is no whole number from 0 on."""
    plain = _plain(step)
    whole = int(plain)
    if whole != plain or whole < 0:
        raise ValueError(f"a step is a whole number from 0 on, found {step!r}")
    return whole


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics as plain numbers; raises TypeError or ValueError, with the metric's name, for what is none.

    A tensor or an array of one element is a number, whatever its shape.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(f"expected a dict of numbers by split/name, got {_shown(metrics)}")
    return {str(name): _number(str(name), value) for name, value in metrics.items()}


def _number(name: str, value: Any) -> float:
    try:
        return float(_plain(value))
    except Exception as error:
        kind = ValueError if isinstance(error, (ValueError, OverflowError)) else TypeError
        raise kind(f"the metric {name}: expected one number, got {_shown(value)}") from error


def _plain(value: Any) -> Any:
    """The one element of a tensor or an array: NumPy gives float() of one with an axis up."""
    item = getattr(value, "item", None)
    return item() if callable(item) else value


def _shown(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{type(value).__name__} of shape {list(shape)}"
    return reprlib.repr(value)


def record(step: int, metrics: Mapping[str, Any]) -> None:
    """Tell tunectl the metrics of a step, by `split/name`.

    Values are numbers, or what `float` takes, or a tensor or an array of one element. Does nothing in a program that
    tunectl did not start, and in all ranks but 0 of a distributed one; inside a function it is `trial.record`. Raises
    TypeError or ValueError for a step that is no whole number from 0 on, and for values that are no numbers.
    """
    whole = whole_step(step)
    told = numbers(metrics)
    if _receivers:
        _receivers[-1](whole, told)
        return
    path = os.environ.get(RECORD_VARIABLE)
    if not path or os.environ.get("RANK", "0") != "0":
        return
    line = (jsontext.encode({**told, "step": whole}) + "\n").encode()
    # One write: lines of several processes do not mix.
    descriptor = regular_files.open_to_append(Path(path))
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
