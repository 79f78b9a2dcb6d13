"""The lines of prove_gpu.py in their order: the cheapest and most important first."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import gpu_ranks
import gpu_runs
import gpu_slurm
from gpu_place import Found, Place

__all__ = ["LINES", "Found", "Line", "Place"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: what it claims, how to prove it, the seconds it needs at least and may take at most."""

    name: str
    claim: str
    prove: Callable[[Place], Found]
    least_seconds: float
    most_seconds: float


def training(name: str) -> Callable[[Place], Found]:
    """A line of gpu_training, which loads torch when it is proven and not before."""

    def prove(place: Place) -> Found:
        found: Found = getattr(importlib.import_module("gpu_training"), name)(place)
        return found

    return prove


LINES = (
    Line("devices", "the devices found are those that CUDA shows", gpu_runs.prove_devices, 5, 60),
    Line("masks", "a trial sees its own device alone, whatever the mask", gpu_runs.prove_masks, 20, 150),
    Line("shared", "trials_per_device: 4 runs four at a time on one GPU", gpu_runs.prove_shared, 15, 90),
    Line("no-waits", "no wait for the GPU between evaluations", training("prove_no_waits"), 10, 90),
    Line("memory", "out of memory: infeasible alone, again beside a neighbour", gpu_runs.prove_memory, 25, 120),
    Line("kills", "SIGKILL of trial, server, runner leaves nothing on the GPU", gpu_runs.prove_kills, 30, 180),
    Line("resume", "a resumed trial ends as if never stopped", training("prove_resume"), 10, 90),
    Line("cost", "at most 80 ms between two trials", gpu_runs.prove_cost, 15, 90),
    Line("loop-mlp", "the loop against a bare fused one: small MLP", training("prove_loop_mlp"), 15, 120),
    Line("loop-cnn", "the same: CNN", training("prove_loop_cnn"), 10, 90),
    Line("loop-resnet", "the same: ResNet-18", training("prove_loop_resnet"), 15, 120),
    Line("float16", "float16 with loss scaling ends where float32 does", training("prove_float16"), 10, 60),
    Line("torchrun", "a command under torchrun on one device", gpu_runs.prove_torchrun, 15, 120),
    Line("ranks", "a trial in two processes has the losses of one", gpu_ranks.prove_ranks, 20, 120),
    Line("nccl", "NCCL sums and sends, also with one process", gpu_ranks.prove_nccl, 10, 90),
    Line("slurm", "a worker in a job of Slurm trains on the job's GPU", gpu_slurm.prove_slurm, 40, 200),
    Line("many", "small trials: four at a time against one", gpu_runs.prove_many, 25, 150),
    Line("batch-size", "batch-size up to out of memory", gpu_runs.prove_batch_size, 30, 200),
)
