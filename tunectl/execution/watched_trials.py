"""Trials that were launched for workers, as the run sees them, and their ends as events of the backend."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tunectl.core.boot_id import seen_from
from tunectl.core.folders import StudyFolder
from tunectl.execution.backends.backend import ProcessEnded, ProcessStarted
from tunectl.execution.worker_supply import WorkerSupply, is_excused
from tunectl.store.claimed_trials import Claimant, ClaimedTrial, Ending, StopRequest

CAUSE_SECONDS = 15.0
"""How long a released trial waits for the engine's word about its worker, which is most often there after a few."""

MOST_CHANGES = 5
"""How often what shows of an end may change until no more is waited for: a process that was left may go on writing."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A claim that is taken back, as its worker was silent.

    `again_at`: it is taken back then, since that failed before, or not all of its files may show yet.
    """

    claim: ClaimedTrial
    silent_seconds: float
    again_at: float | None = None


@dataclass(slots=True)
class Watched:
    """A trial that was launched: offered, claimed by a worker, or on its way home.

    `wanted` is what the worker is to be asked for. `missing_since` is the time since when it, or something of its end,
    has been missing. `taken` is there while it is taken back from a dead worker. `never_began` is known of a trial that
    is at home, and from whose folder the marks of its offer could not be removed yet. `released` is when it was seen to
    be released. `shown` is what was seen last of its end.
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
    taken: Taken | None = None
    never_began: bool = False
    released: float | None = None
    shown: object = None
    changes: int = 0

    def missing_seconds(self, now: float, shown: object) -> float:
        """How long something of it has been missing, since the last change of what is `shown` of its end: a file server
        may show a folder late, and then its files.
        """
        if self.missing_since is None:
            self.missing_since = now
        elif shown != self.shown and self.changes < MOST_CHANGES:
            self.missing_since, self.changes = now, self.changes + 1
        self.shown = shown
        return now - self.missing_since

    @property
    def who(self) -> str:
        """The worker in words."""
        return "its worker" if self.claimant is None else f"its worker on {where_in_words(self.claimant)}"

    def started(self, claimant: Claimant, study: StudyFolder) -> ProcessStarted:
        """That a worker has begun it; a host may have several workers, so where is also in which process."""
        where = where_in_words(claimant, with_process=True)
        is_late = not claimant.boot or claimant.boot != seen_from(study.path)
        return ProcessStarted(self.trial, claimant.pid, claimant.device, where, claimant.outputs, is_late)

    def unbegun(self) -> ProcessEnded:
        """The end of a trial that no worker has begun."""
        return ProcessEnded(self.trial, None, None, 0.0, never_began=True)

    def ended(self, ending: Ending) -> ProcessEnded:
        """The end of a trial as its worker wrote it."""
        return ProcessEnded(
            self.trial,
            ending.code,
            ending.signal,
            ending.seconds,
            lost=ending.lost,
            message=ending.message,
            is_users=ending.is_users,
            released=ending.released,
            timed_out=ending.timed_out,
            had_company=ending.had_company,
            cause=ending.cause,
        )

    def with_cause(
        self, ending: Ending, claimant: Claimant | None, supply: WorkerSupply | None, now: float
    ) -> Ending | None:
        """The end with the engine's word for why its worker had to end; None where that may be known soon.

        It is not waited for where the trial is not to go on. That the worker's job failed says nothing: its exit code
        is that of a worker that was asked to end.
        """
        if not (ending.released and ending.was_asked) or supply is None or claimant is None:
            return ending
        job = supply.engine.jobs().get(claimant.job) if claimant.engine == supply.engine.name else None
        if job is None:
            return ending
        self.released = now if self.released is None else self.released
        if job.state != "queued" and is_excused(job.reason):
            return replace(ending, cause=job.reason)
        is_waited_for = job.state == "running" and self.wanted is None and now - self.released < CAUSE_SECONDS
        return None if is_waited_for else ending


def where_in_words(claimant: Claimant, *, with_process: bool = False) -> str:
    """On which host a worker is, and in which job; one without a job `with_process`: a host may have several."""
    if with_process and not claimant.job:
        return f"{claimant.host} (process {claimant.pid})"
    job = f" ({claimant.engine} job {claimant.job})" if claimant.job else ""
    return f"{claimant.host}{job}"
