"""Trials that were launched for workers, as the run sees them, and their ends as events of the backend."""

from __future__ import annotations

from dataclasses import dataclass

from tunectl.execution.backends.backend import ProcessEnded
from tunectl.store.claimed_trials import Claimant, ClaimedTrial, Ending, StopRequest


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
    is at home, and from whose folder the marks of its offer could not be removed yet.
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

    @property
    def who(self) -> str:
        """The worker in words."""
        return "its worker" if self.claimant is None else f"its worker on {where_in_words(self.claimant)}"

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
        )


def where_in_words(claimant: Claimant) -> str:
    """On which host a worker is, and in which job."""
    job = f" ({claimant.engine} job {claimant.job})" if claimant.job else ""
    return f"{claimant.host}{job}"
