"""What measuring curvature costs in a trial: how many products an eigenvalue takes, how many forward passes a critical
learning rate, and what part of the time of training all of it is.

Products are counted until the value is within 1e-3 of that of 200 products, until the residual is 1e-3 of the largest
Ritz value, and until the search calls the value converged, which also needs a proof that no larger one was missed. The
goals are for the value: in the median at most 30 from a random vector, and at most 8 from that of the last measurement.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded

import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from bench_curvature import Case, cnn, products, transformer
from torch import Tensor

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.records import TrialRequest, WorkloadReference
from tunectl.language.configuration import TrainingConfiguration
from tunectl.store.trial_files import read_trial
from tunectl.training.curvature.hessian_products import HessianProducts
from tunectl.training.curvature.lanczos import Eigenvalues, largest_eigenvalues
from tunectl.training.trial import run_trial
from tunectl.workloads import digits
from tunectl.workloads.workload import Workload

WITHIN = 1e-3
REFERENCE_PRODUCTS = 200
MOST_PRODUCTS = 60
COLD_GOAL, WARM_GOAL = 30, 8
STEPS, EVERY = 200, 50


def mlp() -> Workload:
    torch.manual_seed(0)
    return digits.mlp(num_layers=3, width=48)


CASES = (Case("MLP", mlp, 1024), Case("CNN", cnn, 256), Case("transformer", transformer, 32))


def trained(case: Case) -> Iterator[tuple[int, Workload]]:
    """The workload after 0, EVERY, 2 EVERY, ... updates of momentum."""
    workload, generator = case.make(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(workload.model.parameters(), lr=0.02, momentum=0.9)
    data = workload.data["train"]
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            yield step, workload
        chosen = torch.randint(0, len(data), (64,), generator=generator)  # type: ignore[arg-type]
        workload.model.train()
        optimizer.zero_grad()
        workload.loss(workload.model, [tensor[chosen] for tensor in data.tensors]).mean().backward()  # type: ignore
        optimizer.step()


def search(made: HessianProducts, most: int, start: Tensor | None, *, seed: int, tolerance: float) -> Eigenvalues:
    generator = torch.Generator().manual_seed(seed)
    return largest_eigenvalues(
        made.product, made.size, start=start, generator=generator, tolerance=tolerance, max_products=most
    )


@dataclass(frozen=True, slots=True)
class Needed:
    """How many products one search took."""

    value: int
    residual: int
    converged: int


def needed(made: HessianProducts, start: Tensor | None, seed: int, reference: float) -> Needed:
    """Searches of the same beginning, each longer than the one before it."""
    value = residual = 0
    for most in range(1, MOST_PRODUCTS + 1):
        found = search(made, most, start, seed=seed, tolerance=WITHIN)
        if not value and abs(found.values[0] - reference) <= WITHIN * abs(reference):
            value = most
        if not residual and found.residuals[0] <= WITHIN * abs(reference):
            residual = most
        if value and residual:
            break
    whole = search(made, MOST_PRODUCTS, start, seed=seed, tolerance=WITHIN)
    return Needed(value or MOST_PRODUCTS, residual or MOST_PRODUCTS, whole.products)


def products_needed() -> None:
    print(f"{'products, median (largest)':28}{'value':>14}{'residual':>14}{'converged':>14}")
    for case in CASES:
        cold, warm = [], []
        last: Tensor | None = None
        for step, workload in trained(case):
            with products(workload, case.examples) as made:
                reference = search(made, REFERENCE_PRODUCTS, None, seed=7 * step + 1, tolerance=1e-8)
                cold.append(needed(made, None, step, reference.values[0]))
                if last is not None:
                    warm.append(needed(made, last, step, reference.values[0]))
                last = search(made, MOST_PRODUCTS, last, seed=step, tolerance=WITHIN).vectors.float()
        for name, found in (("cold", cold), ("warm", warm)):
            columns = ([item.value for item in found], [item.residual for item in found], [i.converged for i in found])
            cells = "".join(f"{statistics.median(column):8.0f} ({max(column):3})" for column in columns)
            print(f"{case.name + ', ' + name:28}{cells}", flush=True)
    print(f"goal for the value: at most {COLD_GOAL} cold and {WARM_GOAL} warm, in the median; {EVERY} updates apart")


def measured_trial(
    make: Callable[..., Workload], curvature: CurvatureSettings | None
) -> tuple[float, list[dict[str, float]]]:
    """The seconds of training of one trial, and its lines of curvature."""
    configuration = TrainingConfiguration.from_hyperparameters({"optimizer": "momentum", "learning_rate": 0.02})
    request = TrialRequest(
        study="bench",
        trial=0,
        seed=1,
        workload=WorkloadReference("m:f", "f", module="m"),
        arguments={},
        configuration=asdict(configuration),
        objective=Objective("valid/error_rate", "minimize"),
        max_train_steps=1000,
        eval_every=500,
        keep_checkpoints=1,
        curvature=curvature,
    )
    with tempfile.TemporaryDirectory() as place:
        folder = TrialFolder(Path(place, "trials", "00000"))
        folder.path.mkdir(parents=True)
        result = run_trial(request, folder, make, device="cpu", stop=lambda: False, seconds=TrialSeconds())
        assert result is not None
        lines = [item.metrics for item in read_trial(folder).measurements if item.measurement_kind == "curvature"]
        return result.train_seconds, [dict(line) for line in lines]


def share() -> None:
    print(f"\n{'every: 100 on the digits':28}{'training':>10}{'measuring':>11}{'share':>8}{'a line':>10}{'passes':>8}")
    for name, make in (("MLP", digits.mlp), ("CNN", digits.cnn)):
        for examples in (1024, 128):
            settings = CurvatureSettings(every=100, examples=examples)
            measured_trial(make, settings)
            train_seconds, lines = measured_trial(make, settings)
            seconds = [line["curvature/seconds"] for line in lines]
            passes = [line["curvature/critical_passes"] for line in lines[1:]]
            print(
                f"{f'{name}, {examples} examples':28}{train_seconds:8.2f} s{sum(seconds):9.2f} s"
                f"{sum(seconds) / train_seconds:8.0%}{statistics.median(seconds) * 1e3:7.0f} ms"
                f"{statistics.median(passes):8.0f}",
                flush=True,
            )
    print("passes: forward passes for a critical learning rate, near the last one, in the median")


def main() -> None:
    torch.set_num_threads(1)
    products_needed()
    share()


if __name__ == "__main__":
    main()
