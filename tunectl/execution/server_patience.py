"""Errors of a file server that pass: what failed is tried again for a while, and then it is an error."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from tunectl.core.errors import FolderError

SERVER_SECONDS = 300.0
"""For how long a file server may fail: it is started again, or its network is."""

_PASSING = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ENOENT, errno.EAGAIN, errno.ETIMEDOUT, errno.EREMOTEIO, errno.ENXIO),
        *(errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ESHUTDOWN, errno.EPIPE),
        *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.EBUSY, errno.ENFILE),
    }
)
"""What a client of a file server says while the server, or the way to it, fails. ESTALE and ENOENT: a server that was
started again gives other names to the folders, or has not mounted them yet.
"""


def may_pass(error: Exception) -> bool:
    """Whether the cause of an error is one that a file server gives for a while."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _PASSING


def passing_error(text: str, number: int) -> FolderError:
    """An error in these words with this errno, of something that a file server fails to show."""
    error = FolderError(text)
    error.__cause__ = OSError(number, os.strerror(number))
    return error


class ServerPatience:
    """Takes the errors of a part that is called again and again; `say` gets each kind once.

    `clock` gives seconds. A part may fail for `limit_seconds` without a success in between.
    """

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float], limit_seconds: float = SERVER_SECONDS
    ) -> None:
        self._say, self._clock, self._limit_seconds = say, clock, limit_seconds
        self._since: dict[str, float] = {}
        self._said: dict[str, str] = {}

    def failed(self, part: str, error: FolderError, *, is_needed: bool = False) -> None:
        """Take an error; raises it where it is none that passes, and with the limit in words where that is over.

        With `is_needed` nothing is raised: there is no limit.
        """
        if not is_needed and not may_pass(error):
            raise error
        now = self._clock()
        since = self._since.setdefault(part, now)
        if not is_needed and now - since >= self._limit_seconds:
            raise FolderError(f"{error}; tried again for {self._limit_seconds:g} s") from error
        if str(error) != self._said.get(part):
            self._said[part] = str(error)
            limit = "" if is_needed else f" for up to {self._limit_seconds:g} s"
            self._say(f"warning: {error}; trying again{limit}")

    def worked(self, part: str) -> None:
        """Take a success."""
        self._since.pop(part, None)
