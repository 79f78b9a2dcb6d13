"""`worker`: train trials that a run offers in its study folder, on any host that sees the folder."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunectl.core.errors import UsageError
from tunectl.execution.engines.slurm_place import JOB, own_life
from tunectl.execution.held_trials import WorkerName
from tunectl.execution.stop_signals import counted_by
from tunectl.execution.trial_worker import TrialWorker
from tunectl.execution.worker_engine import JOB_VARIABLE, TIMEOUT
from tunectl.execution.worker_options import WorkerOptions, WorkerReport
from tunectl.execution.worker_stops import WORKER_SIGNALS, WorkerStops
from tunectl.store.study_folder import open_folder

_END = "SLURM_JOB_END_TIME"
"""Of the environment of a Slurm job, see `man sbatch`: the time limit, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """What `tunectl worker` was called with; see WorkerOptions. `stop_after_seconds` counts from the call."""

    folder: Path
    slots: int | None = None
    idle_seconds: float | None = None
    stop_after_seconds: float | None = None
    waits: bool = True


def run_worker(
    request: WorkerRequest, say: Callable[[str], None], environ: Mapping[str, str] | None = None
) -> WorkerReport:
    """Train offered trials until none is left, the time is over, or a stop signal is received. In the main thread.

    `say` gets a line for each trial. Raises FolderError where there is no study folder, and WorkloadError or UsageError
    where its trials cannot be trained on this host.
    """
    environ = os.environ if environ is None else environ
    for name, seconds in (
        ("--idle-seconds", request.idle_seconds),
        ("--stop-after-seconds", request.stop_after_seconds),
    ):
        if seconds is not None and not 0 <= seconds < math.inf:
            raise UsageError(f"{name}: expected a number of seconds, got {seconds:g}")
    study = open_folder(request.folder)
    with counted_by(WorkerStops(), WORKER_SIGNALS) as stops:
        ends_at, end_cause = _ends_at(request.stop_after_seconds, environ, say)
        options = WorkerOptions(
            _name(environ), request.slots, request.idle_seconds, ends_at, request.waits, end_cause=end_cause
        )
        return TrialWorker(study, options, stops, say).work()


def _name(environ: Mapping[str, str]) -> WorkerName:
    token = os.urandom(8).hex()
    if named := environ.get(JOB_VARIABLE, ""):
        engine, _, job = named.partition(":")
        return WorkerName(token, engine, job)
    job = own_life(environ)
    return WorkerName(token, "slurm", job) if job else WorkerName(token)


def _ends_at(
    stop_after_seconds: float | None, environ: Mapping[str, str], say: Callable[[str], None]
) -> tuple[float | None, str]:
    """When the worker must have ended, on the monotonic clock: the earlier one of its option and Slurm's time limit.

    With Slurm's word for the time limit, where it is that one, or no end is known in a job of Slurm.
    """
    now = time.monotonic()
    ends = [] if stop_after_seconds is None else [(now + stop_after_seconds, "")]
    text = environ.get(_END, "") if JOB in environ else ""
    if text:
        try:
            left = float(text) - time.time()
        except ValueError:
            say(f"warning: {_END}: expected a number of seconds, got {text!r}; the job's time limit is not known")
        else:
            # The time is of the cluster's clock, which is compared with this host's only here.
            if left > 0:
                ends.append((now + left, TIMEOUT))
            else:
                say(f"warning: {_END} is over by this host's clock, which is wrong; the job's time limit is not known")
    return min(ends, default=(None, TIMEOUT if JOB in environ else ""))
