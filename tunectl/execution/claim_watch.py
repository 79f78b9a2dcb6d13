"""What workers do with the trials that a run offers: claims, ends, and workers that have died.

Where a trial's folder is says who has it. A folder that was moved may show late on a file server, and so may its
content: what is not there yet is looked for again.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.execution.backends.backend import ProcessEnded, ProcessStarted
from tunectl.execution.server_patience import ServerPatience, passing_error
from tunectl.execution.taking_back import TakingBack
from tunectl.execution.watched_trials import Taken, Watched
from tunectl.execution.whole_ends import end_of, is_whole_end, without_own_result
from tunectl.execution.worker_supply import WorkerSupply, is_excused
from tunectl.store.claimed_trials import (
    Claimant,
    ClaimedTrial,
    Ending,
    StopRequest,
    claimed_trials,
    has_begun,
    read_claimant,
    read_trial_beat,
    request_stop,
)
from tunectl.store.given_files import not_shown
from tunectl.store.heartbeats import LATE_SECONDS, PERIODS_TO_DEATH, UNREADABLE, BeatWatch
from tunectl.store.lost_claims import may_show_late, shut_out, unfinished
from tunectl.store.offered_trials import desk_folder, forget_offer, home_folder, offered_trials, withdraw_trial
from tunectl.store.trial_files import folder_stamp
from tunectl.store.trial_progress import progress_made

_LISTING_SHARE = 0.1
"""Listing the places takes at most this part of the time: with thousands of trials it takes longer."""

_LONGEST_BEAT_LOOK_SECONDS = 1.0

_AGAIN_SECONDS = 10.0
"""After how long a trial that could not be taken back, such as for a full disk, is taken back again."""


class ClaimWatch:
    """Watches the trials that were offered in a study folder. `supply` has the engine that knows their jobs, if any."""

    def __init__(
        self,
        study: StudyFolder,
        heartbeat_seconds: float,
        supply: WorkerSupply | None,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        taking: TakingBack | None = None,
    ) -> None:
        self.trials: dict[int, Watched] = {}
        self.offered: set[int] = set()
        self._study, self._supply, self._say, self._clock = study, supply, say, clock
        self._taking, self._patience = taking or TakingBack(), ServerPatience(say, clock)
        self._dead_seconds = PERIODS_TO_DEATH * heartbeat_seconds
        self._late_seconds = max(LATE_SECONDS, self._dead_seconds)
        self._beats = BeatWatch(clock, heartbeat_seconds / 2, self._late_seconds - self._dead_seconds)
        self._beat_seconds = min(_LONGEST_BEAT_LOOK_SECONDS, heartbeat_seconds / 4)
        self._beats_read = self._not_before = -1e9

    def add(self, trial: int, attempt: int) -> None:
        """Watch a trial."""
        self.trials[trial] = Watched(trial, attempt, self._clock())
        self.offered.add(trial)

    def close(self) -> None:
        """Stop taking trials back; what was begun is finished by the next run."""
        self._taking.close()

    def look(self) -> Iterator[ProcessStarted | ProcessEnded]:
        """What has happened since the last look; raises FolderError where the places could not be listed for minutes,
        and where a trial that is to be stopped cannot be taken back from its dead worker.
        """
        began = self._clock()
        yield from self._taken_back()
        if not self.trials or began < self._not_before:
            return
        places = self._places()
        if places is None:
            return
        offered, claims = places
        self._not_before = began + (self._clock() - began) / _LISTING_SHARE
        self.offered = offered & self.trials.keys()
        reads_beats = began - self._beats_read >= self._beat_seconds
        self._beats_read = began if reads_beats else self._beats_read
        self._beats.keep({claim.name for found in claims.values() for claim in found})
        for trial in sorted(self.offered):
            watched = self.trials[trial]
            if watched.taken is not None:  # most likely the list is late, and its folder is among the claims
                self._take_again(watched, began)
                continue
            watched.claim = watched.missing_since = None
            if watched.wanted is not None and (ended := self._withdrawn(watched)) is not None:
                yield ended
        for trial in sorted(self.trials.keys() - offered):
            watched = self.trials[trial]
            claim = self._claim_of(watched, claims.get(trial, ()))
            if claim is not None:
                yield from self._claimed(watched, claim, reads_beats=reads_beats)
            elif watched.taken is not None:
                self._take_again(watched, began)
            elif reads_beats or watched.missing_since is None:  # what is late is not looked for all the time
                yield from self._ended(watched)
        yield from self._taken_back()

    def _places(self) -> tuple[set[int], dict[int, list[ClaimedTrial]]] | None:
        """What is offered and what is claimed; None where that cannot be read now."""
        claims: dict[int, list[ClaimedTrial]] = {}
        try:
            offered = set(offered_trials(self._study, must_exist=True))
            for claim in claimed_trials(self._study, must_exist=True):
                claims.setdefault(claim.trial, []).append(claim)
        except FolderError as error:
            self._patience.failed("places", error)
            self._not_before = self._clock() + _LONGEST_BEAT_LOOK_SECONDS
            for watched in self.trials.values():
                watched.missing_since = None  # nothing was seen to be missing
            return None
        self._patience.worked("places")
        return offered, claims

    def _claim_of(self, watched: Watched, claims: Sequence[ClaimedTrial]) -> ClaimedTrial | None:
        """The trial's claim among those with its number: of several, as code of a worker that was shut out can make a
        folder with the name of its claim again, the one that was seen before.
        """
        if not claims:
            return None
        known = watched.claim
        return next((claim for claim in claims if known is not None and claim.name == known.name), claims[-1])

    def stop(self, trial: int, request: StopRequest) -> ProcessEnded | None:
        """Take the trial back where no worker has it, and give its end; else ask its worker."""
        watched = self.trials.get(trial)
        if watched is None:
            return None
        watched.wanted = request
        if watched.claim is None and (ended := self._withdrawn(watched)) is not None:
            return ended
        self._ask(watched)
        return None

    def _withdrawn(self, watched: Watched) -> ProcessEnded | None:
        """Take back the offer of a trial; None where it is not offered any more, or that fails now."""
        try:
            is_back = withdraw_trial(self._study, watched.trial)
        except FolderError as error:
            self._patience.failed("withdrawing", error)
            return None
        self._patience.worked("withdrawing")
        if not is_back:
            return None
        return self._forget(watched, watched.unbegun())

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
        if watched.taken is not None:
            if watched.taken.again_at is None or self._clock() < watched.taken.again_at:
                return
            watched.taken = None  # it could not be taken, and its worker may have come back
        if watched.claim is None or watched.claim.name != claim.name:
            watched.claim, watched.claimant = claim, None
        if watched.claimant is None or (watched.claimant.waits and reads_beats):
            watched.claimant = read_claimant(claim.folder)
            if watched.claimant is not None:
                yield from self._started(watched, watched.claimant)
        self._ask(watched)
        if reads_beats:
            self._judged(watched, claim)

    def _started(self, watched: Watched, claimant: Claimant) -> Iterator[ProcessStarted]:
        if self._supply is not None and claimant.job:
            self._supply.trial_claimed(claimant.job)
        if not (watched.is_started or claimant.waits):
            watched.is_started = True
            yield watched.started(claimant, self._study)

    def _judged(self, watched: Watched, claim: ClaimedTrial) -> None:
        """Begin to take a trial back whose worker has died."""
        beat = read_trial_beat(claim)
        silent = self._beats.silent_seconds(claim.name, beat)
        if beat is UNREADABLE:
            self._say_once(watched, f"trial {watched.trial}: the heartbeat of {watched.who} cannot be read; waiting")
            return
        if silent < self._dead_seconds:
            watched.is_said = "" if silent == 0 else watched.is_said
            return
        is_killed = watched.wanted is not None and watched.wanted.kill
        if not is_killed and (alive := self._may_be_alive(watched)):
            self._say_once(watched, f"trial {watched.trial}: {watched.who} has been silent for {silent:.0f} s{alive}")
            return
        if beat is None:  # it was waited for as long as anything may show late
            self._take_back(watched, claim, silent)
        else:
            self._shut_out(watched, claim, silent)

    def _shut_out(self, watched: Watched, claim: ClaimedTrial, silent_seconds: float) -> None:
        """Take a trial from its worker: at once where all that the worker wrote shows, else as soon as it does."""
        try:
            is_late = may_show_late(claim)
            if is_late and not shut_out(claim):
                return  # it was given back at this moment
        except FolderError as error:
            self._not_taken(watched, Taken(claim, silent_seconds), error)
            return
        if not is_late:
            self._take_back(watched, claim, silent_seconds)
            return
        watched.taken = Taken(claim, silent_seconds, again_at=self._clock() + LATE_SECONDS)
        what = f"trial {watched.trial} is taken from {watched.who}, which was silent for {silent_seconds:.0f} s"
        self._say_once(watched, f"{what}; its last files may take {LATE_SECONDS:g} s to show")

    def _take_again(self, watched: Watched, now: float) -> None:
        taken = watched.taken
        if taken is not None and taken.again_at is not None and now >= taken.again_at:
            self._take_back(watched, taken.claim, taken.silent_seconds)

    def _take_back(self, watched: Watched, claim: ClaimedTrial, silent_seconds: float) -> None:
        watched.taken = Taken(claim, silent_seconds)
        self._taking.begin(claim)

    def _taken_back(self) -> Iterator[ProcessEnded]:
        """The ends of trials that were taken back from their workers."""
        for claim, outcome in self._taking.ended():
            if isinstance(outcome, Exception) and not isinstance(outcome, FolderError):
                raise outcome
            watched = self.trials.get(claim.trial)
            taken = None if watched is None else watched.taken
            if watched is None or taken is None or taken.claim.name != claim.name:
                continue
            if isinstance(outcome, FolderError):
                self._not_taken(watched, taken, outcome)
                continue
            watched.taken = None
            if outcome:  # else it was given back at this moment
                yield from self._end_without_worker(watched, taken.silent_seconds)

    def _end_without_worker(self, watched: Watched, silent: float) -> Iterator[ProcessEnded]:
        """The end of a trial that was taken back: as its worker wrote it, if it did."""
        home = home_folder(self._study, watched.trial)
        ending, has_result = end_of(home, watched.attempt)
        if ending is not None and not ending.never_began:
            self._tell_supply(watched, ending)
            yield self._forget(watched, watched.ended(ending if has_result else without_own_result(home, ending)))
            return
        self._tell_supply(watched, None)
        if has_begun(home):
            yield self._forget(watched, self._lost(watched, silent))
        else:  # its worker died first, so that no attempt was used
            yield from self._never_began(watched)

    def _never_began(self, watched: Watched) -> Iterator[ProcessEnded]:
        """The end of a trial that no worker has begun; none where its marks cannot be removed now."""
        watched.never_began = True
        try:
            forget_offer(home_folder(self._study, watched.trial))
        except FolderError as error:
            self._patience.failed("withdrawing", error)
            return
        self._patience.worked("withdrawing")
        yield self._forget(watched, watched.unbegun())

    def _not_taken(self, watched: Watched, taken: Taken, error: FolderError) -> None:
        """Try again later to take a trial back: its files are where they were, and nowhere else.

        Raises FolderError where the whole run is to end at once: all that is left of it is to be killed.
        """
        what = f"trial {watched.trial} cannot be taken back from {watched.who}"
        if all(item.wanted is not None and item.wanted.kill for item in self.trials.values()):
            raise FolderError(f"{what}: {error}; the next run does it") from error
        watched.taken = replace(taken, again_at=self._clock() + _AGAIN_SECONDS)
        self._say_once(watched, f"warning: {what}: {error}; trying again every {_AGAIN_SECONDS:g} s")

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
            return f", and {supply.engine.name} cannot say now whether its job is still there; waiting"
        return ", but its job is still there; waiting: cancel that job if the worker is dead" if known else ""

    def _ended(self, watched: Watched) -> Iterator[ProcessStarted | ProcessEnded]:
        """The end of a trial that is neither offered nor claimed, once all of it is there."""
        home = home_folder(self._study, watched.trial)
        if not os.path.isdir(home.path):  # noqa: PTH112
            yield from self._nowhere(watched)
            return
        self._patience.worked(home.path.name)
        ending, has_result = end_of(home, watched.attempt)
        is_unbegun = watched.never_began or (ending is not None and ending.never_began)
        if not (is_unbegun or is_whole_end(home, ending, has_result=has_result)):
            if self._may_show(watched, (folder_stamp(home), ending)):
                return
            is_unbegun = ending is None and not has_begun(home)
            if ending is not None and (missing := not_shown(home, ending)):
                self._say(f"warning: {home.path / missing[0]} does not show as {watched.who} left it")
        if is_unbegun:
            yield from self._never_began(watched)
            return
        claimant = watched.claimant or read_claimant(home)
        if claimant is not None:
            yield from self._started(watched, claimant)
        if ending is None:
            # A worker whose disk is full cannot write it; the result, if there is one, says the rest. Without one, the
            # worker has given it back all the same: no fault of the trial, which goes on elsewhere a few times.
            message = "" if has_result else f"{watched.who} gave it back, and could not write how it ended"
            seconds = self._clock() - watched.launched
            ending = Ending(
                watched.attempt, 0 if has_result else None, seconds=seconds, released=not has_result, message=message
            )
        if (explained := watched.with_cause(ending, claimant, self._supply, self._clock())) is None:
            return
        self._tell_supply(watched, ending)
        yield self._forget(watched, watched.ended(explained if has_result else without_own_result(home, explained)))

    def _may_show(self, watched: Watched, shown: object = None) -> bool:
        """Whether what is missing of a trial may show yet: it has not been missing for long."""
        return watched.missing_seconds(self._clock(), shown) < self._late_seconds

    def _nowhere(self, watched: Watched) -> Iterator[ProcessEnded]:
        """Look for a trial where it is when a step with it has failed. It is never made anew: it would begin again.

        Raises FolderError where it is not there for minutes.
        """
        study, trial = self._study, watched.trial
        if os.path.isdir(desk_folder(study, trial).path):  # noqa: PTH112
            if (ended := self._withdrawn(watched)) is not None:
                yield ended
        elif not self._may_show(watched):
            try:
                claim = next((claim for claim in unfinished(study) if claim.trial == trial), None)
            except FolderError as error:
                self._patience.failed("places", error)
                return
            if claim is not None:
                self._shut_out(watched, claim, self._clock() - (watched.missing_since or 0.0))
                return
            places = ", ".join(str(place) for place in (study.trials, study.offered, study.claimed))
            missing = passing_error(f"trial {trial} is in none of {places}", errno.ENOENT)
            self._patience.failed(home_folder(study, trial).path.name, missing)

    def _tell_supply(self, watched: Watched, ending: Ending | None) -> None:
        """Say to it that a trial has ended, or goes on elsewhere, as where its worker did not say how it ended."""
        if self._supply is None:
            return
        if ending is None or ending.released or ending.lost:
            self._supply.trial_left(watched.trial, progress_made(home_folder(self._study, watched.trial)))
        else:
            self._supply.trial_ended()

    def _forget(self, watched: Watched, event: ProcessEnded) -> ProcessEnded:
        self.trials.pop(watched.trial, None)
        self.offered.discard(watched.trial)
        return event

    def _say_once(self, watched: Watched, text: str) -> None:
        kind = text.split(" for ")[0]
        if watched.is_said != kind:
            watched.is_said = kind
            self._say(text)
