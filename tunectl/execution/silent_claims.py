"""Whether the workers of a run that was left are still at work, by their heartbeats."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Collection

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.execution.server_patience import ServerPatience, passing_error
from tunectl.store.claimed_trials import ClaimedTrial, claimed_trials, read_trial_beat
from tunectl.store.heartbeats import LATE_SECONDS, PERIODS_TO_DEATH, UNREADABLE, BeatWatch

_LONGEST_LOOK_SECONDS = 1.0


def silent_claims(
    study: StudyFolder,
    claims: Collection[ClaimedTrial],
    heartbeat_seconds: float,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    watches_on: Callable[[], bool] = lambda: False,
) -> bool:
    """Watch these claims for three periods; false as soon as one of them shows that its worker is at work.

    They are watched for longer while `watches_on` says so, which is asked at each look.

    A claim without a heartbeat is watched for LATE_SECONDS at the least, since a file server may show it late. Raises
    FolderError where a file server has not answered for minutes.
    """
    dead_seconds, names = PERIODS_TO_DEATH * heartbeat_seconds, {claim.name for claim in claims}
    beats = BeatWatch(clock, heartbeat_seconds, max(0.0, LATE_SECONDS - dead_seconds))
    silent, seen, patience = 0.0, dict[str, object](), ServerPatience(say, clock)
    while names and (watches_on() or silent < dead_seconds):
        found = {claim.name: read_trial_beat(claim) for claim in claims}
        silent = min(beats.silent_seconds(name, beat) for name, beat in found.items())
        read = {name: beat for name, beat in found.items() if beat is not UNREADABLE}
        if any(seen.get(name, beat) != beat for name, beat in read.items()):
            return False
        seen |= read
        if unread := found.keys() - read.keys():
            what = f"{study.claimed / min(unread)}: the heartbeat of its worker cannot be read"
            patience.failed("heartbeats", passing_error(what, errno.EIO))
        else:
            patience.worked("heartbeats")
        try:
            if {claim.name for claim in claimed_trials(study)} != names:
                return False
            patience.worked("claims")
        except FolderError as error:
            patience.failed("claims", error)
        sleep(min(_LONGEST_LOOK_SECONDS, heartbeat_seconds / 4))
    return True
