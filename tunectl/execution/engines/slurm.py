"""The engine of the backend `slurm`: workers are jobs of Slurm, submitted as arrays, and watched with squeue.

All jobs of a study folder have one name, by which squeue finds them again: also those of an earlier run, and those of a
run that was killed before it could write down their ids. A job that is not found by its name (which a site or a user
may change) is asked for by its id before it counts as ended; it is one of these only where its script was submitted
from this folder. Where Slurm cannot be asked, nothing is assumed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace

from tunectl.core.errors import TunectlError
from tunectl.core.log_reader import last_lines
from tunectl.core.wording import counted
from tunectl.execution.engines import slurm_jobs, slurm_submission, slurm_words
from tunectl.execution.engines.slurm_accounting import Accounting
from tunectl.execution.engines.slurm_commands import Answer, Question, call
from tunectl.execution.engines.slurm_foreign import (
    ALL_STATES,
    ASK_SECONDS,
    MOMENT_SECONDS,
    NO_SUCH_JOB,
    WITH_COMMAND,
    ForeignJobs,
)
from tunectl.execution.engines.slurm_jobs import job_and_restarts
from tunectl.execution.engines.study_mark import study_mark
from tunectl.execution.worker_engine import EngineJob, WorkerOrder
from tunectl.language.study_spec import ResourcesSection

FRESH_SECONDS = 30.0
"""A job counts as alive for this long after squeue has listed it."""

MOST_WORKERS = 16
"""The largest number of jobs at a time where `array_parallelism` is not given."""

WAITING_SECONDS = 30.0
"""How long all jobs wait before it is said why."""

_FIRST_SECONDS = 30.0
_CANCEL_SECONDS = 30.0
_LOG_LINES = 200
_TOO_MANY = re.compile(r"(?:Max|Grp)Submit|Invalid job array specification")
# Limits of an association or a QOS, or of a group of them, for jobs in the queue, and of the cluster for one array
# (MaxArraySize).


def make(order: WorkerOrder) -> SlurmEngine:
    """The engine of a study; raises UsageError without submitit, TunectlError where Slurm does not answer."""
    check(order.resources)
    return SlurmEngine(order)


def check(_resources: ResourcesSection) -> None:
    """Raise UsageError without submitit, and without Slurm's commands."""
    slurm_submission.require_submitit()
    slurm_words.require_commands()


def reach(_resources: ResourcesSection) -> None:
    """Raise TunectlError where Slurm does not answer."""
    try:
        # Of this user's jobs, those with a name that none has: the shortest answer that shows that it knows this host.
        call("squeue", "--noheader", f"--user={os.getuid()}", "--name=tunectl", seconds=_FIRST_SECONDS)
    except TunectlError as error:
        raise TunectlError(slurm_words.unreachable(str(error))) from error


def can_be_left(_resources: ResourcesSection) -> bool:
    """True: the jobs are Slurm's."""
    return True


def time_limit(resources: ResourcesSection) -> str:
    """In words, what the time limit of a job is."""
    minutes = resources.slurm.time_minutes
    return f"resources.slurm.time_minutes is {'not set, so that the partition sets it' if minutes is None else minutes}"


