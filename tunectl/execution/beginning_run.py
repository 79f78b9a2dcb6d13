"""A run that has not offered trials yet, as a worker sees it that was started before: whether to wait for it."""

from __future__ import annotations

from collections.abc import Callable

from tunectl.core.folders import StudyFolder
from tunectl.execution.backends import DEFAULT
from tunectl.execution.held_trials import LOOK_EVERY_SECONDS
from tunectl.execution.runner_lock import Holder, runner_at_work
from tunectl.store.provenance import read_provenance

UNSEEN_SECONDS = 60.0
"""How long a worker waits where it sees no run: one that was just started loads its libraries before it locks the
folder, and a file server may show that late, or hide the lock from other hosts for good."""


class BeginningRun:
    """Looks at the lock of the study folder once a second; `say` gets a line about each thing that is waited for.

    A worker that sees no run waits `unseen_seconds` for one.
    """

    def __init__(
        self,
        study: StudyFolder,
        clock: Callable[[], float],
        say: Callable[[str], None],
        unseen_seconds: float = UNSEEN_SECONDS,
    ) -> None:
        self._study, self._clock, self._say, self._unseen_seconds = study, clock, say, unseen_seconds
        self._looked: float | None = None
        self._runner: Holder | None = None
        self._unseen_since: float | None = None
        self._said: set[str] = set()

    def at_work(self) -> Holder | None:
        """The run that holds the folder, as far as this host can see it; what is known may be a second old."""
        now = self._clock()
        if self._looked is None or now - self._looked >= LOOK_EVERY_SECONDS:
            self._looked, self._runner = now, runner_at_work(self._study.lock)
            if self._runner is not None:
                self._unseen_since = None
        return self._runner

    def why_none_comes(self) -> str:
        """Why no run will offer trials here; "" as long as one may."""
        runner, now = self.at_work(), self._clock()
        if runner is None:
            self._unseen_since = now if self._unseen_since is None else self._unseen_since
            if now - self._unseen_since >= self._unseen_seconds:
                return "no run offers trials to workers here"
            self._say_once(f"no run is seen at work here; waiting {self._unseen_seconds:g} s for one")
            return ""
        if self._trains_itself(runner):
            return (
                f"the run at work here ({runner}) trains by itself; start it with --backend external, so that workers "
                "train its trials"
            )
        self.say_that_it_waits(runner)
        return ""

    def say_that_it_waits(self, runner: Holder) -> None:
        """Say, once, that the worker waits for this run."""
        self._say_once(f"waiting for the run at work here ({runner}), which has not offered trials yet")

    def _trains_itself(self, runner: Holder) -> bool:
        runs = read_provenance(self._study)
        return bool(runs) and runs[-1].get("runner") == runner.mark and runs[-1].get("backend") == DEFAULT

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._say(line)
