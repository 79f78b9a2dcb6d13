"""An exception of the user's code, for people: one line, the place in their file, and the whole text."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from tunectl.core.errors import TunectlError
from tunectl.core.exception_place import innermost_frame
from tunectl.core.exception_text import exception_line, text_of

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
    if isinstance(error, TunectlError):
        return _shortened(" ".join(text_of(error).split()))
    return _shortened(exception_line(error))


def _shortened(said: str) -> str:
    return said if len(said) <= MAX_MESSAGE_CHARACTERS else said[: MAX_MESSAGE_CHARACTERS - 1] + "…"


def _text(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:
        return f"{type(error).__name__} (its traceback cannot be shown)\n"
