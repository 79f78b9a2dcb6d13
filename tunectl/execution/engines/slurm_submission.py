"""Submits workers to Slurm as an array of jobs, with submitit, of which only the submission is used.

A job runs the worker itself, by exec: Slurm's signals reach it, and nothing of submitit runs on the node.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from tunectl.core import real_folders, regular_files
from tunectl.core.errors import TunectlError, UsageError
from tunectl.core.installation import install_command
from tunectl.core.path_errors import path_errors
from tunectl.execution.engines.slurm_words import said
from tunectl.execution.worker_engine import JOB_VARIABLE, WorkerOrder
from tunectl.language.study_spec import ResourcesSection, SlurmSection

LARGEST_ARRAY = 500
"""Workers in one array: fewer than Slurm's MaxArraySize, which is 1001 where a site does not change it."""

_SUBMIT_SECONDS = 60
_TIMEOUT_CODE = 124  # of timeout(1)
_SAVE_SECONDS = 60.0
# Time for a worker beside grace_seconds to give its trials back, before the job's time is over.

_SCRIPT = re.compile(r"(\d+)_submission\.sh")
_TASKS = re.compile(r"^#SBATCH --array=0-(\d+)(?:%\d+)?\s*$", re.MULTILINE)
_NAME = re.compile(r"^#SBATCH --job-name=(\S+)\s*$", re.MULTILINE)
_PLACEHOLDERS = ("%j", "%t", "%A", "%a")
_DRAFTS = ".submission_file_*.sh"  # of submitit; the one of a submission that fails stays

_CLUSTER_VARIABLES = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_DEBUG_FLAGS"})
_VARIABLES = {
    "array": ("ARRAY_INX",),
    "gpus_per_node": ("GPUS_PER_NODE", "GPUS", "GPUS_PER_SOCKET", "GPUS_PER_TASK", "GRES", "TRES_PER_TASK"),
    "cpus_per_task": ("CPUS_PER_TASK", "CPUS_PER_GPU"),
    "time": ("TIMELIMIT",),
    "mem": ("MEM_PER_NODE", "MEM_PER_CPU", "MEM_PER_GPU"),
    "requeue": ("REQUEUE", "NO_REQUEUE"),
}
# The ends of the SBATCH_ variables that set an option, or ask for the same in another way, where these are not the
# option's own name alone.


def require_submitit() -> None:
    """Raise UsageError, with the command that mends it, where submitit is not installed."""
    try:
        metadata.version("submitit")
    except metadata.PackageNotFoundError as error:
        raise UsageError(f"backend slurm: submitit is not installed; {install_command('slurm')}") from error


def warning_seconds(resources: ResourcesSection) -> int:
    """How long before a job's time is over Slurm sends its signal: at most a quarter of the time."""
    wanted = resources.grace_seconds + _SAVE_SECONDS
    minutes = resources.slurm.time_minutes
    return math.ceil(wanted if minutes is None else min(wanted, minutes * 60 / 4))


def log_of(folder: Path, job: str) -> Path:
    """The log of a job `12_3`, over all of its lives."""
    return folder / f"{job}.log"


def submitted_arrays(folder: Path, study: Path, name: str) -> dict[str, int]:
    """The arrays that were submitted for a study under this name, each with its number of jobs; raises FolderError.

    A folder that was copied has the scripts of the other one, too, whose jobs have another name.
    """
    with path_errors(folder, "read"):
        scripts = sorted(folder.glob("*_submission.sh")) if folder.is_dir() else []
    found = {}
    for path in scripts:
        with path_errors(path, "read"):
            text = regular_files.content(path, within=study).decode(errors="replace")
        array, tasks, named = _SCRIPT.fullmatch(path.name), _TASKS.search(text), _NAME.search(text)
        if array is not None and tasks is not None and named is not None and named[1] == name:
            found[array[1]] = int(tasks[1]) + 1
    return found


