"""A trial that a worker has claimed: its heartbeat, the requests to stop it, and how it ended."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from tunectl.core import regular_files
from tunectl.core.boot_id import seen_from
from tunectl.core.errors import FolderError
from tunectl.core.typed_fields import DamagedError, sealed_object
from tunectl.core.wording import first_listed
from tunectl.execution import processes
from tunectl.execution.backends.backend import Backend, ProcessEnded
from tunectl.execution.failures import explain_end, was_stopped
from tunectl.execution.own_outputs import own_outputs
from tunectl.execution.protocol import EXIT_STOPPED, EXIT_UNWRITTEN
from tunectl.execution.slots import Slot
from tunectl.store import claimed_trials
from tunectl.store.claimed_trials import Claimant, ClaimedTrial, Ending
from tunectl.store.given_files import not_shown
from tunectl.store.heartbeats import LATE_SECONDS
from tunectl.store.offered_trials import Offer, read_offer
from tunectl.store.trial_files import read_result

LOOK_EVERY_SECONDS = 1.0
"""How often a worker looks for requests to stop a trial, and at the run that offers trials."""

_NAMED = 3

StopCause = Literal["", "asked", "timed_out", "released"]


@dataclass(frozen=True, slots=True)
class WorkerName:
    """What a worker writes into its claims. `engine` and `job` are "" where no engine started it."""

    worker: str
    engine: str = ""
    job: str = ""

    def claimant(self, offer: Offer | None, slot: Slot, *, waits: bool = False, boot: str = "") -> Claimant:
        """Who has claimed a trial; its attempt is 0 as long as its offer cannot be read."""
        pid, attempt = os.getpid(), 0 if offer is None else offer.attempt
        host, started = _host_and_start(pid)
        where = (self.engine, self.job, started, slot.device.label)
        return Claimant(self.worker, host, pid, attempt, *where, waits=waits, boot=boot, outputs=own_outputs())


@cache
def _host_and_start(pid: int) -> tuple[str, int | None]:
    # Once: on a busy machine a look into /proc takes longer than a claim.
    return socket.gethostname(), processes.start_time(pid)


@dataclass(slots=True)
class HeldTrial:
    """A claimed trial. Times are those of the worker's clock.

    It waits from `claimed_at` to `launched_at`. `slot` is where it runs; of one that must run alone it may change
    until then. `is_lost`: the claim was taken back, and nothing of the folder may be touched any more. `is_noted`: who
    has claimed it is in its folder. `ending_to_give` is there when its process has ended. `shows_files`: nothing from
    which it goes on is waited for any more.
    """

    claimed: ClaimedTrial
    slot: Slot
    claimed_at: float
    offer: Offer | None = None
    has_places: bool = True
    launched_at: float | None = None
    had_company: bool = False
    is_lost: bool = False
    is_noted: bool = False
    beats: int = 0
    beat_at: float | None = None
    looked_at: float | None = None
    stop_sent: float | None = None
    stop_cause: StopCause = ""
    kill_sent: float | None = None
    ending_to_give: Ending | None = None
    shows_files: bool = False
    files_looked_at: float | None = None

    @property
    def trial(self) -> int:
        """The trial's number."""
        return self.claimed.trial

    @property
    def is_alone(self) -> bool:
        """Whether it must have its device for itself."""
        return self.offer is not None and self.offer.alone

    def can_be_read(self) -> bool:
        """Whether the offer and the request can be read, and are of one attempt; a file server may show them late, or
        show one of an earlier attempt.
        """
        if self.offer is not None:
            return True
        offer = read_offer(self.claimed.folder)
        try:
            asked = sealed_object(regular_files.content(self.claimed.folder.request, within=self.claimed.study.path))
        except (OSError, DamagedError):
            return False
        if offer is not None and asked.get("attempt", offer.attempt) == offer.attempt:
            self.offer = offer
        return self.offer is not None

    def waits_for_files(self, now: float, say: Callable[[str], None]) -> bool:
        """Whether files from which the trial goes on are waited for: another host wrote them, and a file server may
        show them late. What is missing for longer was removed, and the trial goes on without it.
        """
        if self.shows_files or self.offer is None:
            return False
        if self.files_looked_at is not None and now - self.files_looked_at < LOOK_EVERY_SECONDS:
            return True
        missing = not_shown(self.claimed.folder, self.offer)
        if missing and now - self.claimed_at >= LATE_SECONDS:
            say(f"warning: trial {self.trial} goes on without what does not show here: {first_listed(missing, _NAMED)}")
        elif missing and self.files_looked_at is None:
            what = f"trial {self.trial}: waiting up to {LATE_SECONDS:g} s for the files from which it goes on to show"
            say(f"{what}; {missing[0]} does not yet")
        self.files_looked_at = now
        self.shows_files = not missing or now - self.claimed_at >= LATE_SECONDS
        return not self.shows_files

    def beat(self, now: float, period_seconds: float) -> None:
        """Write the heartbeat where it is time for it. Where the folder is gone, the claim is lost.

        A heartbeat that cannot be written for another reason is written at the next look: it shows that the claim is
        held as long as it changes in time. That is so, too, where a file server says that it has no such folder, and
        lists it, or does not list the claims at all.
        """
        if self.is_lost or (self.beat_at is not None and now - self.beat_at < period_seconds):
            return
        try:
            claimed_trials.write_trial_beat(self.claimed, self.beats + 1)
        except FileNotFoundError:
            self.is_lost = claimed_trials.is_gone(self.claimed)
            if not self.is_lost:
                return
        except OSError:
            return
        self.beats += 1
        self.beat_at = now

    def note(self, name: WorkerName, *, waits: bool) -> None:
        """Write who has claimed it, once while it waits; raises OSError, FileNotFoundError where it was taken over.

        Where it does not wait, it is launched next: no end of an earlier worker may be taken for its own.
        """
        if not waits:
            claimed_trials.forget_ending(self.claimed)
        if not (waits and self.is_noted):
            boot = seen_from(self.claimed.study.path)
            claimed_trials.write_claimant(self.claimed, name.claimant(self.offer, self.slot, waits=waits, boot=boot))
            self.is_noted = True

    def is_unwanted(self, now: float) -> bool:
        """Whether the run has asked for the end of a trial that waits."""
        if self.looked_at is not None and now - self.looked_at < LOOK_EVERY_SECONDS:
            return False
        self.looked_at = now
        return claimed_trials.read_stop_request(self.claimed) is not None

    def look(self, now: float, backend: Backend) -> None:
        """Stop or kill the trial where the run asks for it, its time is over, or its claim is lost."""
        if self.launched_at is None:
            return
        if self.is_lost:
            self.kill(now, backend)
            return
        if self.looked_at is None or now - self.looked_at >= LOOK_EVERY_SECONDS:
            self.looked_at = now
            request = claimed_trials.read_stop_request(self.claimed)
            if request is not None:
                self.stop(now, backend, "asked")
                if request.kill:
                    self.kill(now, backend)
        limit = None if self.offer is None else self.offer.timeout_seconds
        if limit is not None and now - self.launched_at >= limit:
            self.stop(now, backend, "timed_out")
        grace = 0.0 if self.offer is None else self.offer.grace_seconds
        if self.stop_sent is not None and now - self.stop_sent >= grace:
            self.kill(now, backend)

    def stop(self, now: float, backend: Backend, cause: StopCause) -> None:
        """Ask the trial to save and end, once; the first cause counts."""
        if self.stop_sent is None and self.launched_at is not None:
            self.stop_sent, self.stop_cause = now, cause
            backend.stop(self.trial)

    def kill(self, now: float, backend: Backend) -> None:
        """Kill the trial's processes, once."""
        if self.kill_sent is None and self.launched_at is not None:
            self.kill_sent = now
            backend.kill(self.trial)

    def ending(self, ended: ProcessEnded, why_released: str, *, has_company: bool) -> Ending:
        """What is written of the end of its process; `why_released` says why the worker ends, "" where it does not.

        A batch system signals all processes of a job: a trial may have been asked to stop before its worker asks it,
        or by another process alone. It has saved, and goes on elsewhere. So does one that could not write its files,
        since only this host may have no room for them.
        """
        is_unwritten = ended.verdict == EXIT_UNWRITTEN
        if not self.stop_cause and (why_released or ended.verdict == EXIT_STOPPED):
            self.stop_cause = "released"
        is_released = is_unwritten or (self.stop_cause == "released" and was_stopped(ended))
        why_released = why_released or "another process asked it to stop"
        why_released = f"its worker could not write its files: {ended.message}" if is_unwritten else why_released
        return Ending(
            attempt=0 if self.offer is None else self.offer.attempt,
            code=ended.code,
            signal=ended.signal,
            seconds=ended.seconds,
            lost=ended.lost,
            message=self.claimed.folder.at_home(why_released if is_released else ended.message),
            is_users=ended.is_users,
            released=is_released,
            timed_out=self.stop_cause == "timed_out",
            had_company=self.had_company or has_company,
            device=self.slot.device.label,
            host=socket.gethostname(),
        )

    def given_back(self, message: str = "", *, lost: bool = False) -> Ending:
        """What is written of a trial that was not launched: it never began, or is `lost` where it cannot begin."""
        attempt = 0 if self.offer is None else self.offer.attempt
        return Ending(attempt, lost=lost, message=message, host=socket.gethostname(), never_began=not lost)

    def how_it_ended(self, ending: Ending) -> str:
        """Its end in words; the run decides what it means."""
        if ending.never_began:
            return "given back before it began, as the run has asked"
        with contextlib.suppress(OSError, FolderError):
            result = None if self.is_lost else read_result(self.claimed.folder)
            if result is not None:
                why = f" ({result.message or result.reason})" if result.state != "completed" else ""
                return f"{result.state}{why} after {ending.seconds:.1f} s"
        if ending.released:
            return f"released: {ending.message}; it goes on from its last save"
        if self.stop_cause == "asked":
            return "stopped, as the run has asked"
        if ending.timed_out:
            return "stopped: it took longer than trial_timeout_seconds"
        event = ProcessEnded(self.trial, ending.code, ending.signal, ending.seconds, is_users=ending.is_users)
        return ending.message or explain_end(event)
