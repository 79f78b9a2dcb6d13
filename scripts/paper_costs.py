"""What the studies in studies/paper would cost on a GPU: an estimate from the operations of their models.

`python scripts/paper_costs.py` counts the floating-point operations of each model's forward pass (by torch's flop
counter: convolutions and matrix products alone), and adds up three of them for each example of an update, one for each
evaluated example, and what the curvature takes in gradients, over all trials of a study. A step takes these operations
at UTILISATION of BFLOAT16, and at least LAYER_SECONDS for each layer of the model. Nothing is trained and no data are
read; evaluations with BLEU and initialisations are left out. It is an estimate: with the data at hand,
`tunectl check --probe` measures the time of a step.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tunectl.core.records import PlannedTrial, Scalar
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.consumed_names import factory_arguments
from tunectl.language.curvature_cost import curvature_cost
from tunectl.language.review_training import longest_trial
from tunectl.language.study_spec import StudySpec
from tunectl.session.checked_study import CheckedStudy, check_study
from tunectl.session.trial_requests import total_steps
from tunectl.space.trial_plan import plan_trials
from tunectl.workloads import images, text
from tunectl.workloads.data.image_splits import ImageSplits
from tunectl.workloads.data.parallel_text import ParallelText, TextList
from tunectl.workloads.data.text_data import TextData
from tunectl.workloads.workload import Workload

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ROOT / "studies" / "paper"

# NVIDIA's data sheet of the H100 SXM, operations per second without sparsity: bfloat16 on tensor cores, and float32.
BFLOAT16 = 989e12
FLOAT32 = 67e12
UTILISATION = 0.3
"""The part of BFLOAT16 that training reaches: an assumption, as is that of the curvature, which is in float32."""
UTILISATION_FLOAT32 = 0.6
LAYER_SECONDS = 60e-6
"""The least time of a layer in a step, forward and backward: small kernels are limited by their launches. Assumed."""

CIFAR = ImageSplits({}, 3, 32, 32, 10, (0.0,) * 3, (1.0,) * 3, np.full(10, 0.1))
IMAGENET = ImageSplits({}, 3, 224, 224, 1000, (0.0,) * 3, (1.0,) * 3, np.full(1000, 1e-3))
LM1B, WMT = "./1-billion-word-language-modeling-benchmark-r13output", "./wmt16-en-de"
EVALUATED = {"./cifar-10-batches-bin": 10_000, "./imagenet": 100_000, LM1B: 20_000, WMT: 6_000}
"""The examples of an evaluation, of valid and of train."""
VOCABULARY = {LM1B: 30_000, WMT: 32_000}
TOKENS = 128
"""The tokens of a text, with the padding to the longest of its batch: an assumption."""


@dataclass(frozen=True)
class Model:
    """The operations of a forward pass of one example, and the number of layers."""

    forward: float
    layers: int

    def seconds(self, examples: int) -> float:
        """The time of an update on this number of examples."""
        return max(3 * self.forward * examples / (UTILISATION * BFLOAT16), self.layers * LAYER_SECONDS)


def main() -> int:
    """Print a line for each study; the exit code."""
    for path in sorted(STUDIES.glob("*.yaml")):
        checked = check_study(path, ROOT)
        trials = plan_trials(checked.spec)
        training, curvature = study_hours(checked, trials)
        measured = f", and {in_hours(curvature)} for the curvature" if curvature else ""
        print(f"{path.stem}: {len(trials)} trials, about {in_hours(training)}{measured}", flush=True)
    return 0


def in_hours(hours: float) -> str:
    """Hours with two digits, or all of them."""
    return f"{hours:,.0f} h" if hours >= 10 else f"{hours:.2g} h"


def study_hours(checked: CheckedStudy, trials: list[PlannedTrial]) -> tuple[float, float]:
    """The hours of all updates and evaluations of a study, and those of its curvature."""
    spec, training, gradients = checked.spec, 0.0, 0.0
    models: dict[str, Model] = {}
    for trial in trials:
        arguments = factory_arguments(checked.signature, trial.hyperparameters)
        key = repr(sorted(arguments.items()))
        if key not in models:
            models[key] = model_of(checked.reference.text.rpartition(":")[2], arguments)
        model, steps = models[key], total_steps(spec, trial)
        size = TrainingConfiguration.from_hyperparameters(trial.hyperparameters).batch_size
        evaluations = 1 - (-steps // spec.training.eval_every)
        training += model.seconds(size) * steps
        training += model.forward * evaluations * EVALUATED[str(arguments["data"])] / (UTILISATION * BFLOAT16)
        gradients += 3 * model.forward * curvature_gradients(spec)
    return training / 3600, gradients / (UTILISATION_FLOAT32 * FLOAT32) / 3600


def curvature_gradients(spec: StudySpec) -> float:
    """The gradients of single examples that the curvature of one trial takes."""
    cost = curvature_cost(spec)
    sizes = [size for item in spec.alternatives("batch_size") for size in item.domain.numbers]
    return 0.0 if cost is None else cost.share[0] * longest_trial(spec) * max(sizes)


def model_of(factory: str, arguments: Mapping[str, Scalar]) -> Model:
    """The model that a factory makes, without its data."""
    data = str(arguments["data"])
    if data in VOCABULARY:
        made, inputs = text_model(factory, dict(arguments), data)
    else:
        made, inputs = image_model(factory, arguments, IMAGENET if data == "./imagenet" else CIFAR)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        made.model.eval()(*inputs)
    layers = [module for module in made.model.modules() if not list(module.children())]
    return Model(float(counter.get_total_flops()), len(layers))


def image_model(factory: str, arguments: Mapping[str, Scalar], splits: ImageSplits) -> tuple[Workload, list[Tensor]]:
    """A workload without data and an image for it."""
    vars(images)["image_splits"] = lambda *_, **__: splits
    with torch.device("meta"):
        made = getattr(images, factory)(**arguments)
        return made, [torch.empty((1, splits.channels, splits.height, splits.width), dtype=torch.uint8)]


def text_model(factory: str, arguments: dict[str, Scalar], data: str) -> tuple[Workload, list[Tensor]]:
    """A workload without data and a text for it, or a text and its translation."""
    size = VOCABULARY[data] + 1
    shares = np.full(size, 1 / size)
    vars(text)["text_data"] = lambda *_, **__: TextData({}, size, shares)
    vars(text)["parallel_text"] = lambda *_, **__: ParallelText({}, size, shares, TextList([]))
    with torch.device("meta"):
        made = getattr(text, factory)(**arguments | {"tokenizer": "bytes"})
        return made, [torch.empty((1, TOKENS), dtype=torch.int16)] * (1 if data == LM1B else 2)


if __name__ == "__main__":
    sys.exit(main())