def submit_array(order: WorkerOrder, name: str, workers: int, options: Sequence[str]) -> str:
    """Submit this many workers as jobs of one array, and give the array's id.

    `options` are added to the worker's command line. Raises TunectlError with sbatch's words where that fails.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    if any(mark in str(order.folder) for mark in _PLACEHOLDERS):
        raise TunectlError(f"{order.folder}: submitit replaces %j, %t, %A and %a in a path; rename the folder")
    if "\\" in str(order.folder):
        raise TunectlError(
            f"{order.folder}: Slurm cannot write a log into a folder with a backslash; rename the folder"
        )
    with path_errors(order.folder, "written"):
        real_folders.made(order.folder, order.study)
    try:
        executor: Any = SlurmExecutor(order.folder)
    except RuntimeError as error:
        raise TunectlError("srun is not on the PATH: Slurm is not installed here, or not loaded") from error
    parameters = _parameters(order, name, workers)
    executor.update_parameters(**parameters)
    executor.parameters["map_count"] = workers
    unset = [word for variable in hidden_variables(os.environ, parameters) for word in ("-u", variable)]
    # sbatch tries for minutes to reach a controller that does not answer.
    command = ["env", *unset, "timeout", str(_SUBMIT_SECONDS), "sbatch"]
    executor._make_submission_command = lambda script: [*command, str(script)]
    with path_errors(order.folder, "written"):
        try:
            # submitit prints what sbatch said of a failure, which is also in its error.
            with contextlib.redirect_stderr(io.StringIO()):
                job = executor._submit_command("exec " + shlex.join(order.command(*options)))
        except (FailedJobError, FailedSubmissionError) as error:
            for draft in order.folder.glob(_DRAFTS):
                real_folders.remove(draft, order.folder)
            raise TunectlError(_failure(error)) from error
    return str(job.job_id)


def hidden_variables(environ: Mapping[str, str], parameters: Mapping[str, Any]) -> list[str]:
    """The variables that sbatch must not see, so that the jobs are what the study says, and know their own ids.

    Those of Slurm count more for sbatch than what a script says. And where the command runs in a job itself, that job's
    variables would be those of the new jobs: also SLURM_RESTART_COUNT, which Slurm does not set in a job's first life.
    """
    given = {name for name, value in parameters.items() if value is not None} | {"array", "open_mode", "wait", "error"}
    given |= {name.replace("-", "_") for name in parameters["additional_parameters"]}
    ends = {end for name in given for end in _VARIABLES.get(name, (name.upper(),))}
    hidden = {f"SBATCH_{end}" for end in ends} | {JOB_VARIABLE, "SLURM_RESTART_COUNT"}
    if "SLURM_JOB_ID" in environ:
        hidden |= {name for name in environ if name.startswith("SLURM_")} - _CLUSTER_VARIABLES
    return sorted(hidden & environ.keys())


def _parameters(order: WorkerOrder, name: str, workers: int) -> dict[str, Any]:
    """The parameters of submitit for one array."""
    slurm = order.resources.slurm
    log = log_of(Path(str(order.folder).replace("%", "%%")), "%A_%a")
    return {
        "job_name": name,
        "partition": slurm.partition,
        "time": slurm.time_minutes,
        "gpus_per_node": slurm.gpus_per_node,
        "cpus_per_task": slurm.cpus_per_task,
        "mem": None if slurm.mem_gb is None else f"{math.ceil(slurm.mem_gb * 1024)}M",
        "account": slurm.account,
        "ntasks_per_node": 1,
        "array_parallelism": workers,
        "setup": _setup(slurm),
        "use_srun": False,
        "stderr_to_stdout": True,
        "wckey": None,
        "additional_parameters": {
            **{key.replace("_", "-"): value for key, value in slurm.additional.items()},
            # B: to the worker alone, which is the batch script; its trials are saved by it.
            "signal": f"B:USR2@{warning_seconds(order.resources)}",
            "output": str(log),
            "requeue": True,
        },
    }


def _setup(slurm: SlurmSection) -> list[str]:
    """The lines of shell before the worker starts. One that fails is said in the log, and the worker is started."""
    lines = []
    for number, line in enumerate(slurm.setup, start=1):
        failed = f'echo "tunectl: line {number} of resources.slurm.setup ended with exit code $?" >&2'
        lines.append(f"{{ :\n{line}\n}} || {failed}")
    return lines


def _failure(error: Exception) -> str:
    """Why sbatch took no job, from submitit's error."""
    code = getattr(error.__cause__, "returncode", None)
    if code == _TIMEOUT_CODE:
        return f"sbatch did not answer within {_SUBMIT_SECONDS} seconds"
    return f"sbatch: {said('it', str(error), code)}"
