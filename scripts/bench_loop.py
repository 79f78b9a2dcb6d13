"""What a trial's loop costs beside a plain loop that indexes tensors: 5,000 updates of the digits' perceptron
64-128-10, an evaluation every 500, loss and gradient norm of every update kept by the trial; medians of 5,
alternating.

The goal is a ratio of at most 1.05. `fused` is the plain loop with torch's fused optimizer kernels, which trials use,
`default` the one that a user writes who leaves that to torch. Trials write no checkpoint but their last `resume.pt`.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from plain_training import BATCH_SIZE, EVALUATION_BATCH_SIZE, MOMENTUM, WIDTH, Plan, train

from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.records import TrialRequest, WorkloadReference
from tunectl.language.configuration import TrainingConfiguration
from tunectl.store.trial_files import read_trial
from tunectl.training.training_state import Clock
from tunectl.training.trial import run_trial
from tunectl.workloads import digits

ROUNDS = 5
STEPS = 5_000
EVAL_EVERY = 500
SEED = 0
GOAL = 1.05
MAX_NORM = 0.5  # between the smallest and the largest norm of this training, so that some updates are clipped


@dataclass(frozen=True, slots=True)
class Cost:
    """The seconds of one training: CPU and wall of all, wall of the updates alone; and the valid loss it ends with."""

    cpu: float
    wall: float
    updates: float
    valid_loss: float


def request(plan: Plan) -> TrialRequest:
    """The trial that trains what the plan does."""
    configuration = TrainingConfiguration(
        optimizer="momentum",
        learning_rate=plan.learning_rate,
        momentum=MOMENTUM,
        batch_size=BATCH_SIZE,
        eval_batch_size=EVALUATION_BATCH_SIZE,
        grad_clip_norm=plan.max_norm,
    )
    fields = {name: getattr(configuration, name) for name in TrainingConfiguration.__dataclass_fields__}
    return TrialRequest(
        study="bench-loop",
        trial=0,
        seed=SEED,
        workload=WorkloadReference("tunectl.workloads.digits:mlp", "mlp", module="tunectl.workloads.digits"),
        arguments={"num_layers": 1, "width": WIDTH},
        configuration=fields,
        objective=Objective("valid/loss", "minimize"),
        max_train_steps=plan.steps,
        eval_every=plan.eval_every,
        keep_checkpoints=0,
    )


def run_tunectl(plan: Plan) -> Cost:
    with tempfile.TemporaryDirectory() as place:
        folder, seconds = TrialFolder(Path(place)), TrialSeconds()
        clock = Clock(save_every_seconds=1e9)
        began, cpu = time.perf_counter(), time.process_time()
        run_trial(request(plan), folder, digits.mlp, device="cpu", stop=lambda: False, seconds=seconds, clock=clock)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - began
        valid_loss = read_trial(folder).measurements[-1].metrics["valid/loss"]
    return Cost(cpu, wall, seconds.train_seconds, valid_loss)


def run_plain(plan: Plan) -> Cost:
    began, cpu = time.perf_counter(), time.process_time()
    trained = train(plan, SEED)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - began
    return Cost(cpu, wall, trained.train_seconds, trained.valid_loss)


def compare(plan: Plan, rounds: int) -> None:
    runs: dict[str, tuple[Callable[[Plan], Cost], Plan]] = {
        "plain, fused": (run_plain, plan),
        "plain, default": (run_plain, replace(plan, fused=False)),
        "trial": (run_tunectl, plan),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, (run, chosen) in runs.items():
            cost = run(chosen)
            if number > 0:  # the first round loads what is loaded late
                costs[name].append(cost)
    print(f"{STEPS} updates, " + ("no clipping" if plan.max_norm is None else f"gradient norm clipped at {MAX_NORM}"))
    print(f"{'':16}{'CPU':>16}{'wall':>16}{'updates alone':>16}   valid loss")
    for name, found in costs.items():
        columns = [_column([getattr(cost, what) for cost in found]) for what in ("cpu", "wall", "updates")]
        print(f"{name:16}{''.join(columns)}   {found[-1].valid_loss:.6f}")
    for other in ("plain, fused", "plain, default"):
        ratios = [
            statistics.median(
                getattr(ours, what) / getattr(theirs, what)
                for ours, theirs in zip(costs["trial"], costs[other], strict=True)
            )
            for what in ("cpu", "wall", "updates")
        ]
        print(f"trial / {other:16}" + "   ".join(f"{ratio:.3f}" for ratio in ratios) + f"   goal {GOAL}")


def _column(values: list[float]) -> str:
    return f"{statistics.median(values):8.3f} ({min(values):.3f})"


def main() -> None:
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    digits.preload()
    print(f"medians of {rounds} (least), seconds; ratios are medians of those of each round")
    compare(Plan(STEPS, EVAL_EVERY), rounds)
    compare(Plan(STEPS, EVAL_EVERY, max_norm=MAX_NORM), rounds)


if __name__ == "__main__":
    main()
