"""What is to be run, and within which limits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunectl.core.records import AttemptEnd

OUT_OF_MEMORY = "out_of_memory"
_COUNTED = frozenset({"crashed", "lost"})


@dataclass(frozen=True, slots=True)
class Limits:
    """How often and how long a trial is tried.

    `retries` is how often one that crashed or was lost is tried again. An attempt that takes longer than
    `trial_timeout_seconds`, its start-up included, may save for `grace_seconds` and has failed (`timeout`).
    """

    retries: int = 1
    trial_timeout_seconds: float = math.inf
    grace_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Job:
    """A trial to run.

    `earlier_attempts` are the attempts that gave no result, those of earlier runs included (attempts.jsonl).
    """

    trial: int
    earlier_attempts: tuple[AttemptEnd, ...] = ()

    @property
    def attempt(self) -> int:
        """The number of the next attempt, from 1."""
        return self.earlier_attempts[-1].attempt + 1 if self.earlier_attempts else 1

    @property
    def failures(self) -> int:
        """The attempts that count against the retries: those that crashed or were lost since the trial last failed."""
        last_final = max((place for place, item in enumerate(self.earlier_attempts) if item.final), default=-1)
        return sum(1 for attempt in self.earlier_attempts[last_final + 1 :] if attempt.reason in _COUNTED)

    @property
    def alone(self) -> bool:
        """Whether the trial must have its device for itself: it ran out of memory beside another one."""
        return any(attempt.reason == OUT_OF_MEMORY for attempt in self.earlier_attempts)

    def after(self, attempt: AttemptEnd) -> Job:
        """The job with one attempt more behind it."""
        return Job(self.trial, (*self.earlier_attempts, attempt))
