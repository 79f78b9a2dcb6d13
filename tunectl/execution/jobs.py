"""The trials to run, the limits of an attempt, and the events from which progress is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunectl.core.records import AttemptEnd, State
from tunectl.execution.backends.backend import BackendReady
from tunectl.execution.failures import CommonFailure
from tunectl.execution.slots import Slot
from tunectl.store.written_files import OutputFile

OUT_OF_MEMORY = "out_of_memory"
STOPPED_EARLY = "stopped_early"
LOST = "lost"
RELEASED = "released"
_COUNTED = frozenset({"crashed", LOST})

MOST_IDLE_RELEASES = 10
"""How often in a row a trial may be released without a further update, before it has failed."""


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """How many times a trial is tried, and for how long.

    `retries` is how many more times a trial is tried that crashed, or was lost without having come any further. An
    attempt that takes longer than `trial_timeout_seconds`, with its start-up, may save for `grace_seconds` and has then
    failed (`timeout`).
    """

    retries: int = 1
    trial_timeout_seconds: float = math.inf
    grace_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Job:
    """A trial to run.

    `earlier_attempts` are the attempts that gave no result, in this run and in earlier ones (attempts.jsonl).
    `is_at_work`: a worker has its next attempt already, from an earlier call of the command.
    """

    trial: int
    earlier_attempts: tuple[AttemptEnd, ...] = ()
    is_at_work: bool = False

    @property
    def attempt(self) -> int:
        """The number of the next attempt, from 1."""
        return self.earlier_attempts[-1].attempt + 1 if self.earlier_attempts else 1

    @property
    def failures(self) -> int:
        """The attempts that count against the retries: those that crashed or were lost since the trial last failed.

        One that was lost after it had come further than all before it does not count: its worker or server is at fault.
        """
        count = best = 0
        for attempt in self.earlier_attempts:
            kind = attempt.reason.split(" (")[0]
            is_further = kind == LOST and (attempt.reached or 0) > best
            count = 0 if attempt.final else count + (kind in _COUNTED and not is_further)
            best = max(best, attempt.reached or 0)
        return count

    def failures_with(self, reason: str, reached: int | None) -> int:
        """The same with the attempt that now ends so."""
        return self.after(AttemptEnd(self.attempt, reason, reached=reached)).failures

    def idle_releases(self, reached: int) -> int:
        """How often in a row it was released without progress, if it now is again at this progress."""
        count = best = 0
        for attempt in (*self.earlier_attempts, AttemptEnd(self.attempt, RELEASED, reached=reached)):
            if attempt.final:
                count = best = 0
            elif attempt.reached is not None:
                is_release = attempt.reason.split(" (")[0] == RELEASED
                count = 0 if attempt.reached > best else count + is_release
                best = max(best, attempt.reached)
        return count

    @property
    def alone(self) -> bool:
        """Whether no other trial may share its device: it ran out of memory beside another one."""
        return any(attempt.reason == OUT_OF_MEMORY for attempt in self.earlier_attempts)

    def after(self, attempt: AttemptEnd) -> Job:
        """The job for the next attempt, after this one has ended."""
        return Job(self.trial, (*self.earlier_attempts, attempt))


def named_reason(reason: str, cause: str) -> str:
    """The reason of an attempt, with the engine's word for it."""
    return f"{reason} ({cause})" if cause else reason


@dataclass(frozen=True, slots=True)
class Hopeless:
    """A running trial that is to be stopped early: why, at which evaluated step, and after how long (training and
    evaluations, in seconds).
    """

    message: str
    step: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """A trial's process has started. `attempt` counts from 1 over all runs of the study.

    `where` says on which host, and in which job, it runs, "" on this machine; `device` is the name in the tables.
    `outputs` are the files that its worker prints to. `is_late`: what it writes may show late, on a file server.
    """

    trial: int
    slot: Slot
    attempt: int
    pid: int
    device: str = ""
    where: str = ""
    outputs: tuple[OutputFile, ...] = ()
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class TrialRetried:
    """An attempt ended without a result, and the trial waits for another attempt.

    `reason` is crashed, lost, out_of_memory (the trial will run again, alone on its device), or released (its worker
    had to end). `message` is one line.
    """

    trial: int
    reason: str
    message: str
    attempt: int


@dataclass(frozen=True, slots=True)
class TrialSetAside:
    """A running trial was stopped because the run is paused; it is launched again after the pause."""

    trial: int
    attempt: int


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial has the state in which this run leaves it: completed, infeasible, failed, stopped or cancelled.

    A user may have stopped a cancelled one for good: see `is_stopped_for_good`.
    `seconds` is the time of the last attempt. `where` is the file and line of a failure, where known.
    """

    trial: int
    state: State
    reason: str
    message: str
    seconds: float
    attempt: int
    where: str = ""


@dataclass(frozen=True, slots=True)
class StoppedByFailures:
    """The first trials all failed for one cause, so the study is stopped. `left` trials have not run to their end."""

    failure: CommonFailure
    left: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing happened, but time has passed. `stopping` is 0, 1 (running trials may save) or 2 (they are killed).

    `is_asked`: the user requested the stop, by Ctrl-C or a signal; otherwise the study stops by itself. `offered` has
    those in a queue that no worker has begun: they are neither running nor waiting.
    """

    running: int
    waiting: int
    stopping: int = 0
    is_asked: bool = False
    offered: int = 0


Event = BackendReady | TrialStarted | TrialRetried | TrialSetAside | TrialEnded | StoppedByFailures | Tick