def trials_at_once(resources: ResourcesSection) -> int:
    """How many trials one job trains at a time: as many as its GPUs have places for, else as its cores."""
    slurm = resources.slurm
    if slurm.gpus is not None:
        return max(1, slurm.gpus // resources.devices_per_trial) * resources.trials_per_device
    each = resources.devices_per_trial * max(1, resources.threads_per_trial)
    return max(1, (slurm.cpus_per_task or 1) // each)


class SlurmEngine:
    """Jobs of Slurm that are workers; see WorkerEngine. `clock` gives monotonic seconds."""

    name = "slurm"

    def __init__(self, order: WorkerOrder, clock: Callable[[], float] = time.monotonic) -> None:
        self._order, self._clock = order, clock
        self._job_name = slurm_jobs.job_name(study_mark(order.folder, order.study), order.study)
        self._submitted = slurm_submission.submitted_arrays(order.folder, order.study, self._job_name)
        self._new: dict[str, float] = {}  # when a life was submitted that squeue has not listed yet
        self._jobs: dict[str, EngineJob] = {}
        self._question, self._by_id, self._accounting = (
            Question(clock),
            Question(clock),
            Accounting(self._job_name, clock),
        )
        self._in_doubt: frozenset[str] = frozenset()  # about which Slurm is asked by their ids
        self._unnamed: set[str] = set()  # lives that were found by their ids alone
        self._is_unsure = ""  # how a submission failed of which it is not known whether Slurm has taken it
        self._foreign = ForeignJobs(self._job_name, clock)
        self._asked = self._answered = clock()
        self._waited_for = 0.0
        self._waiting_since: float | None = None
        self._said_waiting: list[str] = []
        self._failure = ""
        self._ask_now()

    @property
    def can_be_left(self) -> bool:
        """True: the jobs are Slurm's."""
        return True

    @property
    def most(self) -> int | None:
        """The largest number of jobs at a time."""
        return self._order.resources.slurm.array_parallelism or MOST_WORKERS

    @property
    def trials_at_once(self) -> int:
        """How many trials one job trains at a time."""
        return trials_at_once(self._order.resources)

    def submit(self, workers: int) -> None:
        """Submit this many workers, in one array or a few; see WorkerEngine.

        Fewer, where a limit of Slurm's does not allow as many. A submission that fails may have been taken all the same
        (a controller that was slow to answer): Slurm is asked before anything is submitted again.
        """
        workers -= self._found_since_failure()
        wanted = min(workers, slurm_submission.LARGEST_ARRAY)
        while workers > 0:
            count = min(workers, wanted)
            try:
                self._submit_array(count)
            except TunectlError as error:
                if not (count > 1 and _TOO_MANY.search(str(error))):
                    workers -= self._taken_all_the_same(error)
                    continue
                wanted = count // 2
                continue
            workers = 0 if wanted < min(workers, slurm_submission.LARGEST_ARRAY) else workers - count

    def _submit_array(self, count: int) -> None:
        options = ("--slots", str(self.trials_at_once))
        array = slurm_submission.submit_array(self._order, self._job_name, count, options)
        self._submitted[array] = count
        # Where the ids of the cluster have begun again, an earlier array that has ended may have had the same.
        self._jobs = {life: job for life, job in self._jobs.items() if life.partition("_")[0] != array}
        for task in range(count):
            self._new[f"{array}_{task}"] = self._clock()
            self._set(f"{array}_{task}", EngineJob("queued"))
        self._order.say(f"slurm: submitted {counted(count, 'worker')} as job {array}")

    def _taken_all_the_same(self, error: TunectlError) -> int:
        """How many workers Slurm has of a submission that failed; raises its error where it has none."""
        self._is_unsure = str(error)
        found = self._found_since_failure()
        if not found:
            raise TunectlError(slurm_words.with_advice(str(error))) from error
        self._order.say(f"warning: {error}; but {counted(found, 'worker')} of this submission are in the queue")
        return found

    def _found_since_failure(self) -> int:
        """How many workers are in the queue since a submission failed; raises TunectlError where Slurm does not say."""
        if not self._is_unsure:
            return 0
        before = self._alive()
        try:
            self._ask_now()
        except TunectlError as error:
            raise TunectlError(f"{self._is_unsure}; whether it was submitted is not known: {error}") from error
        self._is_unsure = ""
        return len(self._alive() - before)

    def _alive(self) -> set[str]:
        return {life for life, job in self._jobs.items() if job.state != "ended"}

    def jobs(self) -> Mapping[str, EngineJob]:
        """The jobs of this study, as squeue knew them a few seconds ago; see WorkerEngine."""
        self._look()
        return self._jobs

    def knows(self, job: str) -> bool | None:
        """Whether this life of a job is queued or running; None where Slurm cannot be asked now."""
        self._look()
        if job_and_restarts(job) is None:
            return False
        if job in self._jobs:
            if self._jobs[job].state != "ended" and self._is_stale() and self._waits():
                self._look()
            return False if self._jobs[job].state == "ended" else None if self._is_stale() else True
        return self._foreign.knows(job)

    def cancel(self) -> None:
        """Cancel all jobs of this study; Slurm sends SIGTERM to those that run, which save and end."""
        unnamed = sorted(found[0] for life in self._unnamed & self._alive() if (found := job_and_restarts(life)))
        try:
            call("scancel", f"--user={os.getuid()}", f"--name={self._job_name}", seconds=_CANCEL_SECONDS)
            if unnamed:
                call("scancel", "--quiet", f"--user={os.getuid()}", *unnamed, seconds=_CANCEL_SECONDS)
        except TunectlError as error:
            self._order.say(f"slurm: the jobs are not cancelled: {error}; use: scancel --name={self._job_name}")

    def close(self) -> None:
        """End the commands that have not answered. Jobs go on."""
        for question in (self._question, self._accounting, self._by_id, self._foreign):
            question.close()

    # --- asking

    def _of_this_study(self) -> tuple[str, ...]:
        return (*ALL_STATES, f"--user={os.getuid()}", f"--name={self._job_name}")

    def _is_stale(self) -> bool:
        return self._clock() - self._answered >= FRESH_SECONDS

    def _waits(self) -> bool:
        """Wait a moment for the answer of squeue, once for each call of it: most often it is there at once."""
        if not self._question.is_open or self._waited_for == self._asked:
            return False
        self._waited_for = self._asked
        self._question.wait(MOMENT_SECONDS)
        return True

    def _ask_now(self) -> None:
        """Ask Slurm about all jobs, and wait for its answers; raises TunectlError where it gives none."""
        began = self._clock()
        try:
            text = call(*self._of_this_study(), seconds=_FIRST_SECONDS)
        except TunectlError as error:
            raise TunectlError(slurm_words.no_answer(str(error))) from error
        self._take(Answer(text, "", began))
        if self._in_doubt and not self._failure:
            self._by_id.wait(_FIRST_SECONDS)
            self._look_by_id()
        if self._failure or self._in_doubt:
            late = f"squeue did not answer within {_FIRST_SECONDS:.0f} seconds"
            raise TunectlError(slurm_words.no_answer(self._failure or late))

    def _look(self) -> None:
        """Take the answers that are there, and ask again where that is a few seconds ago."""
        self._look_by_id()
        answer = self._question.answer()
        if answer is None and not self._question.is_open and self._clock() - self._asked >= ASK_SECONDS:
            self._asked = self._clock()
            answer = self._question.ask(*self._of_this_study())
        if answer is not None:
            self._take(answer)
        self._ask_accounting()

    def _take(self, answer: Answer) -> None:
        found = self._read(answer)
        if found is None:
            return
        listed = slurm_jobs.lives(found)
        self._failure, self._answered = "", answer.began
        for life, (state, reason) in listed.items():
            self._new.pop(life, None)
            self._set(life, EngineJob(state, reason))
        self._in_doubt -= listed.keys()
        self._doubt(self._unlisted(listed, answer.began))
        self._say_why_all_wait()

    def _doubt(self, lives: Collection[str]) -> None:
        """Ask by their ids for jobs that were not found by their name."""
        if self._by_id.is_open:
            return
        self._in_doubt = frozenset(lives)
        if lives:
            arrays = {life.partition("_")[0].partition("r")[0] for life in lives}
            jobs = f"--jobs={','.join(sorted(arrays, key=int))}"
            answer = self._by_id.ask(*WITH_COMMAND, f"--user={os.getuid()}", jobs)
            if answer is not None:
                self._say_failure(answer.error)

    def _look_by_id(self) -> None:
        """End the jobs that Slurm does not have by their ids either; it knows a job for some minutes after its end.

        Where ids began again, as on another cluster, one of these may now be another job: it is not of this study.
        """
        answer = self._by_id.answer()
        if answer is None:
            return
        found = {} if NO_SUCH_JOB in answer.error else self._read(answer)
        if found is None:
            return  # the next answer of squeue brings the next question
        own = slurm_jobs.lives(
            {job: one for job, one in found.items() if one.is_of(self._job_name, self._order.folder)}
        )
        others = slurm_jobs.lives(found).keys() - own.keys()
        for life in self._in_doubt:
            if life in own:
                state, reason = own[life]
                self._set(life, EngineJob(state, reason))
                self._unnamed.add(life)
            else:
                self._set(life, replace(self._jobs.get(life, EngineJob("ended")), state="ended", reason=""))
                self._accounting.add({life} - others)  # of another job it would give the reason of that one
        self._in_doubt = frozenset()

    def _read(self, answer: Answer) -> Mapping[str, slurm_jobs.QueuedJob] | None:
        """The jobs in an answer of squeue; None, which is said, where it is none or cannot be read."""
        failure = answer.error
        if not failure:
            try:
                return slurm_jobs.squeue_jobs(answer.text)
            except ValueError as error:
                failure = f"squeue printed something unknown: {error}"
        self._say_failure(failure)
        return None

    def _say_failure(self, failure: str) -> None:
        if not self._failure:
            self._order.say(f"slurm: {failure}; the jobs count as they were last known")
        self._failure = failure

    def _say_why_all_wait(self) -> None:
        """Say in Slurm's word why the jobs wait, where none runs for a while; again only for another reason."""
        states = [job.state for job in self._jobs.values()]
        reasons = sorted({job.reason for job in self._jobs.values() if job.state == "queued" and job.reason})
        if "running" in states or not reasons:
            self._waiting_since = None
            return
        if self._waiting_since is None:
            self._waiting_since = self._clock()
        if self._clock() - self._waiting_since >= WAITING_SECONDS and reasons != self._said_waiting:
            self._said_waiting = reasons
            self._order.say(f"slurm: {counted(states.count('queued'), 'job')} in the queue: {', '.join(reasons)}")

    def _unlisted(self, listed: Mapping[str, object], began: float) -> list[str]:
        """The lives that count as queued or running, and that Slurm no longer has."""
        tasks = (f"{array}_{task}" for array, count in self._submitted.items() for task in range(count))
        missing = [task for task in tasks if task not in self._jobs and task not in listed]
        alive = [life for life, job in self._jobs.items() if job.state != "ended" and life not in listed]
        # A job that was submitted after squeue had been called is not in its answer.
        return [life for life in (*missing, *alive) if self._new.get(life, began) <= began]

    def _set(self, life: str, job: EngineJob) -> None:
        known = self._jobs.get(life)
        found = job_and_restarts(life)
        if found is None or (known is not None and known.state == "ended"):
            return
        log = slurm_submission.log_of(self._order.folder, found[0])
        reason = job.reason
        if job.state == "ended" and reason in ("CANCELLED", slurm_jobs.REQUEUED):
            self._accounting.add([life])  # by whom and why, it knows
        if reason in (slurm_jobs.REQUEUED, slurm_jobs.COMPLETING):
            is_ending = reason == slurm_jobs.COMPLETING
            reason = "" if is_ending else reason
            with suppress(OSError):
                lines = last_lines(log, 0, _LOG_LINES)
                reason = slurm_jobs.cause_in_log(lines, may_be_cancelled=is_ending) or reason
        self._jobs[life] = replace(job, reason=reason, log=log)

    def _ask_accounting(self) -> None:
        for life, reason in self._accounting.look().items():
            known = self._jobs.get(life)
            if known is not None and known.state == "ended":
                self._jobs[life] = replace(known, reason=reason or known.reason)
