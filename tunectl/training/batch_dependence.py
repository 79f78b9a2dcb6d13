"""Whether the loss of an example depends on the others in its batch: whoever trains shares of batches trains another
model then, as in a contrastive loss, or where code decides by the whole batch (`if x.sum() > 0`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.curvature.measured_loss import MeasuredLoss
from tunectl.training.curvature.measured_model import MeasuredModel, measured_model, normalises_over_batch
from tunectl.training.model_generators import ModelGenerators
from tunectl.training.seeds import TRAIN_SAMPLE_SEED, Purpose, sequence
from tunectl.workloads.workload import Workload

_EXAMPLES = 16
_APART, _APART_IN_HALF = 1e-4, 3e-2
"""Losses that differ by more than this part of the largest differ by more than rounding."""


def depends_on_its_batch(workload: Workload, device: torch.device) -> bool:
    """Whether the loss of a few examples is another one where their batch is divided: in halves, or one by one.

    It is computed in evaluation mode and as in training, but without batch normalisation and dropout, of which other
    notes speak. An example by itself decides otherwise than its batch nearly always, where a half may not. What draws
    random numbers, or changes from call to call, is not judged. Model and generators are as before afterwards.
    """
    examples = MeasuredExamples.of(workload, _EXAMPLES, device)
    return any(_differs(workload, examples, device, in_training=each) for each in (False, True))


def _differs(workload: Workload, examples: MeasuredExamples, device: torch.device, *, in_training: bool) -> bool:
    apart = _APART_IN_HALF if any(each.itemsize < 4 for each in workload.model.parameters()) else _APART
    count, half = examples.count, examples.count // 2
    with measured_model(workload.model, "eval", device) as model, torch.no_grad():
        if in_training:
            model = _in_training(workload.model, device)
        measured = MeasuredLoss(workload, examples, model)
        # What is wrong with the loss, or with a batch of one example, is found elsewhere.
        with contextlib.suppress(Exception):
            whole = _losses(measured, [count])
            for sizes in ([half, count - half] if half else [], [1] * count):
                if sizes and not _are_close(_losses(measured, sizes), whole, apart):
                    return _is_function(measured, model, whole, apart)
    return False


def _is_function(measured: MeasuredLoss, model: MeasuredModel, whole: Tensor, apart: float) -> bool:
    """Whether the losses of the batch are the same once more, and no random numbers were drawn."""
    return _are_close(_losses(measured, [measured.examples.count]), whole, apart) and not model.draws_random_numbers


def _losses(measured: MeasuredLoss, sizes: Sequence[int]) -> Tensor:
    """The weighted losses of all examples in batches of these sizes, shape [examples], and at the end their weight.

    In order of size: a function that collates a batch may sort its examples.
    """
    assert isinstance(measured.examples, MeasuredExamples)
    batches = zip(measured.examples.batches_of(*sizes), sizes, strict=True)
    # Clones: a loss may give a tensor that it fills again at each call.
    found = [(losses.values.clone(), losses.weight) for losses in (measured.losses_of(*each) for each in batches)]
    weight = torch.tensor([sum(each for _, each in found)], dtype=torch.float64, device=found[0][0].device)
    return torch.cat([torch.cat([values.double() for values, _ in found]).sort().values, weight])


def _are_close(one: Tensor, other: Tensor, apart: float) -> bool:
    difference = (one - other).abs()
    largest = other.abs()
    is_close = (difference[:-1].max() <= apart * largest[:-1].max()) & (difference[-1] <= apart * largest[-1])
    return bool(is_close | ~other.isfinite().all())


def _in_training(model: nn.Module, device: torch.device) -> MeasuredModel:
    """The model as in training, but for what makes noise; to be called where it is put back as a whole."""
    for module in model.modules():
        module.training = not (isinstance(module, _DropoutNd) or normalises_over_batch(module))
    seeds = sequence(TRAIN_SAMPLE_SEED, Purpose.EVALUATION)
    return MeasuredModel(model, device, ModelGenerators(model), seeds)
