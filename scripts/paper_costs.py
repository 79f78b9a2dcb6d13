"""What the studies in studies/paper would cost on a GPU: an estimate from the operations of their models.

`python scripts/paper_costs.py` builds every model with random weights, counts the floating-point operations of a forward
pass (torch.utils.flop_counter; convolutions and matrix products alone), and adds up, over all trials of a study,
3 forward passes for each example of an update and one for each evaluated example, and what its curvature takes in
gradients. Hours are these operations at UTILISATION of PEAK. Nothing is trained, and no data are read: images and texts
are of the sizes that the data have. It is an estimate: what a GPU makes of it is known where it was measured
(`tunectl check --probe` with the data at hand).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from tunectl.core.records import PlannedTrial, Scalar
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.consumed_names import factory_arguments
from tunectl.language.curvature_cost import curvature_cost
from tunectl.session.checked_study import CheckedStudy, check_study
from tunectl.session.trial_requests import total_steps
from tunectl.space.trial_plan import plan_trials
from tunectl.workloads import images
from tunectl.workloads.data.image_splits import ImageSplits

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ROOT / "studies" / "paper"

# NVIDIA's data sheet of the H100 SXM, operations per second without sparsity: bfloat16 on tensor cores, and float32.
BFLOAT16 = 989e12
FLOAT32 = 67e12
UTILISATION = 0.3
"""The part of BFLOAT16 that training reaches: an assumption, as is that of the curvature, which is in float32."""
UTILISATION_FLOAT32 = 0.6

CIFAR = ImageSplits({}, 3, 32, 32, 10, (0.0,) * 3, (1.0,) * 3, np.full(10, 0.1))
IMAGENET = ImageSplits({}, 3, 224, 224, 1000, (0.0,) * 3, (1.0,) * 3, np.full(1000, 1e-3))
EVALUATED = {"./cifar-10-batches-bin": 10_000, "./imagenet": 100_000}
"""The examples of an evaluation, of valid and of train."""


def main() -> int:
    """Print a line for each study that can be counted; the exit code."""
    for path in sorted(STUDIES.glob("*.yaml")):
        checked = check_study(path, ROOT)
        trials = plan_trials(checked.spec)
        operations, of_curvature = study_operations(checked, trials)
        hours = operations / (UTILISATION * BFLOAT16) / 3600
        measured = of_curvature / (UTILISATION_FLOAT32 * FLOAT32) / 3600
        print(
            f"{path.stem}: {len(trials)} trials, {operations:.2g} operations, about {hours:.3g} hours"
            + (f", and {measured:.3g} for the curvature" if of_curvature else "")
        )
    return 0


def study_operations(checked: CheckedStudy, trials: list[PlannedTrial]) -> tuple[float, float]:
    """The floating-point operations of all updates and evaluations of a study, and those of its curvature."""
    spec, training, forward = checked.spec, 0.0, 0.0
    known: dict[str, float] = {}
    in_all = 0.0
    for trial in trials:
        arguments = factory_arguments(checked.signature, trial.hyperparameters)
        key = repr(sorted(arguments.items()))
        if key not in known:
            known[key] = forward_operations(checked.reference.text.rpartition(":")[2], arguments)
        forward = known[key]
        steps = total_steps(spec, trial)
        size = TrainingConfiguration.from_hyperparameters(trial.hyperparameters).batch_size
        training += 3 * forward * steps * size
        evaluations = 1 - (-steps // spec.training.eval_every)
        in_all += forward * evaluations * EVALUATED.get(str(arguments["data"]), 0)
    cost = curvature_cost(spec)
    # The smallest share is that of the largest batch, where the model is proportional to the number of examples.
    return training + in_all, 0.0 if cost is None else cost.share[0] * training


def forward_operations(factory: str, arguments: Mapping[str, Scalar]) -> float:
    """The operations of a forward pass of one example."""
    splits = IMAGENET if arguments["data"] == "./imagenet" else CIFAR
    vars(images)["image_splits"] = lambda *_, **__: splits
    with torch.device("meta"):
        made: Any = getattr(images, factory)(**arguments)
        batch = torch.empty((1, splits.channels, splits.height, splits.width), dtype=torch.uint8)
        with FlopCounterMode(display=False) as counter:
            made.model.eval()(batch)
    return float(counter.get_total_flops())


if __name__ == "__main__":
    sys.exit(main())
