"""The message of an exception, in one line, even if its own methods fail or another process raised it.

An exception of another process is raised again in this one, with a text that quotes its traceback. Torch does this for
its data-loader processes and its replicas ("Caught ValueError in DataLoader worker process 0. Original Traceback ..."),
and for the processes of `torch.multiprocessing.spawn`; the pools of Python and of joblib give it as the cause.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TREE = r"[\s|+]*"  # what Python draws before each line of an exception group
_HEADER = re.compile(
    rf"^{_TREE}(?:Original )?{_TREE}(?P<group>Exception Group )?Traceback \(most recent call last\)", re.MULTILINE
)
_FRAME = re.compile(rf'{_TREE}File "(?P<file>[^"]+)", line (?P<line>\d+)')
_BRANCH = re.compile(r"^[\s+]*\|[ ]")


def text_of(error: BaseException) -> str:
    """The whole message of an exception."""
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type if there is no message.

    If another process raised the exception, it is the line of that process.
    """
    text = text_of(error)
    quoted = quoted_traceback(text)
    if quoted is not None and quoted.message:
        return quoted.message
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)


def first_of_group(error: BaseException) -> BaseException | None:
    """The first exception in an exception group, which may contain groups; None if it is not a group."""
    first = error
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return None if first is error else first


def exception_line(error: BaseException) -> str:
    """The type of an exception and the first line of its message; the other lines are in the traceback.

    If another process raised the exception, it is the line of that process. The line of a group also contains that of
    its first exception.
    """
    text = text_of(error)
    quoted = quoted_traceback(text)
    if quoted is not None and quoted.message:
        return quoted.message
    said = next((" ".join(line.split()) for line in text.splitlines() if line.strip()), "")
    line = f"{type(error).__name__}: {said}" if said else type(error).__name__
    first = first_of_group(error)
    return line if first is None else f"{line}: {exception_line(first)}"


@dataclass(frozen=True, slots=True)
class QuotedTraceback:
    """The last exception that a text quotes, and the frames of all quoted exceptions, the innermost last.

    `message` is the first line of the exception, with its type; "" if the quotation ends before it.
    """

    message: str
    frames: tuple[tuple[str, int], ...]


def quoted_traceback(text: str) -> QuotedTraceback | None:
    """The traceback that a text quotes, None if it quotes none.

    If there are several, it is the last one: the innermost, if one process passes on the exception of another. If they
    belong to an exception group, it is the first.
    """
    headers = list(_HEADER.finditer(text))
    if not headers:
        return None
    blocks = [_block(text, header) for header in headers]
    groups = [place for place, header in enumerate(headers) if header["group"]]
    first = groups[-1] + 1 if groups else len(blocks)
    if first >= len(blocks):
        return QuotedTraceback(blocks[-1].message, tuple(frame for block in blocks for frame in block.frames))
    before = tuple(frame for block in blocks[:first] for frame in block.frames)
    return QuotedTraceback(f"{blocks[first - 1].message}: {blocks[first].message}", before + blocks[first].frames)


def _block(text: str, header: re.Match[str]) -> QuotedTraceback:
    """One traceback: its frames, and the first line of its exception."""
    frames = []
    for line in text[header.end() :].splitlines()[1:]:
        plain = _BRANCH.sub("", line)
        frame = _FRAME.match(line)
        if frame is not None:
            frames.append((frame["file"], int(frame["line"])))
        elif plain.strip() and not plain[0].isspace():
            return QuotedTraceback(plain.strip(), tuple(frames))
    return QuotedTraceback("", tuple(frames))
