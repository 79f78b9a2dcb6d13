"""Why a worker ends, and what it says of that with the trials that it releases."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tunectl.core.errors import EXIT_DONE, EXIT_INTERRUPTED
from tunectl.execution.worker_engine import TIME_IS_SHORT
from tunectl.execution.worker_options import WorkerOptions
from tunectl.execution.worker_stops import WorkerStops
from tunectl.store.claimed_trials import Ending
from tunectl.store.run_state import RunState

_GIVING_BACK_SECONDS = 10.0

_WARNED_SECONDS = 150.0
# How long, besides the grace of its trials, before its time is over a batch system warns a worker at most: Slurm's
# engine asks for a minute, Slurm may be a minute early, and this host's clock is another one.

_TIME_RELEASED = "the time of its worker was nearly over"


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """Why a worker ends. With `why_released` the trials that it has are stopped, for this reason.

    `cause` and `was_asked` are those of Ending.
    """

    why: str
    exit_code: int = EXIT_DONE
    why_released: str = ""
    cause: str = ""
    was_asked: bool = False

    def of_trial(self, ending: Ending) -> Ending:
        """The end of one of its trials, with the cause where it was released."""
        return replace(ending, cause=self.cause, was_asked=self.was_asked) if ending.released else ending


def ending_seconds(grace_seconds: float) -> float:
    """What a worker takes to have given all of its trials back: the grace in which they save, and a while."""
    return grace_seconds + _GIVING_BACK_SECONDS


def is_time_short(options: WorkerOptions, state: RunState | None, begun: float, now: float) -> bool:
    """Whether a worker that began at `begun` must give its trials back now."""
    if options.ends_at is None:
        return False
    return now >= options.ends_at - min(ending_seconds(_grace(state)), (options.ends_at - begun) / 2)


def end_of_time(options: WorkerOptions) -> WorkerEnd:
    """The end of a worker whose time is short."""
    return WorkerEnd(TIME_IS_SHORT, why_released=_TIME_RELEASED, cause=options.end_cause)


def end_by_signal(stops: WorkerStops, options: WorkerOptions, state: RunState | None, now: float) -> WorkerEnd:
    """The end of a worker that was asked to stop.

    A warning is that of the time limit only where that is near: Slurm can also send it ahead of a pre-emption.
    """
    if not stops.time_is_short:
        return WorkerEnd("it was asked to stop", EXIT_INTERRUPTED, "its worker was asked to stop", was_asked=True)
    is_near = options.ends_at is None or options.ends_at - now <= _grace(state) + _WARNED_SECONDS
    cause = options.end_cause if is_near else ""
    why = f"{TIME_IS_SHORT}, as its batch system has warned"
    return WorkerEnd(why, EXIT_DONE, _TIME_RELEASED, cause, was_asked=not cause)


def _grace(state: RunState | None) -> float:
    return 0.0 if state is None else state.resources.grace_seconds
