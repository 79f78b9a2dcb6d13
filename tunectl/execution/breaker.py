"""The circuit breaker: where the first trials all fail alike, the others would fail as they did."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePath

from tunectl.core.failure_line import LAST_LINES
from tunectl.core.records import State

ALIKE = 3
"""So many trials, the first of a run to end, must fail alike."""

LAST_WORDS = "; its last line: "
"""Stands before what a trial printed last, which differs between trials that ended alike."""


@dataclass(frozen=True, slots=True)
class CommonFailure:
    """The one cause for which the first trials of a run failed: the reason, the first one's message, and its place."""

    trials: tuple[int, ...]
    reason: str
    message: str
    where: str


@dataclass(slots=True)
class CircuitBreaker:
    """Watches the first trials of a run as they end; `tripped` once all of them have failed alike."""

    tripped: CommonFailure | None = None
    _ended: int = 0
    _causes: list[tuple[str, str, str]] = field(default_factory=list)
    _trials: list[int] = field(default_factory=list)
    _message: str = ""

    def take(self, trial: int, state: State, reason: str, message: str, where: str) -> None:
        """Note how a trial ended. What was cancelled has not ended and is not to be told here."""
        self._ended += 1
        if state != "failed" or self._ended > ALIKE:
            return
        self._trials.append(trial)
        self._causes.append(_cause(reason, message, where))
        self._message = self._message or message
        if len(self._causes) == ALIKE and len(set(self._causes)) == 1:
            self.tripped = CommonFailure(tuple(self._trials), reason, self._message, where)


# What differs between messages of one cause: paths, numbers, ids with a digit in them, and random names.
_PATH = re.compile(r"""'[^']*[/\\][^']*'|"[^"]*[/\\][^"]*"|[^\s'"(),;]*[/\\][^\s'"(),;]*""")
_VALUE = re.compile(r"[-+]?\b(?:nan|inf)\b|[-+]?[\w.+-]*\d[\w.+-]*|\b[0-9a-f]{8,}\b|\btmp\w{6,}", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+|#")
_MOST_CHARACTERS = 2_000


def _cause(reason: str, message: str, where: str) -> tuple[str, str, str]:
    # The same exception at the same place is the same cause, whatever values its message tells; so is the same end,
    # whatever was printed before.
    if where:
        return reason, PurePath(where).name, message.split(":", 1)[0]
    end = message.split(LAST_WORDS, 1)[0].split(LAST_LINES, 1)[0]
    words = _WORD.findall(_VALUE.sub("#", _PATH.sub("#", end[:_MOST_CHARACTERS])))
    # Of a shape or a list, however long, one value is left.
    return (
        reason,
        "",
        " ".join(word for word, before in zip(words, ["", *words], strict=False) if word != "#" or before != "#"),
    )
