"""What workers do with the trials that a run offers: claims, ends, and workers that have died.

Where a trial's folder is says who has it. A folder that was moved may show late on a file server, and so may its
content: what is not there yet is looked for again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.execution.backends.backend import ProcessEnded, ProcessStarted
from tunectl.execution.worker_supply import WorkerSupply, is_excused
from tunectl.store.claimed_trials import (
    Claimant,
    ClaimedTrial,
    Ending,
    StopRequest,
    claimed_trials,
    has_begun,
    read_claimant,
    read_ending,
    read_trial_beat,
    request_stop,
)
from tunectl.store.heartbeats import PERIODS_TO_DEATH, BeatWatch
from tunectl.store.lost_claims import take_back
from tunectl.store.offered_trials import forget_offer, home_folder, offered_trials, withdraw_trial
from tunectl.store.trial_files import counted, read_result
from tunectl.store.trial_progress import progress_made

LATE_SECONDS = 60.0
"""How long the content of a folder may be missing at the least, after the folder itself was moved: a client of a file
server keeps what it has read of a folder for up to 60 s (nfs(5): acdirmax).
"""

_LISTING_SHARE = 0.1
"""Listing the places takes at most this part of the time: with thousands of trials it takes longer."""

_LONGEST_BEAT_LOOK_SECONDS = 1.0


@dataclass(slots=True)
class Watched:
    """A trial that was launched: offered, claimed by a worker, or on its way home.

    `wanted` is what the worker is to be asked for. `missing_since` is the time since when it, or something of its end,
    has been missing.
    """

    trial: int
    attempt: int
    launched: float
    claim: ClaimedTrial | None = None
    claimant: Claimant | None = None
    is_started: bool = False
    wanted: StopRequest | None = None
    asked: tuple[str, StopRequest] | None = None
    missing_since: float | None = None
    is_said: str = ""

    @property
    def who(self) -> str:
        """The worker in words."""
        return "its worker" if self.claimant is None else f"its worker on {where_in_words(self.claimant)}"


def where_in_words(claimant: Claimant) -> str:
    """On which host a worker is, and in which job."""
    job = f" ({claimant.engine} job {claimant.job})" if claimant.job else ""
    return f"{claimant.host}{job}"


class ClaimWatch:
    """Watches the trials that were offered in a study folder. `supply` has the engine that knows their jobs, if any."""

    def __init__(
        self,
        study: StudyFolder,
        heartbeat_seconds: float,
        supply: WorkerSupply | None,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trials: dict[int, Watched] = {}
        self.offered: set[int] = set()
        self._study, self._supply, self._say, self._clock = study, supply, say, clock
        self._dead_seconds = PERIODS_TO_DEATH * heartbeat_seconds
        self._late_seconds = max(LATE_SECONDS, self._dead_seconds)
        self._beats = BeatWatch(clock, heartbeat_seconds / 2)
        self._beat_seconds = min(_LONGEST_BEAT_LOOK_SECONDS, heartbeat_seconds / 4)
        self._beats_read = self._not_before = -1e9

    def add(self, trial: int, attempt: int) -> None:
        """Watch a trial."""
        self.trials[trial] = Watched(trial, attempt, self._clock())
        self.offered.add(trial)

    def look(self) -> Iterator[ProcessStarted | ProcessEnded]:
        """What has happened since the last look; raises FolderError where the places cannot be listed."""
        began = self._clock()
        if not self.trials or began < self._not_before:
            return
        offered = set(offered_trials(self._study))
        claims = {claim.trial: claim for claim in claimed_trials(self._study)}
        took = self._clock() - began
        self._not_before = began + took / _LISTING_SHARE
        self.offered = offered & self.trials.keys()
        reads_beats = began - self._beats_read >= self._beat_seconds
        self._beats_read = began if reads_beats else self._beats_read
        self._beats.keep({claim.name for claim in claims.values()})
        for trial in sorted(self.offered):
            self.trials[trial].claim = self.trials[trial].missing_since = None
            # A worker offers what it has claimed again where it ends before that has begun.
            if self.trials[trial].wanted is not None and withdraw_trial(self._study, trial):
                yield self._unbegun(self.trials[trial])
        for trial in sorted(self.trials.keys() - offered):
            watched, claim = self.trials[trial], claims.get(trial)
            if claim is None:
                yield from self._ended(watched)
            else:
                yield from self._claimed(watched, claim, reads_beats=reads_beats)

    def stop(self, trial: int, request: StopRequest) -> ProcessEnded | None:
        """Take the trial back where no worker has it, and give its end; else ask its worker."""
        watched = self.trials.get(trial)
        if watched is None:
            return None
        if watched.claim is None and withdraw_trial(self._study, trial):
            return self._unbegun(watched)
        watched.wanted = request
        self._ask(watched)
        return None

    def _ask(self, watched: Watched) -> None:
        """Ask the worker what is wanted, once for each claim; where it has given the trial back, its end follows."""
        if watched.claim is None or watched.wanted is None or watched.asked == (watched.claim.name, watched.wanted):
            return
        try:
            if request_stop(watched.claim, watched.wanted):
                watched.asked = (watched.claim.name, watched.wanted)
        except OSError as error:
            self._say_once(watched, f"warning: its worker cannot be asked to stop trial {watched.trial}: {error}")

    def _claimed(
        self, watched: Watched, claim: ClaimedTrial, *, reads_beats: bool
    ) -> Iterator[ProcessStarted | ProcessEnded]:
        watched.missing_since = None
        if watched.claim is None or watched.claim.name != claim.name:
            watched.claim, watched.claimant = claim, None
        if watched.claimant is None or (watched.claimant.waits and reads_beats):
            watched.claimant = read_claimant(claim.folder)
            if watched.claimant is not None:
                yield from self._started(watched, watched.claimant)
        self._ask(watched)
        if reads_beats:
            yield from self._judged(watched, claim)

    def _started(self, watched: Watched, claimant: Claimant) -> Iterator[ProcessStarted]:
        if self._supply is not None and claimant.job:
            self._supply.trial_claimed(claimant.job)
        if not (watched.is_started or claimant.waits):
            watched.is_started = True
            yield ProcessStarted(watched.trial, claimant.pid, claimant.device, where_in_words(claimant))

    def _judged(self, watched: Watched, claim: ClaimedTrial) -> Iterator[ProcessEnded]:
        """The end of a trial whose worker has died."""
        silent = self._beats.silent_seconds(claim.name, read_trial_beat(claim))
        if silent < self._dead_seconds:
            watched.is_said = "" if silent == 0 else watched.is_said
            return
        is_killed = watched.wanted is not None and watched.wanted.kill
        if not is_killed and (alive := self._may_be_alive(watched)):
            self._say_once(watched, f"trial {watched.trial}: {watched.who} has been silent for {silent:.0f} s{alive}")
            return
        try:
            if not take_back(claim):
                return  # it was given back at this moment
        except FolderError as error:
            self._say_once(watched, f"warning: trial {watched.trial} cannot be taken back from {watched.who}: {error}")
            return
        home = home_folder(self._study, watched.trial)
        ending = read_ending(home)
        if ending is not None and ending.attempt == watched.attempt and not ending.never_began:
            yield self._forget(watched, _event(watched, ending))
            return
        if self._supply is not None:
            self._supply.trial_left(watched.trial, progress_made(home))
        if not has_begun(home):  # its worker died first, so that no attempt was used
            forget_offer(home)
            yield self._unbegun(watched)
            return
        yield self._forget(watched, self._lost(watched, silent))

    def _lost(self, watched: Watched, silent: float) -> ProcessEnded:
        """The end of a trial that was taken back from its worker, with what the engine says about the worker."""
        cause, job = "", None
        if self._supply is not None and watched.claimant is not None and watched.claimant.job:
            cause, job = self._supply.cause(watched.claimant.job)
        how = f", whose job ended: {cause}," if cause else ""
        log = f"; its log: {job.log}" if job is not None and job.log is not None else ""
        return ProcessEnded(
            *(watched.trial, None, None, self._clock() - watched.launched),
            lost=True,
            message=f"{watched.who}{how} was silent for {silent:.0f} s{log}",
            cause=cause,
            is_excused=is_excused(cause),
        )

    def _may_be_alive(self, watched: Watched) -> str:
        """Why a silent worker does not count as dead yet; "" where it does."""
        claimant, supply = watched.claimant, self._supply
        if supply is None or claimant is None or not claimant.job or claimant.engine != supply.engine.name:
            return ""
        known = supply.engine.knows(claimant.job)
        if known is None:
            return f", and {supply.engine.name} cannot be asked whether its job is still there; waiting"
        return ", but its job is still there; waiting" if known else ""

    def _ended(self, watched: Watched) -> Iterator[ProcessStarted | ProcessEnded]:
        """The end of a trial that is neither offered nor claimed, once all of it is there."""
        home = home_folder(self._study, watched.trial)
        ending = read_ending(home)
        if ending is not None and ending.attempt not in (watched.attempt, 0):  # 0: its worker could not read the offer
            ending = None
        if ending is not None and ending.never_began:
            forget_offer(home)
            yield self._unbegun(watched)
            return
        has_result = _has_whole_result(home, watched.attempt, may_be_provisional=ending is not None)
        if not (has_result or (ending is not None and ending.code != 0)):
            now = self._clock()
            watched.missing_since = now if watched.missing_since is None else watched.missing_since
            if now - watched.missing_since < self._late_seconds:
                return
        claimant = watched.claimant or read_claimant(home)
        if claimant is not None:
            yield from self._started(watched, claimant)
        if ending is None:
            # A worker whose disk is full cannot write it; the result, if there is one, says the rest.
            message = "" if has_result else f"{watched.who} did not write how it ended"
            seconds = self._clock() - watched.launched
            ending = Ending(
                watched.attempt, 0 if has_result else None, seconds=seconds, lost=not has_result, message=message
            )
        if self._supply is not None:
            if ending.released or ending.lost:
                self._supply.trial_left(watched.trial, progress_made(home))
            else:
                self._supply.trial_ended()
        yield self._forget(watched, _event(watched, ending))

    def _unbegun(self, watched: Watched) -> ProcessEnded:
        return self._forget(watched, ProcessEnded(watched.trial, None, None, 0.0, never_began=True))

    def _forget(self, watched: Watched, event: ProcessEnded) -> ProcessEnded:
        self.trials.pop(watched.trial, None)
        self.offered.discard(watched.trial)
        return event

    def _say_once(self, watched: Watched, text: str) -> None:
        kind = text.split(" for ")[0]
        if watched.is_said != kind:
            watched.is_said = kind
            self._say(text)


def _event(watched: Watched, ending: Ending) -> ProcessEnded:
    return ProcessEnded(
        watched.trial,
        ending.code,
        ending.signal,
        ending.seconds,
        lost=ending.lost,
        message=ending.message,
        is_users=ending.is_users,
        released=ending.released,
        timed_out=ending.timed_out,
        had_company=ending.had_company,
    )


def _has_whole_result(home: TrialFolder, attempt: int, *, may_be_provisional: bool) -> bool:
    """Whether the result of this attempt is there, and all lines that it counts."""
    try:
        result = read_result(home)
        if result is None or result.attempt != attempt or (result.provisional and not may_be_provisional):
            return False
        return result.measurements is None or (counted(home, result).measurements or 0) >= result.measurements
    except (OSError, FolderError):
        return False


def silent_claims(
    study: StudyFolder,
    claims: Collection[ClaimedTrial],
    heartbeat_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Watch these claims for three periods; false as soon as one of them shows that its worker is at work."""
    beats, names = BeatWatch(clock, heartbeat_seconds), {claim.name for claim in claims}
    silent, is_first = 0.0, True
    while names and silent < PERIODS_TO_DEATH * heartbeat_seconds:
        silent = min(beats.silent_seconds(claim.name, read_trial_beat(claim)) for claim in claims)
        has_changed = silent == 0.0 and not is_first
        if has_changed or {claim.name for claim in claimed_trials(study)} != names:
            return False
        is_first = False
        sleep(min(_LONGEST_BEAT_LOOK_SECONDS, heartbeat_seconds / 4))
    return True
