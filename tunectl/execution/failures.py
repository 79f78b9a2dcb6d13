"""Failures of trials in words: exceptions of the user's code, ends of processes, and one cause of many failures."""

from __future__ import annotations

import re
import signal
import traceback
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from tunectl.core import jsontext
from tunectl.core.errors import TunectlError
from tunectl.core.exception_place import innermost_frame
from tunectl.core.exception_text import exception_line, text_of
from tunectl.core.failure_line import LAST_LINES, failure_line
from tunectl.core.log_reader import last_lines
from tunectl.core.records import State
from tunectl.core.shortages import file_size_remedy
from tunectl.execution import processes
from tunectl.execution.backends.backend import ProcessEnded
from tunectl.execution.protocol import EXIT_BROKEN, EXIT_CRASHED, EXIT_STOPPED

MAX_MESSAGE_CHARACTERS = 500

# --- exceptions


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception for people.

    `message` is one line, `where` the file and line of the innermost frame in the user's code, `text` the traceback.
    """

    message: str
    where: str
    text: str


def describe(error: BaseException) -> Failure:
    """Describe an exception; never raises, whatever the exception's own methods do."""
    message = " ".join(text_of(error).split()) if isinstance(error, TunectlError) else exception_line(error)
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = message[: MAX_MESSAGE_CHARACTERS - 1] + "…"
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:
        text = f"{type(error).__name__} (its traceback cannot be shown)\n"
    return Failure(message, innermost_frame(error), text)


# --- ends of processes

LAST_LINE = "; its last line: "
"""Comes before what a trial printed last."""

_TAIL_LINES = 200
_STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
_STOPPING_CODES = frozenset({EXIT_STOPPED, EXIT_CRASHED})


def was_stopped(ended: ProcessEnded) -> bool:
    """Whether a process that was asked to stop ended for that reason, and not by a fault of its own.

    EXIT_CRASHED counts too: a batch system that stops a whole job signals the data-loader processes as well.
    """
    return ended.lost or ended.verdict in _STOPPING_CODES or ended.signal in _STOPPING_SIGNALS


def explain_end(ended: ProcessEnded) -> str:
    """Say in one line how a process ended that wrote no result, and the likely cause."""
    how = processes.describe_exit(ended.code, ended.signal)
    match ended.verdict, ended.signal:
        case (_, signal.SIGKILL):
            return f"{how}: most likely the system was out of memory, or a person killed it"
        case (_, signal.SIGXFSZ):
            return f"{how}: {file_size_remedy()}"
        case (code, None) if code == EXIT_STOPPED:
            return f"{how}: another process than tunectl asked it to stop"
        case (code, None) if code == EXIT_BROKEN:
            return f"{how}: an error in tunectl itself, see log.txt"
        case (code, None) if code == EXIT_CRASHED:
            return f"{how}: it could not go on, and its code is not at fault, see log.txt"
        case (_, None):
            return f"{how} before its result was written: the workload's code may have called os._exit"
        case _:
            return f"{how}, see log.txt"


def took_too_long(seconds: float) -> str:
    """Say that an attempt took longer than is allowed."""
    return f"it took longer than trial_timeout_seconds: {seconds:g}"


def with_last_line(message: str, log: Path, offset: int) -> str:
    """The message with the line of the log that most likely names the cause; the attempt's log begins at `offset`."""
    line = failure_line(last_lines(log, offset, _TAIL_LINES))
    return f"{message}{LAST_LINE}{jsontext.one_line(line)}" if line else message


# --- the circuit breaker: where the first trials all fail for one cause, the others would fail too

FIRST_TRIALS = 3
"""How many trials, the first ones of a run to end, must fail for the same cause."""


@dataclass(frozen=True, slots=True)
class CommonFailure:
    """The one cause for which the first trials of a run failed: the reason, the first message, and where it is."""

    trials: tuple[int, ...]
    reason: str
    message: str
    where: str


@dataclass(slots=True)
class CircuitBreaker:
    """Watches the first trials of a run as they end. `tripped` is set once all of them have failed for one cause."""

    tripped: CommonFailure | None = None
    _ended: int = 0
    _causes: list[tuple[str, str, str]] = field(default_factory=list)
    _trials: list[int] = field(default_factory=list)
    _message: str = ""

    def trial_ended(self, trial: int, state: State, reason: str, message: str, where: str) -> None:
        """Note how a trial ended. Not to be called for cancelled trials, which have not ended."""
        self._ended += 1
        if state != "failed" or self._ended > FIRST_TRIALS:
            return
        self._trials.append(trial)
        self._causes.append(_cause(reason, message, where))
        self._message = self._message or message
        if len(self._causes) == FIRST_TRIALS and len(set(self._causes)) == 1:
            self.tripped = CommonFailure(tuple(self._trials), reason, self._message, where)


# What differs between messages with one cause: paths, numbers, ids with a digit in them, and random names.
_PATH = re.compile(r"""'[^']*[/\\][^']*'|"[^"]*[/\\][^"]*"|[^\s'"(),;]*[/\\][^\s'"(),;]*""")
_VALUE = re.compile(r"[-+]?\b(?:nan|inf)\b|[-+]?[\w.+-]*\d[\w.+-]*|\b[0-9a-f]{8,}\b|\btmp\w{6,}", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+|#")
_COMPARED_CHARACTERS = 2_000


def _cause(reason: str, message: str, where: str) -> tuple[str, str, str]:
    """What two failures with the same cause have in common.

    The same exception in the same line is the same cause, whatever values its message has; so is the same end of a
    process, whatever it printed before.
    """
    if where:
        return reason, PurePath(where).name, message.split(":", 1)[0]
    end = message.split(LAST_LINE, 1)[0].split(LAST_LINES, 1)[0]
    words = _WORD.findall(_VALUE.sub("#", _PATH.sub("#", end[:_COMPARED_CHARACTERS])))
    # One value stays for a shape or a list, however long it is.
    kept = [word for word, before in zip(words, ["", *words], strict=False) if word != "#" or before != "#"]
    return reason, "", " ".join(kept)
