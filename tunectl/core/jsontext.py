"""JSON as tunectl writes it: non-finite numbers as "nan", "inf", "-inf"; lines that survive a torn tail."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def encode(value: Any) -> str:
    """One line of JSON. Numbers round-trip exactly; non-finite ones become text."""
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    except ValueError:
        return json.dumps(_plain(value), allow_nan=False, ensure_ascii=False)


def number(value: Any) -> float | None:
    """The number that `encode` wrote: "nan", "inf" and "-inf" are read back; None where it is no number."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:  # a damaged line may hold a whole number that no float can
            return None
    return _NON_FINITE.get(value) if isinstance(value, str) else None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; nothing where there is no file.

    A last line without its newline is torn (its writer was killed) and is dropped; so is a complete line that
    is not a JSON object (a damaged disk): the reader cannot know what it held.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return
    for line in text.split(b"\n")[:-1]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
