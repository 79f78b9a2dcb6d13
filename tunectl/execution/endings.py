"""How a trial's process ended, in words, and whether it ended because it was told to."""

from __future__ import annotations

import signal
from pathlib import Path

from tunectl.core import jsontext
from tunectl.core.failure_line import failure_line
from tunectl.core.log_reader import last_lines
from tunectl.core.shortages import file_size_remedy
from tunectl.execution import processes
from tunectl.execution.backends import Ended
from tunectl.execution.breaker import LAST_WORDS
from tunectl.execution.protocol import EXIT_BROKEN, EXIT_CRASHED, EXIT_STOPPED

_TAIL_LINES = 200
_TOLD_BY = (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
_SAVED_OR_ENDED = frozenset({EXIT_STOPPED, EXIT_CRASHED})


def was_stopped(ended: Ended) -> bool:
    """Whether a process that was told to stop ended for that, and not by a fault of its own.

    Who stops a whole job at once (a batch system) signals the loader processes too.
    """
    return ended.lost or ended.verdict in _SAVED_OR_ENDED or ended.signal in _TOLD_BY


def explain(ended: Ended) -> str:
    """In one line how a process that wrote no result ended, and what may have made it so."""
    how = processes.describe_exit(ended.code, ended.signal)
    match ended.verdict, ended.signal:
        case (_, signal.SIGKILL):
            return f"{how}: most likely because the system was out of memory, else by hand"
        case (_, signal.SIGXFSZ):
            return f"{how}: {file_size_remedy()}"
        case (code, None) if code == EXIT_STOPPED:
            return f"{how}: it was told to stop by another process than tunectl"
        case (code, None) if code == EXIT_BROKEN:
            return f"{how}: tunectl's own part failed, see log.txt"
        case (code, None) if code == EXIT_CRASHED:
            return f"{how}: it could not go on for no fault of its code, see log.txt"
        case (_, None):
            return f"{how} before its result was written: the workload's code may have called os._exit"
        case _:
            return f"{how}, see log.txt"


def with_last_words(message: str, log: Path, offset: int) -> str:
    """The message, and of what the attempt whose log begins at `offset` bytes has printed the line that says why."""
    said = failure_line(last_lines(log, offset, _TAIL_LINES))
    return f"{message}{LAST_WORDS}{jsontext.one_line(said)}" if said else message
