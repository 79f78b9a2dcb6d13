"""What sacct adds, where there is accounting, about jobs whose end squeue does not explain: such as who cancelled one.

Accounting may be some seconds late, and its database may be down for a while: it is asked a few times about each job.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping

from tunectl.execution.engines import slurm_jobs
from tunectl.execution.engines.slurm_commands import Answer, Question
from tunectl.execution.engines.slurm_jobs import job_and_restarts

AGAIN_SECONDS = 10.0
"""After how long it is asked again about a job of which it did not know the end."""

PAUSE_SECONDS = 60.0
"""After how long it is asked again where it has failed."""

MOST_TRIES = 6
"""How often it is asked about one job."""

_IS_OFF = re.compile(r"storage is disabled|^sacct: No such file", re.IGNORECASE)
_SACCT = (
    *("sacct", "--noheader", "--parsable2", "--allocations", "--duplicates"),
    f"--format={slurm_jobs.SACCT_FORMAT}",
)


class Accounting:
    """Asks about the jobs with this name. Nothing here waits; `clock` gives monotonic seconds."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name, self._clock, self._question = name, clock, Question(clock)
        self._tries: dict[str, int] = {}  # of each life that is not explained
        self._not_before = self._again_at = -math.inf
        self.is_on = True

    @property
    def is_open(self) -> bool:
        """Whether sacct was asked and has not answered yet."""
        return self._question.is_open

    def add(self, lives: Iterable[str]) -> None:
        """Ask about these lives of jobs, which have ended."""
        if self.is_on:
            self._tries.update((life, 0) for life in lives if life not in self._tries)

    def look(self) -> Mapping[str, str]:
        """The reasons that were learned since the last look, by the lives of the jobs."""
        answer = self._question.answer()
        if answer is None and self._should_ask():
            jobs = {found[0] for life in self._tries if (found := job_and_restarts(life))}
            self._tries = {life: count + 1 for life, count in self._tries.items()}
            answer = self._question.ask(*_SACCT, f"--jobs={','.join(sorted(jobs))}")
        return {} if answer is None else self._read(answer)

    def _should_ask(self) -> bool:
        now = self._clock()
        if self._question.is_open or not self._tries or now < self._not_before:
            return False
        return now >= self._again_at or 0 in self._tries.values()

    def _read(self, answer: Answer) -> Mapping[str, str]:
        now = self._clock()
        self._again_at = now + AGAIN_SECONDS
        try:
            has_failed = bool(answer.error)
            lives = {} if has_failed else slurm_jobs.sacct_lives(answer.text, self._name)
        except ValueError:
            has_failed, lives = True, {}
        if has_failed:
            self._not_before = now + PAUSE_SECONDS
            self.is_on = _IS_OFF.search(answer.error) is None
        explained = {
            life: reason for life, (state, reason) in lives.items() if state == "ended" and life in self._tries
        }
        self._tries = {
            life: count
            for life, count in self._tries.items()
            if self.is_on and count < MOST_TRIES and life not in explained
        }
        return explained

    def close(self) -> None:
        """End the command that has not answered."""
        self._question.close()
