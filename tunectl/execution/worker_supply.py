"""How many workers an engine is asked for, and when it is asked for no more."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tunectl.core.errors import TunectlError
from tunectl.core.log_reader import last_lines
from tunectl.core.safe_text import escaped
from tunectl.core.wording import counted
from tunectl.execution.worker_engine import IDLE_SECONDS, TIME_IS_SHORT, EngineJob, WorkerEngine, slots_of_each

FRUITLESS_JOBS = 3
"""How many workers, one after the other, may end without having claimed a trial before they are not replaced at once:
then one is tried after a pause that grows, as long as others are at work."""

JOBS_PER_RESULT = 50
"""How many workers may end for each place without any progress of a trial, before no more are started."""

_AGAIN_SECONDS = 30.0
"""The time between two tries where the engine refused to start workers."""

_UNBEGUN_SECONDS = 300.0
"""How long a worker may run without having claimed an offered trial before that is said."""

_FIRST_PAUSE_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 3600.0

_LOG_LINES = 15

_EXCUSED = ("PREEMPTED", "TIMEOUT", "CANCELLED", "DEADLINE", "SUSPENDED", "REQUEUED")
"""The beginnings of an engine's reasons for which a worker's trial is not at fault."""


@dataclass(slots=True)
class WorkerSupply:
    """Keeps as many workers as the trials that are left need.

    `slots` is the largest number of trials at the same time (`--slots`), None for as many as the engine allows.
    `time_limit` says in words what a worker's time limit is, "" where it has none.
    """

    engine: WorkerEngine
    slots: int | None
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    time_limit: str = ""
    claimed: set[str] = field(default_factory=set)
    _counted: set[str] | None = None
    _fruitless: list[tuple[str, EngineJob]] = field(default_factory=list)
    _pause_seconds: float = _FIRST_PAUSE_SECONDS
    _is_forgiven: bool = False
    _ended: int = 0
    _progress: dict[int, int] = field(default_factory=dict)
    _untaken_since: float | None = None
    _not_before: float = -math.inf
    _try_at: float = -math.inf
    _stopped: str = ""
    _refused: str = ""
    _unbegun_since: dict[str, float] = field(default_factory=dict)
    _is_unbegun_said: bool = False

    def trial_claimed(self, job: str) -> None:
        """Note that the worker in this job has claimed a trial."""
        self._untaken_since = None
        if job not in self.claimed:
            self.claimed.add(job)
            self._forget_fruitless()

    def nothing_offered(self) -> None:
        """Note that there is no trial, as in a pause: workers that come now, and end again, have nothing to do."""
        self._untaken_since = None

    def trial_ended(self) -> None:
        """Note that a trial has ended: the workers do what they were started for."""
        self._ended = 0
        self._is_forgiven = True

    def trial_left(self, trial: int, progress: int) -> None:
        """Note that a worker has left a trial unfinished that had come so far (see `progress_made`).

        A trial that takes longer than a job goes on over many of them.
        """
        if progress > self._progress.get(trial, 0):
            self._progress[trial] = progress
            self._ended = 0
            self._is_forgiven = True

    def cause(self, job: str) -> tuple[str, EngineJob | None]:
        """Why the job with this id has ended, in the engine's word, and what is known of it."""
        found = self.engine.jobs().get(job)
        return (found.reason if found is not None and found.state == "ended" else ""), found

    def look(self, offered: int, at_work: int, *, leaves: bool = False) -> None:
        """Ask for the workers that are missing for the trials that are offered, and those that workers have already.

        `leaves`: it is the last look before the command ends; what is not asked for then is said. Raises TunectlError
        where no worker can be started, and none is at work.
        """
        alive = self._read_jobs(offered)
        missing = self._wanted(offered + at_work) - alive
        if missing <= 0 or not offered or (self.clock() < self._not_before and not leaves):
            return
        is_idle = not at_work and not alive
        if self._is_forgiven and is_idle:
            self._forget_fruitless()  # of those that worked meanwhile all have ended, as for their time limit
        if (why := self._why_no_more(offered + at_work)) and (is_idle or not self._may_try()):
            self._refuse(why, is_idle=is_idle, leaves=leaves)
            return
        try:
            self.engine.submit(1 if why else missing)
        except TunectlError as error:
            self._not_before = self.clock() + _AGAIN_SECONDS
            if is_idle:
                raise
            self._say_refused(str(error), leaves=leaves)
            return
        self._refused = ""
        if why:
            self._pause()
        if why and leaves:  # one of those that are missing was asked for
            self._refuse(why, is_idle=False, leaves=True)

    def _read_jobs(self, offered: int) -> int:
        """Count the workers that are alive, and note what those have done that have ended since the last look."""
        jobs = self.engine.jobs()
        if self._counted is None:
            # What an earlier run has started may have claimed trials then: their ends say nothing.
            self._counted = set(jobs)
        if not offered:
            self._untaken_since = None
        elif self._untaken_since is None:
            self._untaken_since = self.clock()
        alive = {job for job, known in jobs.items() if known.state != "ended"}
        for job in jobs.keys() - self._counted - alive:
            self._counted.add(job)
            self._ended += 1
            if job not in self.claimed and self._should_have_claimed(jobs[job].reason):
                self._fruitless.append((job, jobs[job]))
                self._is_forgiven = False
                if len(self._fruitless) == FRUITLESS_JOBS:
                    self._pause()
        self._watch_unbegun(jobs if offered else {})
        return len(alive)

    def _watch_unbegun(self, jobs: Mapping[str, EngineJob]) -> None:
        """Say once that workers run and take none of the trials that are offered, as where they wait for a GPU."""
        now = self.clock()
        running = [job for job, known in jobs.items() if known.state == "running" and job not in self.claimed]
        self._unbegun_since = {job: self._unbegun_since.get(job, now) for job in running}
        late = [job for job, since in self._unbegun_since.items() if now - since >= _UNBEGUN_SECONDS]
        if late and not self._is_unbegun_said:
            self._is_unbegun_said = True
            log = jobs[late[0]].log
            where = "" if log is None else f"; the log of one says why: {log}"
            what = f"{counted(len(late), 'worker')} of {self.engine.name} took no trial"
            self.say(f"note: in {_UNBEGUN_SECONDS:.0f} s {what}, though some are offered{where}")

    def _forget_fruitless(self) -> None:
        self._fruitless, self._pause_seconds, self._try_at = [], _FIRST_PAUSE_SECONDS, -math.inf
        self._is_forgiven = False

    def _pause(self) -> None:
        """Let the next worker be tried only after a pause, twice as long as the last one."""
        self._try_at = self.clock() + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)

    def _may_try(self) -> bool:
        """Whether one worker may be tried although the last ones have not begun a trial: the others are at work."""
        return len(self._fruitless) >= FRUITLESS_JOBS and self.clock() >= self._try_at

    def _should_have_claimed(self, reason: str) -> bool:
        """Whether a worker that ended for this reason without a claim did not do what it was started for.

        One that ended by itself had nothing to do, unless a trial was offered for as long as it waits for one.
        """
        if self._untaken_since is None or is_excused(reason):
            return False
        return bool(reason) or self.clock() - self._untaken_since >= IDLE_SECONDS

    def _wanted(self, trials: int) -> int:
        each = slots_of_each(self.engine.trials_at_once, self.slots)
        limits = [math.ceil(trials / each)]
        if self.slots is not None:
            limits.append(self.slots // each)
        if self.engine.most is not None:
            limits.append(self.engine.most)
        return min(limits)

    def _why_no_more(self, trials: int) -> str:
        if len(self._fruitless) >= FRUITLESS_JOBS:
            job, known = self._fruitless[-1]
            count = counted(len(self._fruitless), "worker")
            lines = _last_lines(known)
            how = "ended without having begun a trial"
            if self.time_limit and any(TIME_IS_SHORT in line for line in lines):
                how = (
                    f"were near their time limit before they had begun a trial: {self.time_limit}; let it be longer "
                    "than it takes to start Python, to load the workload and to train until a trial can save"
                )
            return f"{count} that {self.engine.name} started {how}{_words(job, known, lines)}"
        if self._ended > JOBS_PER_RESULT * max(1, self._wanted(trials)):
            limit = self.time_limit and f": {self.time_limit}"
            return (
                f"{counted(self._ended, 'worker')} that {self.engine.name} started have ended, and none brought a "
                f"trial to its end, or any further; their time limit may be too short for a trial to save{limit}"
            )
        return ""

    def _refuse(self, why: str, *, is_idle: bool, leaves: bool) -> None:
        if is_idle:
            raise TunectlError(f"stopping: {why}")
        if self._stopped != why or leaves:
            self._stopped = why
            wait = max(0.0, self._try_at - self.clock())
            is_tried = len(self._fruitless) >= FRUITLESS_JOBS and not leaves
            then = f"another one is tried in {wait:.0f} s" if is_tried else "no further ones are started"
            self.say(f"warning: {why}; {then}")

    def _say_refused(self, error: str, *, leaves: bool) -> None:
        """Say once, until it changes, that the engine starts no more workers."""
        if self._refused != error or leaves:
            self._refused = error
            then = "the same command asks again" if leaves else "it is asked again"
            self.say(f"warning: {self.engine.name} started no further workers: {error}; {then}")


def _last_lines(known: EngineJob) -> list[str]:
    """The last lines of a job's log, as far as it can be read."""
    if known.log is None:
        return []
    try:
        return last_lines(known.log, 0, _LOG_LINES)
    except OSError:
        return []


def _words(job: str, known: EngineJob, lines: Sequence[str]) -> str:
    """Why the job ended, and the last lines of its log."""
    why = f"; the last one, job {job}, ended" + (f": {known.reason}" if known.reason else "")
    if known.log is None:
        return why
    shown = "\n".join(escaped(line) for line in lines)
    return f"{why}; its log {known.log}" + (f" ends:\n{shown}" if shown else " is empty")


def is_excused(reason: str) -> bool:
    """Whether a worker ended for a reason that says nothing about its trial."""
    return reason.upper().startswith(_EXCUSED)
