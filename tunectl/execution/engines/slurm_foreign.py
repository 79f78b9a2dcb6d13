"""The jobs of workers that a person has started: they are not of this study's arrays, and are asked for by their ids.

Such a job may be another user's that this Slurm hides (PrivateData=jobs), or another cluster's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tunectl.execution.engines import slurm_jobs
from tunectl.execution.engines.slurm_commands import ANSWER_SECONDS, Question
from tunectl.store.heartbeats import LATE_SECONDS

ASK_SECONDS = 4.0
"""The time between two calls of squeue."""

MOMENT_SECONDS = 2.0
"""How long the answer of squeue is waited for, which is most often there at once."""

ALL_STATES = (
    *("squeue", "--noheader", "--array", "--states=all"),
    # Jobs in hidden partitions, too, and those that another cluster of the federation has started.
    *("--all", "--federation", f"--Format={slurm_jobs.SQUEUE_FORMAT}"),
)
WITH_COMMAND = (*ALL_STATES[:-1], f"--Format={slurm_jobs.FORMAT_WITH_COMMAND}")
NO_SUCH_JOB = "Invalid job id"


@dataclass
class _Foreign:
    """A job. `known` is whether Slurm has it; `asked_since` and `last_asked` are of questions to this object."""

    question: Question
    asked_since: float
    last_asked: float
    known: bool | None = None
    answered: float | None = None
    was_seen: bool = False


class ForeignJobs:
    """What Slurm knows of these jobs; `clock` gives monotonic seconds.

    `name` is that of the jobs of this study. A folder that was copied has claims of the other one's workers, whose jobs
    have another name: they are none of this study, and its trials do not wait for them.
    """

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name, self._clock = name, clock
        self._jobs: dict[str, _Foreign] = {}

    def knows(self, life: str) -> bool | None:
        """Whether this life of a job is queued or running; None where that is not known now.

        Of a job that Slurm has never shown, its worker's heartbeat alone says whether it is alive: it is not known for
        LATE_SECONDS, in which the heartbeat may show late, and counts as ended after them.
        """
        now = self._clock()
        asked = self._jobs.setdefault(life, _Foreign(Question(self._clock), now, now))
        if now - asked.last_asked > LATE_SECONDS / 2:  # its worker has been heard of since
            asked.asked_since = now
        asked.last_asked = now
        if asked.known is False and asked.was_seen:
            return False
        self._ask(asked, life)
        if asked.answered is None or self._clock() - asked.answered >= ANSWER_SECONDS:
            return None
        if asked.known is False and not asked.was_seen and now - asked.asked_since < LATE_SECONDS:
            return None
        return asked.known

    def _ask(self, asked: _Foreign, life: str) -> None:
        now, found = self._clock(), slurm_jobs.job_and_restarts(life)
        if found is None or (asked.answered is not None and now - asked.answered < ASK_SECONDS):
            return
        job, restarts = found
        answer = asked.question.answer()
        if answer is None and not asked.question.is_open:
            answer = asked.question.ask(*ALL_STATES, f"--jobs={job}")
            if answer is None:
                asked.question.wait(MOMENT_SECONDS)
                answer = asked.question.answer()
        if answer is not None:
            asked.answered = now
            if NO_SUCH_JOB in answer.error:
                asked.known = False
            else:
                asked.known = None if answer.error else slurm_jobs.is_alive(answer.text, job, restarts, self._name)
                asked.was_seen = asked.was_seen or bool(answer.text.strip() and asked.known is not None)

    def is_open(self, life: str) -> bool:
        """Whether squeue was asked for this job and has not answered yet."""
        return life in self._jobs and self._jobs[life].question.is_open

    def close(self) -> None:
        """End the commands that have not answered."""
        for asked in self._jobs.values():
            asked.question.close()
