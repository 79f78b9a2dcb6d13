"""What a run finds of the run before it: the trials that workers have, and folders that a file server shows late."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection

from tunectl.core import regular_files
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.typed_fields import DamagedError, is_count, sealed_object
from tunectl.core.wording import counted
from tunectl.store.claimed_trials import claimed_trials, read_claimant
from tunectl.store.offered_trials import home_folder, offered_trials, read_offer, withdraw_trial
from tunectl.store.run_state import read_run_state
from tunectl.store.trial_files import read_trial

_LOOK_SECONDS = 0.2


def earlier_period(study: StudyFolder) -> float | None:
    """The period of the heartbeats, in seconds, of the run before this one that was killed or has left its trials.

    None where there is no such run, 0.0 where what it says cannot be read.
    """
    try:
        state = read_run_state(study)
    except FolderError:
        return 0.0
    return None if state is None else state.heartbeat_seconds


def withdrawn_trials(study: StudyFolder) -> set[int]:
    """Take back all that is offered; gives these trials, which no worker has. Raises FolderError."""
    return {trial for trial in offered_trials(study) if withdraw_trial(study, trial)}


def wait_for_late(
    study: StudyFolder,
    wanted: Collection[int],
    seconds: float,
    say: Callable[[str], None],
    stop_requested: Callable[[], int] = lambda: 0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until each wanted trial shows in one of the places, with its attempt where a worker has it; for `seconds` at
    the most. What shows among the offers is taken back. False where a stop was requested before: nothing may be begun.

    A trial without a folder was never offered, or its folder was moved a moment ago and does not show yet; to make it
    again would be to begin the trial anew. Raises FolderError where a folder cannot be listed.
    """
    until = clock() + seconds
    left = _unclear(study, wanted)
    if left:
        say(f"{counted(len(left), 'trial')} may be with workers; looking for {seconds:g} s whether they show")
    while left and clock() < until:
        if stop_requested():
            say("stopped before a trial was begun; workers go on with what they have")
            return False
        sleep(_LOOK_SECONDS)
        left = _unclear(study, left - withdrawn_trials(study))
    return True


def _unclear(study: StudyFolder, wanted: Collection[int]) -> set[int]:
    """The wanted trials without a folder, and those at workers whose attempt cannot be read."""
    claims = {claim.trial: claim.folder for claim in claimed_trials(study)}
    unread = {trial for trial, folder in claims.items() if trial in wanted and _attempt_of(folder) is None}
    return unread | {trial for trial in set(wanted) - claims.keys() if not home_folder(study, trial).path.is_dir()}


def attempts_at_work(study: StudyFolder, wanted: Collection[int]) -> dict[int, int]:
    """The attempts of those of the wanted trials that workers have, or have given back and no run has taken in.

    A claim counts whatever can be read of it: only its heartbeat says that it has no worker.
    """
    folders = {claim.trial: claim.folder for claim in claimed_trials(study) if claim.trial in wanted}
    for trial in wanted:
        home = home_folder(study, trial)
        if trial not in folders and home.offer.exists():
            folders[trial] = home
    return {trial: _attempt_of(folder) or _next_attempt(folder) for trial, folder in folders.items()}


def _attempt_of(folder: TrialFolder) -> int | None:
    """The attempt of an offer, by the first of the files that can be read."""
    if (offer := read_offer(folder)) is not None:
        return offer.attempt
    if (claimant := read_claimant(folder)) is not None and claimant.attempt:  # 0: it cannot read the offer either
        return claimant.attempt
    with contextlib.suppress(OSError, DamagedError):
        asked = sealed_object(regular_files.content(folder.request, within=folder.study)).get("attempt", 1)
        return asked if isinstance(asked, int) and is_count(asked, 1) else None
    return None


def _next_attempt(folder: TrialFolder) -> int:
    with contextlib.suppress(FolderError):
        return max((item.attempt for item in read_trial(folder).attempts), default=0) + 1
    return 1
