"""`tunectl.record`: what a program of the user's own tells tunectl from inside."""

from __future__ import annotations

import os
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
    whole = int(step)
    if whole != step or whole < 0:
        raise ValueError(f"a step is a whole number from 0 on, found {step!r}")
    return whole


def record(step: int, metrics: Mapping[str, Any]) -> None:
    """Tell tunectl the metrics of a step, by `split/name`.

    Values are numbers, or what `float` takes (a tensor or an array of one element). Does nothing in a program that
    tunectl did not start, and in all ranks but 0 of a distributed one; inside a function it is `trial.record`. Raises
    TypeError or ValueError for a step that is no whole number from 0 on, and for values that are no numbers.
    """
    whole = whole_step(step)
    told = {str(name): float(value) for name, value in metrics.items()}
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
