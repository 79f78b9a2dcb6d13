"""Stopping what a run has left to workers: what is offered is taken back, and the trials of workers save and end."""

from __future__ import annotations

import time
from collections.abc import Callable

from tunectl.core.errors import FolderError, TunectlError
from tunectl.core.folders import StudyFolder
from tunectl.core.wording import counted
from tunectl.execution.engines import ENGINES, make_engine
from tunectl.execution.worker_engine import WorkerOrder
from tunectl.session.left_offers import take_in_all, take_in_lost, who_has, withdraw_offers
from tunectl.store.claimed_trials import ClaimedTrial, StopRequest, claimed_trials, read_trial_beat, request_stop
from tunectl.store.heartbeats import PERIODS_TO_DEATH, BeatWatch
from tunectl.store.run_state import RunState, read_run_state, remove_run_state

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

    Waits until all have ended. A worker that does not beat for three periods has died: its trial is taken back. To be
    called with the folder's lock. Raises FolderError where the folder cannot be written.
    """
    state = _state(folder)
    heartbeat = _HEARTBEAT_SECONDS if state is None else state.heartbeat_seconds
    take_in_all(folder, clock, sleep)
    claims = withdraw_offers(folder)
    if claims:
        verb = "end" if now else "save and end"
        say(f"{who_has(claims)}: waiting for them to {verb}")
    beats, asked = BeatWatch(clock, heartbeat / 2), set[str]()
    stopped = len(claims)
    while claims:
        for claim in claims:
            _ask_or_take_back(claim, beats, asked, PERIODS_TO_DEATH * heartbeat, now=now)
        sleep(_POLL_SECONDS)
        claims = claimed_trials(folder)
    take_in_all(folder, clock, sleep)
    jobs = _cancelled(folder, state, say)
    remove_run_state(folder)
    return (f"{counted(stopped, 'trial')} of workers stopped, and what was offered is taken back{jobs}",)


def _state(folder: StudyFolder) -> RunState | None:
    try:
        return read_run_state(folder)
    except FolderError:
        return None


def _ask_or_take_back(
    claim: ClaimedTrial, beats: BeatWatch, asked: set[str], dead_seconds: float, *, now: bool
) -> None:
    if claim.name not in asked and request_stop(claim, StopRequest(kill=now)):
        asked.add(claim.name)
    if beats.silent_seconds(claim.name, read_trial_beat(claim)) >= dead_seconds:
        take_in_lost(claim)


def _cancelled(folder: StudyFolder, state: RunState | None, say: Callable[[str], None]) -> str:
    """Cancel the jobs of the engine that started the workers; in words."""
    if state is None or state.resources.backend not in ENGINES:
        return ""
    path = StudyFolder(folder.path.absolute())
    try:
        engine = make_engine(state.resources.backend, WorkerOrder(path.path, state.resources, say, path.workers))
        engine.cancel()
        engine.close()
    except TunectlError as error:
        say(f"warning: the jobs of {state.resources.backend} cannot be cancelled: {error}")
        return ""
    return f"; the jobs of {state.resources.backend} are cancelled"
