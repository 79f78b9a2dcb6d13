"""Whether the loss of an example depends on the others in its batch, as in a contrastive loss, or where code decides by
the whole batch (`if x.sum() > 0`): a trial whose batches are divided trains another model then.
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

_EXAMPLES = 8
_APART, _APART_IN_HALF = 1e-4, 3e-2
"""Losses that differ by more than this part of the largest differ by more than rounding."""


def depends_on_its_batch(workload: Workload, device: torch.device) -> bool:
    """Whether the loss of a few examples is another one where their batch is divided: in halves, or one by one.

    It is computed as in training, but without batch normalisation and dropout, of which other notes speak; in
    evaluation mode where it draws random numbers even so. An example by itself decides otherwise than its batch nearly
    always, where a half may not. What draws numbers in both modes, or changes from call to call, is not judged. The
    model and all generators are as before afterwards.
    """
    examples = MeasuredExamples.of(workload, _EXAMPLES, device)
    apart = _APART_IN_HALF if any(each.itemsize < 4 for each in workload.model.parameters()) else _APART
    for in_training in (True, False):
        with measured_model(workload.model, "eval", device) as model, torch.no_grad():
            measured = MeasuredLoss(workload, examples, _in_training(workload.model, device) if in_training else model)
            # What is wrong with the loss, or with a batch of one example, is found elsewhere.
            with contextlib.suppress(Exception):
                found = _changes(measured, examples.count, apart)
                if not measured.draws_random_numbers:
                    return found
    return False


def _changes(measured: MeasuredLoss, count: int, apart: float) -> bool:
    whole, half = _losses(measured, [count]), count // 2
    for sizes in ([half, count - half], [1] * count) if half else ():
        if measured.draws_random_numbers:
            return False
        if not _are_close(_losses(measured, sizes), whole, apart):
            # Whether it is a function of the batch at all.
            return _are_close(_losses(measured, [count]), whole, apart)
    return False


def _losses(measured: MeasuredLoss, sizes: Sequence[int]) -> Tensor:
    """The weighted losses of all examples in batches of these sizes, shape [examples], and at the end their weight.

    The losses are in order of size: a function that collates a batch may sort its examples.
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
