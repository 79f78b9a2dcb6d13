"""Text in the characters of a stream's encoding."""

from __future__ import annotations

from functools import lru_cache

_PLAIN = {"→": "->", "–": "-", "─": "-", "×": "x", "·": "*", "…": "...", "±": "+-", "²": "^2", "µ": "u"}
# The characters outside ASCII in tunectl's own messages, and their replacements.


def fits(text: str, encoding: str) -> bool:
    """Whether the encoding has all characters of the text."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def in_encoding(text: str, encoding: str, *, exactly: bool = False) -> str:
    r"""The text in characters of the encoding: others become escapes (`\u2192`), those in tunectl's own messages plain
    characters (`->`); with `exactly` these become escapes too.
    """
    if fits(text, encoding):
        return text
    plain = text if exactly else text.translate(_plain_marks(encoding))
    return plain.encode(encoding, "backslashreplace").decode(encoding)


@lru_cache
def _plain_marks(encoding: str) -> dict[int, str]:
    return {ord(mark): plain for mark, plain in _PLAIN.items() if not fits(mark, encoding)}
