"""An exception of the user's code, for people: one line, the place in their file, and the whole text."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from tunectl.core.errors import TunectlError
from tunectl.core.frames import innermost_frame
from tunectl.training.own_code.failure_line import failure_line

MAX_MESSAGE_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Failure:
    """What is said of an exception.

    `message` is one line, `where` file:line of the innermost frame that is the user's, `text` the whole traceback.
    """

    message: str
    where: str
    text: str


def describe(error: BaseException) -> Failure:
    """The failure that an exception stands for; never raises, whatever the exception's own methods do."""
    return Failure(_message(error), innermost_frame(error), _text(error))


def _message(error: BaseException) -> str:
    try:
        whole = str(error)
    except Exception:
        whole = "(its message cannot be shown)"
    said = " ".join(whole.split())
    if not isinstance(error, TunectlError):
        lines = [line for line in whole.splitlines() if line.strip()]
        if any("Traceback (most recent call last)" in line for line in lines):
            # Of another process, a data loader's, whose exception is the cause.
            return _shortened(failure_line(lines))
        # What further lines add is in the traceback.
        said = " ".join(lines[0].split()) if lines else ""
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return _shortened(said)


def _shortened(said: str) -> str:
    return said if len(said) <= MAX_MESSAGE_CHARACTERS else said[: MAX_MESSAGE_CHARACTERS - 1] + "…"


def _text(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return f"{type(error).__name__} (its traceback cannot be shown)\n"
