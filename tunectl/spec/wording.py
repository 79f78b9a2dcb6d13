"""How values and mistakes are put into words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from tunectl.spec.document import scalar

_LONGEST = 60


def as_text(value: Any) -> str:
    """A value as it stands in a name or a sentence: without quotes, whole, true and false as YAML has them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def shown(value: Any) -> str:
    """A value as a message quotes it: short, with its kind where that is what went wrong."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = repr(value) if isinstance(value, str) else f"{value}"
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def found(value: Any) -> str:
    """`found 'x'`, with a hint where quotes made a number into text."""
    hint = ""
    if isinstance(value, str):
        plain = scalar(value)
        if isinstance(plain, (int, float)) and not isinstance(plain, bool):
            hint = f" (text); write {value} without quotes"
    return f"found {shown(value)}{hint}"


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` with the nearest known name, or the known names where none is near."""
    names = list(dict.fromkeys(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known here: {', '.join(names)}" if names else ""
