"""Values and mistakes as text, as messages and pages show them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from tunectl.core.scalars import scalar

_LONGEST = 60
_MOST_KNOWN = 8
_LARGEST_PLAIN = 1e7
_ALIASES = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "beta_1": "beta1",
    "beta_2": "beta2",
    "eps": "epsilon",
    "bs": "batch_size",
}
"""Other names of our fields, too different from ours to count as misspelt."""


def as_text(value: Any) -> str:
    """A value in a name or a sentence, exact and without quotes: `0.001`, `true`, `adam`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def quoted(value: Any) -> str:
    """A value as `as_text` has it, but text in quotes where it could be taken for something else: `'1'`, `'a=b'`."""
    text = as_text(value)
    if isinstance(value, str) and (not isinstance(scalar(value), str) or set(value) & set(",|=[]'")):
        return "'" + text.replace("'", "''") + "'"
    return text


def printable(text: str) -> str:
    """The text on one line: a character that does not print (a line break, half a surrogate pair) as its escape."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def short_number(value: float, digits: int = 4) -> str:
    """A measured value in tables and sentences: `digits` significant digits, or whole where more are before the point.

    Powers of ten (`1.235e+08`) only from ten million on and below a ten-thousandth.
    """
    if 10 ** (digits - 1) <= abs(value) < _LARGEST_PLAIN:
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def percentage(part: float) -> str:
    """A part of something as `26%`, `0.4%`, `1,300%`: whole from one percent on, else with one significant digit."""
    return f"{part:,.0%}" if part >= 0.01 or part == 0 else f"{100 * part:.1g}%"


def short_text(value: Any) -> str:
    """A value for reading: a float as `short_number` has it, anything else as `as_text`."""
    return short_number(value) if isinstance(value, float) else as_text(value)


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def first_listed(names: Sequence[str], most: int) -> str:
    """The first `most` names: `a, b, c`, or `a, b, c and 40 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def escaped_braces(text: str) -> str:
    """The text with its braces doubled, so that it has no placeholder where the command of a study has it."""
    return text.replace("{", "{{").replace("}", "}}")


def counted(number: int, noun: str) -> str:
    """`1 trial`, `2,000 trials`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def is_number_as_text(value: Any) -> bool:
    """Whether quotes made a number into text."""
    plain = scalar(value) if isinstance(value, str) else None
    return isinstance(plain, (int, float)) and not isinstance(plain, bool)


def shown(value: Any) -> str:
    """A value in an error, short: text in quotes, and `a list`, `a mapping` or `nothing` where it is not a scalar."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = repr(value) if isinstance(value, str) else as_text(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def got(value: Any) -> str:
    """`got 'x'`, with a hint where quotes made a number into text."""
    hint = f" (text); write {value} without quotes" if is_number_as_text(value) else ""
    return f"got {shown(value)}{hint}"


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` with the nearest known name, or some known names where none is near."""
    if name == "<<":
        return "; merge keys are not part of YAML 1.2: write the merged keys out"
    names = list(dict.fromkeys(known))
    if _ALIASES.get(name) in names:
        return f"; did you mean {_ALIASES[name]}?"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    more = ", …" if len(names) > _MOST_KNOWN else ""
    return f"; known here: {', '.join(names[:_MOST_KNOWN])}{more}" if names else ""
