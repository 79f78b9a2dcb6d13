"""Making text from programs and study folders safe to show: without characters that control a terminal."""

from __future__ import annotations

import codecs
import re

# Control characters (except tab and line feed) begin escape sequences; marks that change the direction of writing, and
# Unicode's own line ends, make a text look like another one.
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""The characters that may not be in a text that is shown."""

_STYLE = r"\x1b\[[0-?]*[ -/]*[@-~]"  # ECMA-48, 5.4: colours, and movements of the cursor
_CUT = re.compile(r"(\x1b(\[[0-?]{0,60}[ -/]{0,4})?|\r+)\Z")
_LOG_MARKS = re.compile(rf"{_STYLE}|\r+\n|\r")


def escaped(text: str) -> str:
    r"""The text with escapes (`\x1b`) for characters that control a terminal; tabs and line feeds stay."""
    return ACTING.sub(lambda found: repr(found[0])[1:-1], text)


def escaped_json(text: str) -> str:
    """JSON with JSON escapes for such characters, and so with the same values."""
    return ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class LogText:
    """The output of a program as safe text, piece by piece.

    Colours and movements of the cursor are left out, each state of a progress bar is a line of its own, and other
    control characters are shown as escapes.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._cut = ""

    def text(self, piece: bytes, *, final: bool = False) -> str:
        """The text of the next piece; an escape sequence that is not complete waits for the next piece."""
        text = self._cut + self._decoder.decode(piece, final)
        cut = None if final else _CUT.search(text)
        self._cut = cut[0] if cut else ""
        whole = text[: cut.start()] if cut else text
        return escaped(_LOG_MARKS.sub(lambda found: "" if found[0][0] == "\x1b" else "\n", whole))
