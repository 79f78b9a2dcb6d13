"""Text of others (a program's, a study folder's) in which nothing acts on a terminal or makes it look like another."""

from __future__ import annotations

import codecs
import re

# Control characters (but for tab and line feed) begin escape sequences; the marks that change the direction of writing,
# and Unicode's own line ends, make a text look like another one.
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""The characters of which no text that is shown may have one."""

_STYLE = r"\x1b\[[0-?]*[ -/]*[@-~]"  # ECMA-48, 5.4: colours, and the cursor's moves
_CUT = re.compile(r"(\x1b(\[[0-?]{0,60}[ -/]{0,4})?|\r+)\Z")
_LOG_MARKS = re.compile(rf"{_STYLE}|\r+\n|\r")


def escaped(text: str) -> str:
    r"""The text with what would act on a terminal as escapes (`\x1b`); tabs and line feeds stay."""
    return ACTING.sub(lambda found: repr(found[0])[1:-1], text)


def escaped_json(text: str) -> str:
    """JSON with such characters as JSON's own escapes: it holds the same values."""
    return ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class LogText:
    """What a program wrote, as safe text, piece by piece.

    Colours and moves of the cursor are left out, each state of a progress bar is a line of its own, and what else would
    act on a terminal is shown as an escape.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._cut = ""

    def text(self, piece: bytes, *, final: bool = False) -> str:
        """The text of the next piece; a mark that the piece may have cut waits for the next one."""
        text = self._cut + self._decoder.decode(piece, final)
        cut = None if final else _CUT.search(text)
        self._cut = cut[0] if cut else ""
        whole = text[: cut.start()] if cut else text
        return escaped(_LOG_MARKS.sub(lambda found: "" if found[0][0] == "\x1b" else "\n", whole))
