"""How many GPUs an engine has given to this worker alone, from the worker's environment."""

from __future__ import annotations

from collections.abc import Mapping

from tunectl.execution.engines.slurm_jobs import NAME_PREFIX
from tunectl.execution.worker_engine import GPUS_VARIABLE, JOB_VARIABLE

_ON_NODE, _NAME = "SLURM_GPUS_ON_NODE", "SLURM_JOB_NAME"
_PARTS = ("SLURM_SHARDS_ON_NODE", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")
"""Of the environment of a Slurm job that has parts of GPUs, see "Generic Resource (GRES) Scheduling" of Slurm."""


def given_gpus(environ: Mapping[str, str]) -> float | None:
    """The number, less than 1 for a part of one; None where that is not known: then others may use all that is here.

    A job of Slurm that the engine has submitted is one worker. One that a user has made, as by `salloc`, may run any
    number of them, which all see its GPUs; so may a job to which another engine within it gave none.
    """
    if JOB_VARIABLE in environ:
        return _number(environ.get(GPUS_VARIABLE, ""))
    if not environ.get(_NAME, "").startswith(NAME_PREFIX) or any(environ.get(name) for name in _PARTS):
        return None
    return _number(environ.get(_ON_NODE, ""))


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if found > 0 else None
