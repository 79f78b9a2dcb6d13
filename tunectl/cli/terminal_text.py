"""Text in the characters that a stream's encoding has."""

from __future__ import annotations

from functools import lru_cache

_PLAIN = {"→": "->", "–": "-", "─": "-", "×": "x", "·": "*", "…": "...", "±": "+-", "²": "^2", "µ": "u"}
# What tunectl itself prints beyond ASCII, and what stands for it where the encoding lacks it.


def fits(text: str, encoding: str) -> bool:
    """Whether the encoding has all characters of the text."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def in_encoding(text: str, encoding: str, *, exactly: bool = False) -> str:
    r"""The text in characters that the encoding has: others as escapes (`\u2192`), and the marks that tunectl itself
    prints as plain ones (`->`); with `exactly` these are escapes, too.
    """
    if fits(text, encoding):
        return text
    plain = text if exactly else text.translate(_plain_marks(encoding))
    return plain.encode(encoding, "backslashreplace").decode(encoding)


@lru_cache
def _plain_marks(encoding: str) -> dict[int, str]:
    return {ord(mark): plain for mark, plain in _PLAIN.items() if not fits(mark, encoding)}
