"""JSON as tunectl writes it: non-finite numbers as "nan", "inf", "-inf"."""

from __future__ import annotations

import json
import math
from typing import Any

from tunectl.core.wording import printable

_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False)  # json.dumps creates one for every call
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


def encode(value: Any, *, indent: int | None = None) -> str:
    """One line of JSON, or several with `indent`, that UTF-8 can encode and that is read back as the same value.

    Numbers are read back exactly; non-finite ones become text. Lone surrogates, from file names that are not UTF-8,
    are written as JSON escapes.
    """
    try:
        text = _text(value, indent)
    except ValueError:
        text = _text(_plain(value), indent)
    return text if text.isascii() else encodable(text)


def _text(value: Any, indent: int | None) -> str:
    return (
        _ENCODER.encode(value)
        if indent is None
        else json.dumps(value, allow_nan=False, ensure_ascii=False, indent=indent)
    )


def encodable(text: object) -> str:
    """The text with escapes for what UTF-8 cannot encode: lone surrogates, from file names of unknown encoding."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def one_line(text: object) -> str:
    """The text on one line for people: white space as single spaces, what does not print as its escape."""
    return printable(" ".join(str(text).split()))


def number(value: Any) -> float | None:
    """The number that `encode` wrote, also from "nan", "inf" and "-inf"; None if it is not a number."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:  # a damaged line may have a whole number that is too large for a float
            return None
    return _NON_FINITE.get(value) if isinstance(value, str) else None
