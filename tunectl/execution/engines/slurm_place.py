"""In which job of Slurm this process runs, from the environment that Slurm gives to a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from tunectl.core.errors import TunectlError
from tunectl.execution.engines.slurm_commands import call
from tunectl.execution.engines.slurm_foreign import ALL_STATES
from tunectl.execution.engines.slurm_jobs import NAME_PREFIX, life_of, squeue_jobs

JOB = "SLURM_JOB_ID"
_NAME, _ARRAY, _TASK = "SLURM_JOB_NAME", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"
_RESTARTS = "SLURM_RESTART_COUNT"  # how often Slurm has started this job again; not set in its first life
_ASK_SECONDS = 10.0

Ask = Callable[[str], str]
"""What squeue prints about the job with this id; raises TunectlError where it does not answer."""


def _squeue(job: str) -> str:
    return call(*ALL_STATES, f"--jobs={job}", seconds=_ASK_SECONDS)


def own_life(environ: Mapping[str, str], ask: Ask = _squeue) -> str:
    """The life of the job in which this process runs, as squeue names it; "" outside of Slurm.

    A job that was submitted from within another one has that one's variables of arrays and restarts, as Slurm sets them
    only where they are its own. So squeue is asked about a job that could be one, unless it is of an engine.
    """
    job = environ.get(JOB, "")
    if not job:
        return ""
    array, task, restarts = environ.get(_ARRAY, ""), environ.get(_TASK, ""), environ.get(_RESTARTS, "")
    name = f"{array}_{task}" if array and task else job
    may_be_inherited = bool(restarts) or array not in ("", job)  # one task of an array has the array's own id
    if may_be_inherited and not environ.get(_NAME, "").startswith(NAME_PREFIX):
        with suppress(TunectlError, ValueError, KeyError):
            found = squeue_jobs(ask(job))
            listed = name if name in found else job
            return life_of(listed, found[listed].restarts)
    return life_of(name, int(restarts) if restarts.isdecimal() else 0)
