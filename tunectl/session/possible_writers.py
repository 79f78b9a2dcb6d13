"""Which trials may have written into a shared folder between two looks at it, where workers begin them.

A trial that is offered may have begun before the run sees that, and what a trial on another host wrote may show after
its end. So all of them count at first; those that had not begun then are known later, and are taken back.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tunectl.store.heartbeats import LATE_SECONDS

_SEEN_SECONDS = 2.0
"""How long it may take until a run sees that a worker which shares its view of the folder has begun a trial."""

_MOST_NOTED = 500_000
"""How many trials are noted at the most, over all looks: thousands may be offered, and many end in a minute."""


@dataclass(slots=True)
class _Look:
    """A look at the folder, when it was begun, and the trials that had not begun then, as far as it is known."""

    number: int
    at: float
    unbegun: set[int]


class PossibleWriters:
    """Notes when trials begin and end at their workers. `clock` gives seconds of a monotonic clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._unbegun: set[int] = set()
        self._late: set[int] = set()
        self._ended_at: dict[int, float] = {}
        self._looks: deque[_Look] = deque()
        self._asked_at = self._asked_before = -math.inf

    def asked(self) -> None:
        """Note that the run has looked at what workers do: to be called after each time, since it may be busy."""
        self._asked_before, self._asked_at = self._asked_at, self._clock()

    def offered(self, trial: int) -> None:
        """Note that a worker may begin a trial from now on."""
        self._unbegun.add(trial)

    def began(self, trial: int, *, is_late: bool) -> None:
        """Note that a trial is seen to have begun; `is_late`: at a worker whose files may show late."""
        self._unbegun.discard(trial)
        (self._late.add if is_late else self._late.discard)(trial)
        now = self._clock()
        since = now - LATE_SECONDS if is_late else min(self._asked_before, now - _SEEN_SECONDS)
        for look in self._looks:
            if look.at >= since:
                look.unbegun.discard(trial)

    def ended(self, trial: int) -> None:
        """Note the end of a trial. One that was not seen to begin may have run all the time since it was offered."""
        if trial in self._unbegun:
            self._unbegun.discard(trial)
            for look in self._looks:
                look.unbegun.discard(trial)
        if trial in self._late:
            self._ended_at[trial] = self._clock()

    def still_showing(self) -> set[int]:
        """The trials that have ended, and of which files may show only now."""
        since = self._clock() - LATE_SECONDS
        self._ended_at = {trial: at for trial, at in self._ended_at.items() if at > since}
        return set(self._ended_at)

    def look(self, number: int) -> None:
        """Note that a look at the folder begins."""
        if self._unbegun:
            self._looks.append(_Look(number, self._clock(), set(self._unbegun)))
        # Of the earliest ones nothing is taken back then, which only finds less.
        while sum(len(look.unbegun) for look in self._looks) > _MOST_NOTED:
            self._looks.popleft()

    def known_unbegun(self, *, is_over: bool) -> Iterator[tuple[int, set[int]]]:
        """The looks of which it is known by now which trials had not begun then, each once, with these trials.

        `is_over`: none will be seen to have begun any more.
        """
        since = self._clock() - LATE_SECONDS
        while self._looks and (is_over or self._looks[0].at <= since):
            look = self._looks.popleft()
            if look.unbegun:
                yield look.number, look.unbegun
