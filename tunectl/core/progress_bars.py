"""Progress bars in what a program prints: those of tqdm, Keras, rich and others."""

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
"""A whole bar of tqdm."""


_GLYPHS = "█▉▊▋▌▍▎▏▁▂▃▄▅▆▇░▒▓━╸╺╾╼⣿"
_COUNT = r"(?<![\d.,])[\d.,]{1,20}\s?[A-Za-z]{0,2}(?:/[\d.,?]{1,20}\s?[A-Za-z]{0,2})?"
_RATE = r"(?:,\s*[\d.?]+[kKMGT]?\s?[^\s,\]]*/[^\s,\]]+)?\]?"
_CLOCKS = r"\[\d+(?::\d+)+(?:\s?<\s?[\d:?]+)?" + _RATE
_BAR = re.compile(
    # tqdm: 45%|███   | 180/400 [00:01<00:02, 90.1it/s], also without the bar; a postfix "loss=0.2" stays.
    rf"\d{{1,3}}(?:\.\d+)?\s?%\s?(?:\|[^|]*\|)?\s*{_COUNT}\s*{_CLOCKS}"
    # tqdm without a known total: 180 examples [00:01, 90.1 examples/s]
    rf"|(?<![\d.,])\d[\d.,]{{0,20}}\s?[A-Za-z]{{0,20}}\s?{_CLOCKS}"
    # A bar with only its percentage: 45%|███   |, 45% [###--], [###--] 45%
    rf"|\d{{1,3}}(?:\.\d+)?\s?%\s?\|\s*[{_GLYPHS}#=>][^|]*(?:\||$)"
    r"|(?:\d{1,3}(?:\.\d+)?\s?%\s?)?\[(?=[. ]*[#=>*\-])[#=>*.\- ]{2,}\](?:\s*\d{1,3}(?:\.\d+)?\s?%)?"
    # rich, Keras 3, pip: 12/40 ━━━━╺━━━━ 30% 0:00:02
    rf"|(?:{_COUNT}\s*|\d{{1,3}}\s?%\s*)?[{_GLYPHS}]{{2,}}(?:\s*\d{{1,3}}(?:\.\d+)?\s?%)?(?:\s+\d+(?::\d\d)+)?"
)
"""A whole bar of any kind in a line."""


def is_bar(text: str) -> bool:
    """Whether a text is a progress bar, or the times and rate of one."""
    text = text[-_MOST_CHARACTERS:]
    return _HOW_FAR.search(text) is not None and _DRAWN.search(text) is not None


def behind_bars(text: str) -> str:
    """The text after a bar on the same line, which may be of another stream; "" if there is none."""
    if "[" not in text:
        return ""
    end = 0
    for match in _WHOLE.finditer(text):
        end = match.end()
    return text[end:].strip() if end else ""


def without_bars(line: str) -> str:
    """The line with spaces in place of progress bars, so that all other characters keep their positions."""
    return _BAR.sub(lambda found: " " * len(found[0]), line)


def behind_bar(line: str) -> str:
    """The part of a line after its last bar; the whole line if it has none."""
    ends = [found.end() for found in _BAR.finditer(line)]
    return line[ends[-1] :] if ends else line
