"""What an exception says, in one line, whatever its own methods do and whichever process raised it."""

from __future__ import annotations

from tunectl.core.quoted_traceback import quoted_traceback


def text_of(error: BaseException) -> str:
    """All that an exception says."""
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, its type where it says nothing; of one that another process raised that
    process's line.
    """
    text = text_of(error)
    quoted = quoted_traceback(text)
    if quoted is not None and quoted.message:
        return quoted.message
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)


def first_of_group(error: BaseException) -> BaseException | None:
    """The first exception in an exception group, which may hold groups itself; None where it is no group."""
    first = error
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return None if first is error else first


def exception_line(error: BaseException) -> str:
    """The type of an exception and the first line of what it says; what further lines add is in the traceback.

    Of one that another process raised it is that process's line, of a group also that of the first exception in it.
    """
    text = text_of(error)
    quoted = quoted_traceback(text)
    if quoted is not None and quoted.message:
        return quoted.message
    said = next((" ".join(line.split()) for line in text.splitlines() if line.strip()), "")
    line = f"{type(error).__name__}: {said}" if said else type(error).__name__
    first = first_of_group(error)
    return line if first is None else f"{line}: {exception_line(first)}"
