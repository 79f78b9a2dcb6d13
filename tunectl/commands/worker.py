"""`worker`: train trials that a run offers in its study folder, on any host that sees the folder."""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.execution.engines.slurm_place import JOB, own_life
from tunectl.execution.given_gpus import given_gpus
from tunectl.execution.held_trials import WorkerName
from tunectl.execution.stop_signals import counted_by
from tunectl.execution.trial_worker import TrialWorker
from tunectl.execution.worker_ends import ending_seconds
from tunectl.execution.worker_engine import JOB_VARIABLE, TIMEOUT
from tunectl.execution.worker_options import WorkerOptions, WorkerReport
from tunectl.execution.worker_stops import WORKER_SIGNALS, WorkerStops
from tunectl.language.study_spec import ResourcesSection
from tunectl.store.run_state import read_run_state
from tunectl.store.study_folder import can_become_study, open_folder

_END = "SLURM_JOB_END_TIME"
"""Of the environment of a Slurm job, see `man sbatch`: the time limit, in seconds since 1970."""

_POLL_SECONDS = 0.2


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
    with counted_by(WorkerStops(), WORKER_SIGNALS) as stops:
        study = _opened(request, stops)
        if request.stop_after_seconds is not None:
            _check_time(study, request.stop_after_seconds)
        ends_at, end_cause = _ends_at(request.stop_after_seconds, environ, say)
        options = WorkerOptions(
            *(_name(environ), request.slots, request.idle_seconds, ends_at),
            waits=request.waits,
            end_cause=end_cause,
            gpus=given_gpus(environ),
        )
        return TrialWorker(study, options, stops, say).work()


def _opened(request: WorkerRequest, stops: Callable[[], int]) -> StudyFolder:
    """The study folder; where no run has made it yet, that is waited for as long as `idle_seconds` say.

    Raises FolderError where it is none.
    """
    until = time.monotonic() + (request.idle_seconds or 0.0)
    while True:
        if not can_become_study(request.folder):
            return open_folder(request.folder)
        if stops() or time.monotonic() >= until:
            wait = "" if request.idle_seconds else "; with --idle-seconds a worker waits for it"
            raise FolderError(
                f"{request.folder}: is not a study folder yet: `tunectl run STUDY --backend external` makes it, and "
                f"then offers its trials to workers{wait}"
            )
        select.select([], [], [], _POLL_SECONDS)


def _check_time(study: StudyFolder, seconds: float) -> None:
    """Raise UsageError where a worker would have to give its trials back as soon as it has begun them."""
    try:
        state = read_run_state(study)
        grace = (_resources_in_file(study) if state is None else state.resources).grace_seconds
    except FolderError:
        return  # the worker says it
    least = ending_seconds(grace)
    if seconds < least:
        raise UsageError(
            f"--stop-after-seconds: {seconds:g} s are too few to train in: saving may take {grace:g} s "
            f"(resources.grace_seconds), and giving the trials back {least - grace:g} s more; give at least {least:g}"
        )


def _resources_in_file(study: StudyFolder) -> ResourcesSection:
    # Reading a study takes half a second of imports, which a worker needs for nothing else.
    from tunectl.session.open_study import study_in

    return study_in(study).resources


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
