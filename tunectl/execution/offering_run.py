"""The run that offers trials, as a worker sees it: its run.json, and whether its heartbeat still changes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.execution.beginning_run import UNSEEN_SECONDS, BeginningRun
from tunectl.execution.held_trials import LOOK_EVERY_SECONDS
from tunectl.store.heartbeats import PERIODS_TO_DEATH, BeatWatch
from tunectl.store.run_state import RunState, read_run_beat, read_run_state

_SILENT_PERIODS = 2 * PERIODS_TO_DEATH
"""After how many periods without a heartbeat of the run a worker with nothing to do ends: a file server may be late."""


class OfferingRun:
    """Looks at the run once a second. `state` is None where no run offers trials.

    `clock` gives seconds of a monotonic clock. A worker with nothing to do waits `idle_seconds` for an offer, without
    a limit where that is None. `say` gets a line where it waits for a run that has not offered any yet.
    """

    def __init__(
        self,
        study: StudyFolder,
        clock: Callable[[], float],
        idle_seconds: float | None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.state: RunState | None = None
        self._study, self._clock, self._idle_seconds = study, clock, idle_seconds
        self._beginning = BeginningRun(study, clock, say, UNSEEN_SECONDS if idle_seconds is None else idle_seconds)
        self._watch = BeatWatch(clock, 2 * LOOK_EVERY_SECONDS)
        self._looked: float | None = None
        self._silent_seconds = 0.0
        self._idle_since: float | None = None
        self._was_there = False
        self._is_unread = False

    def look(self, *, again: bool = False) -> None:
        """Read what the run says now, where that is a second old, or `again`.

        Raises FolderError where it cannot be read, and where the study folder is not there any more.
        """
        now = self._clock()
        if self._looked is not None and now - self._looked < LOOK_EVERY_SECONDS and not again:
            return
        self._looked = None  # until all of it was read: else it is read again at once
        try:
            self.state = read_run_state(self._study)
        except FolderError:
            self._is_unread = True
            raise
        self._is_unread = False
        if self.state is None and not self._study.plan.exists():
            # A file server that is started again may say so, too.
            raise FolderError(
                f"{self._study.path}: has no {self._study.plan.name} any more; was it moved, or unmounted?"
            ) from FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._study.plan))
        self._looked = now
        if self.state is not None:
            self._was_there = True
            name = f"{self.state.token} {self.state.phase}"
            self._silent_seconds = self._watch.silent_seconds(name, read_run_beat(self._study))

    @property
    def may_offer(self) -> bool:
        """Whether trials of the run may be claimed: not while it cannot be read, since another one may have begun."""
        return self.state is not None and self.state.phase != "over" and not self._is_unread

    def why_nothing_comes(self, *, has_offers: bool) -> str:
        """Why a worker that has no trial need not wait any longer; "" where a trial is, or may still be, offered."""
        now = self._clock()
        if self._looked is None:
            return ""  # the run cannot be read now
        if self.may_offer and has_offers:
            self._idle_since = None
            return ""
        self._idle_since = now if self._idle_since is None else self._idle_since
        is_patient = self._idle_seconds is None or now - self._idle_since < self._idle_seconds
        why = self._why_none_is_offered(self.state)
        if why or is_patient:
            return why
        return f"no trial was offered for {self._idle_seconds:g} seconds"

    def _why_none_is_offered(self, state: RunState | None) -> str:
        if state is None or state.phase == "over":
            if self._was_there:
                return "the run is over"
            return self._beginning.why_none_comes()
        why = ""
        if state.phase == "left":
            why = "no trial is left"
        elif self._silent_seconds >= _SILENT_PERIODS * state.heartbeat_seconds:
            why = "no trial is left, and the command that offered them does not run any more"
        if why and (runner := self._beginning.at_work()) and (runner.host, runner.pid) != (state.host, state.pid):
            self._beginning.say_that_it_waits(runner)  # another run goes on with the study
            return ""
        return why

    def differs(self, before: RunState) -> bool:
        """Whether the run now needs something else to be loaded, or other slots, than it did before."""
        now = self.state
        if now is None:
            return False
        same = replace(before, token=now.token, phase=now.phase, host=now.host, pid=now.pid, reverse=now.reverse)
        return same != now
