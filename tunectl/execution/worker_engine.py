"""The interface of an engine: what starts workers beyond this machine, such as Slurm or Ray, and knows their jobs."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    # A backend is started before the modules that read a study are imported.
    from tunectl.language.study_spec import ResourcesSection

IDLE_SECONDS = 60.0
"""How long a worker that an engine started waits for a trial before it ends: its devices are others' meanwhile."""

TIME_IS_SHORT = "its time is nearly over"
"""What a worker says last, so that it is in its log, where it ends as its time limit is near."""

TIMEOUT = "TIMEOUT"
"""The word for the end of a job by its time limit."""

JobState = Literal["queued", "running", "ended"]


@dataclass(frozen=True, slots=True)
class EngineJob:
    """One worker's job, as the engine knows it.

    `reason` says why it ended, why it is about to end although it runs, or why it waits, in the engine's words
    ("OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "TIMEOUT", "CANCELLED by user"); "" where it ended by itself, or no
    reason is known. `log` is where the worker's output is, None where that is not known.
    """

    state: JobState
    reason: str = ""
    log: Path | None = None


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What an engine is made with.

    `study` is the study folder (absolute, and under the same name on every host). `resources` is the study's section.
    `say` shows a line to the user. `folder` is where the engine may keep its own files and the workers' logs. `slots`
    is the largest number of trials at a time, of all workers together, None where there is no such limit. `waits`:
    trials wait for devices that others use.
    """

    study: Path
    resources: ResourcesSection
    say: Callable[[str], None]
    folder: Path
    python: tuple[str, ...] = field(default=(sys.executable, "-P"))
    slots: int | None = None
    waits: bool = True

    def command(self, *options: str) -> list[str]:
        """The command line of one worker, with more options of `tunectl worker`.

        Of `--slots N`, as many as a worker has places for, it has its share of the run's `slots` (`slots_of_each`).
        """
        given = list(options)
        if "--slots" in given:
            place = given.index("--slots") + 1
            given[place] = str(slots_of_each(int(given[place]), self.slots))
        given += [] if self.waits else ["--no-wait"]
        idle = ("--idle-seconds", f"{IDLE_SECONDS:g}")
        return [*self.python, "-m", "tunectl", "worker", str(self.study), *idle, *given]


def slots_of_each(at_once: int, slots: int | None) -> int:
    """How many trials each worker trains at a time that has places for `at_once`, where all together have `slots`.

    All workers have as many, so that any of them can be replaced: of 7, two that have places for 4 train 3 each.
    """
    at_once = max(1, at_once)
    return at_once if slots is None else max(1, slots // math.ceil(slots / at_once))


class WorkerEngine(Protocol):
    """What starts workers and knows their jobs. All methods are called from one thread, and none waits long.

    A job is one worker (`tunectl worker`), which trains many trials one after the other. Its id, a key of `jobs`, is
    the `job` that the worker writes to its claims: the engine gives it to the worker in the environment variable
    JOB_VARIABLE where the worker does not find it by itself. An engine is also made for a study whose workers an
    earlier run has started: it finds their jobs again by itself, by what it kept in its folder.
    """

    @property
    def name(self) -> str:
        """The name of its backend."""
        ...

    @property
    def can_be_left(self) -> bool:
        """Whether the jobs go on when this process has ended."""
        ...

    @property
    def most(self) -> int | None:
        """The largest number of workers at once, as the study's resources say; None where they do not."""
        ...

    @property
    def trials_at_once(self) -> int:
        """How many trials one worker trains at the same time; at least 1."""
        ...

    def submit(self, workers: int) -> None:
        """Ask for this many more workers; raises TunectlError with the engine's words where it refuses them."""
        ...

    def jobs(self) -> Mapping[str, EngineJob]:
        """The jobs of this study that were submitted, by their ids, also those that have ended.

        Asks the engine at most every few seconds. Where it cannot be asked, the jobs are as they were last known.
        """
        ...

    def knows(self, job: str) -> bool | None:
        """Whether the engine still has this job, queued or running; None where that cannot be known now."""
        ...

    def cancel(self) -> None:
        """End all jobs of this study, queued and running ones; does nothing where there are none."""
        ...

    def close(self) -> None:
        """Free what the engine holds in this process. Jobs go on where they can be left, and else end; they can save.

        A second call does nothing.
        """
        ...


JOB_VARIABLE = "TUNECTL_JOB"
"""The environment variable that gives a worker the id of its job, after its engine's name: `ray:tunectl-1`."""

GPUS_VARIABLE = "TUNECTL_GPUS"
"""The environment variable by which an engine says how many GPUs a worker has alone, or which part of one: `2`, `0.5`.

Not set where others may use them, too."""
