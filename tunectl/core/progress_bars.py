"""Progress bars in what a program prints: tqdm's, Keras's, rich's and their kin."""

from __future__ import annotations

import re

_MOST_CHARACTERS = 2_000  # of a bar: no terminal is wider
_HOW_FAR = re.compile(r"\d\s?%|\d[\d.,]{0,20}[kMG]?\s?(?:/|of)\s?\d|\dit\b", re.IGNORECASE)
_DRAWN = re.compile(
    r"[\u2580-\u259f\u2501\u2578\u257a\u28c0-\u28ff]"  # blocks, heavy lines, braille
    r"|%\s?\|[^|]*\|"
    r"|\|[#=>*. -]{3,}\||\[[#=>*. -]{3,}\]"
    r"|\[\d+:\d\d|\d+:\d\d[<\]]|\bETA\b|(?:it|step|batch|examples|samples|tokens|[kMG]?i?B)/s\b|\bs/it\b|[mu]?s/step\b",
    re.IGNORECASE,
)
_WHOLE = re.compile(r"(?:\d{1,3}%\|[^|\n]{0,400}\||\b\d{1,12}it)[^\[\]\n]{0,100}\[[^\]\n]{0,500}\]")
"""What tqdm draws, to its end."""


def is_bar(text: str) -> bool:
    """Whether a text shows how far something is, as a bar or its times and rate."""
    text = text[-_MOST_CHARACTERS:]
    return _HOW_FAR.search(text) is not None and _DRAWN.search(text) is not None


def behind_bars(text: str) -> str:
    """What was printed on the line of a bar behind it: another stream may go on where the bar ends; "" for nothing."""
    if "[" not in text:
        return ""
    end = 0
    for match in _WHOLE.finditer(text):
        end = match.end()
    return text[end:].strip() if end else ""
