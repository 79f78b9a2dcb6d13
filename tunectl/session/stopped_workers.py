"""Stopping what a run has left to workers: what is offered is taken back, and the trials of workers save and end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_message
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.wording import counted
from tunectl.session.left_engine import LeftEngine, left_engine, left_state
from tunectl.session.left_offers import shut_out_ended, take_in_all, who_has, withdraw_offers
from tunectl.store.claimed_trials import ClaimedTrial, StopRequest, read_trial_beat, request_stop
from tunectl.store.heartbeats import LATE_SECONDS, PERIODS_TO_DEATH, UNREADABLE, BeatWatch
from tunectl.store.lost_claims import has_own_result, shut_out
from tunectl.store.offered_trials import finish_offers
from tunectl.store.run_state import remove_run_state

_POLL_SECONDS = 0.2
_HEARTBEAT_SECONDS = 10.0
"""How often workers beat where run.json cannot be read."""


def stop_workers(
    folder: StudyFolder,
    say: Callable[[str], None],
    *,
    now: bool,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[str, ...]:
    """Stop the trials that workers have, with `now` without saving, and end the run that was left; lines about it.

    Waits until all have ended. The trial of a worker that does not beat for three periods is taken back, unless its
    engine may still have its job. To be called with the folder's lock. Raises FolderError where the folder cannot be
    written.
    """
    state = left_state(folder)
    heartbeat = _HEARTBEAT_SECONDS if state is None else state.heartbeat_seconds
    finish_offers(folder)
    claims = withdraw_offers(folder)
    if claims:
        verb = "end" if now else "save and end"
        say(f"{who_has(claims)}: waiting for them to {verb}")
    stopped = sum(not has_own_result(claim.folder) for claim in claims)
    with left_engine(folder, say) as engine:
        dead_seconds = PERIODS_TO_DEATH * heartbeat
        beats = BeatWatch(clock, heartbeat / 2, max(0.0, LATE_SECONDS - dead_seconds))
        stopping = _Stopping(engine, say, beats, dead_seconds, now=now)
        for claim in claims:  # before anything is waited for: until they are asked they train on
            stopping.look(claim)
        shut_out_ended(folder, clock, sleep)
        while claims := withdraw_offers(folder):  # a worker may have offered again what it had not begun
            for claim in claims:
                stopping.look(claim)
            sleep(_POLL_SECONDS)
        take_in_all(folder, clock, sleep, say=say)
        jobs = engine.cancel()
    remove_run_state(folder)
    return (f"{counted(stopped, 'trial')} of workers stopped, and what was offered is taken back{jobs}",)


@dataclass(slots=True)
class _Stopping:
    engine: LeftEngine
    say: Callable[[str], None]
    beats: BeatWatch
    dead_seconds: float
    now: bool
    asked: set[str] = field(default_factory=set)
    said: set[str] = field(default_factory=set)

    def look(self, claim: ClaimedTrial) -> None:
        """Ask a worker to stop its trial, and take that back where the worker has died, or is not to save."""
        if claim.name not in self.asked:
            self._ask(claim)
        beat = read_trial_beat(claim)
        if beat is UNREADABLE:
            self._say_once(f"warning: trial {claim.trial}: the heartbeat of its worker cannot be read; waiting")
        if self.beats.silent_seconds(claim.name, beat) < self.dead_seconds:
            return
        if self.now or not self.engine.may_be_alive(claim):
            shut_out(claim)  # take_in_all does the rest at the end
        else:
            again = tunectl_command("stop", claim.study.path, "--now")
            self._say_once(
                f"trial {claim.trial}: its worker is silent, but {self.engine.name} may still have its job; waiting "
                f"(`{again}` does not wait for it)"
            )

    def _ask(self, claim: ClaimedTrial) -> None:
        try:
            if request_stop(claim, StopRequest(kill=self.now)):
                self.asked.add(claim.name)
        except OSError as error:  # such as a full disk: the worker is asked again
            self._say_once(f"warning: {path_message(claim.folder.stop_request, 'written', error)}")

    def _say_once(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            self.say(text)
