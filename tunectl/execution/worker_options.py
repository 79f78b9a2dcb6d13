"""How a worker works, and what it has done."""

from __future__ import annotations

from dataclasses import dataclass

from tunectl.core.errors import EXIT_DONE
from tunectl.execution.held_trials import WorkerName


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works. `slots` None: as many as the study's resources allow on this host.

    It ends when no trial was offered for `idle_seconds` (None: as long as the run is at work), and so that it has ended
    at `ends_at` on its clock, for which its batch system's word is `end_cause`, "" where a user has set it. `waits`: a
    trial waits for cores and GPUs that others use. `gpus` is the number of GPUs that its engine has given to it alone
    (see given_gpus).
    """

    name: WorkerName
    slots: int | None = None
    idle_seconds: float | None = None
    ends_at: float | None = None
    waits: bool = True
    end_cause: str = ""
    gpus: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker has done: the trials that ended there, those it released so that they go on elsewhere, and those
    that others took over meanwhile; why it ended, and its exit code. `stopped` are those that the run has asked it to
    stop, and `crashed` those that ended without a result: both may go on later.
    """

    ended: int
    released: int
    lost: int
    why: str
    exit_code: int = EXIT_DONE
    stopped: int = 0
    crashed: int = 0
